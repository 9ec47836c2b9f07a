//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "ct.h"
#include "drop.h"
#include "lb.h"
#include "node.h"
#include "rewrite.h"

/* A pod that reaches itself through its Service sees this as the client: from its own it takes nothing. */
#define HAIRPIN_V4 bpf_htonl(0xa9fe5701) /* 169.254.87.1, link-local: nobody's, and no router forwards it */

/* How many ports are tried before a flow is given up. */
#define PORT_TRIES 16

static __always_inline void apply(struct change *c, const struct translation *e, enum found found)
{
	c->found = found;
	c->to.src = e->src;
	c->to.dst = e->dst;
	c->to.sport = e->sport;
	c->to.dport = e->dport;
}

/* Whether a packet is a sign of life of its flow. Errors and fragments are not. */
static __always_inline bool is_sign_of_life(const struct change *c)
{
	return c->shape == SHAPE_PACKET || c->shape == SHAPE_ECHO;
}

/*
 * An answer to a translated flow, which comes with tuple t: it gets the addresses back that were asked
 * for. Not found: NULL. A connection that is accepted while the translated one with the same answers is
 * over came by its backend's own address: that one is forgotten.
 */
static __always_inline const struct translation *translate_back(const struct packet *p, const struct tuple *t, struct change *c)
{
	struct translation *e = bpf_map_lookup_elem(&lab_nat, t);

	if (!e)
		return NULL;
	if (accepts(p) && is_over(e)) {
		bpf_map_delete_elem(&lab_nat, t);
		renew(t);
		return NULL;
	}
	apply(c, e, FOUND_IN_NAT);
	if (is_sign_of_life(c))
		touch(e, t, p->ev.tcp_flags, true);
	return e;
}

/*
 * Whether a packet still belongs to the flow that e is for. One that may open a flow does not when that
 * one is over, or when its backend is not one any more.
 */
static __always_inline bool continues(const struct translation *e, const struct packet *p)
{
	const struct backend *b;

	if (p->ev.proto == IPPROTO_TCP && !opens(p))
		return true;
	if (is_icmp_error(p))
		return true; /* about it */
	if (is_over(e))
		return false;
	if (!e->service)
		return true;
	b = bpf_map_lookup_elem(&lab_backends, &e->backend);
	return b && b->service == e->service && b->port == e->dport && ip_equal(&b->addr, &e->dst);
}

/* A packet of a flow that is translated already. Not found: false. */
static __always_inline bool translate_on(const struct packet *p, struct change *c)
{
	struct translation *e = bpf_map_lookup_elem(&lab_ct, &c->from);

	if (!e || !continues(e, p))
		return false;
	apply(c, e, FOUND_IN_CT);
	if (is_sign_of_life(c))
		touch(e, &c->from, p->ev.tcp_flags, false);
	return true;
}

/* Enters the answers' direction, unless another flow that lives has the same answers. */
static __always_inline bool claim(const struct translation *e, const struct tuple *t)
{
	struct tuple key = answer_to(e, t->proto);
	struct translation back, *taken;

	reverse(&back, e, t);
	taken = bpf_map_lookup_elem(&lab_nat, &key);
	if (taken && !answers(taken, t) && !is_over(taken))
		return false;
	if (taken)
		*taken = back;
	else if (bpf_map_update_elem(&lab_nat, &key, &back, BPF_NOEXIST))
		return false;
	renew(&key);
	return true;
}

/* A flow's packets become what e says, from this one on. */
static __always_inline void begin(struct change *c, const struct translation *e, enum found found)
{
	apply(c, e, found);
	renew(&c->from);
	c->begun = true;
}

/* Enters the flow's own direction. Writing over an entry spares the map from finding room for another. */
static __always_inline bool enter_flow(const struct translation *e, const struct tuple *t)
{
	struct translation *old = bpf_map_lookup_elem(&lab_ct, t);

	if (!old)
		return !bpf_map_update_elem(&lab_ct, t, e, BPF_ANY);
	*old = *e;
	return true;
}

