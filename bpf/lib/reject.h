//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "ct.h"
#include "packet.h"
#include "parse.h"
#include "rewrite.h"

#define ICMP_PORT_UNREACH 3
#define REJECT_TTL 64

/*
 * Answers to packets that nobody takes, made from the packets themselves and sent back where they came
 * from. A checksum that the device still had to finish is one that the receiver does not look at: such
 * packets never were on a wire, nor will be.
 */

static __always_inline void swap_macs(struct ethhdr *eth)
{
	struct mac src;

	copy_mac(&src, eth->h_source);
	copy_mac(eth->h_source, eth->h_dest);
	copy_mac(eth->h_dest, &src);
}

static __always_inline void ip_header(struct iphdr *ip, __be32 src, __be32 dst, __u8 proto, __u16 payload)
{
	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(sizeof(*ip) + payload),
		.ttl = REJECT_TTL,
		.protocol = proto,
		.saddr = src,
		.daddr = dst,
	};
	ip->check = csum_add(0xffff, bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
}

/* What connection tracking would call the segment's end: RFC 9293, 3.10.7.1. */
static __always_inline void reset_header(struct tcphdr *to, const struct tcphdr *from, __u32 payload)
{
	bool ack = from->ack;

	*to = (struct tcphdr){
		.source = from->dest,
		.dest = from->source,
		.seq = ack ? from->ack_seq : 0,
		.ack_seq = ack ? 0 : bpf_htonl(bpf_ntohl(from->seq) + payload + from->syn + from->fin),
		.doff = sizeof(*to) / 4,
		.rst = 1,
		.ack = !ack,
	};
}

static __always_inline __u32 pseudo_header(__be32 src, __be32 dst, __u8 proto, __u16 length)
{
	__be32 words[3] = { src, dst, bpf_htonl((__u32)proto << 16 | length) };

	return bpf_csum_diff(NULL, 0, words, sizeof(words), 0);
}

static __always_inline bool make_reset(struct __sk_buff *ctx)
{
	const __u32 length = ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr);
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1), reset;
	__be32 src, dst;
	__u32 headers;

	if ((void *)(tcp + 1) > data_end || tcp->rst)
		return false;
	src = ip->saddr;
	dst = ip->daddr;
	headers = sizeof(*ip) + tcp->doff * 4;
	reset_header(&reset, tcp, bpf_ntohs(ip->tot_len) - headers);
	reset.check = csum_add(0xffff, bpf_csum_diff(NULL, 0, (__be32 *)&reset, sizeof(reset),
						     pseudo_header(dst, src, IPPROTO_TCP, sizeof(reset))));
	if (bpf_skb_change_tail(ctx, length, 0))
		return false;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	if (data + length > data_end)
		return false;
	swap_macs(data);
	ip_header(data + ETH_HLEN, dst, src, IPPROTO_TCP, sizeof(reset));
	*(struct tcphdr *)(data + ETH_HLEN + sizeof(*ip)) = reset;
	return true;
}

static __always_inline bool make_unreachable(struct __sk_buff *ctx)
{
	const __u32 quote = sizeof(struct iphdr) + 8, added = sizeof(struct iphdr) + sizeof(struct icmphdr);
	void *data, *data_end;
	struct icmphdr *icmp;
	struct iphdr *ip, *quoted;

	if (bpf_skb_change_tail(ctx, ETH_HLEN + quote, 0) || bpf_skb_adjust_room(ctx, added, BPF_ADJ_ROOM_MAC, 0))
		return false;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	ip = data + ETH_HLEN;
	icmp = (void *)(ip + 1);
	quoted = (void *)(icmp + 1);
	if ((void *)quoted + quote > data_end)
		return false;
	swap_macs(data);
	ip_header(ip, quoted->daddr, quoted->saddr, IPPROTO_ICMP, sizeof(*icmp) + quote);
	*icmp = (struct icmphdr){ .type = ICMP_DEST_UNREACH, .code = ICMP_PORT_UNREACH };
	icmp->checksum = csum_add(0xffff, bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp) + quote, 0));
	return true;
}

/* Tells the sender of a TCP segment or UDP datagram that nobody is there. */
static __always_inline int reject(struct __sk_buff *ctx, const struct packet *p, const struct change *c)
{
	bool made = false;

	if (c->shape == SHAPE_PACKET)
		made = p->ev.proto == IPPROTO_TCP ? make_reset(ctx) : make_unreachable(ctx);
	return made ? bpf_redirect(p->ev.ifindex, 0) : TC_ACT_SHOT;
}
