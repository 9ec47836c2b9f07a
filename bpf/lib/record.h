// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "drop.h"
#include "maps.h"

/* What events say. They are in no pinned map but the ring, which readers empty: what changes raises EVENT_VERSION. */

enum lab_event_type {
	EVENT_TRACE = 2, /* a packet at a point of its way: struct event */
	EVENT_DROP = 3, /* a packet that is dropped: struct event */
	EVENT_STEP = 4, /* a step of the decision about a packet: struct step */
} __attribute__((packed));

enum lab_event_version {
	EVENT_VERSION = 2, /* of all records */
} __attribute__((packed));

/* What every record begins with. */
struct event_header {
	enum lab_event_type type;
	enum lab_event_version version;
	__u16 length; /* of the record, with its header */
	__u32 cpu;
	__u64 sequence; /* of the events on that CPU, those that found no room included */
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 first; /* the sequence of the first event about the same packet in the same program */
};
_Static_assert(sizeof(struct event_header) == 32, "shared with datapath/");

/* Where a packet is seen: where it comes in, and where it goes. */
enum lab_point {
	POINT_NONE = 0, /* of a drop: its direction says it */
	POINT_FROM_POD = 1,
	POINT_TO_POD = 2,
	POINT_FROM_STACK = 3,
	POINT_TO_STACK = 4,
	POINT_FROM_NETWORK = 5,
	POINT_TO_NETWORK = 6,
	POINT_FROM_TUNNEL = 7,
	POINT_TO_TUNNEL = 8,
} __attribute__((packed));

/* What a packet is in its flow. */
enum lab_state {
	STATE_NONE = 0, /* it has no flow, or nobody looked */
	STATE_NEW = 1, /* of who opens it, and nobody has answered yet */
	STATE_ESTABLISHED = 2, /* of who has opened it */
	STATE_REPLY = 3, /* of the other side */
	STATE_RELATED = 4, /* an ICMP error about a packet of a flow that is known */
} __attribute__((packed));

/* Why there is an event about a packet, where not all have one. */
enum lab_occasion {
	OCCASION_NONE = 0,
	OCCASION_START = 1,
	OCCASION_REPLY = 2, /* the first one */
	OCCASION_END = 3,
	OCCASION_INTERVAL = 4,
} __attribute__((packed));

/*
 * One packet as reported to user space, and behind it the first bytes of its frame; multi-byte fields of the packet in
 * network byte order. Fields of layers that it does not have are 0.
 */
struct event {
	struct event_header head;
	struct ip src; /* as the packet has them at this point */
	struct ip dst;
	struct ip orig_src; /* as it came, where they have been translated; otherwise 0 */
	struct ip orig_dst;
	struct metric sent; /* in the packet's flow so far, by who opened it; 0: nobody counts */
	struct metric returned; /* by the other side */
	__u64 age; /* nanoseconds since the flow's first packet */
	__u64 decided; /* nanoseconds since the decision was made that it follows */
	__u32 ifindex; /* where it came in */
	__u32 length;
	__u32 src_id; /* local endpoints; 0 when there is none, or nobody looked */
	__u32 dst_id;
	__u32 src_identity; /* 0: not known */
	__u32 dst_identity;
	__u32 service; /* that was asked for; 0: none */
	__be16 sport;
	__be16 dport;
	__be16 orig_sport;
	__be16 orig_dport;
	__be16 ether_type;
	enum lab_reason reason;
	enum lab_direction direction;
	enum lab_point point;
	enum lab_state state;
	enum lab_occasion occasion;
	bool cached; /* it follows a remembered decision */
	__u8 proto;
	__u8 ttl; /* this and what follows as it came in */
	__u8 tcp_flags;
	__u8 icmp_type;
	struct mac dst_mac;
	struct mac src_mac;
};
_Static_assert(sizeof(struct event) == 208, "shared with datapath/");

/* How many bytes of a frame an event has room for, a power of two. */
#define PAYLOAD_MAX 1024

/* What a step was. The number of a policy's verdict, between STEP_IDENTITY and STEP_TRANSLATION, is kept. */
enum lab_step {
	STEP_CACHE = 1, /* a remembered decision is followed: age */
	STEP_LOOKUP = 2, /* of a flow by src and dst, in table: found, state, age */
	STEP_IDENTITY = 3, /* of who has src: number */
	STEP_TRANSLATION = 5, /* of src and dst to new_src and new_dst; number is the Service's */
	STEP_CREATED = 6, /* an entry for src and dst in table */
	STEP_ROUTE = 7, /* by the next hop dst out of ifindex; found: in the cache of routes */
	STEP_TUNNEL = 8, /* to the node dst as the identity number */
	STEP_DELIVERY = 9, /* to the endpoint number behind ifindex */
	STEP_STACK = 10, /* given to the node's stack */
} __attribute__((packed));

