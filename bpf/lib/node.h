// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "config.h"

enum lab_node_flag {
	LAB_IS_NODE = 1, /* a node's address: pods reach it with their own */
	LAB_IS_LOCAL = 2, /* one of this node's addresses */
} __attribute__((packed));

struct node {
	enum lab_node_flag flags;
	__u8 pad[3];
};
_Static_assert(sizeof(struct node) == 4, "shared with datapath/");

/* The addresses of the cluster's nodes, and all addresses of this node. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct ip);
	__type(value, struct node);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_nodes SEC(".maps");

/* By the interface index of a NIC: the address that pods' packets get when they leave by it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct ip);
	__uint(max_entries, 256);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_devices SEC(".maps");

static __always_inline enum lab_node_flag node_flags(const struct ip *a)
{
	const struct node *n = bpf_map_lookup_elem(&lab_nodes, a);

	return n ? n->flags : 0;
}

/* The address that pods' packets get when they leave by that NIC. */
static __always_inline struct ip address_of(__u32 ifindex)
{
	const struct ip *device = bpf_map_lookup_elem(&lab_devices, &ifindex);
	struct ip node = cfg_node_ip;

	return device ? *device : node;
}

/* Whether pods' packets that leave by that NIC get that address. */
static __always_inline bool is_address_of(const struct ip *a, const __u32 *ifindex)
{
	const struct ip *device = bpf_map_lookup_elem(&lab_devices, ifindex);

	return device ? ip_equal(a, device) : is_node_ip(a);
}

/* Whether an address is one that pods are masqueraded towards. */
static __always_inline bool is_outside(const struct ip *a)
{
	/* What goes to a node and not by the tunnel goes where nobody knows pods. */
	if (has_tunnel())
		return !is_native(a) || node_flags(a) & LAB_IS_NODE;
	return !is_native(a) && !(node_flags(a) & LAB_IS_NODE);
}
