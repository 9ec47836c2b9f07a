// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "ct.h"
#include "opening.h"
#include "packet.h"

/*
 * Which packets may open a flow, and how much room flows may take that are opened but not established. The maps of flows
 * are LRU maps: when they are full, a new flow evicts the one that was used longest ago. Without a limit, a flood of
 * packets that only open flows would evict idle connections.
 */

/* How many connections got their entries back in this second, on this CPU. */
struct recoveries {
	__u32 second;
	__u32 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct recoveries);
	__uint(max_entries, 1);
} lab_recoveries SEC(".maps");

static __always_inline bool may_recover(void)
{
	struct recoveries *r = bpf_map_lookup_elem(&lab_recoveries, &only_key);
	__u32 now = seconds();

	if (!r)
		return false;
	if (r->second != now) {
		r->second = now;
		r->count = 0;
	}
	if (r->count >= cfg_recoveries)
		return false;
	r->count++;
	return true;
}

/*
 * Whether a packet of no known flow may open one. TCP is opened by a SYN. A later segment may be of a connection whose
 * entries were evicted: it puts them back, for cfg_recoveries connections in a second, as most such segments in a flood
 * are of no connection. A RST may do so too: otherwise the far end would wait for a connection that is gone.
 */
static __always_inline bool may_open(const struct packet *p)
{
	__u8 flags = p->ev.tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK);

	if (p->ev.proto != IPPROTO_TCP || flags == TCP_SYN)
		return true;
	return !(flags & TCP_SYN) && flags & (TCP_RST | TCP_ACK) && may_recover();
}

/* A flow that was opened. */
struct turn {
	struct tuple flow;
	__u32 number;
	__u32 pad;
};
_Static_assert(sizeof(struct turn) == 48, "shared with datapath/");

/*
 * A ring of the flows that were opened last, in the order of their opening. The element at index 0 counts the flows: its
 * number says which of the other elements is the next flow's.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct turn);
	__uint(max_entries, 32769); /* user space makes it half as large as lab_ct, and one */
} lab_turns SEC(".maps");

static __always_inline struct turn *turn_at(__u32 index)
{
	return bpf_map_lookup_elem(&lab_turns, &index);
}

/* Deletes the entries of the flow that has this place in the ring, unless it is established and not over. */
static __noinline void end_turn(struct opening *o, const struct turn *place)
{
	struct flow_entry *e = bpf_map_lookup_elem(&lab_ct, &place->flow), *other;

	if (!e || e->flow.turn != (__u16)place->number)
		return; /* it is gone, or was opened again */
	if (e->flow.lasting && !is_over(&e->flow, place->flow.proto, seconds()))
		return;
	answer_to(&o->key, &e->to, place->flow.proto);
	other = bpf_map_lookup_elem(&lab_nat, &o->key);
	if (other && answers(&other->to, &place->flow))
		bpf_map_delete_elem(&lab_nat, &o->key);
	bpf_map_delete_elem(&lab_ct, &place->flow);
}

/*
 * Gives a new flow its place in the ring, and returns its number. The flow that had the place one round ago is deleted if
 * it is not established by now, or is over. So such flows never take more entries than the ring has places.
 */
static __always_inline __u16 take_turn(struct opening *o)
{
	struct turn *first = bpf_map_lookup_elem(&lab_turns, &only_key), *place;
	__u32 number;

	if (!first)
		return 0;
	number = __sync_fetch_and_add(&first->number, 1);
	place = turn_at(1 + number % cfg_turns);
	if (!place)
		return 0;
	if (place->flow.proto)
		end_turn(o, place);
	place->flow = o->t;
	place->number = number;
	return number;
}
