// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "deliver.h"
#include "drop.h"
#include "identity.h"
#include "ipcache.h"
#include "mark.h"
#include "route.h"
#include "work.h"

/*
 * The tunnel to other nodes: one device that takes from the programs, packet by packet, which node it is for and who has sent
 * it, and says the same of what comes out. The number that VXLAN and Geneve have for networks is the sender's identity.
 */

/* What a tunnel adds to a packet: IPv4, UDP, VXLAN or Geneve without options, and Ethernet. */
#define TUNNEL_OVERHEAD (sizeof(struct iphdr) + sizeof(struct udphdr) + 8 + ETH_HLEN)

#define OUTER_TTL 64

/* Kernels before 6.0 know no more of the key than this. */
#define TUNNEL_KEY_SIZE offsetof(struct bpf_tunnel_key, local_ipv4)

static __always_inline __u32 tunnel_mtu(void)
{
	return cfg_mtu - TUNNEL_OVERHEAD;
}

/*
 * Finds out whether an address is reached by the tunnel, and who is at its other end. Nodes' own addresses are reached by
 * pods alone that way.
 */
__noinline bool find_far_end(struct work *w, const struct ip *a, bool by_pod)
{
	const struct ipcache_entry *e;

	if (!has_tunnel() || !w || !a)
		return false;
	w->verdict.far.node = 0;
	e = who_has(a);
	if (e && (by_pod || !(e->flags & LAB_NODE_ADDRESS)))
		w->verdict.far.node = v4(&e->node);
	return w->verdict.far.node;
}

/* Decides that a packet goes to the other end that was found. */
static __always_inline enum lab_reason decide_tunnel(struct __sk_buff *ctx, struct work *w, __u32 sender)
{
	w->verdict.far.sender = sender;
	w->route.mtu = tunnel_mtu();
	return wire_length(ctx, w->p.ev.proto, w->p.l4) > w->route.mtu ? REASON_TOO_BIG : REASON_TUNNELED;
}

/*
 * Gives a packet to the tunnel's device; hop says that it is routed here, which is a hop: the tunnel is none. The program at
 * the NIC has nothing to do with what comes of it.
 */
__noinline int enter_tunnel(struct __sk_buff *ctx, const struct far_end *far, bool hop)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct bpf_tunnel_key key = { .tunnel_ttl = OUTER_TTL };

	if (!has_tunnel() || !far || (void *)(ip + 1) > data_end)
		return TC_ACT_SHOT;
	if (hop)
		decrement_ttl(ip);
	key.tunnel_id = far->sender;
	key.remote_ipv4 = bpf_ntohl(far->node);
	if (bpf_skb_set_tunnel_key(ctx, &key, TUNNEL_KEY_SIZE, BPF_F_ZERO_CSUM_TX))
		return TC_ACT_SHOT;
	set_mark(ctx, MARK_DONE);
	return bpf_redirect(cfg_tunnel_device, 0);
}
