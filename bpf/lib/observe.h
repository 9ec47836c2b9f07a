// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

#include "ct.h"
#include "identity.h"
#include "record.h"
#include "step.h"
#include "tuple.h"

/*
 * The flows that events tell of. lab_ct and lab_nat have only what is translated, or has to be told apart from that;
 * here is every flow, in every mode, as long as somebody reads events that are not of drops. It changes nothing of what
 * becomes of packets. A packet may pass several programs of a node: the first of them counts it.
 */

/* Flows that are observed have their time in units of 2^26 ns of the coarse clock, which takes no division. */
#define OBSERVED_UNIT 26
#define OBSERVED_TIME(seconds) (((seconds) * 1000000000ULL + (1 << OBSERVED_UNIT) - 1) >> OBSERVED_UNIT)

/* Between two events about a flow that goes on. */
#define EVENT_INTERVAL OBSERVED_TIME(5)

/* So many flows have the same places. One that is new takes the place of one that is over, or of who was silent the longest. */
#define OBSERVED_PLACES 4

/*
 * Flows begin in the first places of the table, which are few, so that these are in the CPU's caches. Most flows end there. One
 * whose place another takes before moves on to the other places, of which there are many.
 */
#define OBSERVED_FIRST 64

/*
 * An array, which is searched here, so that a remembered decision can say in which place its flow is: packets that follow it
 * search nothing. There is no lock. What may come of that is an event too many, or a packet that is not counted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct observed);
	__uint(max_entries, OBSERVED_FLOWS);
	__uint(map_flags, BPF_F_MMAPABLE); /* aligns the values to pages, and so to cache lines */
} lab_observed SEC(".maps");

/* A time of the coarse clock in so few bytes that it comes again after an hour only. */
static __always_inline __u32 short_time(__u64 ns)
{
	return ns >> 10;
}

/* The first of the places where a flow begins. */
static __always_inline __u32 first_place(__u32 hash)
{
	return hash % (OBSERVED_FIRST / OBSERVED_PLACES) * OBSERVED_PLACES;
}

/* The first of the places that a flow moves on to. */
static __always_inline __u32 later_place(__u32 hash)
{
	__u64 all = (cfg_observed - OBSERVED_FIRST) / OBSERVED_PLACES;

	return OBSERVED_FIRST + (__u32)(all * hash >> 32) * OBSERVED_PLACES;
}

/* Whether a place has the flow that has the telling's key. */
static __always_inline bool has_flow_of(const struct observed *o, const struct telling *t)
{
	return o && o->began && keys_equal(&o->key, &t->key);
}

/* The entry, in one of the places from that one on, of the flow that has the telling's key. NULL: there is none. */
static __always_inline struct observed *look_at_places(struct telling *t, __u32 place)
{
	struct observed *o;
	__u32 i;

	/* A loop is a fourth of the code, and to fetch code takes longer than to run it. */
#pragma clang loop unroll(disable)
	for (i = 0; i < OBSERVED_PLACES; i++, place++) {
		o = bpf_map_lookup_elem(&lab_observed, &place);
		if (has_flow_of(o, t)) {
			t->place = place;
			return o;
		}
	}
	return NULL;
}

/*
 * The entry of the flow that has the telling's key, NULL if there is none. It is in the telling's place, where that is known. A
 * segment that opens a flow is not looked up among those that have moved on: the flow that it finds there is over, or another.
 */
static __always_inline struct observed *find_observed(struct telling *t)
{
	struct observed *o = t->began ? bpf_map_lookup_elem(&lab_observed, &t->place) : NULL;
	__u32 h;

	if (has_flow_of(o, t))
		return o;
	t->began = 0;
	h = hash(&t->key);
	o = look_at_places(t, first_place(h));
	return o || t->opens ? o : look_at_places(t, later_place(h));
}

/* Sets the key of the flow that goes from src to dst. */
static __always_inline void set_key(struct telling *t, const struct ip *src, const struct ip *dst, __be16 sport, __be16 dport, __u8 proto)
{
	t->lo = ip_less(src, dst) || (sport <= dport && !ip_less(dst, src));
	t->key.lo = t->lo ? *src : *dst;
	t->key.hi = t->lo ? *dst : *src;
	t->key.lo_port = t->lo ? sport : dport;
	t->key.hi_port = t->lo ? dport : sport;
	t->key.proto = proto;
	t->has_key = true;
}

/* The time since then; 0 where it is later than now: another CPU may have come by after this one had read the clock. */
static __always_inline __u32 since(__u32 then, __u32 now)
{
	return (__s32)(now - then) > 0 ? now - then : 0;
}

