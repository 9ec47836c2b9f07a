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
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "ct.h"
#include "drop.h"
#include "icmp.h"
#include "packet.h"
#include "parse.h"
#include "rewrite.h"

/*
 * Answers to packets that are not delivered. The packet itself is rewritten and sent back by the device that it came
 * from. Where its checksum was left for a device to complete, the packet comes from this host and goes back to it, and
 * the receiver does not check it.
 */

/* The header of the RST that answers a segment to a closed port: RFC 9293, 3.10.7.1. */
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

__noinline bool make_reset(struct __sk_buff *ctx, const struct packet *p)
{
	const __u32 length = ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr);
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp, reset;
	__be32 src, dst;
	__u32 headers;

	if (!p)
		return false;
	tcp = data + p->l4;
	if ((void *)(ip + 1) > data_end || (void *)(tcp + 1) > data_end || tcp->rst)
		return false;
	src = ip->saddr;
	dst = ip->daddr;
	headers = p->l4 - ETH_HLEN + tcp->doff * 4;
	reset_header(&reset, tcp, bpf_ntohs(ip->tot_len) - headers);
	reset.check = csum_add(0xffff, bpf_csum_diff(NULL, 0, (__be32 *)&reset, sizeof(reset), pseudo_header(dst, src, IPPROTO_TCP, sizeof(reset))));
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

/*
 * Answers a packet to a Service without backends, from the Service's address: TCP by a RST, UDP by "port unreachable".
 * The limit for the latter is so high that a client which waits for each answer does not reach it.
 */
__noinline int reject(struct __sk_buff *ctx, const struct packet *p, const struct change *c)
{
	struct icmp_error nobody = { .type = ICMP_DEST_UNREACH, .code = ICMP_PORT_UNREACH, .quote = QUOTE_MIN };
	const struct pace pace = { .second = 1000, .burst = 1000 };
	bool made = false;

	if (!has_kube_proxy_replacement() || !p || !c)
		return TC_ACT_SHOT;
	nobody.from = v4(&p->ev.dst);
	if (c->shape == SHAPE_PACKET && p->ev.proto == IPPROTO_TCP)
		made = make_reset(ctx, p);
	else if (c->shape == SHAPE_PACKET && may_tell(v4(&p->ev.src), pace))
		made = make_icmp_error(ctx, &nobody);
	return made ? bpf_redirect(p->ev.ifindex, 0) : TC_ACT_SHOT;
}
