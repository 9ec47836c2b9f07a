// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/types.h>

#include "addr.h"

/*
 * What differs by profile is set before the programs are loaded: to the verifier these are constants,
 * and it removes the branches that cannot be taken.
 */

/* Of which packets, beside those that are dropped, events tell. */
enum lab_aggregation {
	LAB_AGGREGATE_MAXIMUM = 0, /* none */
	LAB_AGGREGATE_MEDIUM = 1, /* of each flow its first, its first answer, its last, and one in EVENT_INTERVAL */
	LAB_AGGREGATE_NONE = 2, /* each, where it comes in and where it goes */
} __attribute__((packed));

volatile const enum lab_aggregation cfg_aggregation;

/* Whether events tell of every step of a decision, too. */
volatile const bool cfg_steps;

/* Whether either has events tell of packets that are not dropped. One constant, for the path of known flows, where each one read is an instruction that stays. */
volatile const bool cfg_tells;

/* How many flows events can tell of at once. */
#define OBSERVED_FLOWS 65536
volatile const __u32 cfg_observed = OBSERVED_FLOWS;

/* How many bytes of a packet events show. */
volatile const __u32 cfg_payload;

/* How the node carries its pods' traffic. Each mode does all that the one before it does. */
enum lab_mode {
	LAB_KUBEPROXY = 0, /* the node's stack translates Services */
	LAB_KUBEPROXY_REPLACEMENT = 1, /* BPF translates Services */
	LAB_EBPF = 2, /* BPF routes packets, too */
} __attribute__((packed));

volatile const enum lab_mode cfg_mode;

/* The node's address. Packets to a backend on another node leave with it as their source. */
volatile const struct ip cfg_node_ip;

/* The node's pods: address and mask. */
volatile const struct ip cfg_pod_cidr;
volatile const struct ip cfg_pod_mask;

/* The native-routing CIDR, inside which pods keep their own addresses: address and mask. */
volatile const struct ip cfg_native_cidr;
volatile const struct ip cfg_native_mask;

/* Whether pods' packets to destinations outside that CIDR, other than nodes, get an address of the node at the NIC. */
volatile const bool cfg_masquerade;

/* MTU of the pods' interfaces. It is no constant, as the MTU of the NIC may change. */
volatile __u32 cfg_mtu;

/* Whether pods of other nodes are reached by a tunnel: by which device, which may come to be another one, and at which UDP port. */
volatile const bool cfg_tunnel;
volatile __u32 cfg_tunnel_device;
volatile const __u16 cfg_tunnel_port;

/* The ports that translation gives to flows. The node's own sockets do not get them. Host byte order. */
volatile const __u16 cfg_nat_min;
volatile const __u16 cfg_nat_max;

/* How many connections without entries may get them back by a segment, in a second on each CPU. */
volatile const __u32 cfg_recoveries;

/* How many flows have a turn: see admit.h. */
volatile const __u32 cfg_turns;

/* Cookie of the node's own network namespace. */
volatile const __u64 cfg_node_netns;

/*
 * The verifier removes the code of a branch that a setting rules out, but only code that no other branch jumps to
 * (opt_hard_wire_dead_code_branches in the kernel's kernel/bpf/verifier.c). This keeps the compiler from merging the
 * code that follows it with equal code elsewhere.
 */
#define APART() asm volatile("r0 = 0" ::: "r0")

/*
 * A __noinline function that is not static is global: the verifier looks at it once, with any arguments, and not again on
 * each way that leads to it, so programs load in about half the time. Its pointers may be NULL then, its numbers are
 * in no bounds, and before Linux 6.2 what its pointers lead to is no key of a map. Before 6.8 the verifier looks at it
 * where nobody calls it, too: a large one asks the setting that its callers ask.
 */

/* Whether Services are translated here, in place of kube-proxy. */
static __always_inline bool has_kube_proxy_replacement(void)
{
	return cfg_mode != LAB_KUBEPROXY;
}

/* Whether packets are routed here, and do not enter the node's IP stack. */
static __always_inline bool has_routing(void)
{
	return cfg_mode == LAB_EBPF;
}

static __always_inline bool has_tunnel(void)
{
	return cfg_tunnel;
}

/* An address of the node's pods, whether or not there is one. */
static __always_inline bool is_own_pod(const struct ip *a)
{
	return ip_in(a, &cfg_pod_cidr, &cfg_pod_mask);
}

static __always_inline bool is_native(const struct ip *a)
{
	return ip_in(a, &cfg_native_cidr, &cfg_native_mask);
}

static __always_inline bool is_node_ip(const struct ip *a)
{
	volatile const union ip_words *node = (volatile const void *)&cfg_node_ip;
	const union ip_words *x = (const void *)a;

	return x->w64[0] == node->w64[0] && x->w64[1] == node->w64[1];
}