static __always_inline __u32 observed_timeout(__u8 proto)
{
	if (proto == IPPROTO_TCP)
		return OBSERVED_TIME(LAB_TIMEOUT_TCP);
	return proto == IPPROTO_UDP ? OBSERVED_TIME(LAB_TIMEOUT_UDP) : OBSERVED_TIME(LAB_TIMEOUT_ECHO);
}

/* The time since a packet of the flow was seen. */
static __always_inline __u32 silence(const struct observed *o, __u32 now)
{
	__u32 seen = (__s32)(o->lo.seen - o->hi.seen) > 0 || !o->hi.seen ? o->lo.seen : o->hi.seen;

	return since(seen, now);
}

/* Whether the packet that is told of cannot belong to a flow any more. */
static __always_inline bool is_outdated(const struct observed *o, const struct telling *t, __u32 now)
{
	return (o->over && t->opens) || silence(o, now) > observed_timeout(t->key.proto);
}

/* What a packet of a flow that is not known is in it: a segment that opens none belongs to one that is older. */
static __always_inline void meet_flow(struct telling *t)
{
	bool older = t->key.proto == IPPROTO_TCP && !t->opens;

	t->fresh = true;
	t->occasion = t->answers ? OCCASION_REPLY : OCCASION_START;
	t->state = t->answers ? STATE_REPLY : older ? STATE_ESTABLISHED
						    : STATE_NEW;
	if (t->answers)
		t->returned = (struct metric){ .packets = 1, .bytes = t->length };
	else
		t->sent = (struct metric){ .packets = 1, .bytes = t->length };
}

/* Why a packet that was counted is worth an event. */
static __always_inline enum lab_occasion occasion_of(struct observed *o, struct observed_side *mine, const struct observed_side *other, const struct telling *t, bool reply, __u32 now)
{
	enum lab_occasion occasion = since(o->told, now) >= EVENT_INTERVAL ? OCCASION_INTERVAL : OCCASION_NONE;

	if (reply && !o->replied) {
		o->replied = true;
		occasion = OCCASION_REPLY;
	}
	if (t->tcp_flags & TCP_FIN)
		mine->fin = true;
	if (!o->over && (t->tcp_flags & TCP_RST || (mine->fin && other->fin))) {
		o->over = true;
		occasion = OCCASION_END;
	}
	if (occasion)
		o->told = now;
	return occasion;
}

/* An identity that is worth to be remembered: one that is not known yet is asked for again. */
static __always_inline __u32 known_identity(__u32 identity)
{
	return identity == LAB_INIT ? 0 : identity;
}

/* Remembers who the ends of a flow are, until the next event after EVENT_INTERVAL. */
static __always_inline void note_identities(struct observed *o, const struct telling *t)
{
	(t->lo ? &o->lo : &o->hi)->identity = known_identity(t->src_identity);
	(t->lo ? &o->hi : &o->lo)->identity = known_identity(t->dst_identity);
}

/* Remembers that in the flow's entry. */
static __always_inline void renew_identities(const struct telling *t)
{
	struct observed *o = bpf_map_lookup_elem(&lab_observed, &t->place);

	if (o && keys_equal(&o->key, &t->key))
		note_identities(o, t);
}

/* Says who the ends are as it was found out before. ICMP errors about a flow may come from anybody. */
static __always_inline void recall_identities(struct telling *t, const struct observed_side *mine, const struct observed_side *other)
{
	if (cfg_steps || t->occasion == OCCASION_INTERVAL || t->key.error)
		return;
	if (!t->src_identity)
		t->src_identity = mine->identity;
	t->dst_identity = other->identity;
}

/* Looks up the flow that has the key, counts the packet, and finds out what is to be told of it. The entry of one that is not there is made by enter_observed(). */
static __always_inline void observe(struct telling *t)
{
	struct observed_side *mine, *other;
	struct observed *o;
	bool reply;
	__u32 now;

	now = t->now >> OBSERVED_UNIT;
	o = find_observed(t);
	if (!o || is_outdated(o, t, now)) {
		meet_flow(t);
		return;
	}
	reply = t->lo != o->lo_opened;
	mine = t->lo ? &o->lo : &o->hi;
	other = t->lo ? &o->hi : &o->lo;
	t->began = short_time(o->began);
	t->counts = mine->by == t->direction + 1;
	if (!t->counts && (!mine->by || since(mine->seen, now) > EVENT_INTERVAL)) {
		mine->by = t->direction + 1;
		t->counts = true;
	}
	if (t->counts) {
		__sync_fetch_and_add(&mine->packets, 1);
		__sync_fetch_and_add(&mine->bytes, t->length);
		if (mine->seen != now)
			mine->seen = now;
		t->occasion = occasion_of(o, mine, other, t, reply, now);
	}
	t->state = reply ? STATE_REPLY : o->replied ? STATE_ESTABLISHED
						    : STATE_NEW;
	if (t->service)
		o->service = t->service;
	else
		t->service = o->service;
	t->age = t->now - o->began;
	recall_identities(t, mine, other);
	mine = o->lo_opened ? &o->lo : &o->hi;
	other = o->lo_opened ? &o->hi : &o->lo;
	t->sent = (struct metric){ .packets = mine->packets, .bytes = mine->bytes };
	t->returned = (struct metric){ .packets = other->packets, .bytes = other->bytes };
}

