// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "drop.h"

/*
 * Maps of pods and counters. Maps of one subject are in the header of that subject. User space pins most maps by
 * name, in a directory named after the version of their layout, so that they outlive the programs. A change to a key or
 * value of a pinned map needs a new version and a conversion of the entries: docs/architecture.md, "How to change a struct".
 */

/* The key of maps with one value. It takes no stack; where every packet comes by, a copy on the stack is faster. */
static const __u32 only_key;

/* A pod of this node. */
struct endpoint {
	__u32 ifindex; /* of the host-side veth */
	__u32 id;
	__u32 veth; /* the hex digits of the host-side veth's name: whose entry it is when the veth is gone */
	__u32 identity; /* of the pod; 0: not known yet */
	struct mac mac; /* the pod's */
	struct mac node_mac; /* of the host-side veth: the next hop of everything that the pod sends */
};
_Static_assert(sizeof(struct endpoint) == 28, "shared with datapath/");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct ip);
	__type(value, struct endpoint);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_endpoints SEC(".maps");

/* The address of the pod behind a host-side veth. ARP probes do not have it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32); /* ifindex */
	__type(value, struct ip);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_ifaces SEC(".maps");

/* The id that the node's network namespace has for a pod's (ip-netns(8), list-id), by the pod's address: sockets are looked up there. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct ip);
	__type(value, __u32);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_netns SEC(".maps");

/* A flow between two local pods, the same key for both directions. ICMP echo has its id in both ports. */
struct kernel_flow {
	struct ip lo;
	struct ip hi;
	__be16 lo_port;
	__be16 hi_port;
	__u8 proto;
	__u8 pad[3]; /* always 0: keys are compared byte by byte */
};
_Static_assert(sizeof(struct kernel_flow) == 40, "shared with datapath/");

/* Value of a set. */
struct present {
	__u8 unused;
};

/*
 * Flows between local pods that the node's stack has seen and may have translated. Both directions of such a flow go
 * through the stack: it translates back what it has translated. A flow without translation may have the same addresses
 * and ports as another flow has after its translation. It goes through the stack too, which gives one of the two
 * another port. An entry that is older than its flow only sends packets through the stack that need not go there.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct kernel_flow);
	__type(value, struct present);
	__uint(max_entries, 65536);
} lab_kernel_ct SEC(".maps");

struct metric {
	__u64 packets;
	__u64 bytes;
};
_Static_assert(sizeof(struct metric) == 16, "shared with datapath/");

struct metrics {
	struct metric of[DIR_MAX][REASON_MAX];
};

/* One value with all counters: they can be looked up before the reason is known. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct metrics);
	__uint(max_entries, 1);
} lab_metrics SEC(".maps");
