// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "admit.h"
#include "basis.h"
#include "config.h"
#include "ct.h"
#include "drop.h"
#include "lb.h"
#include "node.h"
#include "opening.h"
#include "rewrite.h"
#include "step.h"

/* The source address that a pod sees when it reaches itself through a Service: a stack drops packets from its own address. */
#define HAIRPIN_V4 bpf_htonl(0xa9fe5701) /* 169.254.87.1, link-local: nobody's, and no router forwards it */

/* How many ports are tried for one flow. */
#define PORT_TRIES 16

/* Gives the other entry of a flow the state that e has after a packet: see touch(). */
__noinline bool touch_other(struct flow_entry *e, const struct tuple *t, __u8 tcp_flags, bool back)
{
	struct opening *o = this_opening();
	struct flow_entry *other;

	if (!o || !e || !t)
		return true;
	answer_to(&o->key, &e->to, t->proto);
	if (tcp_flags & TCP_RST) {
		renew(t);
		renew(&o->key);
	}
	if (back) {
		o->key.direction = TUPLE_FORWARD;
		o->key.flags = flags_of(&e->flow);
	}
	other = back ? bpf_map_lookup_elem(&lab_ct, &o->key) : bpf_map_lookup_elem(&lab_nat, &o->key);
	if (!other) {
		reverse(&o->back, e, t);
		if (back)
			bpf_map_update_elem(&lab_ct, &o->key, &o->back, BPF_NOEXIST);
		else
			bpf_map_update_elem(&lab_nat, &o->key, &o->back, BPF_NOEXIST);
		return true;
	}
	if (!answers(&other->to, t))
		return false;
	copy_state(&other->flow, &e->flow);
	return true;
}

/*
 * Changes the state of a flow by a packet with tuple t, in both entries. e is the entry that the packet found: in lab_nat
 * when it is an answer (back), otherwise in lab_ct. A missing other entry is put back. A RST raises the generations, so that
 * the next packet is decided about and can take the RST back. False: the other entry belongs to another flow by now.
 */
static __always_inline bool touch(struct flow_entry *e, const struct tuple *t, __u8 tcp_flags, bool back, __u32 now)
{
	return !update(&e->flow, tcp_flags, back, now) || touch_other(e, t, tcp_flags, back);
}

static __always_inline void apply(struct change *c, const struct flow_entry *e, enum found found)
{
	c->outcome = TRANSLATED;
	c->found = found;
	c->to = e->to;
	if (cfg_tells)
		c->service = e->flow.service;
}

/* Whether a packet shows that its flow is alive. ICMP errors and later fragments do not. */
static __always_inline bool is_sign_of_life(const struct change *c)
{
	return c->shape == SHAPE_PACKET || c->shape == SHAPE_ECHO;
}

/* Whether the flow's opener is known to the backend by its own address, so that it may also have opened a connection to the backend's. */
static __always_inline bool may_be_direct(const struct flow_entry *e, const struct tuple *t)
{
	return ip_equal(&e->to.dst, &t->dst);
}

/*
 * Translates an answer, which has tuple t, back: it gets the addresses that the opener asked for. NULL: t is in no entry.
 * A SYN with ACK for a flow that is over may answer a SYN that went to the backend's own address. Then the entry is
 * deleted.
 */
static __always_inline const struct flow_entry *translate_back(const struct packet *p, struct tuple *t, struct change *c)
{
	struct flow_entry *e;

	t->direction = TUPLE_BACK;
	e = bpf_map_lookup_elem(&lab_nat, t);
	if (e && accepts(p) && is_over(&e->flow, t->proto, seconds()) && may_be_direct(e, t)) {
		bpf_map_delete_elem(&lab_nat, t);
		renew(t);
		e = NULL;
	}
	if (cfg_steps)
		step_lookup(t, e);
	if (!e) {
		t->direction = TUPLE_FORWARD;
		return NULL;
	}
	apply(c, e, FOUND_IN_NAT);
	if (cfg_tells)
		c->back = true;
	if (is_sign_of_life(c))
		touch(e, t, p->ev.tcp_flags, true, seconds());
	return e;
}

/*
 * Whether a flow has the address that it would get if it was opened now, or one that it can go on with: a
 * connection lives as long as its address is one of the node's.
 */
