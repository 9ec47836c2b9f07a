// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "flow.h"
#include "node.h"
#include "tuple.h"

/* As much as is needed of include/net/netfilter/nf_conntrack.h and net/netfilter/nf_conntrack_bpf.c. */
struct nf_conn {
	unsigned long status;
} __attribute__((preserve_access_index));

#define IPS_NAT_MASK 0x30 /* either end is translated */

struct bpf_ct_opts___12 {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};
_Static_assert(sizeof(struct bpf_ct_opts___12) == 12, "what kernels before 6.10 take, and later ones too");

/* Since Linux 6.0, if the kernel has connection tracking. */
extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *ctx, struct bpf_sock_tuple *t, __u32 size, struct bpf_ct_opts___12 *opts, __u32 opts_size) __ksym __weak;
extern void bpf_ct_release(struct nf_conn *ct) __ksym __weak;

/* Whether the kernel's connection tracking translates packets with that tuple, by iptables rules of others. */
static __always_inline bool is_translated_by_kernel(struct __sk_buff *ctx, const struct tuple *t)
{
	struct bpf_sock_tuple tuple = { .ipv4 = { .saddr = v4(&t->src), .daddr = v4(&t->dst), .sport = t->sport, .dport = t->dport } };
	struct bpf_ct_opts___12 opts = { .netns_id = BPF_F_CURRENT_NETNS, .l4proto = t->proto };
	bool translated = false;
	struct nf_conn *ct;

	if (!&bpf_skb_ct_lookup)
		return false;
	ct = bpf_skb_ct_lookup(ctx, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	if (ct) {
		translated = ct->status & IPS_NAT_MASK;
		bpf_ct_release(ct);
	}
	return translated;
}

/*
 * Whether a packet, to a port of translated flows, is for neither a flow nor a socket of the node nor the kernel's own
 * translation. It may be an answer whose entry was lost and may be put back. The node's stack would answer it with a
 * RST or an ICMP error, and the far end would close the connection; so it does not get the packet.
 */
static __noinline int is_stray(struct __sk_buff *ctx, const struct tuple *t)
{
	if (!is_node_ip(&t->dst) && !(node_flags(&t->dst) & LAB_IS_LOCAL))
		return false;
	return !has_socket(ctx, t, true) && !is_translated_by_kernel(ctx, t);
}
