// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>

#include <linux/types.h>

/*
 * What became of a packet: index of lab_metrics and field of struct event. Numbers are never reused, as
 * pinned counters and old readers outlive the programs. What a reason means for the packet is said below.
 */
enum lab_reason {
	REASON_NONE = 0,
	REASON_TO_KERNEL = 1, /* given to the node's IP stack */
	REASON_DELIVERED = 2, /* to a local pod */
	REASON_ARP_REPLY = 3, /* an ARP request, answered */
	REASON_ARP_IGNORED = 4, /* ARP that asks for no answer: announcements, replies, probes for the own address */
	REASON_EVENT_LOST = 5, /* of an event, not of a packet: lab_events was full */
	REASON_FORWARDED = 6, /* routed or translated, and sent out of a NIC */

	REASON_TUNNELED = 7, /* sent to another node by the tunnel */

	REASON_SOURCE_ADDR = 16, /* a pod sent with an address that is not its own */
	REASON_NO_ENDPOINT = 17, /* no pod has the destination address */
	REASON_PROTOCOL = 18, /* neither IPv4 nor ARP, or in a VLAN */
	REASON_MALFORMED = 19, /* headers that contradict themselves or the packet's length */
	REASON_NO_BACKEND = 20, /* to a Service without backends; the sender was told */
	REASON_NO_LOCAL_BACKEND = 21, /* to a Service that only takes backends on this node, which has none */
	REASON_SOURCE_RANGE = 22, /* to a load balancer's address, from where it does not accept clients */
	REASON_NAT_PORTS = 23, /* no port was free to translate a flow with */
	REASON_NO_ROUTE = 24, /* the node has no route there */
	REASON_TTL = 25, /* translated, but it has no hop left */
	REASON_REWRITE = 26, /* could not be rewritten, or not be sent on */
	REASON_BLACKHOLE = 27, /* the node's route there is a blackhole */
	REASON_UNREACHABLE = 28, /* the node's route there says unreachable */
	REASON_PROHIBITED = 29, /* the node's route there says prohibited */
	REASON_TOO_BIG = 30, /* larger than the route's MTU, and not to be fragmented */
	REASON_MASQUERADE = 31, /* would have left with a pod's address: no TCP, UDP or echo request, or with IP options */
	REASON_FRAGMENT = 32, /* a fragment of a datagram whose first one has not been seen */
	REASON_FOREIGN_ERROR = 33, /* a pod's ICMP error about a packet that the pod has not received, or that the error's receiver has not sent */
	REASON_NO_FLOW = 34, /* of no known flow, and may not open one; or to a port of translated flows that neither a flow nor the node uses */
	REASON_LOOPBACK = 38, /* a pod sent to 127.0.0.0/8, which is valid inside a host only */
	REASON_NO_WORK_AREA = 39, /* the program did not find its work area; it always should */

	REASON_NO_NODE = 42, /* came by the tunnel, from an address that is no node's */
	REASON_FORGED_SOURCE = 43, /* came by the tunnel, with a source address that the node that sent it has not got */

	REASON_MAX = 64,
} __attribute__((packed));

/* The program that counts: at a pod's veth as seen from the pod, at a NIC as seen from the node. */
enum lab_direction {
	DIR_FROM_POD = 0,
	DIR_TO_POD = 1,
	DIR_FROM_NETWORK = 2,
	DIR_TO_NETWORK = 3,
	DIR_MAX = 4,
} __attribute__((packed));

#define REASON_BIT(reason) (1ULL << (reason))

/* Those for which a packet is not dropped. */
#define REASONS_PASSED \
	(REASON_BIT(REASON_NONE) | REASON_BIT(REASON_TO_KERNEL) | REASON_BIT(REASON_DELIVERED) | \
		REASON_BIT(REASON_ARP_REPLY) | REASON_BIT(REASON_ARP_IGNORED) | REASON_BIT(REASON_EVENT_LOST) | \
		REASON_BIT(REASON_FORWARDED) | REASON_BIT(REASON_TUNNELED))

/*
 * Reasons that the node's routes give. Such a packet of a pod goes to the stack, which drops it and answers with an ICMP
 * error from the right address, as often as the sysctls allow. At NICs the programs answer: the packet is translated
 * there, has the node's own address as its source, and the stack takes such a packet for a forgery.
 */
#define REASONS_OF_ROUTES \
	(REASON_BIT(REASON_NO_ROUTE) | REASON_BIT(REASON_UNREACHABLE) | REASON_BIT(REASON_PROHIBITED) | \
		REASON_BIT(REASON_TOO_BIG))

static __always_inline bool is_one_of(enum lab_reason reason, __u64 reasons)
{
	return reasons >> reason & 1;
}

/* Whether the stack gets a packet for this reason, to answer it as it drops it. */
static __always_inline bool stack_answers(enum lab_reason reason, enum lab_direction dir)
{
	return dir == DIR_FROM_POD && is_one_of(reason, REASONS_OF_ROUTES);
}

static __always_inline bool is_drop(enum lab_reason reason, enum lab_direction dir)
{
	return !is_one_of(reason, REASONS_PASSED) && !stack_answers(reason, dir);
}
