// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "deliver.h"
#include "maps.h"
#include "packet.h"
#include "parse.h"

/* Whether the stack has seen the packet's flow. */
static __noinline bool is_tracked(const struct packet *p)
{
	struct kernel_flow f = kernel_flow_of(p);

	return bpf_map_lookup_elem(&lab_kernel_ct, &f);
}

/* Whether a packet may skip the node's stack on its way to a pod. */
static __always_inline bool may_skip_stack(const struct packet *p)
{
	/* At TTL 1 the stack answers "time exceeded"; options are its business. */
	if (p->ev.ttl <= 1 || p->options)
		return false;
	if (has_kube_proxy_replacement())
		return true; /* the stack translates nothing between pods */
	if (p->fragment || !p->has_flow)
		return false; /* what the stack may have translated, it has to put together first */
	return !is_tracked(p);
}

/*
 * A packet between pods comes to the stack because it had to see it: it was translated, fragmented, or its flow was here
 * before. Its answers have to come this way too.
 */
static __always_inline void track_flow(const struct packet *p)
{
	struct present yes = {};
	struct kernel_flow f;

	/* An error belongs to a flow that is known already, or is not worth knowing. */
	if (!p->has_flow || p->flow_proto != p->ev.proto || (p->ev.proto == IPPROTO_ICMP && !is_echo(p->ev.icmp_type)))
		return;
	f = kernel_flow_of(p);
	if (!bpf_map_lookup_elem(&lab_kernel_ct, &f))
		bpf_map_update_elem(&lab_kernel_ct, &f, &yes, BPF_ANY);
}
