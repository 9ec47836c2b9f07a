// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "packet.h"
#include "parse.h"

/* Who sends packets with a tuple. */
enum tuple_direction {
	TUPLE_FORWARD = 0, /* the opener of their flow, or nobody knows yet: keys of lab_ct */
	TUPLE_BACK = 1, /* the other side: keys of lab_nat */
} __attribute__((packed));

enum tuple_flag {
	/*
	 * It is looked up to masquerade, or not to. A packet may be translated twice on a node: to a Service's backend, and then
	 * to the node's address. Its flows are told apart by this flag.
	 */
	TUPLE_MASQUERADE = 1,
} __attribute__((packed));

/*
 * One direction of a TCP or UDP flow, or of an ICMP echo: requests have their id as source port,
 * replies as destination port, and 0 in the other.
 */
struct tuple {
	struct ip src;
	struct ip dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	enum tuple_flag flags; /* of keys of lab_ct; otherwise 0 */
	enum tuple_direction direction;
	__u8 pad; /* always 0: keys are compared byte by byte */
};
_Static_assert(sizeof(struct tuple) == 40, "shared with datapath/");

static __always_inline void set_tuple(struct tuple *t, const struct ip *src, const struct ip *dst, __be16 sport, __be16 dport, __u8 proto)
{
	t->src = *src;
	t->dst = *dst;
	t->sport = sport;
	t->dport = dport;
	t->proto = proto;
	t->flags = 0;
	t->direction = TUPLE_FORWARD;
	t->pad = 0;
}

/* What the addresses and ports of packets with a tuple become. */
struct translation {
	struct ip src;
	struct ip dst;
	__be16 sport;
	__be16 dport;
	__u32 backend; /* whose they are, where the flow is to a Service */
};
_Static_assert(sizeof(struct translation) == 40, "shared with datapath/");

/* Whether keys of 40 bytes are the same. */
static __always_inline bool keys_equal(const void *a, const void *b)
{
	const __u64 *x = a, *y = b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4];
}

/*
 * Spreads keys of 40 bytes evenly over all 32-bit numbers: multilinear hashing (Lemire and Kaser, Strongly universal
 * string hashing is fast), by the digits of pi. It is the same on every node and after a restart.
 */
static __always_inline __u32 hash_of(const void *key, __u64 last)
{
	const __u64 *word = key;
	__u64 h = word[0] * 0x243f6a8885a308d3 + word[1] * 0x13198a2e03707345 + word[2] * 0xa4093822299f31d1 +
		word[3] * 0x082efa98ec4e6c89 + last * 0x452821e638d01377;

	h ^= h >> 32;
	return (h * 0x9e3779b97f4a7c15) >> 32; /* 2^64 / golden ratio */
}

static __always_inline __u32 hash(const void *key)
{
	return hash_of(key, ((const __u64 *)key)[4]);
}

/* The hash by addresses, ports and protocol alone: the same for all tuples that one packet can have. */
static __always_inline __u32 packet_hash(const struct tuple *t)
{
	return hash_of(t, ((const __u64 *)t)[4] & bpf_cpu_to_be64(0xffffffffff000000));
}

/* How a packet shows its flow, which is also how it has to be rewritten. */
enum shape {
	SHAPE_NONE, /* no flow that could be translated */
	SHAPE_PACKET, /* by its own header */
	SHAPE_FRAGMENT, /* a later fragment: by the first one's header */
	SHAPE_ERROR, /* an ICMP error: by the header that it quotes */
	SHAPE_ECHO, /* an ICMP echo request or reply: by its own header */
};

/* A datagram in fragments, of which only the first has ports. */
struct fragment_key {
	struct ip src;
	struct ip dst;
	__be16 id;
	__u8 proto;
	__u8 pad[5]; /* always 0 */
};
_Static_assert(sizeof(struct fragment_key) == 40, "shared with datapath/");

struct fragment_ports {
	__be16 sport;
	__be16 dport;
	bool cut; /* the stack has got the first one, to fragment it, and may wait for the others */
	__u8 pad[3];
};

/* A datagram is forgotten when newer ones need the room; a fragment that is found too late is lost with it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct fragment_ports);
	__uint(max_entries, 4096);
} lab_fragments SEC(".maps");

/* An ICMP error that quotes enough to tell the flow. */
#define ERROR_LENGTH (sizeof(struct icmphdr) + sizeof(struct iphdr) + 8)

