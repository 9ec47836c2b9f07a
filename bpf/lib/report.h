// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "change.h"
#include "config.h"
#include "drop.h"
#include "events.h"
#include "packet.h"
#include "record.h"

/* The events about packets. */

/* Copies the first bytes of a frame behind the event, and returns how many. */
static __always_inline __u32 show_frame(struct __sk_buff *ctx, struct telling *t)
{
	__u32 size = ctx->len;

	if (size > cfg_payload)
		size = cfg_payload;
	/* It is in these bounds, and the verifier has to see it; before kernel 6.8 it learns nothing from a comparison with 0. */
	size = ((size - 1) & (PAYLOAD_MAX - 1)) + 1;
	return bpf_skb_load_bytes(ctx, 0, t->frame, size) ? 0 : size;
}

/* What the addresses are by now, and were before. */
static __always_inline void tell_change(struct event *e, const struct packet *p, const struct change *c)
{
	e->orig_src = e->src;
	e->orig_dst = e->dst;
	e->orig_sport = e->sport;
	e->orig_dport = e->dport;
	if (ip_equal(&c->from.src, &p->ev.src)) /* not of a router's ICMP error */
		e->src = c->to.src;
	e->dst = c->to.dst;
	if (c->shape != SHAPE_PACKET)
		return;
	e->sport = c->to.sport;
	e->dport = c->to.dport;
}

/* Whether packets come in there. */
static __always_inline bool is_entrance(enum lab_point point)
{
	return point == POINT_FROM_POD || point == POINT_FROM_STACK || point == POINT_FROM_NETWORK || point == POINT_FROM_TUNNEL;
}

/* What is known of the packet's flow, which is nothing where it comes in. */
static __always_inline void tell_flow(struct event *e, const struct telling *t, bool nothing)
{
	e->sent = nothing ? (struct metric){} : t->sent;
	e->returned = nothing ? (struct metric){} : t->returned;
	e->age = nothing ? 0 : t->age;
	e->state = nothing ? STATE_NONE : t->state;
	e->occasion = cfg_aggregation == LAB_AGGREGATE_MEDIUM ? t->occasion : OCCASION_NONE;
}

/*
 * Writes an event, if somebody reads events: a drop, or, for a reason that is none, what is at the point that was set. ctx
 * is NULL where there is no frame, and c where addresses are as they came.
 */
static __always_inline int write_event(struct __sk_buff *ctx, const struct packet *p, const struct change *c, enum lab_reason reason, enum lab_direction dir)
{
	struct telling *t = this_telling();
	bool drop = is_drop(reason, dir);
	__u32 length = sizeof(struct event);
	struct event *e;

	if (!t || !p)
		return 0;
	if (!cfg_tells) {
		t->first = 0;
		t->reader = has_reader(READ_EVENTS, bpf_ktime_get_ns());
	}
	if (!t->reader)
		return 0;
	e = &t->event;
	e->src = p->ev.src;
	e->dst = p->ev.dst;
	e->sport = p->ev.sport;
	e->dport = p->ev.dport;
	e->ifindex = p->ev.ifindex;
	e->length = p->ev.length;
	e->src_id = p->ev.src_id;
	e->dst_id = p->ev.dst_id;
	e->ether_type = p->ev.ether_type;
	e->reason = reason;
	e->direction = dir;
	e->point = drop ? POINT_NONE : t->point;
	e->proto = p->ev.proto;
	e->ttl = p->ev.ttl;
	e->tcp_flags = p->ev.tcp_flags;
	e->icmp_type = p->ev.icmp_type;
	e->dst_mac = p->ev.dst_mac;
	e->src_mac = p->ev.src_mac;
	if (cfg_tells) {
		e->orig_src = e->orig_dst = (struct ip){};
		e->orig_sport = e->orig_dport = 0;
		if (c && c->outcome == TRANSLATED)
			tell_change(e, p, c);
		e->src_identity = t->src_identity;
		e->dst_identity = t->dst_identity;
		e->service = t->service;
		e->decided = t->decided;
		e->cached = t->cached;
		tell_flow(e, t, is_entrance(e->point));
	}
	if (ctx)
		length += show_frame(ctx, t);
	if (begin_record(t, &e->head, drop ? EVENT_DROP : EVENT_TRACE, length))
		end_record(&e->head, length, dir);
	return 0;
}

/* Writes an event of a packet whose frame is there: see write_event(). */
__noinline int report(struct __sk_buff *ctx, const struct packet *p, const struct change *c, enum lab_reason reason, enum lab_direction dir)
{
	return write_event(ctx, p, c, reason, dir);
}
