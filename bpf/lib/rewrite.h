// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>

#include "change.h"
#include "parse.h"
#include "tuple.h"

/* Reads the packet's flow from its headers, before anything is looked up. */
static __always_inline void look_at_flow(struct __sk_buff *ctx, const struct packet *p, struct change *c, bool echo)
{
	c->shape = tuple_of(ctx, p, &c->from, echo);
	c->outcome = c->shape == SHAPE_NONE ? CANNOT_PARSE : AS_IT_IS;
}

/* RFC 1624: the checksum of what has changed by diff. */
static __always_inline __sum16 csum_add(__sum16 check, __u32 diff)
{
	__u64 sum = (__u64)(__u16)~check + diff;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Returns the difference of two sums of words, as RFC 1071 adds, in the 32 bits that the helpers take. */
static __always_inline __u32 csum_diff(__u64 old, __u64 new)
{
	__u64 sum = new + ((1ULL << 34) - 4 - old); /* four times all ones, which is 0 here */

	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

/* Writes addresses into a header and updates its checksum. Returns the difference, for checksums that cover the addresses. */
static __always_inline __u32 set_addrs(struct iphdr *ip, __be32 src, __be32 dst)
{
	__u32 diff = csum_diff((__u64)ip->saddr + ip->daddr, (__u64)src + dst);

	ip->saddr = src;
	ip->daddr = dst;
	ip->check = csum_add(ip->check, diff);
	return diff;
}

static __always_inline __u32 set_ports(__be16 *ports, __be16 sport, __be16 dport)
{
	__u32 diff = csum_diff((__u64)ports[0] + ports[1], (__u64)sport + dport);

	ports[0] = sport;
	ports[1] = dport;
	return diff;
}

/*
 * Translates a TCP or UDP packet. The device may have to complete the checksum of a packet that this host sends: until then
 * it covers the pseudo header only. So the addresses and the ports are two updates. A UDP checksum of 0 means that there is
 * none, and stays 0.
 */
static __always_inline bool rewrite_packet(struct __sk_buff *ctx, __u8 proto, __u8 l4, const struct translation *to)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	__be16 *ports = data + l4;
	__u32 check = l4, addr_diff, port_diff;
	__u64 flags = 0;

	if ((void *)(ip + 1) > data_end || (void *)(ports + 2) > data_end)
		return false;
	if (proto == IPPROTO_UDP) {
		check += offsetof(struct udphdr, check);
		flags = BPF_F_MARK_MANGLED_0;
	} else {
		check += offsetof(struct tcphdr, check);
	}
	addr_diff = set_addrs(ip, v4(&to->src), v4(&to->dst));
	port_diff = set_ports(ports, to->sport, to->dport);
	return !bpf_l4_csum_replace(ctx, check, 0, addr_diff, flags | BPF_F_PSEUDO_HDR) &&
		!bpf_l4_csum_replace(ctx, check, 0, port_diff, flags);
}

/* Translates an ICMP echo. Its id takes the place of a port. Its checksum does not cover the addresses. */
static __always_inline bool rewrite_echo(struct __sk_buff *ctx, __u8 l4, const struct change *c)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct icmphdr *icmp = data + l4;
	__be16 before;

	if ((void *)(ip + 1) > data_end || (void *)(icmp + 1) > data_end)
		return false;
	set_addrs(ip, v4(&c->to.src), v4(&c->to.dst));
	before = icmp->id;
	icmp->id = icmp->type == ICMP_ECHO ? c->to.sport : c->to.dport;
	return !bpf_l4_csum_replace(ctx, l4 + offsetof(struct icmphdr, checksum), before, icmp->id, sizeof(before));
}

static __always_inline bool rewrite_fragment(struct __sk_buff *ctx, const struct change *c)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;

	if ((void *)(ip + 1) > data_end)
		return false;
	set_addrs(ip, v4(&c->to.src), v4(&c->to.dst));
	return true;
}

/*
 * Translates an ICMP error. It goes in the direction of its flow's packets, and quotes a packet of the other direction. Its
 * source address is translated only when it is an end of the flow; a router's stays. The checksum of a quoted TCP segment is
 * not updated: many quotes are too short to have it, and receivers do not check it.
 */
__noinline bool rewrite_error(struct __sk_buff *ctx, const struct packet *p, const struct change *c)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN, *quoted;
	struct icmphdr *icmp;
	struct udphdr *udp;
	__be32 old[7], diff;

	if (!p || !c)
		return false;
	icmp = data + p->l4;
	quoted = (void *)(icmp + 1);
	udp = (void *)(quoted + 1);
	if ((void *)(ip + 1) > data_end || (void *)(udp + 1) > data_end)
		return false;
	__builtin_memcpy(old, quoted, sizeof(old));
	set_addrs(ip, ip->saddr == v4(&c->from.src) ? v4(&c->to.src) : ip->saddr, v4(&c->to.dst));
	diff = set_addrs(quoted, v4(&c->to.dst), v4(&c->to.src));
	if (quoted->protocol == IPPROTO_ICMP) {
		struct icmphdr *echo = (void *)udp;
		__be32 before = echo->id, after = c->to.dport;

		echo->id = c->to.dport;
		echo->checksum = csum_add(echo->checksum, bpf_csum_diff(&before, sizeof(before), &after, sizeof(after), 0));
	} else if (quoted->protocol == IPPROTO_UDP && udp->check) {
		udp->check = csum_add(udp->check, diff);
		udp->check = csum_add(udp->check, set_ports((__be16 *)udp, c->to.dport, c->to.sport));
	} else {
		set_ports((__be16 *)udp, c->to.dport, c->to.sport);
	}
	diff = bpf_csum_diff(old, sizeof(old), (__be32 *)quoted, sizeof(old), 0);
	return !bpf_l4_csum_replace(ctx, p->l4 + offsetof(struct icmphdr, checksum), 0, diff, 0);
}

/* Makes the change. Pointers into the packet have to be read again after it. */
static __always_inline bool rewrite(struct __sk_buff *ctx, const struct packet *p, const struct change *c)
{
	if (c->outcome != TRANSLATED)
		return true;
	switch (c->shape) {
	case SHAPE_PACKET:
		return rewrite_packet(ctx, c->from.proto, p->l4, &c->to);
	case SHAPE_ECHO:
		return rewrite_echo(ctx, p->l4, c);
	case SHAPE_FRAGMENT:
		return rewrite_fragment(ctx, c);
	case SHAPE_ERROR:
		return rewrite_error(ctx, p, c);
	case SHAPE_NONE:
		break;
	}
	return true;
}
