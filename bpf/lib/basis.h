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
	__u32 generation; /* the sum of all numbers. They only grow, so it is the same as long as each of them is */
	__u32 mark; /* that the packet comes with: the node's rules may look at it */
	__u16 moment; /* when: entries of flows have to be looked at once in a while, see CACHE_MOMENT. The same comes again after hours, and lasts no longer then */
	__u8 dscp; /* as mark */
	__u8 pad; /* always 0 */
};
_Static_assert(sizeof(struct basis) == 16, "part of keys");

#define FLOW_GENERATIONS 1024

/*
 * The first is raised by user space when it has changed endpoints, Services, nodes or devices; the others by
 * programs when they have changed what becomes of flows, each for those whose tuples' hashes lead there.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1 + FLOW_GENERATIONS);
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

static __always_inline __u32 *generation_at(__u32 index)
{
	return bpf_map_lookup_elem(&lab_generations, &index);
}

/* Of flows with that hash. */
static __always_inline __u32 flow_generation(__u32 hash)
{
	const __u32 *g = generation_at(1 + hash % FLOW_GENERATIONS);

	return g ? *g : 0;
}

/* What becomes of packets with that tuple is not what it was. It comes after the change of the map. */
static __noinline void renew(const struct tuple *t)
{
	__u32 *g;

	if (!has_cache())
		return;
	g = generation_at(1 + packet_hash(t) % FLOW_GENERATIONS);
	if (g)
		__sync_fetch_and_add(g, 1);
}

/*
 * The basis of a decision that is made now about a packet with that mark and DSCP. flow is the generation of the packet's
 * flow, where the decision rests on that, too.
 */
static __always_inline struct basis basis_of(struct __sk_buff *ctx, __u32 mark, __u8 dscp, __u32 flow)
{
	struct basis b = { .ifindex = ctx->ifindex, .mark = mark, .dscp = dscp };
	const struct sk_buff *skb;
	const __u32 *all;

	if (!has_cache())
		return b;
	skb = bpf_cast_to_kern_ctx(ctx);
	all = generation_at(0);
	b.generation = skb->dev->nd_net.net->ipv4.rt_genid.counter + (all ? *all : 0) + flow;
	b.moment = bpf_jiffies64() >> CACHE_MOMENT;
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
