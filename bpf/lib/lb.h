// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"

/* From where a Service is asked for. */
enum lab_scope {
	LAB_INSIDE = 0, /* pods and the node's own processes */
	LAB_OUTSIDE = 1, /* NICs */
} __attribute__((packed));

/* What kind of address a frontend is; for listings. */
enum lab_frontend {
	LAB_CLUSTER_IP = 1,
	LAB_NODE_PORT = 2,
	LAB_EXTERNAL_IP = 3,
	LAB_LOAD_BALANCER = 4,
	LAB_HOST_PORT = 5,
} __attribute__((packed));

enum lab_service_flag {
	LAB_LOCAL_ONLY = 1, /* its backends are those on this node */
	LAB_HAS_REMOTE = 2, /* together with LAB_LOCAL_ONLY: other nodes have backends */
	LAB_SOURCE_RANGES = 4, /* lab_sources has the clients that it accepts */
} __attribute__((packed));

struct service_key {
	struct ip addr;
	__be16 port;
	__u8 proto;
	enum lab_scope scope;
	__u8 pad[4]; /* always 0: keys are compared byte by byte */
};
_Static_assert(sizeof(struct service_key) == 24, "shared with datapath/");

/* Its backends are the slots from first on. */
struct service {
	__u32 id; /* of the Service's port: the same for all its frontends */
	__u32 first;
	__u32 count;
	__u32 affinity; /* seconds a client keeps its backend, at least: up to one more; 0: none */
	enum lab_service_flag flags;
	enum lab_frontend kind;
	__u8 pad[2];
};
_Static_assert(sizeof(struct service) == 20, "shared with datapath/");

enum lab_backend_flag {
	LAB_IN_CLUSTER = 1, /* takes connections that any node's backend may take */
	LAB_IN_LOCAL = 2, /* takes those that have to stay on this node */
	LAB_ON_NODE = 4, /* is on this node */
} __attribute__((packed));

/* A backend of one Service's port. */
struct backend {
	struct ip addr;
	__u32 service; /* 0: the entry is not in use */
	__be16 port;
	enum lab_backend_flag flags;
	__u8 pad;
};
_Static_assert(sizeof(struct backend) == 24, "shared with datapath/");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct service_key);
	__type(value, struct service);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_services SEC(".maps");

/*
 * Lists of backends, each in consecutive slots. A changed list is written to free slots first, and then the Service is
 * pointed there, so that no packet finds a list half written. For consistent hashing the hash table would be such a
 * list, with each backend in it many times.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32); /* index of lab_backends */
	__uint(max_entries, 262144);
} lab_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct backend);
	__uint(max_entries, 131072);
} lab_backends SEC(".maps");

/* A client of a Service with session affinity. A socket's client is its network namespace: see sock.c. */
struct affinity_key {
	struct ip client;
	__u32 service;
	__u32 pad; /* always 0 */
};
_Static_assert(sizeof(struct affinity_key) == 24, "shared with datapath/");

struct affinity {
	__u32 backend;
	__u32 seen; /* of the latest connection, as in struct flow */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
	__uint(max_entries, 16384);
} lab_affinity SEC(".maps");

/* The clients that a Service's load balancer accepts. */
struct source_key {
	__u32 prefix; /* bits that count: of service and addr */
	__u32 service;
	struct ip addr;
};
_Static_assert(sizeof(struct source_key) == 24, "shared with datapath/");

struct source {
	__u8 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct source_key);
	__type(value, struct source);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_sources SEC(".maps");

/* The flag that backends in the service's list have. */
static __always_inline enum lab_backend_flag list_of(const struct service *s)
{
	return s->flags & LAB_LOCAL_ONLY ? LAB_IN_LOCAL : LAB_IN_CLUSTER;
}

/* The backend with that id, NULL if it is no longer in the service's list. */
static __always_inline const struct backend *member(const struct service *s, __u32 id)
{
	const struct backend *b = bpf_map_lookup_elem(&lab_backends, &id);

	return b && b->service == s->id && b->flags & list_of(s) ? b : NULL;
}

static __always_inline const struct backend *pick(const struct service *s, __u32 random, __u32 *id)
{
	__u32 slot = s->first + (__u32)(((__u64)random * s->count) >> 32);
	const __u32 *found = bpf_map_lookup_elem(&lab_slots, &slot);

	if (!found)
		return NULL;
	*id = *found;
	return member(s, *id);
}

/* The backend for a new connection of a client. random is spread evenly over all 32-bit numbers. */
static __noinline const struct backend *choose(const struct service *s, const struct ip *client, __u32 random, __u32 now, __u32 *id)
{
	struct affinity_key key = { .client = *client, .service = s->id };
	struct affinity fresh = { .seen = now };
	const struct backend *b;
	struct affinity *a;

	if (!s->affinity)
		return pick(s, random, id);
	a = bpf_map_lookup_elem(&lab_affinity, &key);
	if (a && now - a->seen <= s->affinity) { /* of the second in which it was seen, only a part had to pass */
		*id = a->backend;
		b = member(s, *id);
		if (b) {
			a->seen = now;
			return b;
		}
	}
	b = pick(s, random, id);
	if (b) {
		fresh.backend = *id;
		bpf_map_update_elem(&lab_affinity, &key, &fresh, BPF_ANY);
	}
	return b;
}

static __noinline bool admits(const struct service *s, const struct ip *client)
{
	struct source_key key = { .prefix = 8 * (sizeof(key.service) + sizeof(key.addr)), .service = s->id, .addr = *client };

	return !(s->flags & LAB_SOURCE_RANGES) || bpf_map_lookup_elem(&lab_sources, &key);
}
