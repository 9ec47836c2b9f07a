// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "account.h"
#include "basis.h"
#include "config.h"
#include "deliver.h"
#include "drop.h"
#include "events.h"
#include "flow.h"
#include "maps.h"
#include "mark.h"
#include "observe.h"
#include "packet.h"
#include "record.h"
#include "rewrite.h"
#include "route.h"
#include "step.h"
#include "tunnel.h"
#include "tuple.h"
#include "work.h"

/*
 * The cache of decisions, in the mode that routes in BPF. The programs store the decision about a packet of a flow. The
 * flow's next packets follow it, as long as its basis is the same: see basis.h. Each CPU has a cache of its own, so there
 * is no lock and no shared memory. Two flows with the same place overwrite each other, and are decided about again.
 */

enum cache_flag {
	CACHED_TRANSLATED = 1, /* its packets get other addresses; FIN and RST change the flow's state */
	CACHED_IN_CT = 2, /* the state is in lab_ct, with the packets' tuple as key */
	CACHED_IN_NAT = 4, /* the state is in lab_nat, with the packets' tuple as key */
	/* What events have to know of its packets, set only with cfg_tells. */
	CACHED_BACK = 8, /* they are answers, and get the addresses that the opener of the flow knows */
	CACHED_LO = 16, /* their sender is lo of the flow */
	CACHED_COUNTS = 32, /* this program counts them */
	CACHED_PLACE = CACHED_LO | CACHED_COUNTS, /* what note_place() says */
} __attribute__((packed));

struct cached_flow {
	struct tuple key;
	struct basis basis;
	__u32 place; /* of the flow in lab_observed */
	enum lab_reason reason; /* REASON_DELIVERED, REASON_FORWARDED or REASON_TUNNELED */
	enum cache_flag flags;
	__u16 mtu; /* bytes of IP packet that may go that way */
	union {
		struct neighbour next;
		struct far_end far; /* where it is tunneled to */
	};
	enum lab_mark leaves; /* with these in its mark */
	__u16 decided; /* when, for events: see decision_time() */
	__u32 began; /* the flow did, as in struct observed_side; 0: events have to look at each of its packets */
	struct translation to; /* what they have then, translated or not; in place of a backend there is their origin_of() */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct cached_flow) == 128, "two of the CPU's cache lines");

/*
 * The map is small so that it stays in the CPU's own caches: with a map four times as large it takes 2 % longer to open a
 * connection. BPF_F_MMAPABLE aligns the values to pages, and so to the CPU's cache lines.
 */
#define CACHED_FLOWS 512 /* a CPU; user space makes the map that much larger */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct cached_flow);
	__uint(max_entries, CACHED_FLOWS);
	__uint(map_flags, BPF_F_MMAPABLE);
} lab_flow_cache SEC(".maps");

/* The node from which packets come by the tunnel, which was found to have their source address; 0: they come another way. */
static __always_inline __be32 origin_of(const struct cached_flow *known)
{
	return known->to.backend;
}

static __always_inline struct cached_flow *place_of(__u32 hash)
{
	__u32 place = own_place(hash, CACHED_FLOWS);

	return bpf_map_lookup_elem(&lab_flow_cache, &place);
}

/* Where the layer-4 header of a plain packet is. */
#define PLAIN_L4 (ETH_HLEN + sizeof(struct iphdr))

/*
 * The flow of a plain IPv4 packet: TCP or UDP, whole, without options, with hops left, and none that opens a
 * flow. Any other is decided about. t is all 0 before.
 */
static __always_inline bool plain_tuple(struct __sk_buff *ctx, struct tuple *t, __u8 *dscp, __u8 *tcp_flags)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct iphdr *ip = data + ETH_HLEN;
	const struct tcphdr *tcp = (void *)(ip + 1);
	const struct udphdr *udp = (void *)(ip + 1);
	__u32 total, need = sizeof(*ip) + sizeof(*udp);

	if ((void *)(udp + 1) > data_end || ip->version != 4 || ip->ihl != 5)
		return false;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_MASK) || ip->ttl <= 1)
		return false;
	if (ip->protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > data_end)
			return false;
		*tcp_flags = ((const __u8 *)tcp)[13];
		if (*tcp_flags & TCP_SYN)
			return false;
		need = sizeof(*ip) + sizeof(*tcp);
	} else if (ip->protocol != IPPROTO_UDP) {
		return false;
	}
	total = bpf_ntohs(ip->tot_len);
	if (total < need || ETH_HLEN + total > ctx->len)
		return false;
	t->src = ip_from_v4(ip->saddr);
	t->dst = ip_from_v4(ip->daddr);
	t->sport = udp->source;
	t->dport = udp->dest;
	t->proto = ip->protocol;
	*dscp = ip->tos & IP_DSCP_MASK;
	return true;
}

