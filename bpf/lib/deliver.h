// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "packet.h"

static __always_inline struct kernel_flow kernel_flow_of(const struct packet *p)
{
	struct kernel_flow f = {};

	f.lo = p->ev.src;
	f.hi = p->ev.dst;
	if (ip_less(&f.lo, &f.hi)) {
		f.lo_port = p->flow_sport;
		f.hi_port = p->flow_dport;
	} else {
		f.lo = p->ev.dst;
		f.hi = p->ev.src;
		f.lo_port = p->flow_dport;
		f.hi_port = p->flow_sport;
	}
	f.proto = p->flow_proto;
	return f;
}

/* As a router does it: one hop less, and the header checksum brought up to date (RFC 1624). */
static __always_inline void decrement_ttl(struct iphdr *ip)
{
	__u32 check = ip->check;

	check += bpf_htons(0x0100);
	ip->check = check + (check >= 0xffff);
	ip->ttl--;
}

/* The next receiver of a frame, and the device that leads there. */
struct neighbour {
	__u32 ifindex;
	struct mac mac;
	struct mac own_mac; /* the device's */
};

static __always_inline struct neighbour behind_veth(const struct endpoint *ep)
{
	struct neighbour n = { .ifindex = ep->ifindex, .mac = ep->mac, .own_mac = ep->node_mac };

	return n;
}

/*
 * Gives the IPv4 packet the addresses of a frame. The frame's headers are linear and have been parsed
 * before, so the bounds check cannot fail.
 */
static __always_inline bool address(struct __sk_buff *ctx, const struct mac *to, const struct mac *from, bool forwarded)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + ETH_HLEN;

	if ((void *)(ip + 1) > data_end)
		return false;
	copy_mac(eth->h_dest, to);
	copy_mac(eth->h_source, from);
	if (forwarded)
		decrement_ttl(ip);
	return true;
}

/*
 * Moves an addressed packet into the pod behind the veth, without the transmit side of the veth and its queue. It works
 * at ingress only. The kernel has set the packet type from the MAC addresses that the frame had before; the pod's stack
 * takes PACKET_HOST only.
 */
static __always_inline int redirect_inside(struct __sk_buff *ctx, __u32 ifindex)
{
	if (ctx->pkt_type != PACKET_HOST)
		bpf_skb_change_type(ctx, PACKET_HOST);
	return bpf_redirect_peer(ifindex, 0);
}

/* How a packet comes into a pod. */
enum way {
	WAY_INSIDE, /* straight into its eth0; the program has routed it */
	WAY_VETH, /* out of its host-side veth; the program has routed it */
	WAY_FROM_STACK, /* out of its host-side veth; the stack has routed it and lowered the TTL */
};

/* Gives an addressed packet to the pod behind the veth. */
static __always_inline int hand_over(struct __sk_buff *ctx, __u32 ifindex, enum way way)
{
	return way == WAY_INSIDE ? redirect_inside(ctx, ifindex) : bpf_redirect(ifindex, 0);
}

/* Gives a packet to a pod: from another pod, from a NIC, or from the node's stack. */
static __always_inline int deliver(struct __sk_buff *ctx, const struct neighbour *pod, enum way way)
{
	return address(ctx, &pod->mac, &pod->own_mac, way != WAY_FROM_STACK) ? hand_over(ctx, pod->ifindex, way) : TC_ACT_SHOT;
}
