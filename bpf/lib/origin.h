// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "drop.h"
#include "identity.h"
#include "ipcache.h"
#include "parse.h"
#include "tunnel.h"

/* What comes out of the tunnel. */

/* Who has sent a packet that came out of the tunnel, as the tunnel says. The node is 0 where it does not. */
static __noinline void leave_tunnel(struct __sk_buff *ctx, struct far_end *from)
{
	struct bpf_tunnel_key key = {};

	if (bpf_skb_get_tunnel_key(ctx, &key, TUNNEL_KEY_SIZE, 0))
		return;
	from->sender = key.tunnel_id;
	from->node = bpf_htonl(key.remote_ipv4);
}

/* What is wrong with that: the node has to be the one that has the packet's source address. REASON_NONE: it is. */
static __noinline enum lab_reason check_origin(struct __sk_buff *ctx, const struct far_end *from)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct iphdr *ip = data + ETH_HLEN;
	const struct ipcache_entry *e;
	struct ip a;

	if (!from->node)
		return REASON_NO_NODE;
	if (!is_ipv4(ctx))
		return REASON_PROTOCOL;
	if ((void *)(ip + 1) > data_end)
		return REASON_MALFORMED;
	a = ip_from_v4(ip->saddr);
	e = who_has(&a);
	if (e && v4(&e->node) == from->node)
		return REASON_NONE;
	a = ip_from_v4(from->node);
	e = who_has(&a);
	return e && ip_equal(&e->node, &a) ? REASON_FORGED_SOURCE : REASON_NO_NODE;
}

/* Whether a packet at a NIC is one that the tunnel's device of this node takes: there is nothing to do about it. */
__noinline bool is_for_tunnel(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct iphdr *ip = data + ETH_HLEN;
	const struct udphdr *udp = (void *)(ip + 1);
	struct ip dst;

	if ((void *)(udp + 1) > data_end || ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP)
		return false;
	if (ip->frag_off & bpf_htons(IP_OFFSET_MASK) || udp->dest != bpf_htons(cfg_tunnel_port))
		return false;
	dst = ip_from_v4(ip->daddr);
	return is_node_ip(&dst);
}
