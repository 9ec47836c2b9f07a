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

/* Report every packet to lab_events; otherwise dropped ones only. */
volatile const bool cfg_trace;

/* How the node carries its pods' traffic, each a step beyond the last. */
enum lab_mode {
	LAB_KUBEPROXY = 0, /* Services are the node's stack's */
	LAB_KUBEPROXY_REPLACEMENT = 1, /* Services are translated here */
	LAB_EBPF = 2, /* and packets are routed here */
} __attribute__((packed));

volatile const enum lab_mode cfg_mode;

/* The node's address: what packets have as source that leave for a backend on another node. */
volatile const struct ip cfg_node_ip;

/* The node's pods: address and mask. */
volatile const struct ip cfg_pod_cidr;
volatile const struct ip cfg_pod_mask;

/* Where pods are known by their own addresses: address and mask. */
volatile const struct ip cfg_native_cidr;
volatile const struct ip cfg_native_mask;

/* What leaves that for an address which is no node's gets an address of the node's at the NIC. */
volatile const bool cfg_masquerade;

/* Of the pods' interfaces. The only one that is no constant: the NIC's may change. */
volatile __u32 cfg_mtu;

/* Ports given to flows that need one, which the node's own sockets are kept out of. Host byte order. */
volatile const __u16 cfg_nat_min;
volatile const __u16 cfg_nat_max;

/* How many segments in a second, on each CPU, may put back the entries of a connection that has none. */
volatile const __u32 cfg_recoveries;

/* How many flows have a turn: see admit.h. */
volatile const __u32 cfg_turns;

/* Of the node's own network namespace. */
volatile const __u64 cfg_node_netns;

/*
 * A branch that a setting rules out leaves the loaded program without a trace only if nothing else leads to
 * where it goes (opt_hard_wire_dead_code_branches in the kernel's kernel/bpf/verifier.c). In front of what
 * others do, too, this keeps the compiler from sharing it with them.
 */
#define APART() asm volatile("r0 = 0" ::: "r0")

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
