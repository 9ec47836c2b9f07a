//go:build ignore

#pragma once

#include <stdbool.h>

/*
 * What became of a packet: index of lab_metrics and field of struct event. Numbers are never reused, as
 * pinned counters and old readers outlive the programs. From LAB_DROP on the packet was dropped.
 */
enum lab_reason {
	LAB_REASON_NONE = 0,
	LAB_TO_KERNEL = 1, /* given to the node's IP stack */
	LAB_TO_POD = 2, /* delivered to a local pod */
	LAB_ARP_REPLY = 3, /* an ARP request, answered */
	LAB_ARP_IGNORED = 4, /* ARP that asks for no answer: announcements, replies, probes for the own address */
	LAB_EVENT_LOST = 5, /* not a packet's fate: an event that found lab_events full */

	LAB_DROP = 16,
	LAB_DROP_SOURCE_ADDR = 16, /* a pod sent with an address that is not its own */
	LAB_DROP_NO_ENDPOINT = 17, /* nobody has the destination address */
	LAB_DROP_PROTOCOL = 18, /* neither IPv4 nor ARP, or in a VLAN */
	LAB_DROP_MALFORMED = 19, /* headers that contradict themselves or the packet's length */

	LAB_REASON_MAX = 64,
} __attribute__((packed));

/* Which program it was, seen from the pod. */
enum lab_direction {
	LAB_FROM_POD = 0,
	LAB_DIR_TO_POD = 1,
	LAB_DIRECTION_MAX = 2,
} __attribute__((packed));

static __always_inline bool is_drop(enum lab_reason reason)
{
	return reason >= LAB_DROP;
}
