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

#include "basis.h"
#include "config.h"
#include "deliver.h"
#include "drop.h"
#include "packet.h"
#include "rewrite.h"
#include "step.h"

/* Where a packet leaves, and the neighbour that it goes to. */
struct next_hop {
	__u32 ifindex;
	struct bpf_redir_neigh neighbour;
};

/* Where a packet that goes by the tunnel comes out, and whose it is. */
struct far_end {
	__u32 sender; /* its identity */
	__be32 node;
};

/* What is looked at to find a route, and what the answer rests on. */
struct route_key {
	struct ip src;
	struct ip dst;
	struct basis basis;
	__be16 sport; /* of whole TCP and UDP packets, where the node's routes look at them */
	__be16 dport;
	__u8 proto;
	__u8 pad[3]; /* always 0 */
};
_Static_assert(sizeof(struct route_key) == 56, "no hidden padding");

/* What the node's routes say, and its neighbour table. */
struct route {
	struct route_key key;
	struct next_hop hop;
	struct neighbour neighbour; /* the hop, when its MAC is known; otherwise its ifindex is 0 */
	__u16 mtu; /* bytes of IP packet */
};

/*
 * The cache of routes. Each CPU has its own. A look-up in the node's routing table takes as long as all the rest of a
 * program.
 */
#define CACHED_ROUTES 128 /* a CPU; user space makes the map that much larger */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct route);
	__uint(max_entries, CACHED_ROUTES);
} lab_route_cache SEC(".maps");

/*
 * How large an IP packet is on the wire, with that protocol's header at l4: a large send is cut into segments there.
 */
static __always_inline __u32 wire_length(struct __sk_buff *ctx, __u8 proto, __u8 l4)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct tcphdr *tcp = data + l4;
	__u32 header = sizeof(struct udphdr);

	if (!ctx->gso_size || (void *)(tcp + 1) > data_end)
		return ctx->len - ETH_HLEN;
	if (proto == IPPROTO_TCP)
		header = tcp->doff * 4;
	return l4 - ETH_HLEN + header + ctx->gso_size;
}

/* Since Linux 6.10 rules that look at marks are asked, too. */
#define FIB_LOOKUP_MARK (1U << 5)

struct bpf_fib_lookup___marked {
	__u32 mark;
} __attribute__((preserve_access_index));

/* Asks the node's routes. */
static __noinline enum lab_reason ask_routes(struct __sk_buff *ctx, const struct packet *p, struct route *route)
{
	const struct route_key *key = &route->key;
	struct bpf_fib_lookup fib = {
		.family = p->family,
		.ifindex = p->ev.ifindex,
		.l4_protocol = key->proto,
		.sport = key->sport,
		.dport = key->dport,
		.tot_len = wire_length(ctx, p->ev.proto, p->l4),
		.tos = key->basis.dscp,
		.ipv4_src = v4(&key->src),
		.ipv4_dst = v4(&key->dst),
	};
	__u32 flags = 0;

	if (bpf_core_field_exists(struct bpf_fib_lookup___marked, mark)) {
		flags = FIB_LOOKUP_MARK;
		__builtin_memcpy(fib.smac, &key->basis.mark, sizeof(key->basis.mark)); /* where the mark is on the way in */
	}
	switch (bpf_fib_lookup(ctx, &fib, sizeof(fib), flags)) {
	case BPF_FIB_LKUP_RET_SUCCESS: /* next hop and its MAC are known */
		route->neighbour.ifindex = fib.ifindex;
		copy_mac(&route->neighbour.mac, fib.dmac);
		copy_mac(&route->neighbour.own_mac, fib.smac);
		__attribute__((fallthrough));
	case BPF_FIB_LKUP_RET_NO_NEIGH: /* next hop is known; whoever sends asks for its MAC */
		route->mtu = fib.mtu_result;
		route->hop.ifindex = fib.ifindex;
		route->hop.neighbour.nh_family = fib.family;
		__builtin_memcpy(route->hop.neighbour.ipv6_nh, fib.ipv6_dst, sizeof(fib.ipv6_dst)); /* of either family */
		return REASON_FORWARDED;
	case BPF_FIB_LKUP_RET_BLACKHOLE:
		return REASON_BLACKHOLE;
	case BPF_FIB_LKUP_RET_UNREACHABLE:
		return REASON_UNREACHABLE;
	case BPF_FIB_LKUP_RET_PROHIBIT:
		return REASON_PROHIBITED;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		route->mtu = fib.mtu_result;
		return REASON_TOO_BIG;
	case BPF_FIB_LKUP_RET_NOT_FWDED: /* or it is for the node itself */
		return REASON_NO_ROUTE;
	default: /* a kind of route that only the stack can take */
		return REASON_TO_KERNEL;
	}
}

