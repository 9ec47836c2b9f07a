// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "ct.h"
#include "flow.h"
#include "node.h"

/* Whether a packet can only be the answer in a flow: an echo reply, or a SYN-ACK. It opens no flow. */
static __always_inline bool only_answers(const struct packet *p, const struct change *c)
{
	if (c->shape == SHAPE_ECHO)
		return p->ev.icmp_type == ICMP_ECHOREPLY;
	return accepts(p);
}

/*
 * Masquerades a pod's packet that leaves by a NIC to the outside: it gets the node's address and a port of the node.
 * A packet that cannot get a port is dropped: answers to the pod's own address would not arrive.
 * REASON_NONE: the packet is not masqueraded.
 */
static __always_inline enum lab_reason masquerade(struct __sk_buff *ctx, const struct packet *p, struct change *c)
{
	/* An ICMP error of the node's stack about an answer that it could not deliver to a pod. */
	bool told = c->shape == SHAPE_ERROR && !is_own_pod(&p->ev.src);
	struct opening *o;
	struct ip src;

	if (!is_own_pod(told ? &c->from.src : &p->ev.src) || !is_outside(&p->ev.dst))
		return REASON_NONE;
	if (c->outcome == CANNOT_PARSE)
		return p->fragment && !p->options ? REASON_FRAGMENT : REASON_MASQUERADE;
	c->from.flags = TUPLE_MASQUERADE;
	if (translate_on(p, c))
		return REASON_FORWARDED;
	if (told)
		return REASON_NONE;
	if (c->shape == SHAPE_ERROR)
		return REASON_MASQUERADE;
	if (only_answers(p, c))
		return REASON_MASQUERADE; /* nobody has asked */
	if (!may_open(p))
		return REASON_NO_FLOW;
	src = address_of(p->ev.ifindex);
	o = new_opening(&c->from, CT_MASQUERADE, &src, &c->from.dst, 0, c->from.dport);
	if (!o)
		return REASON_NAT_PORTS;
	update(&o->e.flow, p->ev.tcp_flags, false, seconds());
	if (!enter(ctx, true))
		return REASON_NAT_PORTS;
	begin(c, &o->e, FOUND_ELSEWHERE);
	return REASON_FORWARDED;
}

/*
 * Remembers a flow that is opened from outside to a pod's own address: its answers are not masqueraded. If the answers of
 * another flow look the same, this flow gets a port of its own.
 */
static __always_inline void remember_inbound(struct __sk_buff *ctx, const struct packet *p, struct change *c)
{
	struct opening *o;

	if (c->shape != SHAPE_PACKET && c->shape != SHAPE_ECHO)
		return; /* fragments and errors belong to a flow that another packet opens */
	c->from.flags = TUPLE_MASQUERADE;
	if (translate_on(p, c))
		return;
	if (p->ev.tcp_flags & TCP_RST || only_answers(p, c) || !may_open(p))
		return;
	o = new_opening(&c->from, CT_INBOUND, &c->from.src, &c->from.dst, c->from.sport, c->from.dport);
	if (!o)
		return;
	update(&o->e.flow, p->ev.tcp_flags, false, seconds());
	if (enter(ctx, false))
		begin(c, &o->e, FOUND_ELSEWHERE);
}
