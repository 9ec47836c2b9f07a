// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

/* What the node's stack sends to its own pods: tcx egress of lab_host, where the pod CIDR's route leads. */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/account.h"
#include "lib/deliver.h"
#include "lib/events.h"
#include "lib/flow.h"
#include "lib/identity.h"
#include "lib/maps.h"
#include "lib/parse.h"
#include "lib/tracked.h"
#include "lib/tunnel.h"
#include "lib/work.h"

/* Whether the stack may have translated a packet between these two, so that it has to see the answers. */
static __always_inline bool is_worth_tracking(struct work *w, const struct endpoint *from)
{
	if (has_kube_proxy_replacement())
		return false; /* it translates nothing */
	if (from)
		return true;
	return has_tunnel() && find_far_end(w, &w->p.ev.src, true);
}

/* A packet to a pod of another node: of the node's own processes, or one that the stack has translated or fragmented. */
static __always_inline enum lab_reason decide_far(struct work *w, const struct endpoint *from)
{
	if (!find_far_end(w, &w->p.ev.dst, false))
		return REASON_NO_ENDPOINT;
	w->verdict.far.sender = from ? identity_of_pod(from) : identity_abroad(&w->p.ev.src);
	return REASON_TUNNELED;
}

/* Tells of a packet of the stack's, which a pod of this node may have sent. */
static __always_inline void meet(struct __sk_buff *ctx, const struct packet *p, const struct endpoint *from)
{
	if (from)
		know_sender(identity_of_pod(from));
	arrive(ctx, p, POINT_FROM_STACK, DIR_TO_POD);
}

static __always_inline enum lab_reason decide_ipv4(struct __sk_buff *ctx, struct work *w)
{
	const struct endpoint *to, *from;
	struct packet *p = &w->p;

	if (parse_ipv4(ctx, p) != PARSE_OK)
		return REASON_MALFORMED;
	to = bpf_map_lookup_elem(&lab_endpoints, &p->ev.dst);
	if (!to && !has_tunnel())
		return REASON_NO_ENDPOINT;
	from = bpf_map_lookup_elem(&lab_endpoints, &p->ev.src);
	if (from)
		p->ev.src_id = from->id;
	if (cfg_tells)
		meet(ctx, p, from);
	if (is_worth_tracking(w, from))
		track_flow(p);
	if (has_kube_proxy_replacement()) {
		look_at_flow(ctx, p, &w->c, false);
		if (w->c.outcome != CANNOT_PARSE)
			translate_back(p, &w->c.from, &w->c);
	}
	if (has_tunnel() && !to)
		return decide_far(w, from);
	return decide_delivery(w, to);
}

/* Carries out the decision. */
static __always_inline int act(struct __sk_buff *ctx, const struct work *w, enum lab_reason reason)
{
	if (is_drop(reason, DIR_TO_POD))
		return TC_ACT_SHOT;
	if (has_kube_proxy_replacement() && !rewrite(ctx, &w->p, &w->c))
		return TC_ACT_SHOT;
	if (has_tunnel() && reason == REASON_TUNNELED)
		return enter_tunnel(ctx, &w->verdict.far, false);
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
	announce(ctx, w, reason, DIR_TO_POD);
	verdict = act(ctx, w, reason);
	account(ctx, w, reason, DIR_TO_POD, verdict);
	return verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