/* Changes the state of a translated flow by a FIN or RST. False: the entry was not found, and the packet has to be decided about. */
static __noinline bool see_end(const struct cached_flow *known, __u8 tcp_flags)
{
	struct opening *o = this_opening();
	struct flow_entry *e = NULL;

	if (!o)
		return false;
	o->t = known->key;
	if (known->flags & CACHED_IN_CT) {
		e = bpf_map_lookup_elem(&lab_ct, &o->t);
	} else if (known->flags & CACHED_IN_NAT) {
		o->t.direction = TUPLE_BACK;
		e = bpf_map_lookup_elem(&lab_nat, &o->t);
	}
	if (e)
		touch(e, &o->t, tcp_flags, known->flags & CACHED_IN_NAT, seconds());
	return e;
}

/*
 * Returns the decision that a packet may follow, NULL when it has to be decided about. What a pod sends rests on the pod's own
 * endpoint, what is delivered on that of the pod that gets it, and what leaves the node on the node's routes. from is NULL but for
 * what came out of the tunnel: what another node sends as the same flow is not what was decided about.
 */
static __always_inline struct cached_flow *recall(struct __sk_buff *ctx, bool from_pod, const struct far_end *from)
{
	struct tuple t = {};
	struct cached_flow *known;
	struct generations *g;
	struct basis now;
	__u8 tcp_flags = 0, dscp;
	__u32 h, generation;

	if (!plain_tuple(ctx, &t, &dscp, &tcp_flags))
		return NULL;
	h = hash(&t);
	known = place_of(h);
	if (!known || !keys_equal(&known->key, &t) || (from && origin_of(known) != from->node))
		return NULL;
	g = generations();
	if (!g)
		return NULL;
	generation = common_sum(g, h, from_pod, &known->key.src);
	asm volatile("" : "+r"(generation)); /* the sum takes one register, its parts would take stack */
	generation += known->reason == REASON_DELIVERED ? endpoint_generation(g, &known->to.dst) : routes_generation(ctx);
	now = basis_of(ctx, moment_now(), generation, whole_mark(ctx), dscp);
	if (!basis_equal(&known->basis, &now) || wire_length(ctx, t.proto, PLAIN_L4) > known->mtu)
		return NULL;
	if (known->flags & CACHED_TRANSLATED && tcp_flags & (TCP_FIN | TCP_RST))
		return see_end(known, tcp_flags) ? known : NULL;
	return known;
}

/*
 * Writes into the work area what is reported of a packet that follows a remembered decision, before its frame is changed.
 * The stack has no room for it: the functions that decide need it.
 */
static __noinline int see_cached(struct __sk_buff *ctx, const struct cached_flow *known, enum lab_direction dir)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct iphdr *ip = data + ETH_HLEN;
	const __u8 *tcp_flags = (void *)(ip + 1) + 13;
	const struct endpoint *from = NULL, *to = NULL;
	struct work *w = clean_work(ctx);
	struct packet *p;

	if (!known || !w)
		return 0;
	p = &w->p;
	if ((void *)(ip + 1) <= data_end)
		p->ev.ttl = ip->ttl;
	if (known->key.proto == IPPROTO_TCP && (void *)(tcp_flags + 1) <= data_end)
		p->ev.tcp_flags = *tcp_flags;
	p->ev.src = known->key.src;
	p->ev.dst = known->key.dst;
	p->ev.sport = known->key.sport;
	p->ev.dport = known->key.dport;
	p->ev.proto = known->key.proto;
	if (dir == DIR_FROM_POD)
		from = bpf_map_lookup_elem(&lab_endpoints, &known->key.src);
	if (known->reason == REASON_DELIVERED)
		to = bpf_map_lookup_elem(&lab_endpoints, &known->to.dst);
	if (from) {
		p->ev.src_id = from->id;
		if (cfg_tells)
			know_sender(identity_of_pod(from));
	}
	if (to)
		p->ev.dst_id = to->id;
	if (!cfg_tells)
		return 0;
	w->c.from = known->key;
	w->c.to = known->to;
	w->c.shape = SHAPE_PACKET;
	w->c.outcome = known->flags & CACHED_TRANSLATED ? TRANSLATED : AS_IT_IS;
	if (known->reason == REASON_TUNNELED)
		w->verdict.far = known->far;
	else
		w->verdict.pod = known->next;
	return 0;
}