static __always_inline bool route_key_equal(const struct route_key *a, const struct route_key *b)
{
	const __u64 *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4] && x[5] == y[5] && x[6] == y[6];
}

static __always_inline struct route *route_place(const struct ip *src, const struct ip *dst)
{
	const union ip_words *s = (const void *)src, *d = (const void *)dst;
	__u32 h = (s->w32[3] * 31 + d->w32[3]) * 0x9e3779b1; /* 2^32 / golden ratio */
	__u32 place = own_place(h >> 16, CACHED_ROUTES);

	return bpf_map_lookup_elem(&lab_route_cache, &place);
}

/*
 * Sets the fields that routes and rules match, after translation. Ports are part of it for whole packets only, and only
 * where a rule, or the choice between several next hops, needs them, as in the stack.
 */
static __always_inline void set_route_key(struct __sk_buff *ctx, const struct packet *p, const struct basis *basis, const struct change *c, struct route_key *key)
{
	bool translated = c->outcome == TRANSLATED, ports = !p->fragment && (p->ev.proto == IPPROTO_TCP || p->ev.proto == IPPROTO_UDP);

	if (has_cache() && ports)
		ports = routes_need_ports(ctx);
	__builtin_memset(key, 0, sizeof(*key));
	key->src = *(translated ? &c->to.src : &p->ev.src);
	key->dst = *(translated ? &c->to.dst : &p->ev.dst);
	key->basis = *basis;
	key->proto = p->ev.proto;
	if (ports) {
		key->sport = translated ? c->to.sport : p->ev.sport;
		key->dport = translated ? c->to.dport : p->ev.dport;
	}
}

/* A route was found. */
__noinline int step_route(const struct route *route, bool cached)
{
	struct telling *t = this_telling();
	struct step *s = begin_step(t, STEP_ROUTE);

	if (!s || !route)
		return 0;
	s->dst = ip_from_v4(*(const __be32 *)route->hop.neighbour.ipv6_nh);
	s->ifindex = route->hop.ifindex;
	s->mtu = route->neighbour.ifindex ? route->mtu : 0; /* which the kernel says only together with the neighbour */
	s->found = cached;
	return tell_step(t);
}

/*
 * Finds the route of a packet, after translation. An answer from the cache is used as long as no route of the node has
 * changed since.
 */
static __always_inline enum lab_reason find_route(struct __sk_buff *ctx, const struct packet *p, const struct basis *basis, const struct change *c, struct route *route)
{
	struct route *place;
	enum lab_reason reason;

	set_route_key(ctx, p, basis, c, &route->key);
	if (!has_cache()) {
		reason = ask_routes(ctx, p, route);
		if (cfg_steps && reason == REASON_FORWARDED)
			step_route(route, false);
		return reason;
	}
	place = route_place(&route->key.src, &route->key.dst);
	if (place && route_key_equal(&place->key, &route->key) && wire_length(ctx, p->ev.proto, p->l4) <= place->mtu) {
		*route = *place;
		if (cfg_steps)
			step_route(route, true);
		return REASON_FORWARDED;
	}
	reason = ask_routes(ctx, p, route);
	if (cfg_steps && reason == REASON_FORWARDED)
		step_route(route, false);
	if (reason == REASON_FORWARDED && place && route->neighbour.ifindex)
		*place = *route;
	return reason;
}

/*
 * Sends a packet to the next hop that find_route has found. The kernel's neighbour table supplies the MAC addresses,
 * resolves unknown ones, and keeps those in use fresh.
 */
static __always_inline int send_out(struct __sk_buff *ctx, struct next_hop *hop)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;

	if ((void *)(ip + 1) > data_end)
		return TC_ACT_SHOT;
	decrement_ttl(ip);
	return bpf_redirect_neigh(hop->ifindex, &hop->neighbour, sizeof(hop->neighbour), 0);
}
