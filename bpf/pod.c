//go:build ignore

/* What a pod sends: tcx ingress of every host-side veth. */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/arp.h"
#include "lib/deliver.h"
#include "lib/events.h"
#include "lib/flow.h"
#include "lib/maps.h"
#include "lib/node.h"
#include "lib/parse.h"
#include "lib/reject.h"
#include "lib/route.h"

/*
 * To the pod every address but its own is at the host-side veth. A probe (RFC 5227) has no sender
 * address, so the pod's own comes from the interface.
 */
static __always_inline enum lab_reason decide_arp(struct __sk_buff *ctx, struct packet *p, struct endpoint **self)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct arp_ipv4 *arp = data + ETH_HLEN;
	union ip_words *own;

	if ((void *)(arp + 1) > data_end || !arp_is_ipv4(arp))
		return LAB_DROP_MALFORMED;
	p->ev.src = ip_from_v4(arp->sender);
	p->ev.dst = ip_from_v4(arp->target);
	own = bpf_map_lookup_elem(&lab_ifaces, &p->ev.ifindex);
	if (!own)
		return LAB_DROP_SOURCE_ADDR;
	*self = bpf_map_lookup_elem(&lab_endpoints, own);
	if (!*self)
		return LAB_DROP_SOURCE_ADDR;
	p->ev.src_id = (*self)->id;
	if (arp->sender && arp->sender != own->w32[3])
		return LAB_DROP_SOURCE_ADDR;
	if (arp->op != bpf_htons(ARP_REQUEST) || arp->target == own->w32[3])
		return LAB_ARP_IGNORED;
	return LAB_ARP_REPLY;
}

/* In modes with services the pod CIDR is known, and spares a look for what is elsewhere. */
static __always_inline struct endpoint *local_pod(const struct ip *a)
{
	return !has_services() || is_own_pod(a) ? bpf_map_lookup_elem(&lab_endpoints, a) : NULL;
}

/* Whether a packet may skip the node's stack on its way to a local pod. */
static __always_inline bool may_skip_stack(const struct packet *p)
{
	struct flow f;

	/* At TTL 1 the stack answers "time exceeded"; options are its business. */
	if (p->ev.ttl <= 1 || p->options)
		return false;
	if (has_services())
		return true; /* the stack translates nothing between local pods */
	if (p->fragment || !p->has_flow)
		return false; /* what the stack may have translated, it has to put together first */
	f = flow_of(p);
	return !bpf_map_lookup_elem(&lab_kernel_ct, &f);
}

/*
 * What becomes of a packet's addresses: those of an answer are put back, those of a packet to a Service
 * become a backend's. The stack, where it sees the packet, sees it translated. Answers to the outside are
 * translated here only if they leave from here.
 */
static __always_inline enum lab_reason decide_service(struct __sk_buff *ctx, const struct packet *p, struct change *c, struct endpoint **peer, bool *back)
{
	const struct ip hairpin = ip_from_v4(HAIRPIN_V4);
	enum lab_reason reason;

	c->shape = tuple_of(ctx, p, &c->from, false);
	if (c->shape == SHAPE_NONE)
		return LAB_REASON_NONE;
	*back = (has_routing() || *peer || ip_equal(&p->ev.dst, &hairpin)) && translate_back(p, &c->from, c);
	if (!*back) {
		reason = translate(ctx, p, LAB_INSIDE, c);
		if (reason != LAB_REASON_NONE)
			return reason;
	}
	if (c->shape != SHAPE_NONE)
		*peer = local_pod(&c->dst);
	return LAB_REASON_NONE;
}

/*
 * Whether the stack answers as it drops a packet, by its own rules for what is said how often, and from
 * which address: it gets what it would have got without us.
 */
static __always_inline bool stack_answers(enum lab_reason reason)
{
	return reason == LAB_DROP_NO_ROUTE || (reason >= LAB_DROP_BLACKHOLE && reason <= LAB_DROP_TOO_BIG);
}

