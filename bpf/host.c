// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

/* What the node's stack sends to its own pods: tcx egress of lab_host, where the pod CIDR's route leads. */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/deliver.h"
#include "lib/events.h"
#include "lib/flow.h"
#include "lib/maps.h"
#include "lib/parse.h"
#include "lib/work.h"

/*
 * Remembers the flow of a packet from one local pod to another that comes through the stack: it was translated or
 * fragmented, or the flow is in lab_kernel_ct already. Its answers have to go through the stack, too.
 */
static __always_inline void remember_flow(const struct packet *p)
{
	struct present yes = {};
	struct kernel_flow f;

	/* An ICMP error belongs to the flow of another packet, which enters it. */
	if (!p->has_flow || p->flow_proto != p->ev.proto || (p->ev.proto == IPPROTO_ICMP && !is_echo(p->ev.icmp_type)))
		return;
	f = kernel_flow_of(p);
	if (!bpf_map_lookup_elem(&lab_kernel_ct, &f))
		bpf_map_update_elem(&lab_kernel_ct, &f, &yes, BPF_ANY);
}

static __always_inline enum lab_reason decide_ipv4(struct __sk_buff *ctx, struct work *w)
{
	const struct endpoint *to, *from;
	struct packet *p = &w->p;

	if (parse_ipv4(ctx, p) != PARSE_OK)
		return REASON_MALFORMED;
	to = bpf_map_lookup_elem(&lab_endpoints, &p->ev.dst);
	if (!to)
		return REASON_NO_ENDPOINT;
	from = bpf_map_lookup_elem(&lab_endpoints, &p->ev.src);
	if (from) {
		p->ev.src_id = from->id;
		if (!has_kube_proxy_replacement())
			remember_flow(p);
	}
	if (has_kube_proxy_replacement()) {
		look_at_flow(ctx, p, &w->c, false);
		if (w->c.outcome != CANNOT_PARSE)
			translate_back(p, &w->c.from, &w->c);
	}
	return decide_delivery(w, to);
}

/* Carries out the decision. */
static __always_inline int act(struct __sk_buff *ctx, const struct work *w, enum lab_reason reason)
{
	if (reason != REASON_DELIVERED)
		return TC_ACT_SHOT;
	if (has_kube_proxy_replacement() && !rewrite(ctx, &w->p, &w->c))
		return TC_ACT_SHOT;
	return deliver(ctx, &w->verdict.pod, WAY_FROM_STACK);
}

SEC("tcx/egress")
int lab_to_pod(struct __sk_buff *ctx)
{
	struct work *w = new_work(ctx);
	enum lab_reason reason = REASON_PROTOCOL;
	int verdict;

	if (!w)
		return drop_unseen(ctx, DIR_TO_POD);
	linearize(ctx);
	if (!ctx->vlan_present && w->p.ev.ether_type == bpf_htons(ETH_P_IP))
		reason = decide_ipv4(ctx, w);
	verdict = act(ctx, w, reason);
	account(&w->p, reason, DIR_TO_POD, verdict);
	return verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