enum lab_table {
	TABLE_NONE = 0,
	TABLE_CT = 1, /* lab_ct */
	TABLE_NAT = 2, /* lab_nat */
	TABLE_OBSERVED = 3, /* lab_observed */
} __attribute__((packed));

struct step {
	struct event_header head;
	struct ip src;
	struct ip dst;
	struct ip new_src;
	struct ip new_dst;
	__u64 age; /* nanoseconds: since it was made, but in TABLE_CT and TABLE_NAT since its latest packet */
	__u32 number;
	__u32 ifindex;
	__u32 mtu;
	__be16 sport;
	__be16 dport;
	__be16 new_sport;
	__be16 new_dport;
	enum lab_step kind;
	enum lab_table table;
	enum lab_state state;
	bool found;
	__u8 proto;
	__u8 pad[7];
};
_Static_assert(sizeof(struct step) == 136, "shared with datapath/");

/* Holds some 6,000 events with 128 bytes of the packet each. User space maps it twice. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 21);
} lab_events SEC(".maps");

/* What is read. Some readers have no use for steps, of which there are several for each packet. */
enum lab_read {
	READ_EVENTS = 0,
	READ_STEPS = 1,
	READ_MAX = 2,
} __attribute__((packed));

/* Until when that is read, in nanoseconds of CLOCK_MONOTONIC. A reader renews it while it runs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, READ_MAX);
} lab_event_until SEC(".maps");

/* How many events there have been on each CPU while somebody read them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} lab_event_seq SEC(".maps");

/* Both directions of a flow, as who opened it sees it: where addresses are translated for the other side, as they were before. */
struct observed_key {
	struct ip lo;
	struct ip hi;
	__be16 lo_port; /* of an echo both are its id */
	__be16 hi_port;
	__u8 proto;
	bool error; /* ICMP errors about the flow */
	__u8 pad[2]; /* always 0 */
};
_Static_assert(sizeof(struct observed_key) == 40, "shared with datapath/");

/* What one side of a flow has sent. */
struct observed_side {
	__u64 packets;
	__u64 bytes;
	__u32 began; /* the flow did: see short_time() */
	__u32 seen; /* when one was looked at last, and not only counted: see OBSERVED_TIME() */
	__u8 by; /* the program that counts them, as a direction and 1: others see the same packets */
	bool fin;
	__u8 pad[2];
	__u32 identity; /* of who sends them, as far as events know; 0: not known, or not any more */
	__u8 unused[32];
};
_Static_assert(sizeof(struct observed_side) == 64, "a cache line, shared with datapath/");

/* A flow that events tell of. What each side writes with every packet is in a cache line of its own. */
struct observed {
	struct observed_key key;
	__u64 began; /* nanoseconds of the coarse clock; 0: there is no flow */
	__u32 told; /* when an event told of it last, as seen */
	__u32 service; /* that was asked for; 0: none */
	bool lo_opened; /* it, and not hi */
	bool replied;
	bool over; /* both have closed it, or one has reset it */
	__u8 pad[5];
	struct observed_side lo;
	struct observed_side hi;
};
_Static_assert(sizeof(struct observed) == 192, "three cache lines, shared with datapath/");

/* All that is told of the packet that a program works on, and the records in which that is done. */
struct telling {
	__u64 first; /* the number of the first event about it; 0: there is none */
	__u64 now; /* of the coarse clock */
	__u64 age;
	__u64 decided;
	struct metric sent;
	struct metric returned;
	struct observed_key key;
	__u32 began; /* the flow did, as in struct observed_side; 0: its entry is not known */
	__u32 place; /* of the flow's entry */
	__u32 src_identity;
	__u32 dst_identity;
	__u32 service;
	__u32 length;
	bool reader; /* somebody reads */
	bool steps; /* and steps, too */
	bool met; /* it is told of: the programs at NICs see what is none of their business, too */
	bool has_key;
	bool lo; /* the sender is lo of the key */
	bool related; /* the flow that an ICMP error is about is known */
	bool opens; /* the flow, and cannot be of one that is there */
	bool answers; /* and opens none */
	bool cached;
	bool fresh; /* no entry of its flow was found */
	bool counts; /* this program counts the packets of who sends it */
	enum lab_direction direction;
	enum lab_point point;
	enum lab_state state;
	enum lab_occasion occasion;
	__u8 tcp_flags;
	struct step step;
	struct event event;
	__u8 frame[PAYLOAD_MAX]; /* directly behind it */
};
_Static_assert(offsetof(struct telling, frame) == offsetof(struct telling, event) + sizeof(struct event), "one record");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct telling);
	__uint(max_entries, 1);
} lab_telling SEC(".maps");

static __always_inline struct telling *this_telling(void)
{
	return bpf_map_lookup_elem(&lab_telling, &only_key);
}
