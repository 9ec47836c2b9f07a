// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "events.h"
#include "maps.h"
#include "packet.h"

/* RFC 826 for IPv4 over Ethernet; linux/if_arp.h would pull in the C library's headers. */
#define ARP_HW_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

struct arp_ipv4 {
	__be16 hw_type;
	__be16 proto_type;
	__u8 hw_len;
	__u8 proto_len;
	__be16 op;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed, aligned(2)));
_Static_assert(sizeof(struct arp_ipv4) == 28, "RFC 826");

static __always_inline bool arp_is_ipv4(const struct arp_ipv4 *arp)
{
	return arp->hw_type == bpf_htons(ARP_HW_ETHERNET) && arp->proto_type == bpf_htons(ETH_P_IP) &&
		arp->hw_len == ETH_ALEN && arp->proto_len == sizeof(__be32);
}

/* Turns the request into the answer "target is at mac" and sends it back. */
__noinline int arp_answer(struct __sk_buff *ctx, const struct packet *p, const struct mac *mac)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct arp_ipv4 *arp = data + ETH_HLEN;
	__be32 target;

	if (!p || !mac || (void *)(arp + 1) > data_end)
		return TC_ACT_SHOT;
	target = arp->target;
	copy_mac(eth->h_dest, arp->sender_mac);
	copy_mac(eth->h_source, mac);
	arp->op = bpf_htons(ARP_REPLY);
	copy_mac(arp->target_mac, arp->sender_mac);
	arp->target = arp->sender;
	copy_mac(arp->sender_mac, mac);
	arp->sender = target;
	return bpf_redirect(p->ev.ifindex, 0);
}
