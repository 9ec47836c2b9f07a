// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "ct.h"
#include "drop.h"
#include "events.h"
#include "identity.h"
#include "ipcache.h"
#include "maps.h"
#include "observe.h"
#include "packet.h"
#include "record.h"
#include "report.h"
#include "step.h"
#include "tuple.h"
#include "work.h"

/*
 * What is counted and told of packets. A program tells of a packet where it comes in, decides, tells of the decision, acts
 * and accounts, each once for a packet.
 */

/* Whether the packet that is told of has an event where it goes. */
static __always_inline bool is_due(const struct telling *t)
{
	return cfg_aggregation == LAB_AGGREGATE_NONE || (cfg_aggregation == LAB_AGGREGATE_MEDIUM && t->occasion);
}

/* Whether every packet is told of, or every step. */
static __always_inline bool tells_all(void)
{
	return cfg_aggregation == LAB_AGGREGATE_NONE || cfg_steps;
}

/* Tells of a packet where it comes in. */
static __always_inline void arrive(struct __sk_buff *ctx, const struct packet *p, enum lab_point point, enum lab_direction dir)
{
	struct telling *t = this_telling();

	if (!t)
		return;
	t->met = true;
	t->point = point;
	t->direction = dir;
	if (cfg_aggregation == LAB_AGGREGATE_NONE)
		report(ctx, p, NULL, REASON_NONE, dir);
}

/* Says who sends the packet, where that is known better than by its address. */
static __always_inline void know_sender(__u32 identity)
{
	struct telling *t = this_telling();

	if (t)
		t->src_identity = identity;
}

/* The identity of who has an address: of this node's pods what their endpoint says. 0: it is not known. */
static __always_inline __u32 identity_at(const struct ip *a)
{
	const struct endpoint *ep = is_own_pod(a) ? bpf_map_lookup_elem(&lab_endpoints, a) : NULL;
	const struct ipcache_entry *e;
	__u32 identity = 0;

	if (ep) {
		identity = identity_of_pod(ep);
	} else {
		e = who_has(a);
		if (e)
			identity = e->identity;
	}
	if (cfg_steps)
		step_to(STEP_IDENTITY, a, NULL, identity, 0);
	return identity;
}

/* Sets the key of a packet's flow, as who opened it sees it. */
static __always_inline void set_view(struct telling *t, const struct work *w)
{
	const struct packet *p = &w->p;
	const struct change *c = &w->c;
	const struct ip *src = &p->ev.src, *dst = &p->ev.dst;
	__be16 sport = p->flow_sport, dport = p->flow_dport;
	bool error = is_icmp_error(p), known = p->has_flow;
	__u8 proto = known ? p->flow_proto : p->ev.proto;

	if (has_kube_proxy_replacement() && c->outcome == TRANSLATED) {
		if (c->shape == SHAPE_FRAGMENT || c->shape == SHAPE_ERROR) {
			src = &c->from.src;
			dst = &c->from.dst;
			sport = c->from.sport;
			dport = c->from.dport;
			proto = c->from.proto;
			known = true;
		}
		if (c->back) {
			src = &c->to.src;
			dst = &c->to.dst;
			dport = c->to.dport;
			sport = proto == IPPROTO_ICMP ? dport : c->to.sport;
		}
	}
	set_key(t, src, dst, sport, dport, proto);
	t->tcp_flags = p->ev.tcp_flags;
	t->opens = opens(p);
	t->answers = accepts(p) || (p->ev.proto == IPPROTO_ICMP && p->ev.icmp_type == ICMP_ECHOREPLY && !p->fragment);
	if (!error)
		return;
	t->opens = t->answers = false;
	if (known)
		relate(t);
	t->key.error = true;
}

/* Looks up the flow of a packet that is not dropped. */
static __always_inline void look_up_observed(struct __sk_buff *ctx, const struct work *w, struct telling *t, enum lab_direction dir)
{
	const struct change *c;
	bool translated;

	c = &w->c;
	translated = has_kube_proxy_replacement() && c->outcome == TRANSLATED;
	t->met = true;
	t->direction = dir;
	if (!w->p.family)
		return;
	t->length = ctx->len;
	if (translated)
		t->service = c->service;
	set_view(t, w);
	observe(t);
	if (t->key.error)
		t->state = t->related ? STATE_RELATED : STATE_NONE;
	if (cfg_steps) {
		if (translated)
			step_translation(&c->from, &c->to, c->service);
		step_observed(t, STEP_LOOKUP);
	}
}