static __always_inline bool is_current(const struct flow_entry *e, const struct packet *p, const struct tuple *t)
{
	if (e->flow.kind == CT_MASQUERADE) {
		if (is_address_of(&e->to.src, &p->ev.ifindex))
			return true;
	} else if (ip_equal(&e->to.src, &t->src) || v4(&e->to.src) == HAIRPIN_V4 || is_node_ip(&e->to.src)) {
		return true; /* no address of the node's, or its first */
	}
	return p->ev.proto == IPPROTO_TCP && !opens(p) && node_flags(&e->to.src) & LAB_IS_LOCAL;
}

/*
 * Whether a packet still belongs to the flow that e is for. One that may open a flow does not when that
 * one is over, or when its backend is not one any more.
 */
static __always_inline bool continues(const struct flow_entry *e, const struct packet *p, const struct tuple *t, __u32 now)
{
	const struct backend *b;

	if (is_icmp_error(p))
		return true; /* about it */
	if (!is_current(e, p, t))
		return false;
	if (p->ev.proto == IPPROTO_TCP && !opens(p))
		return true;
	if (is_over(&e->flow, t->proto, now))
		return false;
	if (!e->flow.service)
		return true;
	b = bpf_map_lookup_elem(&lab_backends, &e->to.backend);
	return b && b->service == e->flow.service && b->port == e->to.dport && ip_equal(&b->addr, &e->to.dst);
}

/* A packet of a flow that is translated already. Not found, or its answers are another flow's by now: false. */
static __always_inline bool translate_on(const struct packet *p, struct change *c)
{
	struct flow_entry *e = bpf_map_lookup_elem(&lab_ct, &c->from);
	__u32 now;

	if (cfg_steps)
		step_lookup(&c->from, e);
	if (!e)
		return false;
	now = seconds();
	if (!continues(e, p, &c->from, now))
		return false;
	if (is_sign_of_life(c) && !touch(e, &c->from, p->ev.tcp_flags, false, now)) {
		bpf_map_delete_elem(&lab_ct, &c->from);
		return false;
	}
	apply(c, e, FOUND_IN_CT);
	return true;
}

/* Nothing is known yet but what its packets look like. */
static __always_inline struct opening *new_opening(const struct tuple *t, enum ct_kind kind, const struct ip *src, const struct ip *dst, __be16 sport, __be16 dport)
{
	struct opening *o = this_opening();

	if (!o)
		return NULL;
	__builtin_memset(&o->e, 0, sizeof(o->e));
	o->t = *t;
	o->netns = NO_NETNS;
	o->e.flow.kind = kind;
	o->e.to.src = *src;
	o->e.to.dst = *dst;
	o->e.to.sport = sport;
	o->e.to.dport = dport;
	return o;
}

/* Whether a TCP socket takes packets with the tuple o->socket: one of the network namespace with that id. One that listens counts where listeners says so. */
static __always_inline bool has_tcp_socket(struct __sk_buff *ctx, struct opening *o, __u64 netns, bool listeners)
{
	struct bpf_sock *sk = bpf_skc_lookup_tcp(ctx, &o->socket, sizeof(o->socket.ipv4), netns, 0);
	bool listens;

	if (!sk)
		return false;
	listens = sk->state == BPF_TCP_LISTEN;
	bpf_sk_release(sk);
	return listeners || !listens;
}

