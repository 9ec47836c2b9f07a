// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "tuple.h"

/*
 * What a decision rests on, beside the addresses, ports and protocol of the packet. A remembered decision holds for a
 * packet whose basis is equal.
 *
 * The invariant: who changes what decisions rest on raises its number after the change, and who decides reads the
 * numbers before anything that they stand for. So a decision that was made while something changed is remembered with
 * a number that is outdated, and no packet follows it.
 */
struct basis {
	__u32 ifindex; /* where the packet comes in */
	__u32 generation; /* the sum of the numbers of all that it rests on. They only grow, so it is the same as long as each of them is */
	__u32 mark; /* that the packet comes with: the node's rules may look at it */
	__u16 moment; /* when: entries of flows have to be looked at once in a while, see CACHE_MOMENT. The same comes again after hours, and lasts no longer then */
	__u8 dscp; /* that the packet comes with: likewise */
	__u8 pad; /* always 0 */
};
_Static_assert(sizeof(struct basis) == 16, "part of keys");

#define ENDPOINT_GENERATIONS 1024
#define FLOW_GENERATIONS 1024

/* The numbers. Two that share one are decided about again when either has changed. */
struct generations {
	__u32 all; /* raised by user space when it has changed Services, nodes, on which node addresses are, devices or neighbours */
	__u32 endpoints[ENDPOINT_GENERATIONS]; /* by user space, when it has changed the endpoint with an address: see endpoint_generation() */
	__u32 flows[FLOW_GENERATIONS]; /* by the programs, when they have changed what becomes of packets with a tuple: see renew() */
};
_Static_assert(sizeof(struct generations) == 8196, "shared with datapath/");

/* One value, as every packet needs several of them. User space maps it into its memory, to raise a number in one step. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct generations);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} lab_generations SEC(".maps");

/* 2^8 jiffies: a second where the kernel ticks 250 times in one, and a quarter to two and a half elsewhere. */
#define CACHE_MOMENT 8

/* As much of the kernel's structures as leads to the number by which it tells that its own cached routes are old. */
typedef struct {
	int counter;
} atomic_t;

struct netns_ipv4 {
	atomic_t rt_genid; /* rt_genid_ipv4() of include/net/net_namespace.h */
	unsigned int fib_rules_require_fldissect; /* how many rules look at protocols and ports */
	__u8 sysctl_fib_multipath_hash_policy; /* 0: routes with several hops look at addresses only */
} __attribute__((preserve_access_index));

struct net {
	struct netns_ipv4 ipv4;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	possible_net_t nd_net;
} __attribute__((preserve_access_index));

struct sk_buff {
	struct net_device *dev;
} __attribute__((preserve_access_index));

/* Since Linux 6.2. */
extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

/* Whether decisions are remembered. */
static __always_inline bool has_cache(void)
{
	return has_routing() && &bpf_cast_to_kern_ctx != NULL;
}

/*
 * Where a CPU remembers what has that hash, in an array that each has an equal part of. A map with a value for
 * each CPU would have to be asked where that one is, and everything else waits for the answer.
 */
static __always_inline __u32 own_place(__u32 hash, __u32 size)
{
	return bpf_get_smp_processor_id() * size + hash % size;
}

static __always_inline struct generations *generations(void)
{
	const __u32 only = 0;

	return bpf_map_lookup_elem(&lab_generations, &only);
}

/* The number of what all decisions rest on. */
static __always_inline __u32 common_generation(void)
{
	const struct generations *g = generations();

	return g ? *(const volatile __u32 *)&g->all : 0;
}

/* The number of the flows with that hash. */
static __always_inline __u32 *flow_generation(struct generations *g, __u32 hash)
{
	return &g->flows[hash % FLOW_GENERATIONS];
}

/* The number of the endpoint with that address, whether or not there is one. */
static __always_inline __u32 endpoint_generation(const struct generations *g, const struct ip *a)
{
	const union ip_words *x = (const void *)a;

	return g->endpoints[bpf_ntohl(x->w32[3]) % ENDPOINT_GENERATIONS];
}

/* The sum of the numbers that every decision about packets of a flow rests on; what a pod sends rests on its own endpoint, too. */
static __always_inline __u32 common_sum(struct generations *g, __u32 hash, bool from_pod, const struct ip *src)
{
	__u32 sum = g->all + *flow_generation(g, hash);

	return from_pod ? sum + endpoint_generation(g, src) : sum;
}

/* Raises the number of the flow with that tuple. The caller has changed its entries before. */
static __noinline void renew(const struct tuple *t)
{
	struct generations *g;

	if (!has_cache())
		return;
	g = generations();
	if (g)
		__sync_fetch_and_add(flow_generation(g, packet_hash(t)), 1);
}

/* The number by which the kernel tells that its own cached routes are old. */
static __always_inline __u32 routes_generation(struct __sk_buff *ctx)
{
	const struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
	__u32 number = skb->dev->nd_net.net->ipv4.rt_genid.counter;

	asm volatile("" : "+r"(number)); /* keeps the compiler from reading a map's value by the same instruction, which the verifier refuses */
	return number;
}

static __always_inline __u16 moment_now(void)
{
	return bpf_jiffies64() >> CACHE_MOMENT;
}

/* The basis of a decision that is made in that moment about a packet with that mark and DSCP, and rests on those numbers. */
static __always_inline struct basis basis_of(struct __sk_buff *ctx, __u16 moment, __u32 generation, __u32 mark, __u8 dscp)
{
	struct basis b = { .ifindex = ctx->ifindex, .generation = generation, .mark = mark, .moment = moment, .dscp = dscp };

	return b;
}

static __always_inline bool basis_equal(const struct basis *a, const struct basis *b)
{
	return a->ifindex == b->ifindex && a->generation == b->generation && a->moment == b->moment && a->mark == b->mark && a->dscp == b->dscp;
}

/* Whether the node's routes look at ports. The fields are there when the kernel has rules, and routes with several hops. */
static __always_inline bool routes_need_ports(struct __sk_buff *ctx)
{
	const struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
	const struct netns_ipv4 *ipv4 = &skb->dev->nd_net.net->ipv4;

	if (bpf_core_field_exists(ipv4->fib_rules_require_fldissect) && ipv4->fib_rules_require_fldissect)
		return true;
	return bpf_core_field_exists(ipv4->sysctl_fib_multipath_hash_policy) && ipv4->sysctl_fib_multipath_hash_policy;
}