/* A packet that leaves the node, or that the node itself is asked with. */
static __always_inline enum lab_reason decide_route(struct __sk_buff *ctx, const struct packet *p, struct change *c, bool back, struct next_hop *hop)
{
	const struct ip *src = c->shape == SHAPE_NONE ? &p->ev.src : &c->src;
	const struct ip *dst = c->shape == SHAPE_NONE ? &p->ev.dst : &c->dst;
	enum lab_reason reason = LAB_TO_KERNEL;

	/* At TTL 1 the stack answers "time exceeded"; options are its business. */
	if (p->ev.ttl > 1 && !p->options && !is_node_ip(dst))
		reason = find_route(ctx, p, src, dst, hop);
	if (reason == LAB_TO_NETWORK) {
		if (!cfg_masquerade || back || !is_outside(dst))
			ctx->mark = MARK_DONE;
		return reason;
	}
	/* The stack would not take the node's own address as source. The network card translates again. */
	if (back)
		c->shape = SHAPE_NONE;
	if (reason == LAB_DROP_TOO_BIG && !p->dont_fragment)
		return LAB_TO_KERNEL; /* which cuts it up */
	if (reason == LAB_DROP_NO_ROUTE && (is_multicast(dst) || node_flags(dst) & LAB_IS_LOCAL))
		return LAB_TO_KERNEL;
	return reason;
}

static __always_inline enum lab_reason decide_ipv4(struct __sk_buff *ctx, struct packet *p, struct change *c, struct endpoint **peer, struct next_hop *hop)
{
	const struct endpoint *self;
	enum lab_reason reason;
	bool back = false;

	if (parse_ipv4(ctx, p) != PARSE_OK)
		return LAB_DROP_MALFORMED;
	self = bpf_map_lookup_elem(&lab_endpoints, &p->ev.src);
	if (!self || self->ifindex != p->ev.ifindex)
		return LAB_DROP_SOURCE_ADDR;
	p->ev.src_id = self->id;
	*peer = local_pod(&p->ev.dst);
	if (has_services()) {
		reason = decide_service(ctx, p, c, peer, &back);
		if (reason != LAB_REASON_NONE)
			return reason;
	}
	if (!*peer)
		return has_routing() ? decide_route(ctx, p, c, back, hop) : LAB_TO_KERNEL;
	p->ev.dst_id = (*peer)->id;
	return may_skip_stack(p) ? LAB_TO_POD : LAB_TO_KERNEL;
}

SEC("tcx/ingress")
int lab_pod_egress(struct __sk_buff *ctx)
{
	struct packet p = {};
	struct change c = { .shape = SHAPE_NONE };
	struct next_hop hop = {};
	struct endpoint *ep = NULL; /* whose addresses the frame gets */
	enum lab_reason reason = LAB_DROP_PROTOCOL;

	p.ev.ifindex = ctx->ifindex;
	p.ev.ether_type = ctx->protocol;
	linearize(ctx);
	if (!ctx->vlan_present && p.ev.ether_type == bpf_htons(ETH_P_IP))
		reason = decide_ipv4(ctx, &p, &c, &ep, &hop);
	else if (!ctx->vlan_present && p.ev.ether_type == bpf_htons(ETH_P_ARP))
		reason = decide_arp(ctx, &p, &ep);
	account(ctx, &p, reason, LAB_FROM_POD);

	if (reason == LAB_DROP_NO_BACKEND)
		return reject(ctx, &p, &c);
	if (is_drop(reason) && !stack_answers(reason))
		return TC_ACT_SHOT;
	if (!rewrite(ctx, &c)) {
		count(LAB_DROP_REWRITE, LAB_FROM_POD, ctx->len);
		return TC_ACT_SHOT;
	}
	if (reason == LAB_TO_POD && ep)
		return has_routing() ? deliver_inside(ctx, ep) : deliver(ctx, ep, true);
	if (reason == LAB_TO_NETWORK)
		return send_out(ctx, &hop);
	if (reason == LAB_ARP_REPLY && ep)
		return arp_answer(ctx, &p, &ep->node_mac);
	if (reason == LAB_TO_KERNEL || stack_answers(reason))
		return TC_ACT_UNSPEC; /* the next program, if somebody attached one, then the stack */
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "GPL";
