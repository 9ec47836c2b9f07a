// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "ct.h"
#include "events.h"
#include "record.h"
#include "tuple.h"

/* The steps of a decision, told where they happen. Callers ask cfg_steps first. */

/* NULL: nobody is told. */
static __always_inline struct step *begin_step(struct telling *t, enum lab_step kind)
{
	if (!cfg_steps || !t || !t->steps || !t->met)
		return NULL;
	__builtin_memset(&t->step, 0, sizeof(t->step));
	t->step.kind = kind;
	return &t->step;
}

static __always_inline int tell_step(struct telling *t)
{
	if (begin_record(t, &t->step.head, EVENT_STEP, sizeof(t->step)))
		end_record(&t->step.head, sizeof(t->step), t->direction);
	return 0;
}

static __always_inline void set_ends(struct step *s, const struct tuple *t)
{
	s->src = t->src;
	s->dst = t->dst;
	s->sport = t->sport;
	s->dport = t->dport;
	s->proto = t->proto;
}

/* A tuple was looked up in lab_ct or lab_nat; e is what was found. */
__noinline int step_lookup(const struct tuple *tuple, const struct flow_entry *e)
{
	struct telling *t = this_telling();
	struct step *s = begin_step(t, STEP_LOOKUP);

	if (!s || !tuple)
		return 0;
	set_ends(s, tuple);
	s->table = tuple->direction == TUPLE_BACK ? TABLE_NAT : TABLE_CT;
	if (e) {
		s->found = true;
		s->state = tuple->direction == TUPLE_BACK ? STATE_REPLY : STATE_ESTABLISHED;
		s->age = (__u64)(seconds() - e->flow.seen) * 1000000000;
	}
	return tell_step(t);
}

/* A flow was entered in lab_ct. */
__noinline int step_created(const struct tuple *tuple)
{
	struct telling *t = this_telling();
	struct step *s = begin_step(t, STEP_CREATED);

	if (!s || !tuple)
		return 0;
	set_ends(s, tuple);
	s->table = TABLE_CT;
	return tell_step(t);
}

/* Addresses and ports become others. */
__noinline int step_translation(const struct tuple *from, const struct translation *to, __u32 service)
{
	struct telling *t = this_telling();
	struct step *s = begin_step(t, STEP_TRANSLATION);

	if (!s || !from || !to)
		return 0;
	set_ends(s, from);
	s->new_src = to->src;
	s->new_dst = to->dst;
	s->new_sport = to->sport;
	s->new_dport = to->dport;
	s->number = service;
	return tell_step(t);
}

/* A kind of step that has an address, a number or a device. */
__noinline int step_to(enum lab_step kind, const struct ip *src, const struct ip *dst, __u32 number, __u32 ifindex)
{
	struct telling *t = this_telling();
	struct step *s = begin_step(t, kind);

	if (!s)
		return 0;
	if (src)
		s->src = *src;
	if (dst)
		s->dst = *dst;
	s->number = number;
	s->ifindex = ifindex;
	return tell_step(t);
}
