// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "drop.h"

/*
 * Maps of pods, counters and events. Maps of one subject are in the header of that subject. User space pins most maps by
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

/* Until when events are read, in nanoseconds of CLOCK_MONOTONIC. A reader renews it while it runs. */
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