/* A time of the coarse clock, in units of about a millisecond. It comes again after a minute, and no decision holds for so long. */
static __always_inline __u16 decision_time(__u64 ns)
{
	return ns >> 20;
}

static __always_inline __u64 nanoseconds_since(__u16 decided, __u64 now)
{
	return (__u64)(__u16)(decision_time(now) - decided) << 20;
}

/* Notes where the packet's flow is, and returns the flags that say more of it. */
static __always_inline enum cache_flag note_place(struct cached_flow *known, const struct telling *t)
{
	known->began = t->began;
	known->place = t->place;
	return (t->lo ? CACHED_LO : 0) | (t->counts ? CACHED_COUNTS : 0);
}

/* A remembered decision is followed. */
__noinline int step_cache(struct telling *t)
{
	struct step *s = begin_step(t, STEP_CACHE);

	if (!s)
		return 0;
	s->age = t->decided;
	return tell_step(t);
}

/* Tells of a remembered decision, before it is carried out. */
static __noinline int tell_cached(struct __sk_buff *ctx, struct telling *t, const struct cached_flow *known)
{
	const struct work *w = this_work();
	enum lab_point came = POINT_FROM_NETWORK;

	if (!t || !w || !known)
		return 0;
	t->cached = true;
	if (has_tunnel() && ctx->ifindex == cfg_tunnel_device)
		came = POINT_FROM_TUNNEL;
	else if (t->direction == DIR_FROM_POD)
		came = POINT_FROM_POD;
	arrive(ctx, &w->p, came, t->direction);
	if (!cfg_steps)
		return 0;
	step_cache(t);
	if (known->flags & CACHED_TRANSLATED)
		step_translation(&known->key, &known->to, t->service);
	return step_observed(t, STEP_LOOKUP);
}

/*
 * Counts a packet of which nothing is told, as its flow goes on. That is not so of an event after EVENT_INTERVAL, but of each
 * flow one packet in every moment is decided about, and looked at then. False: this packet has to be looked at.
 */
static __always_inline bool count_unseen(struct __sk_buff *ctx, const struct cached_flow *known)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const __u8 *tcp_flags = data + PLAIN_L4 + 13;
	struct observed_side *side, *other;
	bool fin = false, lo = known->flags & CACHED_LO;
	struct observed *o;

	if (tells_all())
		return false;
	if (known->key.proto == IPPROTO_TCP) {
		if ((void *)(tcp_flags + 1) > data_end || *tcp_flags & TCP_RST)
			return false;
		fin = *tcp_flags & TCP_FIN;
	}
	if (!known->began)
		return false;
	if (!(known->flags & CACHED_COUNTS))
		return true;
	o = bpf_map_lookup_elem(&lab_observed, &known->place);
	if (!o)
		return false;
	side = lo ? &o->lo : &o->hi;
	if (side->began != known->began)
		return false;
	if (fin) {
		side->fin = true;
		other = lo ? &o->hi : &o->lo;
		if (other->fin)
			return false; /* it ends the flow */
	}
	__sync_fetch_and_add(&side->packets, 1);
	__sync_fetch_and_add(&side->bytes, ctx->len);
	return true;
}

/*
 * Looks up the flow of a packet that follows a remembered decision, and tells what is worth it. False: nobody reads that, so
 * nothing is told of where the packet goes, either.
 */
static __noinline bool witness_cached(struct __sk_buff *ctx, struct cached_flow *known, enum lab_direction dir)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const __u8 *tcp_flags = data + PLAIN_L4 + 13;
	struct telling *t = this_telling();
	const struct work *w = this_work();
	bool due;

	if (!t || !w || !known)
		return false;
	begin_telling();
	if (!t->reader)
		return false;
	if (known->key.proto == IPPROTO_TCP && (void *)(tcp_flags + 1) <= data_end)
		t->tcp_flags = *tcp_flags;
	t->direction = dir;
	t->length = ctx->len;
	if (known->flags & CACHED_BACK)
		set_key(t, &known->to.src, &known->to.dst, known->to.sport, known->to.dport, known->key.proto);
	else
		set_key(t, &known->key.src, &known->key.dst, known->key.sport, known->key.dport, known->key.proto);
	t->decided = nanoseconds_since(known->decided, t->now);
	t->began = known->began;
	t->place = known->place;
	observe(t);
	due = is_due(t) || cfg_steps;
	if (due) {
		see_cached(ctx, known, dir);
		tell_cached(ctx, t, known);
	}
	if (due || t->fresh)
		identify(w, t);
	known->flags = (known->flags & ~CACHED_PLACE) | note_place(known, t); /* it may have moved on, or been entered anew */
	return true;
}