static __always_inline bool is_icmp_error(const struct packet *p)
{
	return p->ev.proto == IPPROTO_ICMP && (p->ev.icmp_type == ICMP_DEST_UNREACH || p->ev.icmp_type == ICMP_TIME_EXCEEDED || p->ev.icmp_type == ICMP_PARAMETERPROB);
}

/*
 * The flow that an ICMP error is about, in the error's own direction: whoever sent the quoted packet gets
 * the error, wherever on the way it was made. What goes to somebody else is about no flow (RFC 5508, 4.2).
 */
static __always_inline enum shape quoted_tuple(struct __sk_buff *ctx, const struct packet *p, struct tuple *t, bool echo)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct iphdr *outer = data + ETH_HLEN, *ip = data + p->l4 + sizeof(struct icmphdr);
	const __be16 *port = (void *)(ip + 1);

	if ((void *)(outer + 1) > data_end || (void *)port + 8 > data_end || ETH_HLEN + bpf_ntohs(outer->tot_len) < p->l4 + ERROR_LENGTH || ip->version != 4 || ip->ihl != 5 ||
		ip->frag_off & bpf_htons(IP_OFFSET_MASK) || ip->saddr != outer->daddr)
		return SHAPE_NONE;
	t->src = ip_from_v4(ip->daddr);
	t->dst = ip_from_v4(ip->saddr);
	t->proto = ip->protocol;
	if (ip->protocol == IPPROTO_TCP || ip->protocol == IPPROTO_UDP) {
		t->sport = port[1];
		t->dport = port[0];
		return SHAPE_ERROR;
	}
	if (!echo || ip->protocol != IPPROTO_ICMP || *(const __u8 *)port != ICMP_ECHO)
		return SHAPE_NONE;
	t->dport = port[2]; /* the quoted request's id */
	return SHAPE_ERROR;
}

static __always_inline enum shape echo_tuple(const struct packet *p, struct tuple *t)
{
	if (p->fragment || !is_echo(p->ev.icmp_type))
		return SHAPE_NONE;
	t->src = p->ev.src;
	t->dst = p->ev.dst;
	t->proto = p->ev.proto;
	if (p->ev.icmp_type == ICMP_ECHO)
		t->sport = p->flow_sport;
	else
		t->dport = p->flow_dport;
	return SHAPE_ECHO;
}

static __always_inline void set_fragment_key(struct fragment_key *key, const struct packet *p, const struct iphdr *ip)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->src = p->ev.src;
	key->dst = p->ev.dst;
	key->id = ip->id;
	key->proto = p->ev.proto;
}

/* Remembers or recalls the ports of a datagram in fragments. */
__noinline enum shape fragment_tuple(struct __sk_buff *ctx, const struct packet *p, struct tuple *t)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct iphdr *ip = data + ETH_HLEN;
	struct fragment_ports *known, ports = {};
	struct fragment_key key;

	if (!p || !t || (void *)(ip + 1) > data_end)
		return SHAPE_NONE;
	set_fragment_key(&key, p, ip);
	if (!(ip->frag_off & bpf_htons(IP_OFFSET_MASK))) {
		ports.sport = p->ev.sport;
		ports.dport = p->ev.dport;
		bpf_map_update_elem(&lab_fragments, &key, &ports, BPF_ANY);
		return SHAPE_PACKET;
	}
	known = bpf_map_lookup_elem(&lab_fragments, &key);
	if (!known)
		return SHAPE_NONE;
	t->sport = known->sport;
	t->dport = known->dport;
	return SHAPE_FRAGMENT;
}

/*
 * The flow that a parsed IPv4 packet belongs to: TCP or UDP, and errors about them; and echoes where
 * these may be translated, which is only when masquerading. t is all 0 before.
 */
static __always_inline enum shape tuple_of(struct __sk_buff *ctx, const struct packet *p, struct tuple *t, bool echo)
{
	if (p->options)
		return SHAPE_NONE;
	if (is_icmp_error(p))
		return quoted_tuple(ctx, p, t, echo);
	if (echo && p->ev.proto == IPPROTO_ICMP)
		return echo_tuple(p, t);
	if (p->ev.proto != IPPROTO_TCP && p->ev.proto != IPPROTO_UDP)
		return SHAPE_NONE;
	t->src = p->ev.src;
	t->dst = p->ev.dst;
	t->sport = p->ev.sport;
	t->dport = p->ev.dport;
	t->proto = p->ev.proto;
	return p->fragment ? fragment_tuple(ctx, p, t) : SHAPE_PACKET;
}
