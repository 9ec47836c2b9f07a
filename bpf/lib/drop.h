//go:build ignore

#pragma once

#include <stdbool.h>

/*
 * What became of a packet: index of lab_metrics and field of struct event. Numbers are never reused, as
 * pinned counters and old readers outlive the programs. From LAB_DROP on the packet was dropped, unless
 * the stack got it to answer: see stack_answers().
 */
enum lab_reason {
	LAB_REASON_NONE = 0,
	LAB_TO_KERNEL = 1, /* given to the node's IP stack */
	LAB_TO_POD = 2, /* delivered to a local pod */
	LAB_ARP_REPLY = 3, /* an ARP request, answered */
	LAB_ARP_IGNORED = 4, /* ARP that asks for no answer: announcements, replies, probes for the own address */
	LAB_EVENT_LOST = 5, /* not a packet's fate: an event that found lab_events full */
	LAB_TO_NETWORK = 6, /* routed or translated, and sent out of a network card */

	LAB_DROP = 16,
	LAB_DROP_SOURCE_ADDR = 16, /* a pod sent with an address that is not its own */
	LAB_DROP_NO_ENDPOINT = 17, /* nobody has the destination address */
	LAB_DROP_PROTOCOL = 18, /* neither IPv4 nor ARP, or in a VLAN */
	LAB_DROP_MALFORMED = 19, /* headers that contradict themselves or the packet's length */
	LAB_DROP_NO_BACKEND = 20, /* to a Service without backends; the sender was told */
	LAB_DROP_NO_LOCAL_BACKEND = 21, /* to a Service that only takes backends on this node, which has none */
	LAB_DROP_SOURCE_RANGE = 22, /* to a load balancer's address, from where it does not accept clients */
	LAB_DROP_NAT_PORTS = 23, /* no port was free to translate a flow with */
	LAB_DROP_NO_ROUTE = 24, /* the node has no route there */
	LAB_DROP_TTL = 25, /* translated, but it has no hop left */
	LAB_DROP_REWRITE = 26, /* could not be rewritten */
	LAB_DROP_BLACKHOLE = 27, /* the node's route there is a blackhole */
	LAB_DROP_UNREACHABLE = 28, /* the node's route there says unreachable */
	LAB_DROP_PROHIBITED = 29, /* the node's route there says prohibited */
	LAB_DROP_TOO_BIG = 30, /* larger than the route's MTU, and not to be fragmented */
	LAB_DROP_MASQUERADE = 31, /* would have left with a pod's address: no TCP, UDP or echo request, or with IP options */
	LAB_DROP_FRAGMENT = 32, /* a fragment of a datagram whose first one has not been seen */
	LAB_DROP_FOREIGN_ERROR = 33, /* a pod's ICMP error about what it has not got, or its receiver not sent */
	LAB_DROP_NO_FLOW = 34, /* belongs to no flow that is known, and may not open one; or to a port that flows get, and to nobody else */
	LAB_DROP_LOOPBACK = 38, /* a pod sent to 127.0.0.0/8, which is nobody beyond its own host */

	LAB_REASON_MAX = 64,
} __attribute__((packed));

/* Which program it was, seen from the pod, or from the node at its network cards. */
enum lab_direction {
	LAB_FROM_POD = 0,
	LAB_DIR_TO_POD = 1,
	LAB_FROM_NETWORK = 2,
	LAB_DIR_TO_NETWORK = 3,
	LAB_DIRECTION_MAX = 4,
} __attribute__((packed));

/*
 * Whether the stack gets a packet for this reason, and answers as it drops it, by its own rules for what is said
 * how often, and from which address: it gets what it would have got without us. At network cards the programs
 * answer: there the stack would take what they have translated for a forgery.
 */
static __always_inline bool stack_answers(enum lab_reason reason, enum lab_direction dir)
{
	if (dir != LAB_FROM_POD)
		return false;
	return reason == LAB_DROP_NO_ROUTE || reason == LAB_DROP_UNREACHABLE || reason == LAB_DROP_PROHIBITED || reason == LAB_DROP_TOO_BIG;
}

static __always_inline bool is_drop(enum lab_reason reason, enum lab_direction dir)
{
	return reason >= LAB_DROP && !stack_answers(reason, dir);
}
