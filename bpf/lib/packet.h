// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/types.h>

#include "maps.h"

/* What is worth reporting of a packet, as in struct event. */
struct report {
	__u32 ifindex;
	__u32 length;
	__u32 src_id;
	__u32 dst_id;
	struct ip src;
	struct ip dst;
	__be16 sport;
	__be16 dport;
	__be16 ether_type;
	__u8 proto;
	__u8 ttl;
	__u8 tcp_flags;
	__u8 icmp_type;
	struct mac dst_mac;
	struct mac src_mac;
};

/* What the parser found out about a packet. */
struct packet {
	struct report ev;
	__u8 family; /* of its addresses, AF_INET; 0: it is no valid IP packet */
	__u8 l4; /* offset in the frame of what follows the IP header: the layer-4 header, except in fragments but the first */
	bool fragment; /* it is one, the first included */
	bool options; /* IPv4 options, which the node's stack has to look at */
	bool dont_fragment;
	__u8 dscp; /* in the upper six bits, as in the header */
	__u32 mark; /* that it came with */

	/*
	 * The flow it belongs to, seen from the source: its own, or for an ICMP error the one that it
	 * reports on, provided that this one ran between the same two addresses.
	 */
	bool has_flow;
	__u8 flow_proto;
	__be16 flow_sport;
	__be16 flow_dport;
};
