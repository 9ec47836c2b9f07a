//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/types.h>

#include "addr.h"

/* What the parser found out about a packet. Fields of layers that it does not have are 0. */
struct packet {
	__u32 ifindex; /* of the device whose program this is */
	struct ip src;
	struct ip dst;
	__be16 sport;
	__be16 dport;
	__be16 ether_type;
	__u8 proto;
	__u8 ttl;
	__u8 tcp_flags;
	__u8 icmp_type;
	bool fragment; /* any but a whole datagram */
	bool options; /* IPv4 options, which the node's stack has to look at */

	/*
	 * The flow it belongs to, seen from src: its own, or for an ICMP error the one that it reports
	 * on, provided that this one ran between src and dst.
	 */
	bool has_flow;
	__u8 flow_proto;
	__be16 flow_sport;
	__be16 flow_dport;

	/* Local endpoints, 0 when there is none or nobody looked. */
	__u32 src_id;
	__u32 dst_id;
};
