// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "node.h"
#include "parse.h"
#include "rewrite.h"

/* Codes of ICMP_DEST_UNREACH; RFC 792, 1191 and 1812. */
enum icmp_code {
	ICMP_NET_UNREACH = 0,
	ICMP_HOST_UNREACH = 1,
	ICMP_PORT_UNREACH = 3,
	ICMP_FRAG_NEEDED = 4,
	ICMP_PKT_FILTERED = 13,
};

#define ANSWER_TTL 64

/* An ICMP error about a packet. */
struct icmp_error {
	__be32 from; /* who tells */
	__u32 quote; /* bytes at most of the packet; a multiple of 4 */
	__u16 mtu; /* with ICMP_FRAG_NEEDED */
	__u8 type;
	__u8 code;
};

#define QUOTE_MIN (sizeof(struct iphdr) + 8)
#define QUOTE_MAX (576 - sizeof(struct iphdr) - sizeof(struct icmphdr)) /* RFC 1812, 4.3.2.3 */

/* The limit of errors to one destination: per second, and in one burst. */
struct pace {
	__u32 second;
	__u32 burst;
};

/*
 * When the next error may be sent, in nanoseconds of CLOCK_MONOTONIC, for each of PACE_LOTS groups of destinations on each
 * CPU. There is no lock to wait for, and one destination uses up the limit of its own group only.
 */
#define PACE_LOTS 64

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, PACE_LOTS);
} lab_icmp_pace SEC(".maps");

static __always_inline bool may_tell(__be32 to, struct pace pace)
{
	__u32 lot = (to * 0x9e3779b1) >> 26; /* 2^32 / golden ratio; one of 64 */
	__u64 *due = bpf_map_lookup_elem(&lab_icmp_pace, &lot), now = bpf_ktime_get_ns(), pause = 1000000000 / pace.second, at;

	if (!due)
		return false;
	at = *due > now ? *due : now;
	if (at - now >= pause * pace.burst)
		return false;
	*due = at + pause;
	return true;
}

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
		.ttl = ANSWER_TTL,
		.protocol = proto,
		.saddr = src,
		.daddr = dst,
	};
	ip->check = csum_add(0xffff, bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
}

/* The checksum of an ICMP message that is the rest of a frame. */
static __always_inline __sum16 icmp_checksum(const struct icmphdr *icmp, const void *data_end)
{
	const __u32 *word = (const void *)icmp;
	__u64 sum = 0;
	__u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < (sizeof(*icmp) + QUOTE_MAX) / sizeof(*word); i++) {
		if ((void *)(word + 1) > data_end)
			break;
		sum += *word++;
	}
	sum = (sum & 0xffffffff) + (sum >> 32);
	return csum_add(0xffff, (sum & 0xffffffff) + (sum >> 32));
}

/* Whether errors may be sent to the sender: its address is that of one host. */
static __always_inline bool can_be_told(const struct iphdr *ip)
{
	struct ip src = ip_from_v4(ip->saddr);

	return ip->saddr && !is_multicast(&src) && bpf_ntohl(ip->saddr) >> 24 != 127;
}

/*
 * Turns a packet without IP options into the ICMP error about it. Where the packet's checksum was left for a device to
 * complete, the packet comes from this host, and the error goes back to it: nobody checks that checksum.
 */
__noinline int make_icmp_error(struct __sk_buff *ctx, const struct icmp_error *e)
{
	const __u32 added = sizeof(struct iphdr) + sizeof(struct icmphdr);
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN, *quoted;
	struct icmphdr *icmp;
	__u32 quote;

	if (!e || (void *)(ip + 1) > data_end || !can_be_told(ip))
		return false;
	quote = bpf_ntohs(ip->tot_len) & ~3u;
	if (!ip->tot_len || quote > e->quote)
		quote = e->quote;
	if (quote < QUOTE_MIN || bpf_skb_change_tail(ctx, ETH_HLEN + quote, 0) || bpf_skb_adjust_room(ctx, added, BPF_ADJ_ROOM_MAC, 0))
		return false;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	ip = data + ETH_HLEN;
	icmp = (void *)(ip + 1);
	quoted = (void *)(icmp + 1);
	if ((void *)(quoted + 1) > data_end)
		return false;
	swap_macs(data);
	ip_header(ip, e->from, quoted->saddr, IPPROTO_ICMP, sizeof(*icmp) + quote);
	*icmp = (struct icmphdr){ .type = e->type, .code = e->code, .sequence = bpf_htons(e->mtu) };
	icmp->checksum = icmp_checksum(icmp, data_end);
	return true;
}