/* Tells where a packet goes that follows a remembered decision. */
static __noinline int depart_cached(struct __sk_buff *ctx, enum lab_reason reason, enum lab_direction dir)
{
	return depart(ctx, this_work(), reason, dir);
}

/* Drops a packet for which the remembered decision could not be carried out. Whoever calls has begun to tell of it. */
static __noinline int drop_cached(struct __sk_buff *ctx, const struct cached_flow *known, enum lab_direction dir)
{
	const struct work *w;

	see_cached(ctx, known, dir);
	count(REASON_REWRITE, dir, ctx->len);
	w = this_work();
	if (w)
		report(ctx, &w->p, NULL, REASON_REWRITE, dir);
	return TC_ACT_SHOT;
}

/* Begins to tell of such a packet, and drops it. */
static __noinline int drop_untold(struct __sk_buff *ctx, const struct cached_flow *known, enum lab_direction dir)
{
	if (cfg_tells)
		begin_telling();
	return drop_cached(ctx, known, dir);
}

/* Gives a packet the addresses that those before it got. */
static __noinline bool rewrite_cached(struct __sk_buff *ctx, const struct cached_flow *known)
{
	return known && rewrite_packet(ctx, known->key.proto, PLAIN_L4, &known->to);
}

/* Drops such a packet; told says whether one has begun to tell of it. */
static __always_inline int drop_again(struct __sk_buff *ctx, const struct cached_flow *known, enum lab_direction dir, bool told)
{
	return told ? drop_cached(ctx, known, dir) : drop_untold(ctx, known, dir);
}

/* Counts a packet for which the remembered decision was carried out, and says where it goes where it was told of. */
static __always_inline void account_again(struct __sk_buff *ctx, const struct cached_flow *known, enum lab_direction dir, bool told)
{
	count(known->reason, dir, ctx->len);
	if (told)
		depart_cached(ctx, known->reason, dir);
}

static __always_inline bool translate_again(struct __sk_buff *ctx, const struct cached_flow *known)
{
	return !(known->flags & CACHED_TRANSLATED) || rewrite_cached(ctx, known);
}

/* Sends a packet by the tunnel, as an earlier one. */
static __noinline int tunnel_again(struct __sk_buff *ctx, const struct cached_flow *known, enum lab_direction dir, bool told)
{
	int verdict = translate_again(ctx, known) ? enter_tunnel(ctx, &known->far, dir != DIR_FROM_POD) : TC_ACT_SHOT;

	if (verdict == TC_ACT_SHOT)
		return drop_again(ctx, known, dir, told);
	account_again(ctx, known, dir, told);
	return verdict;
}

/*
 * Does with a packet what was decided about an earlier one. The kernel's neighbour table does not see these packets. It
 * sees those that are decided about, which is one of each flow in a moment, so it keeps the next hop's entry.
 */
static __always_inline int do_again(struct __sk_buff *ctx, const struct cached_flow *known, enum lab_direction dir, bool told)
{
	if (has_tunnel() && known->reason == REASON_TUNNELED)
		return tunnel_again(ctx, known, dir, told);
	if (!translate_again(ctx, known) || !address(ctx, &known->next.mac, &known->next.own_mac, true))
		return drop_again(ctx, known, dir, told);
	account_again(ctx, known, dir, told);
	/* Without flags of their own, these helpers do not fail. */
	if (known->reason == REASON_DELIVERED)
		return hand_over(ctx, known->next.ifindex, WAY_INSIDE);
	set_mark(ctx, known->leaves);
	return bpf_redirect(known->next.ifindex, 0);
}

/* Follows a remembered decision, and tells of the packet, if somebody reads that. */
static __noinline int follow_telling(struct __sk_buff *ctx, struct cached_flow *known, enum lab_direction dir)
{
	return known ? do_again(ctx, known, dir, witness_cached(ctx, known, dir)) : TC_ACT_SHOT;
}