static __always_inline bool has_udp_socket(struct __sk_buff *ctx, struct opening *o)
{
	struct bpf_sock *sk = bpf_sk_lookup_udp(ctx, &o->socket, sizeof(o->socket.ipv4), BPF_F_CURRENT_NETNS, 0);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

static __always_inline void set_socket(struct opening *o, const struct ip *src, const struct ip *dst, __be16 sport, __be16 dport)
{
	o->socket.ipv4.saddr = v4(src);
	o->socket.ipv4.daddr = v4(dst);
	o->socket.ipv4.sport = sport;
	o->socket.ipv4.dport = dport;
}

/* Whether a socket of the node's takes packets with that tuple. One that listens counts where listeners says so. */
__noinline bool has_socket(struct __sk_buff *ctx, const struct tuple *packets, bool listeners)
{
	struct opening *o = this_opening();

	if (!o || !packets)
		return false;
	set_socket(o, &packets->src, &packets->dst, packets->sport, packets->dport);
	if (packets->proto == IPPROTO_TCP)
		return has_tcp_socket(ctx, o, BPF_F_CURRENT_NETNS, listeners);
	return packets->proto == IPPROTO_UDP && has_udp_socket(ctx, o);
}

#define RESTS_FOREVER ~0u

/*
 * For how many seconds answers have to be left to the flow that has them: 0 when they are free, or are t's already.
 * A reset may turn out to be none, so they are left to that flow for longer.
 */
static __always_inline __u32 rests(const struct flow_entry *taken, const struct tuple *t)
{
	__s32 left = time_left(&taken->flow, t->proto, seconds());

	if (left < 0 || answers(&taken->to, t))
		return 0;
	if (!is_closed(&taken->flow))
		return RESTS_FOREVER;
	return 1 + left + (taken->flow.reset ? LAB_TIMEOUT_TCP_CLOSING : 0);
}

/* The network namespace of a pod of this node. */
static __always_inline __u64 netns_of(const struct ip *pod)
{
	const __u32 *id = bpf_map_lookup_elem(&lab_netns, pod);

	return id ? *id : NO_NETNS;
}

/* Whether the pod of that network namespace has a connection, be it in TIME_WAIT, whose packets have these addresses and ports. */
static __always_inline bool has_connection(struct __sk_buff *ctx, struct opening *o, __u64 netns, const struct ip *src, const struct ip *dst, __be16 sport, __be16 dport)
{
	if (netns == NO_NETNS || o->t.proto != IPPROTO_TCP)
		return false;
	set_socket(o, src, dst, sport, dport);
	return has_tcp_socket(ctx, o, netns, false);
}

/* Whether the pod that the flow is to has a connection with what the flow is to go on as: to its own address, so that nothing is known of it. */
__noinline bool is_connected(struct __sk_buff *ctx)
{
	struct opening *o = this_opening();
	const struct flow_entry *taken;

	if (!o || o->netns == NO_NETNS)
		return false;
	answer_to(&o->key, &o->e.to, o->t.proto);
	taken = bpf_map_lookup_elem(&lab_nat, &o->key);
	if (taken && answers(&taken->to, &o->t))
		return false; /* it is the flow's own */
	return has_connection(ctx, o, o->netns, &o->e.to.src, &o->e.to.dst, o->e.to.sport, o->e.to.dport);
}

/*
 * Enters the answers' direction, in the place of another flow that rests for no longer than that. Returns 0, or for
 * how long the other one rests. A port of the node's may be a socket's: these are kept out of the range, but not those
 * that ask for a port by its number.
 */
__noinline __u32 claim(struct __sk_buff *ctx, bool own_port, __u32 rest)
{
	struct opening *o = this_opening();
	struct flow_entry *taken;
	__u32 left;

	if (!o)
		return RESTS_FOREVER;
	if (!rest && is_connected(ctx))
		return RESTS_FOREVER;
	answer_to(&o->key, &o->e.to, o->t.proto);
	if (own_port && has_socket(ctx, &o->key, true))
		return RESTS_FOREVER;
	reverse(&o->back, &o->e, &o->t);
	taken = bpf_map_lookup_elem(&lab_nat, &o->key);
	if (taken) {
		left = rests(taken, &o->t);
		if (left > rest)
			return left;
		*taken = o->back;
	} else if (bpf_map_update_elem(&lab_nat, &o->key, &o->back, BPF_NOEXIST)) {
		return RESTS_FOREVER;
	}
	renew(&o->key);
	return 0;
}

/* Translates a packet, and those of its flow after it, as the new entry says. */
static __always_inline void begin(struct change *c, const struct flow_entry *e, enum found found)
{
	apply(c, e, found);
	renew(&c->from);
	c->begun = true;
	if (cfg_steps)
		step_created(&c->from);
}

/* Enters the flow's own direction. Writing over an entry spares the map from finding room for another. */
static __always_inline bool enter_flow(const struct opening *o)
{
	struct flow_entry *old = bpf_map_lookup_elem(&lab_ct, &o->t);

	if (!old)
		return !bpf_map_update_elem(&lab_ct, &o->t, &o->e, BPF_ANY);
	*old = o->e;
	return true;
}

/*
 * Whether a packet to a frontend that belongs to no flow is for the node itself: its own sockets may have a
 * frontend's port as the local end of what they have opened. Whom a segment without SYN is for, a listener
 * cannot know; whom a datagram is for, a socket that is bound to the port can.
 */
static __always_inline bool is_nodes_own(struct __sk_buff *ctx, const struct packet *p, const struct service *s, const struct tuple *t)
{
	if (opens(p) || s->kind == LAB_CLUSTER_IP)
		return false;
	if ((s->kind == LAB_EXTERNAL_IP || s->kind == LAB_LOAD_BALANCER) && !(node_flags(&t->dst) & LAB_IS_LOCAL))
		return false;
	return has_socket(ctx, t, false);
}

/*
 * Enters the flow that is being opened. With a port of its own the source port is one of the node's; otherwise
 * only when two flows could not be told apart by their answers.
 * Ports are tried in an order that follows from the tuple: a flow whose entries were lost finds its own.
 * When none is free, the flow gets the one that has rested longest; when none rests either, it gets none.
 */
__noinline bool enter(struct __sk_buff *ctx, bool own_port)
{
	__u32 range = cfg_nat_max - cfg_nat_min + 1, start, rest;
	struct opening *o = this_opening();
	int i;

	if (!o)
		return false;
	o->e.flow.turn = take_turn(o);
	o->least = RESTS_FOREVER;
	if (!own_port && !claim(ctx, false, 0))
		return enter_flow(o);
	start = hash(&o->t);
#pragma clang loop unroll(disable)
	for (i = 0; i < PORT_TRIES; i++) {
		o->e.to.sport = bpf_htons(cfg_nat_min + (start + i * 7919u) % range); /* a prime, to leave crowds */
		rest = claim(ctx, own_port, 0);
		if (!rest)
			return enter_flow(o);
		if (rest < o->least) {
			o->least = rest;
			o->rested = o->e.to.sport;
		}
	}
	if (o->least == RESTS_FOREVER)
		return false;
	o->e.to.sport = o->rested;
	return !claim(ctx, own_port, o->least) && enter_flow(o);
}

static __noinline struct service *find_service(const struct tuple *t, enum lab_scope scope)
{
	struct service_key key = { .addr = t->dst, .port = t->dport, .proto = t->proto, .scope = scope };

	return bpf_map_lookup_elem(&lab_services, &key);
}

/* A datagram that goes from the flow's client to its backend by itself is told apart from now on: see set_apart(). */
static __always_inline void renew_direct(struct opening *o)
{
	set_tuple(&o->key, &o->e.to.src, &o->e.to.dst, o->e.to.sport, o->e.to.dport, o->t.proto);
	renew(&o->key);
}

/* Opens a flow to one of the service's backends. */
static __always_inline enum lab_reason open_flow(struct __sk_buff *ctx, const struct packet *p, const struct service *s, enum lab_scope scope, struct change *c)
{
	__u32 now = seconds(), random = hash(&c->from), id;
	const struct backend *b;
	bool own_port = false;
	struct opening *o;

	if (!admits(s, &c->from.src))
		return REASON_SOURCE_RANGE;
	if (s->count && !may_open(p))
		return REASON_NO_FLOW;
	b = choose(s, &c->from.src, random, now, &id);
	if (!b) { /* its list may just have been replaced */
		s = find_service(&c->from, scope);
		if (!s)
			return REASON_NO_BACKEND;
		b = choose(s, &c->from.src, random, now, &id);
	}
	if (!b)
		return s->flags & LAB_HAS_REMOTE ? REASON_NO_LOCAL_BACKEND : REASON_NO_BACKEND;
	o = new_opening(&c->from, CT_SERVICE, &c->from.src, &b->addr, c->from.sport, b->port);
	if (!o)
		return REASON_NAT_PORTS;
	o->e.flow.service = s->id;
	o->e.to.backend = id;
	update(&o->e.flow, p->ev.tcp_flags, false, now);
	if (scope == LAB_OUTSIDE && !(b->flags & LAB_ON_NODE)) {
		o->e.to.src = cfg_node_ip;
		own_port = true;
	} else if (ip_equal(&o->e.to.dst, &o->e.to.src)) {
		o->e.to.src = ip_from_v4(HAIRPIN_V4);
	} else if (scope == LAB_OUTSIDE && opens(p)) {
		o->netns = netns_of(&o->e.to.dst); /* who keeps the own address may have connected to the backend's, too */
	}
	if (!enter(ctx, own_port))
		return REASON_NAT_PORTS;
	begin(c, &o->e, FOUND_IN_CT);
	if (c->from.proto == IPPROTO_UDP)
		renew_direct(o);
	return REASON_NONE;
}

/* Forgets a flow that is over: a connection with the tuple of its packets is another, which is not translated. */
static __always_inline void forget_flow(struct opening *o, const struct tuple *t)
{
	const struct flow_entry *e = bpf_map_lookup_elem(&lab_ct, t), *back;

	if (!e)
		return;
	answer_to(&o->key, &e->to, t->proto);
	back = bpf_map_lookup_elem(&lab_nat, &o->key);
	if (back && answers(&back->to, t)) /* it is not another flow's by now */
		bpf_map_delete_elem(&lab_nat, &o->key);
	bpf_map_delete_elem(&lab_ct, t);
	renew(t);
}

/*
 * A client that speaks to a backend by its own address, from a port from which it speaks to the same one
 * through a Service: the answers could not be told apart, so this flow gets another port. When the other
 * flow is over, it is forgotten, unless the backend's end of it is in TIME_WAIT and may not take a SYN.
 */
static __always_inline void set_apart(struct __sk_buff *ctx, const struct packet *p, enum lab_scope scope, struct change *c)
{
	struct opening *o = this_opening();
	const struct flow_entry *other;
	__u64 netns = NO_NETNS;

	if (!o || c->shape != SHAPE_PACKET || (p->ev.proto == IPPROTO_TCP && !opens(p)))
		return;
	if (scope == LAB_OUTSIDE && opens(p))
		forget_flow(o, &c->from);
	answered_by(&o->t, &c->from);
	other = bpf_map_lookup_elem(&lab_nat, &o->t);
	if (cfg_steps)
		step_lookup(&o->t, other);
	if (!other)
		return;
	if (scope == LAB_INSIDE && opens(p) && translate_on(p, c))
		return; /* it was set apart before */
	if (scope == LAB_OUTSIDE)
		netns = netns_of(&c->from.dst);
	if (is_over(&other->flow, c->from.proto, seconds()) && !has_connection(ctx, o, netns, &c->from.src, &c->from.dst, c->from.sport, c->from.dport)) {
		bpf_map_delete_elem(&lab_nat, &o->t);
		renew(&o->t);
		return;
	}
	o = new_opening(&c->from, CT_SERVICE, &c->from.src, &c->from.dst, 0, c->from.dport);
	if (!o)
		return;
	o->netns = netns;
	update(&o->e.flow, p->ev.tcp_flags, false, seconds());
	if (enter(ctx, true))
		begin(c, &o->e, FOUND_IN_CT);
}

/*
 * The Service that a packet opens a flow to, NULL when it goes on in a flow, as c says then, or asks for none. Maps of
 * flows are too large for the CPU's caches, and a look into one is felt: there is none for what opens a connection to
 * something else, or accepts one.
 */
static __always_inline const struct service *asked_service(struct __sk_buff *ctx, const struct packet *p, enum lab_scope scope, struct change *c)
{
	const struct service *s = NULL;

	if (accepts(p))
		return NULL;
	if (opens(p)) {
		s = find_service(&c->from, scope);
		if (!s)
			return NULL;
	}
	if (translate_on(p, c))
		return NULL;
	if (!s && c->shape != SHAPE_ERROR)
		s = find_service(&c->from, scope);
	return s && !is_nodes_own(ctx, p, s, &c->from) ? s : NULL;
}

/* A packet to a Service: c says what becomes of it. Anything but REASON_NONE: it is dropped. */
static __always_inline enum lab_reason translate(struct __sk_buff *ctx, const struct packet *p, enum lab_scope scope, struct change *c)
{
	const struct service *s = asked_service(ctx, p, scope, c);

	if (s)
		return open_flow(ctx, p, s, scope, c);
	if (scope == LAB_INSIDE && c->outcome != TRANSLATED)
		set_apart(ctx, p, scope, c);
	return REASON_NONE;
}
