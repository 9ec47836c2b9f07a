// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

/* What a pod sends: tcx ingress of every host-side veth. */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/account.h"
#include "lib/arp.h"
#include "lib/cache.h"
#include "lib/deliver.h"
#include "lib/events.h"
#include "lib/flow.h"
#include "lib/foreign.h"
#include "lib/identity.h"
#include "lib/ipcache.h"
#include "lib/maps.h"
#include "lib/mark.h"
#include "lib/node.h"
#include "lib/parse.h"
#include "lib/reject.h"
#include "lib/route.h"
#include "lib/tracked.h"
#include "lib/tunnel.h"
#include "lib/work.h"

/* Tells of a packet that the pod sends. */
static __always_inline void meet(struct __sk_buff *ctx, const struct packet *p, const struct endpoint *self)
{
	know_sender(identity_of_pod(self));
	arrive(ctx, p, POINT_FROM_POD, DIR_FROM_POD);
}

/*
 * Answers every ARP request for another address than the pod's own with the MAC of the host-side veth. An ARP probe
 * (RFC 5227) has no sender address, so the pod's address is looked up by the interface.
 */
static __always_inline enum lab_reason decide_arp(struct __sk_buff *ctx, struct work *w)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct arp_ipv4 *arp = data + ETH_HLEN;
	const struct endpoint *self;
	struct packet *p = &w->p;
	union ip_words *own;

	if ((void *)(arp + 1) > data_end || !arp_is_ipv4(arp))
		return REASON_MALFORMED;
	p->ev.src = ip_from_v4(arp->sender);
	p->ev.dst = ip_from_v4(arp->target);
	own = bpf_map_lookup_elem(&lab_ifaces, &p->ev.ifindex);
	if (!own)
		return REASON_SOURCE_ADDR;
	self = bpf_map_lookup_elem(&lab_endpoints, own);
	if (!self)
		return REASON_SOURCE_ADDR;
	p->ev.src_id = self->id;
	if (cfg_tells)
		meet(ctx, p, self);
	if (arp->sender && arp->sender != own->w32[3])
		return REASON_SOURCE_ADDR;
	if (arp->op != bpf_htons(ARP_REQUEST) || arp->target == own->w32[3])
		return REASON_ARP_IGNORED;
	w->verdict.pod = behind_veth(self);
	return REASON_ARP_REPLY;
}

/* The pod of this node with that address. In modes with Services in BPF, addresses outside the node's pod CIDR need no look-up. */
static __always_inline const struct endpoint *local_pod(struct work *w, const struct ip *a)
{
	return !has_kube_proxy_replacement() || is_own_pod(a) ? find_pod(w, a) : NULL;
}

/* Whether an address, which local has if it is not NULL, is reached by the tunnel. */
static __always_inline bool is_far(struct work *w, const struct ip *a, const struct endpoint *local)
{
	return has_tunnel() && !local && find_far_end(w, a, true);
}

/*
 * Decides about a packet's addresses: an answer gets the Service's address back, a packet to a Service gets a backend's.
 * Where the stack routes, it sees the translated packet. An answer to a client outside is translated here only if BPF
 * routes; else lab_to_network translates it.
 */
static __always_inline enum lab_reason decide_service(struct __sk_buff *ctx, const struct packet *p, struct change *c, bool to_pod, bool *back)
{
	const struct ip hairpin = ip_from_v4(HAIRPIN_V4);

	look_at_flow(ctx, p, c, false);
	if (c->outcome == CANNOT_PARSE)
		return REASON_NONE;
	*back = !opens(p) && (has_routing() || to_pod || ip_equal(&p->ev.dst, &hairpin)) && translate_back(p, &c->from, c);
	return *back ? REASON_NONE : translate(ctx, p, LAB_INSIDE, c);
}

/* Leaves a packet to the stack, which does not accept one with the node's own address as its source: the program behind it translates this one. */
static __always_inline enum lab_reason leave_to_stack(struct work *w, enum lab_reason reason, bool back)
{
	if (back)
		w->c.outcome = AS_IT_IS;
	if (reason == REASON_TOO_BIG && !w->p.dont_fragment)
		return REASON_TO_KERNEL; /* which fragments it */
	return reason;
}

/* Decides about a packet that leaves the node, or is for the node itself. */
static __always_inline enum lab_reason decide_route(struct __sk_buff *ctx, struct work *w, bool back)
{
	const struct packet *p = &w->p;
	struct change *c = &w->c;
	const struct ip *dst = c->outcome == TRANSLATED ? &c->to.dst : &p->ev.dst;
	enum lab_reason reason = REASON_TO_KERNEL;

	/* At TTL 1 the stack answers "time exceeded"; options are its business. */
	if (p->ev.ttl > 1 && !p->options && !is_node_ip(dst))
		reason = find_route(ctx, p, &w->basis, c, &w->route);
	if (reason == REASON_FORWARDED) {
		w->verdict.mark = !cfg_masquerade || back || !is_outside(dst) ? MARK_DONE : 0;
		return reason;
	}
	if (reason == REASON_NO_ROUTE && (is_multicast(dst) || node_flags(dst) & LAB_IS_LOCAL))
		reason = REASON_TO_KERNEL;
	return leave_to_stack(w, reason, back);
}