/* Follows a remembered decision. */
static __always_inline int follow(struct __sk_buff *ctx, struct cached_flow *known, enum lab_direction dir)
{
	if (cfg_tells && !count_unseen(ctx, known))
		return follow_telling(ctx, known, dir);
	return do_again(ctx, known, dir, false);
}

static __always_inline void own_tuple(struct tuple *t, const struct packet *p)
{
	set_tuple(t, &p->ev.src, &p->ev.dst, p->ev.sport, p->ev.dport, p->ev.proto);
}

/*
 * Reads the numbers of what a decision about a parsed packet will rest on, before anything is decided; find_pod() reads that of
 * the pod that gets it.
 */
static __always_inline void look_up_basis(struct __sk_buff *ctx, struct work *w, bool from_pod)
{
	__u32 all = 0, routes = 0;
	struct generations *g;

	if (!has_kube_proxy_replacement())
		return; /* the stack decides there */
	if (has_cache()) {
		own_tuple(&w->own, &w->p);
		w->hash = hash(&w->own);
		g = generations();
		if (g) {
			all = g->all;
			w->generation = common_sum(g, w->hash, from_pod, &w->p.ev.src);
		}
		routes = routes_generation(ctx);
	}
	w->basis = basis_of(ctx, has_cache() ? moment_now() : 0, all + routes, w->p.mark, w->p.dscp);
	w->routes = routes;
}

/* Notes what events have to know of a decision. */
static __always_inline enum cache_flag note_decision(struct cached_flow *known)
{
	const struct telling *t = this_telling();

	if (!t)
		return 0;
	known->decided = decision_time(t->now);
	return note_place(known, t);
}

/*
 * Remembers what was decided about a packet. Only REASON_DELIVERED, REASON_TUNNELED and REASON_FORWARDED, to a next hop whose
 * MAC is known, are worth it, and only packets that show their flow themselves. What is forwarded to an address of the node's
 * pods is not: it rests on that there is no such pod, and the stack has nobody to give it to either.
 */
__noinline int remember_decision(const struct work *w, enum lab_reason reason)
{
	const struct route *route;
	const struct packet *p;
	struct cached_flow *place;
	enum cache_flag flags;

	if (!w)
		return 0;
	p = &w->p;
	route = &w->route;
	if (p->fragment || p->options || (p->ev.proto != IPPROTO_TCP && p->ev.proto != IPPROTO_UDP))
		return 0;
	if (reason == REASON_FORWARDED ? !route->neighbour.ifindex : reason != REASON_DELIVERED && reason != REASON_TUNNELED)
		return 0;
	if (reason == REASON_FORWARDED && is_own_pod(w->c.outcome == TRANSLATED ? &w->c.to.dst : &p->ev.dst))
		return 0;
	place = place_of(w->hash);
	if (!place)
		return 0;
	place->key = w->own;
	place->basis = w->basis;
	place->basis.generation = w->generation + w->c.begun + (reason == REASON_DELIVERED ? w->pod_generation : w->routes);
	place->reason = reason;
	flags = cfg_tells ? note_decision(place) : 0;
	place->to = (struct translation){ .src = w->own.src, .dst = w->own.dst, .sport = w->own.sport, .dport = w->own.dport };
	if (w->c.outcome == TRANSLATED) {
		flags |= CACHED_TRANSLATED;
		if (w->c.found == FOUND_IN_CT && !(w->c.from.flags & TUPLE_MASQUERADE))
			flags |= CACHED_IN_CT;
		else if (w->c.found == FOUND_IN_NAT)
			flags |= CACHED_IN_NAT;
		if (cfg_tells && w->c.back)
			flags |= CACHED_BACK;
		place->to = w->c.to;
	}
	place->to.backend = w->from.node;
	place->flags = flags;
	if (reason == REASON_DELIVERED) {
		place->mtu = cfg_mtu;
		place->next = w->verdict.pod;
		return 0;
	}
	place->mtu = route->mtu;
	if (reason == REASON_TUNNELED) {
		place->far = w->verdict.far;
		return 0;
	}
	place->leaves = w->verdict.mark;
	place->next = route->neighbour;
	return 0;
}

/* Remembers what was decided about a packet, unless the next one has to be seen, by which a flow is more than opened. */
static __always_inline void remember(const struct work *w, enum lab_reason reason)
{
	if (w->c.outcome != TRANSLATED || !opens(&w->p))
		remember_decision(w, reason);
}
