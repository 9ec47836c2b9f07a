// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "drop.h"

/*
 * Maps of pods, counters and events; those of one subject are in its header. User space pins the maps that are to outlive
 * the programs, by name, in a directory that has the layout's version in its name: whoever changes a key or a value of
 * theirs raises it in datapath/maps.go.
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
	struct mac node_mac; /* the host-side veth's: what the pod takes for every other host's */
};
_Static_assert(sizeof(struct endpoint) == 28, "shared with datapath/");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct ip);
	__type(value, struct endpoint);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_endpoints SEC(".maps");

/* Which address the pod behind a host-side veth has, for frames that do not say. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32); /* ifindex */
	__type(value, struct ip);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_ifaces SEC(".maps");

/* A flow between two local pods, the same key for both directions. ICMP echo has its id in both ports. */
struct flow {
	struct ip lo;
	struct ip hi;
	__be16 lo_port;
	__be16 hi_port;
	__u8 proto;
	__u8 pad[3]; /* always 0: keys are compared byte by byte */
};
_Static_assert(sizeof(struct flow) == 40, "shared with datapath/");

/* Value of a set. */
struct present {
	__u8 unused;
};

/*
 * Flows between local pods that the node's stack has tracked, and may have translated: their packets
 * take the way through the stack in both directions, or the translation would be missing in one.
 * A direct flow with the addresses and ports that a translated one has behind the translation goes there
 * too: the stack tells them apart, by giving one of them another port.
 * An entry that outlives its flow costs a detour, no more.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow);
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

/* One value, so that nobody waits for a packet's reason to know where the counters are. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct metrics);
	__uint(max_entries, 1);
} lab_metrics SEC(".maps");

/* What an event is about. */
enum lab_event_type {
	EVENT_PACKET = 1, /* what became of a packet: struct event */
} __attribute__((packed));

enum lab_event_version {
	EVENT_VERSION = 1, /* of all records: raised when what one says changes */
} __attribute__((packed));

/* What every record begins with. */
struct event_header {
	enum lab_event_type type;
	enum lab_event_version version;
	__u16 length; /* of the record, with its header */
	__u32 cpu;
	__u64 sequence; /* of the events on that CPU, those that found no room included */
	__u64 time_ns; /* CLOCK_MONOTONIC */
};
_Static_assert(sizeof(struct event_header) == 24, "shared with datapath/");

/*
 * One packet as reported to user space; multi-byte fields of the packet in network byte order. Fields of
 * layers that it does not have are 0.
 */
struct event {
	struct event_header head;
	__u32 ifindex;
	__u32 length;
	__u32 src_id; /* local endpoints; 0 when there is none, or nobody looked */
	__u32 dst_id;
	struct ip src;
	struct ip dst;
	__be16 sport;
	__be16 dport;
	__be16 ether_type;
	enum lab_reason reason;
	enum lab_direction direction;
	__u8 proto;
	__u8 ttl;
	__u8 tcp_flags;
	__u8 icmp_type;
	struct mac dst_mac;
	struct mac src_mac;
};
_Static_assert(sizeof(struct event) == 96, "shared with datapath/");

/* Holds some 10,000 events: a quarter of a second at 40,000 packets a second. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__type(value, struct event);
	__uint(max_entries, 1 << 20);
} lab_events SEC(".maps");

/* Until when, in nanoseconds of CLOCK_MONOTONIC, somebody reads them. A reader says so again and again: one that was killed says no more. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} lab_event_until SEC(".maps");

/* How many events there have been on each CPU while somebody read them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} lab_event_seq SEC(".maps");
