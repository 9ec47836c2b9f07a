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
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "packet.h"

/* RFC 792; linux/icmp.h would pull in the C library's headers. */
enum icmp_type {
	ICMP_ECHOREPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_SOURCE_QUENCH = 4,
	ICMP_REDIRECT = 5,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

struct icmphdr {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 id; /* of an echo */
	__be16 sequence;
};

/* Whether a frame has an IPv4 packet, and no VLAN tag. */
static __always_inline bool is_ipv4(const struct __sk_buff *ctx)
{
	return !ctx->vlan_present && ctx->protocol == bpf_htons(ETH_P_IP);
}

#define AF_INET 2

#define IP_DSCP_MASK 0xfc /* the rest of the byte is ECN, which changes within a flow */
#define IP_DONT_FRAGMENT 0x4000
#define IP_FRAGMENT_MASK 0x3fff /* more fragments, offset */
#define IP_OFFSET_MASK 0x1fff

/* Ethernet, IPv4 with options and an ICMP error with the IPv4 header and eight bytes it quotes: the most we look at. */
#define HEADERS_MAX (ETH_HLEN + 60 + sizeof(struct iphdr) + 2 * 8)

enum parse_result {
	PARSE_OK,
	PARSE_MALFORMED,
};

/* Makes the headers directly accessible. Pointers into the packet have to be read after it. */
static __always_inline void linearize(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	__u32 want = ctx->len < HEADERS_MAX ? ctx->len : HEADERS_MAX;

	if (data + want > data_end)
		bpf_skb_pull_data(ctx, want); /* when it fails, the bounds checks do too */
}

static __always_inline void own_flow(struct packet *p, __be16 sport, __be16 dport)
{
	p->has_flow = true;
	p->flow_proto = p->ev.proto;
	p->flow_sport = sport;
	p->flow_dport = dport;
}

static __always_inline bool is_echo(__u8 icmp_type)
{
	return icmp_type == ICMP_ECHO || icmp_type == ICMP_ECHOREPLY;
}

/*
 * The flow an ICMP error reports on. The quoted packet went the other way, so its destination port is
 * ours. What the quote does not tell (no ports, fragments, options) leaves the packet without a flow.
 */
static __always_inline void parse_quoted(struct packet *p, const struct iphdr *outer, const void *quoted, __u32 length, const void *data_end)
{
	const struct iphdr *ip = quoted;
	const __be16 *port = quoted + sizeof(*ip);

	if (length < sizeof(*ip) + 8 || (void *)port + 8 > data_end || ip->version != 4 || ip->ihl != 5 ||
		ip->frag_off & bpf_htons(IP_OFFSET_MASK) || ip->saddr != outer->daddr || ip->daddr != outer->saddr)
		return;
	switch (ip->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		p->flow_sport = port[1];
		p->flow_dport = port[0];
		break;
	case IPPROTO_ICMP:
		if (!is_echo(*(const __u8 *)port))
			return;
		p->flow_sport = p->flow_dport = port[2]; /* the echo's id */
		break;
	default:
		return;
	}
	p->flow_proto = ip->protocol;
	p->has_flow = true;
}

static __always_inline void parse_icmp(struct packet *p, const struct iphdr *ip, const struct icmphdr *icmp, __u32 length, const void *data_end)
{
	p->ev.icmp_type = icmp->type;
	switch (icmp->type) {
	case ICMP_ECHO:
	case ICMP_ECHOREPLY:
		own_flow(p, icmp->id, icmp->id);
		break;
	case ICMP_DEST_UNREACH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		parse_quoted(p, ip, icmp + 1, length - sizeof(*icmp), data_end);
		break;
	}
}

/* Ports, flags and flow of a packet that has length bytes at l4, after its IPv4 header. */
static __always_inline enum parse_result parse_l4(struct packet *p, const struct iphdr *ip, const void *l4, __u32 length, const void *data_end)
{
	const struct tcphdr *tcp = l4;
	const struct udphdr *udp = l4;
	const struct icmphdr *icmp = l4;

	switch (ip->protocol) {
	case IPPROTO_TCP:
		if (length < sizeof(*tcp) || (void *)(tcp + 1) > data_end)
			return PARSE_MALFORMED;
		p->ev.sport = tcp->source;
		p->ev.dport = tcp->dest;
		p->ev.tcp_flags = ((const __u8 *)tcp)[13];
		own_flow(p, p->ev.sport, p->ev.dport);
		break;
	case IPPROTO_UDP:
		if (length < sizeof(*udp) || (void *)(udp + 1) > data_end)
			return PARSE_MALFORMED;
		p->ev.sport = udp->source;
		p->ev.dport = udp->dest;
		own_flow(p, p->ev.sport, p->ev.dport);
		break;
	case IPPROTO_ICMP:
		if (length < sizeof(*icmp) || (void *)(icmp + 1) > data_end)
			return PARSE_MALFORMED;
		parse_icmp(p, ip, icmp, length, data_end);
		break;
	}
	return PARSE_OK;
}

/* Fills p from an IPv4 packet whose headers are linear. */
static __always_inline enum parse_result parse_ipv4(struct __sk_buff *ctx, struct packet *p)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct iphdr *ip = data + ETH_HLEN;
	__u32 total;

	if ((void *)(ip + 1) > data_end)
		return PARSE_MALFORMED;
	total = bpf_ntohs(ip->tot_len);
	if (!total) /* how the kernel marks GSO packets beyond 64 KiB */
		total = ctx->len - ETH_HLEN;
	if (ip->version != 4 || ip->ihl < 5 || total < ip->ihl * 4u || ETH_HLEN + total > ctx->len)
		return PARSE_MALFORMED;
	p->family = AF_INET;
	p->l4 = ETH_HLEN + ip->ihl * 4;
	p->ev.src = ip_from_v4(ip->saddr);
	p->ev.dst = ip_from_v4(ip->daddr);
	p->ev.proto = ip->protocol;
	p->ev.ttl = ip->ttl;
	p->fragment = ip->frag_off & bpf_htons(IP_FRAGMENT_MASK);
	p->options = ip->ihl != 5;
	p->dont_fragment = ip->frag_off & bpf_htons(IP_DONT_FRAGMENT);
	p->dscp = ip->tos & IP_DSCP_MASK;
	/* Behind options nobody asks for ports: such packets take the way through the stack whole. */
	if (p->options || ip->frag_off & bpf_htons(IP_OFFSET_MASK))
		return PARSE_OK;
	/* Not up to the end of the frame: short frames are padded. */
	return parse_l4(p, ip, ip + 1, total - sizeof(*ip), data_end);
}