/* Finds out who the ends of a packet are, where that is told, and makes the entry of its flow. */
static __always_inline void identify(const struct work *w, struct telling *t)
{
	if (!t->has_key)
		return;
	if (is_due(t) || cfg_steps) {
		if (!t->src_identity)
			t->src_identity = identity_at(&w->p.ev.src);
		if (!t->dst_identity)
			t->dst_identity = identity_at(has_kube_proxy_replacement() && w->c.outcome == TRANSLATED ? &w->c.to.dst : &w->p.ev.dst);
	}
	if (t->fresh)
		enter_observed(t);
	else if (t->occasion == OCCASION_INTERVAL)
		renew_identities(t);
}

/* Tells of a packet that is not dropped. What is asked for here is asked for events only. */
__noinline int witness(struct __sk_buff *ctx, enum lab_direction dir)
{
	const struct work *w = this_work(); /* and no argument, which could be no key of a map before Linux 6.2 */
	struct telling *t = this_telling();

	if (!cfg_tells || !t || !w || !t->reader)
		return 0;
	look_up_observed(ctx, w, t, dir);
	identify(w, t);
	return 0;
}

/* Where a packet goes for a reason that is no drop. */
static __always_inline enum lab_point point_to(enum lab_reason reason, enum lab_point from)
{
	switch (reason) {
	case REASON_DELIVERED:
	case REASON_ARP_REPLY:
		return POINT_TO_POD;
	case REASON_FORWARDED:
		return POINT_TO_NETWORK;
	case REASON_TUNNELED:
		return POINT_TO_TUNNEL;
	case REASON_ARP_IGNORED:
		return from; /* it goes nowhere */
	default:
		return POINT_TO_STACK;
	}
}

/* Tells of a packet where it goes. */
__noinline int depart(struct __sk_buff *ctx, const struct work *w, enum lab_reason reason, enum lab_direction dir)
{
	struct telling *t = this_telling();
	struct ip node;

	if (!cfg_tells || !t || !w || !t->reader || !t->met)
		return 0;
	t->point = point_to(reason, t->point);
	if (cfg_steps) {
		if (reason == REASON_DELIVERED)
			step_to(STEP_DELIVERY, NULL, NULL, w->p.ev.dst_id, w->verdict.pod.ifindex);
		if (reason == REASON_TUNNELED) {
			node = ip_from_v4(w->verdict.far.node);
			step_to(STEP_TUNNEL, NULL, &node, w->verdict.far.sender, cfg_tunnel_device);
		}
		if (t->point == POINT_TO_STACK)
			step_to(STEP_STACK, NULL, NULL, 0, 0);
	}
	if (!is_due(t))
		return 0;
	return write_event(ctx, &w->p, has_kube_proxy_replacement() ? &w->c : NULL, reason, dir);
}

/* Tells of a decision before it is carried out, so that an event shows a dropped packet as it came: some are turned into the answer. */
static __always_inline void announce(struct __sk_buff *ctx, const struct work *w, enum lab_reason reason, enum lab_direction dir)
{
	if (is_drop(reason, dir))
		report(ctx, &w->p, NULL, reason, dir);
	else if (cfg_tells)
		witness(ctx, dir);
}

/*
 * Counts a packet by its reason, and tells where it goes. To act can fail, as when headers cannot be rewritten. So the
 * reason is the decided one, unless the verdict says that it could not be carried out. Ignored ARP is dropped without
 * being a drop. Returns the reason.
 */
static __always_inline enum lab_reason account(struct __sk_buff *ctx, const struct work *w, enum lab_reason reason, enum lab_direction dir, int verdict)
{
	if (verdict == TC_ACT_SHOT && reason != REASON_ARP_IGNORED && !is_drop(reason, dir)) {
		reason = REASON_REWRITE;
		report(ctx, &w->p, NULL, reason, dir);
	} else if (cfg_tells && !is_drop(reason, dir)) {
		depart(ctx, w, reason, dir);
	}
	count(reason, dir, w->p.ev.length);
	return reason;
}

/* What drop_unseen reports of a packet. All CPUs share it. */
static struct packet unseen;

/* Drops a packet because the work area was not found, which it always should be. Its caller has no stack left for a struct packet. */
__noinline int drop_unseen(struct __sk_buff *ctx, enum lab_direction dir)
{
	look_at_frame(ctx, &unseen);
	count(REASON_NO_WORK_AREA, dir, unseen.ev.length);
	report(ctx, &unseen, NULL, REASON_NO_WORK_AREA, dir);
	return TC_ACT_SHOT;
}