/* Whether a socket of the node's takes packets with that tuple. One that listens counts where listeners says so. */
static __always_inline bool has_socket(struct __sk_buff *ctx, const struct tuple *packets, bool listeners)
{
	struct bpf_sock_tuple t = { .ipv4 = { .saddr = v4(&packets->src), .daddr = v4(&packets->dst), .sport = packets->sport, .dport = packets->dport } };
	struct bpf_sock *sk = NULL;
	bool listens = false;

	if (packets->proto == IPPROTO_TCP) {
		sk = bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
		if (sk)
			listens = sk->state == BPF_TCP_LISTEN;
	} else if (packets->proto == IPPROTO_UDP) {
		sk = bpf_sk_lookup_udp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return listeners || !listens;
}

/*
 * Whether a socket of the node's has the port that e gives its flow. Sockets are kept out of the range,
 * but not those that ask for a port by its number.
 */
static __always_inline bool is_sockets(struct __sk_buff *ctx, const struct translation *e, __u8 proto)
{
	struct tuple back = answer_to(e, proto);

	return has_socket(ctx, &back, true);
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
 * Enters a new flow of packets with tuple t, which become what e says. With a port of its own the source
 * port is one of the node's; otherwise only when two flows could not be told apart by their answers.
 * Ports are tried in an order that follows from the tuple: a flow whose entries were lost finds its own.
 */
static __always_inline bool enter(struct __sk_buff *ctx, struct translation *e, const struct tuple *t, bool own_port)
{
	__u32 range = cfg_nat_max - cfg_nat_min + 1, start = hash(t);
	int i;

	if (!own_port && claim(e, t))
		return enter_flow(e, t);
#pragma clang loop unroll(disable)
	for (i = 0; i < PORT_TRIES; i++) {
		e->sport = bpf_htons(cfg_nat_min + (start + i * 7919u) % range); /* a prime, to leave crowds */
		if (own_port && is_sockets(ctx, e, t->proto))
			continue;
		if (claim(e, t))
			return enter_flow(e, t);
	}
	return false;
}

static __always_inline struct service *find_service(const struct tuple *t, enum lab_scope scope)
{
	struct service_key key = { .addr = t->dst, .port = t->dport, .proto = t->proto, .scope = scope };

	return bpf_map_lookup_elem(&lab_services, &key);
}

/* Opens a flow to one of the service's backends. */
static __always_inline enum lab_reason open_flow(struct __sk_buff *ctx, const struct packet *p, const struct service *s, enum lab_scope scope, struct change *c)
{
	struct translation e = { .service = s->id, .src = c->from.src, .sport = c->from.sport };
	__u32 now = seconds(), random = hash(&c->from);
	const struct backend *b;
	bool own_port = false;

	if (scope == LAB_OUTSIDE && !admits(s, &c->from.src))
		return LAB_DROP_SOURCE_RANGE;
	b = choose(s, &c->from.src, random, now, &e.backend);
	if (!b) { /* its list may just have been replaced */
		s = find_service(&c->from, scope);
		if (!s)
			return LAB_DROP_NO_BACKEND;
		b = choose(s, &c->from.src, random, now, &e.backend);
	}
	if (!b)
		return s->flags & LAB_HAS_REMOTE ? LAB_DROP_NO_LOCAL_BACKEND : LAB_DROP_NO_BACKEND;
	e.dst = b->addr;
	e.dport = b->port;
	update(&e, p->ev.tcp_flags, c->from.proto, false);
	if (scope == LAB_OUTSIDE && !(b->flags & LAB_ON_NODE)) {
		e.src = cfg_node_ip;
		own_port = true;
	} else if (ip_equal(&e.dst, &e.src)) {
		e.src = ip_from_v4(HAIRPIN_V4);
	}
	if (!enter(ctx, &e, &c->from, own_port))
		return LAB_DROP_NAT_PORTS;
	begin(c, &e, FOUND_IN_CT);
	return LAB_REASON_NONE;
}

/*
 * A pod that speaks to a backend by its own address, from a port from which it speaks to the same one
 * through a Service: the answers could not be told apart, so this flow gets another port. When the other
 * flow is over, it is forgotten.
 */
static __always_inline void set_apart(struct __sk_buff *ctx, const struct packet *p, struct change *c)
{
	struct translation *other, e = { .src = c->from.src, .dst = c->from.dst, .dport = c->from.dport };
	struct tuple key = { .src = e.dst, .dst = e.src, .sport = e.dport, .dport = c->from.sport, .proto = c->from.proto };

	if (c->shape != SHAPE_PACKET || (p->ev.proto == IPPROTO_TCP && !opens(p)))
		goto as_it_is;
	other = bpf_map_lookup_elem(&lab_nat, &key);
	if (!other)
		goto as_it_is;
	if (opens(p) && translate_on(p, c))
		return; /* it was set apart before */
	if (is_over(other)) {
		bpf_map_delete_elem(&lab_nat, &key);
		renew(&key);
		goto as_it_is;
	}
	update(&e, p->ev.tcp_flags, c->from.proto, false);
	if (enter(ctx, &e, &c->from, true)) {
		begin(c, &e, FOUND_IN_CT);
		return;
	}
as_it_is:
	c->shape = SHAPE_NONE;
}

/*
 * A packet to a Service. LAB_REASON_NONE: c says what becomes of it, which is nothing when it is not to
 * a Service. Maps of flows are too large for the CPU's caches, and a look into one is felt: there is none
 * for what opens a connection to something else, or accepts one.
 */
static __always_inline enum lab_reason translate(struct __sk_buff *ctx, const struct packet *p, enum lab_scope scope, struct change *c)
{
	const struct service *s = NULL;

	if (accepts(p))
		goto none;
	if (opens(p)) {
		s = find_service(&c->from, scope);
		if (!s)
			goto none;
	}
	if (translate_on(p, c))
		return LAB_REASON_NONE;
	if (!s && c->shape != SHAPE_ERROR)
		s = find_service(&c->from, scope);
	if (s && !is_nodes_own(ctx, p, s, &c->from))
		return open_flow(ctx, p, s, scope, c);
none:
	if (scope == LAB_INSIDE)
		set_apart(ctx, p, c);
	else
		c->shape = SHAPE_NONE;
	return LAB_REASON_NONE;
}