/* The look-up of the packet's flow, or the making of its entry. */
__noinline int step_observed(struct telling *t, enum lab_step kind)
{
	struct step *s = begin_step(t, kind);

	if (!s)
		return 0;
	s->table = TABLE_OBSERVED;
	s->src = t->lo ? t->key.lo : t->key.hi;
	s->dst = t->lo ? t->key.hi : t->key.lo;
	s->sport = t->lo ? t->key.lo_port : t->key.hi_port;
	s->dport = t->lo ? t->key.hi_port : t->key.lo_port;
	s->proto = t->key.proto;
	if (kind == STEP_LOOKUP) {
		s->found = t->key.error ? t->related : !t->fresh;
		s->state = t->state;
		s->age = t->age;
	}
	return tell_step(t);
}

/* How well the place of that entry can be taken for a flow: the larger the better. */
static __always_inline __u32 room_at(const struct observed *o, const struct observed_key *key, __u32 now)
{
	if (!o->began)
		return ~0U - 1;
	if (o->over || keys_equal(&o->key, key))
		return ~0U; /* before those that nobody has used: what is used is in the CPU's caches */
	return silence(o, now);
}

/* The best of the places from *place on, which becomes that one. */
static __always_inline struct observed *best_place(const struct observed_key *key, __u32 now, __u32 *place)
{
	__u32 at = *place, best = 0, room, i;
	struct observed *o, *chosen = NULL;

#pragma clang loop unroll(disable)
	for (i = 0; i < OBSERVED_PLACES; i++, at++) {
		o = bpf_map_lookup_elem(&lab_observed, &at);
		if (!o)
			continue;
		room = room_at(o, key, now);
		if (!chosen || room > best) {
			chosen = o;
			best = room;
			*place = at;
		}
	}
	return chosen;
}

/* Whether packets of the flow may still come. */
static __always_inline bool goes_on(const struct observed *o, __u32 now)
{
	return o->began && !o->over && silence(o, now) <= observed_timeout(o->key.proto);
}

/* Moves a flow on from the first places. */
__noinline int move_on(__u32 place, __u32 now)
{
	struct observed *o = bpf_map_lookup_elem(&lab_observed, &place), *later;

	if (!cfg_tells || !o)
		return 0;
	place = later_place(hash(&o->key));
	later = best_place(&o->key, now, &place);
	if (later)
		*later = *o;
	return 0;
}

/* The place that is taken for the flow of the telling. */
static __always_inline struct observed *place_observed(struct telling *t, __u32 now)
{
	struct observed *chosen;

	t->place = first_place(hash(&t->key));
	chosen = best_place(&t->key, now, &t->place);
	if (chosen && goes_on(chosen, now) && !keys_equal(&chosen->key, &t->key))
		move_on(t->place, now);
	return chosen;
}

/* Makes the entry of a flow that was not there. */
static __always_inline void enter_observed(struct telling *t)
{
	struct observed_side *mine;
	struct observed *o;
	__u32 now;

	now = t->now >> OBSERVED_UNIT;
	o = place_observed(t, now);
	if (!o)
		return;
	__builtin_memset(o, 0, sizeof(*o));
	o->told = now;
	o->service = t->service;
	o->lo_opened = t->lo != t->answers;
	o->replied = t->state != STATE_NEW; /* as far as that is known */
	o->over = t->tcp_flags & TCP_RST;
	o->lo.began = o->hi.began = t->began = short_time(t->now);
	mine = t->lo ? &o->lo : &o->hi;
	mine->packets = 1;
	mine->bytes = t->length;
	mine->seen = now;
	mine->by = t->direction + 1;
	mine->fin = t->tcp_flags & TCP_FIN;
	note_identities(o, t);
	o->key = t->key;
	o->began = t->now;
	t->counts = true;
	if (cfg_steps)
		step_observed(t, STEP_CREATED);
}

/* Whether the flow is known that an ICMP error with that key is about. */
static __always_inline void relate(struct telling *t)
{
	t->related = find_observed(t);
	t->key.error = true;
}
