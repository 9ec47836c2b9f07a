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

/* Segments and datagrams that open a flow in none of its directions: they answer one that is there. */
static __always_inline bool only_answers(const struct packet *p, const struct change *c)
{
	if (c->shape == SHAPE_ECHO)
		return p->ev.icmp_type == ICMP_ECHOREPLY;
	return accepts(p);
}

/*
 * A pod's packet about to leave: to the outside it gets the node's address and a port of the node's.
 * What cannot have one would leave with an address that nobody can answer to, and is dropped.
 * REASON_NONE: it stays as it is.
 */
static __always_inline enum lab_reason masquerade(struct __sk_buff *ctx, const struct packet *p, struct change *c)
{
	/* The stack tells who answers of an answer that it could not give to a pod. */
	bool told = c->shape == SHAPE_ERROR && !is_own_pod(&p->ev.src);
	struct opening *o;
	struct ip src;

	if (!is_own_pod(told ? &c->from.src : &p->ev.src) || !is_outside(&p->ev.dst))
		return REASON_NONE;
	if (c->outcome == CANNOT_PARSE)
		return p->fragment && !p->options ? REASON_FRAGMENT : REASON_MASQUERADE;
	c->from.stage = STAGE_MASQUERADE;
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
	update(&o->e, p->ev.tcp_flags, false);
	if (!enter(ctx, true))
		return REASON_NAT_PORTS;
	begin(c, &o->e, FOUND_ELSEWHERE);
	return REASON_FORWARDED;
}

/*
 * A packet from outside to a pod's own address: its answers are not to be masqueraded. Two flows that
 * could not be told apart by their answers get ports of their own, as always.
 */
static __always_inline void remember_inbound(struct __sk_buff *ctx, const struct packet *p, struct change *c)
{
	struct opening *o;

	if (c->shape != SHAPE_PACKET && c->shape != SHAPE_ECHO)
		return; /* what has no header of its own follows its flow */
	c->from.stage = STAGE_MASQUERADE;
	if (translate_on(p, c))
		return;
	if (p->ev.tcp_flags & TCP_RST || only_answers(p, c) || !may_open(p))
		return;
	o = new_opening(&c->from, CT_INBOUND, &c->from.src, &c->from.dst, c->from.sport, c->from.dport);
	if (!o)
		return;
	update(&o->e, p->ev.tcp_flags, false);
	if (enter(ctx, false))
		begin(c, &o->e, FOUND_ELSEWHERE);
}