/* A packet to who is reached by the tunnel. */
static __always_inline enum lab_reason decide_far(struct __sk_buff *ctx, struct work *w, const struct endpoint *self, bool back)
{
	enum lab_reason reason = REASON_TO_KERNEL;

	if (may_skip_stack(&w->p))
		reason = decide_tunnel(ctx, w, identity_of_pod(self));
	return reason == REASON_TUNNELED ? reason : leave_to_stack(w, reason, back);
}

static __always_inline enum lab_reason decide_ipv4(struct __sk_buff *ctx, struct work *w)
{
	struct packet *p = &w->p;
	const struct endpoint *self, *peer;
	enum lab_reason reason;
	bool back = false, far;

	if (parse_ipv4(ctx, p) != PARSE_OK)
		return REASON_MALFORMED;
	look_up_basis(ctx, w, true);
	self = bpf_map_lookup_elem(&lab_endpoints, &p->ev.src);
	if (!self || self->ifindex != p->ev.ifindex)
		return REASON_SOURCE_ADDR;
	p->ev.src_id = self->id;
	if (cfg_tells)
		meet(ctx, p, self);
	if (is_loopback(&p->ev.dst))
		return REASON_LOOPBACK; /* with route_localnet the stack would accept it: see datapath/sysctls.go */
	if (has_kube_proxy_replacement() && p->ev.proto == IPPROTO_ICMP && is_foreign_error(ctx))
		return REASON_FOREIGN_ERROR;
	peer = local_pod(w, &p->ev.dst);
	far = is_far(w, &p->ev.dst, peer);
	if (has_kube_proxy_replacement()) {
		reason = decide_service(ctx, p, &w->c, peer || far, &back);
		if (reason != REASON_NONE)
			return reason;
		if (w->c.outcome == TRANSLATED) {
			peer = local_pod(w, &w->c.to.dst);
			far = is_far(w, &w->c.to.dst, peer);
		}
	}
	if (far)
		return decide_far(ctx, w, self, back);
	if (!peer)
		return has_routing() ? decide_route(ctx, w, back) : REASON_TO_KERNEL;
	if (may_skip_stack(p))
		return decide_delivery(w, peer);
	p->ev.dst_id = peer->id; /* the stack sends it out of lab_host */
	return REASON_TO_KERNEL;
}

/* Carries out the decision. */
static __always_inline int act(struct __sk_buff *ctx, struct work *w, enum lab_reason reason)
{
	if (has_kube_proxy_replacement() && reason == REASON_NO_BACKEND)
		return reject(ctx, &w->p, &w->c);
	if (is_drop(reason, DIR_FROM_POD))
		return TC_ACT_SHOT;
	if (has_kube_proxy_replacement() && !rewrite(ctx, &w->p, &w->c))
		return TC_ACT_SHOT;
	if (reason == REASON_DELIVERED)
		return deliver(ctx, &w->verdict.pod, has_routing() ? WAY_INSIDE : WAY_VETH);
	if (has_tunnel() && reason == REASON_TUNNELED)
		return enter_tunnel(ctx, &w->verdict.far, false);
	if (has_routing() && reason == REASON_FORWARDED) {
		set_mark(ctx, w->verdict.mark);
		return send_out(ctx, &w->route.hop);
	}
	if (reason == REASON_ARP_REPLY)
		return arp_answer(ctx, &w->p, &w->verdict.pod.own_mac);
	if (reason == REASON_TO_KERNEL || ((has_routing() || has_tunnel()) && stack_answers(reason, DIR_FROM_POD)))
		return TC_ACT_UNSPEC; /* the next program, if somebody attached one, then the stack */
	return TC_ACT_SHOT;
}

/* Decides about a packet that no remembered decision applies to. */
static __noinline int decide(struct __sk_buff *ctx)
{
	struct work *w = new_work(ctx);
	enum lab_reason reason = REASON_PROTOCOL;
	int verdict;

	if (!w)
		return drop_unseen(ctx, DIR_FROM_POD);
	linearize(ctx);
	if (!ctx->vlan_present && w->p.ev.ether_type == bpf_htons(ETH_P_IP))
		reason = decide_ipv4(ctx, w);
	else if (!ctx->vlan_present && w->p.ev.ether_type == bpf_htons(ETH_P_ARP))
		reason = decide_arp(ctx, w);
	announce(ctx, w, reason, DIR_FROM_POD);
	verdict = act(ctx, w, reason);
	reason = account(ctx, w, reason, DIR_FROM_POD, verdict);
	if (has_cache())
		remember(w, reason);
	return verdict;
}

SEC("tcx/ingress")
int lab_from_pod(struct __sk_buff *ctx)
{
	struct cached_flow *known = NULL;

	if (!has_cache()) {
		APART();
		return decide(ctx);
	}
	if (is_ipv4(ctx))
		known = recall(ctx, true, NULL);
	return known ? follow(ctx, known, DIR_FROM_POD) : decide(ctx);
}

char _license[] SEC("license") = "Dual BSD/GPL";
