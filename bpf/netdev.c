// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

/*
 * The node's NICs: Services for clients outside, and answers to them; packets that come for the
 * node's pods; and the node's address for what pods send to the outside. All other traffic passes as it is.
 * And the tunnel's device, from which comes what pods and nodes send to pods of this node, and to the node.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/account.h"
#include "lib/cache.h"
#include "lib/deliver.h"
#include "lib/events.h"
#include "lib/flow.h"
#include "lib/icmp_error.h"
#include "lib/identity.h"
#include "lib/mark.h"
#include "lib/masquerade.h"
#include "lib/node.h"
#include "lib/origin.h"
#include "lib/parse.h"
#include "lib/reject.h"
#include "lib/route.h"
#include "lib/stray.h"
#include "lib/tracked.h"
#include "lib/tunnel.h"
#include "lib/work.h"

static __always_inline bool is_nat_port(__be16 port)
{
	__u16 p = bpf_ntohs(port);

	return p >= cfg_nat_min && p <= cfg_nat_max;
}

/*
 * Decides about a packet to a pod of this node. REASON_TO_KERNEL: the stack has to route or answer it, and lab_to_pod
 * translates at lab_host what is left to translate.
 */
static __always_inline enum lab_reason enter_pod(struct __sk_buff *ctx, struct work *w, const struct ip *dst, bool tunneled)
{
	const struct packet *p = &w->p;
	const struct endpoint *to;

	if (!(has_routing() || tunneled) || !may_skip_stack(p) || wire_length(ctx, p->ev.proto, p->l4) > cfg_mtu)
		return REASON_TO_KERNEL;
	to = find_pod(w, dst);
	return to ? decide_delivery(w, to) : REASON_TO_KERNEL;
}

/* An answer to a masqueraded pod, or from a backend on another node to a client outside. */
static __always_inline enum lab_reason decide_answer(struct __sk_buff *ctx, struct work *w, bool tunneled)
{
	const struct packet *p = &w->p;
	struct change *c = &w->c;
	struct opening *o;
	enum lab_reason reason;

	if (!cfg_masquerade || !is_own_pod(&c->to.dst))
		return REASON_FORWARDED;
	reason = enter_pod(ctx, w, &c->to.dst, tunneled);
	if (reason != REASON_DELIVERED)
		return reason;
	/* The pod may have asked a Service whose backend is outside: then the packet is translated twice. */
	o = this_opening();
	if (o) {
		set_tuple(&o->t, &c->to.src, &c->to.dst, c->to.sport, c->to.dport, c->from.proto);
		if (translate_back(p, &o->t, c))
			c->found = FOUND_ELSEWHERE;
	}
	return reason;
}

/* Whether a packet may be of a flow that was set apart from one through a Service. */
static __always_inline bool may_be_apart(const struct change *c)
{
	return c->shape != SHAPE_NONE && c->shape != SHAPE_ECHO;
}

/* A packet to a pod's own address: an answer to a client of a Service, or a flow from outside that is not masqueraded. */
static __always_inline enum lab_reason decide_pod(struct __sk_buff *ctx, struct work *w, bool tunneled)
{
	const struct packet *p = &w->p;
	struct change *c = &w->c;
	enum lab_reason reason = REASON_TO_KERNEL;
	bool back;

	/* A packet from outside with an address of this node as its source is a forgery: the stack handles it. */
	if (!is_own_pod(&p->ev.src) && !is_node_ip(&p->ev.src))
		reason = enter_pod(ctx, w, &p->ev.dst, tunneled);
	look_at_flow(ctx, p, c, cfg_masquerade);
	if (c->outcome != CANNOT_PARSE) {
		back = reason == REASON_DELIVERED && !opens(p) && translate_back(p, &c->from, c);
		if (!back && !tunneled && cfg_masquerade && is_outside(&p->ev.src))
			remember_inbound(ctx, p, c);
		else if (!back && may_be_apart(c) && !accepts(p) && !translate_on(p, c))
			set_apart(ctx, p, LAB_OUTSIDE, c);
	}
	return reason == REASON_TO_KERNEL && c->outcome != TRANSLATED ? REASON_NONE : reason;
}

/* Whether a packet has addresses that are translated back. */
static __always_inline bool is_answer(struct __sk_buff *ctx, const struct packet *p)
{
	struct opening *o = this_opening(); /* which is not in use yet */

	if (!o)
		return false;
	__builtin_memset(&o->t, 0, sizeof(o->t));
	if (tuple_of(ctx, p, &o->t, cfg_masquerade) == SHAPE_NONE)
		return false;
	o->t.direction = TUPLE_BACK;
	return bpf_map_lookup_elem(&lab_nat, &o->t);
}

/* Whether events tell of a packet that comes in: one for pods or Services. What else a NIC has is nobody's business. */
__noinline int comes_for_us(struct __sk_buff *ctx, const struct packet *p)
{
	struct service_key asked = { .scope = LAB_OUTSIDE };

	if (!p)
		return false;
	asked.addr = p->ev.dst;
	asked.port = p->ev.dport;
	asked.proto = p->ev.proto;
	return is_own_pod(&p->ev.dst) || bpf_map_lookup_elem(&lab_services, &asked) || is_answer(ctx, p);
}

/* Whether events tell of a packet that goes out: one of pods or Services. */
__noinline int leaves_from_us(struct __sk_buff *ctx, const struct packet *p)
{
	return p && (is_own_pod(&p->ev.src) || is_answer(ctx, p));
}

/* Tells of a packet that the program lets pass, if it told of its coming. */
static __always_inline void let_pass(struct __sk_buff *ctx, const struct work *w, enum lab_point to, enum lab_direction dir)
{
	struct telling *t = this_telling();

	if (!t || !t->met)
		return;
	witness(ctx, dir);
	t->point = to;
	if (cfg_steps && to == POINT_TO_STACK)
		step_to(STEP_STACK, NULL, NULL, 0, 0);
	if (is_due(t))
		report(ctx, &w->p, NULL, REASON_NONE, dir);
}

/* Decides about a packet that comes in. REASON_NONE: it is passed on unchanged and not counted. */
static __always_inline enum lab_reason decide_in(struct __sk_buff *ctx, struct work *w, bool tunneled)
{
	struct packet *p = &w->p;
	struct change *c = &w->c;
	enum lab_reason reason;
	bool answer;

	if (parse_ipv4(ctx, p) != PARSE_OK)
		return REASON_NONE;
	if (tells_all() && (tunneled || comes_for_us(ctx, p)))
		arrive(ctx, p, tunneled ? POINT_FROM_TUNNEL : POINT_FROM_NETWORK, DIR_FROM_NETWORK);
	look_up_basis(ctx, w, false);
	if (is_own_pod(&p->ev.dst))
		return decide_pod(ctx, w, tunneled);
	look_at_flow(ctx, p, c, cfg_masquerade);
	if (c->outcome == CANNOT_PARSE)
		return REASON_NONE;
	/* An answer to a flow that got a port here. */
	answer = is_nat_port(c->from.dport);
	if (answer && translate_back(p, &c->from, c))
		return decide_answer(ctx, w, tunneled);
	if (c->shape == SHAPE_ECHO)
		return REASON_NONE;
	answer = answer && c->shape != SHAPE_ERROR;
	reason = translate(ctx, p, LAB_OUTSIDE, c);
	if (reason != REASON_NONE)
		return reason;
	if (c->outcome != TRANSLATED)
		return answer && is_stray(ctx, &c->from) ? REASON_NO_FLOW : REASON_NONE;
	/* A backend on this node sees the client's own address. */
	return ip_equal(&c->to.src, &c->from.src) ? enter_pod(ctx, w, &c->to.dst, tunneled) : REASON_FORWARDED;
}

/*
 * The device at which the stack receives packets that it has to fragment: the node's lab_host, where accept_local allows
 * the node's own address as a source. User space sets it when the device is there.
 */
struct neighbour lab_fragmenter;

/* The entry of the datagram that a fragment belongs to. */
static __noinline struct fragment_ports *datagram_of(struct __sk_buff *ctx, const struct packet *p)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct iphdr *ip = data + ETH_HLEN;
	struct fragment_key key;

	if ((void *)(ip + 1) > data_end)
		return NULL;
	set_fragment_key(&key, p, ip);
	return bpf_map_lookup_elem(&lab_fragments, &key);
}

/* Gives a packet to the stack, which fragments it. The later fragments of the same datagram follow it: the stack may put them together first. */
static __always_inline enum lab_reason have_fragmented(struct __sk_buff *ctx, struct work *w)
{
	struct fragment_ports *datagram = w->p.fragment ? datagram_of(ctx, &w->p) : NULL;

	if (datagram)
		datagram->cut = true;
	w->verdict.fragment = true;
	return REASON_TO_KERNEL;
}

static __always_inline bool is_for_fragmenter(struct __sk_buff *ctx, const struct work *w)
{
	const struct fragment_ports *datagram = w->c.shape == SHAPE_FRAGMENT ? datagram_of(ctx, &w->p) : NULL;

	return datagram && datagram->cut;
}

/* Where a translated packet goes: by the tunnel, as the sender's that it was before, or as the node's routes say. */
static __always_inline enum lab_reason find_way(struct __sk_buff *ctx, struct work *w)
{
	if (has_tunnel() && find_far_end(w, &w->c.to.dst, false))
		return decide_tunnel(ctx, w, w->from.sender ? w->from.sender : identity_abroad(&w->p.ev.src));
	return find_route(ctx, &w->p, &w->basis, &w->c, &w->route);
}

/*
 * Routes a translated packet. The stack does not get it, unless it has to be fragmented: its source is the node's own
 * address, and the stack takes such a packet from outside for a forgery.
 */
static __always_inline enum lab_reason decide_route(struct __sk_buff *ctx, struct work *w)
{
	enum lab_reason reason;

	if (w->p.ev.ttl <= 1)
		return REASON_TTL;
	if (is_for_fragmenter(ctx, w))
		return have_fragmented(ctx, w);
	reason = find_way(ctx, w);
	if (reason == REASON_FORWARDED)
		w->verdict.mark = MARK_DONE;
	if (reason == REASON_TOO_BIG && !w->p.dont_fragment && lab_fragmenter.ifindex)
		return have_fragmented(ctx, w);
	return reason == REASON_TO_KERNEL ? REASON_NO_ROUTE : reason;
}

static __always_inline int send_to_fragmenter(struct __sk_buff *ctx)
{
	const struct neighbour stack = lab_fragmenter;

	return address(ctx, &stack.mac, &stack.own_mac, false) ? bpf_redirect(stack.ifindex, BPF_F_INGRESS) : TC_ACT_SHOT;
}

/* Carries out the decision. */
static __always_inline int act(struct __sk_buff *ctx, struct work *w, enum lab_reason reason)
{
	if (reason == REASON_NO_BACKEND)
		return reject(ctx, &w->p, &w->c);
	if (is_drop(reason, DIR_FROM_NETWORK))
		return send_icmp_error(ctx, &w->p, w->c.shape, reason, w->route.mtu);
	if (has_kube_proxy_replacement() && !rewrite(ctx, &w->p, &w->c))
		return TC_ACT_SHOT;
	if (w->verdict.fragment)
		return send_to_fragmenter(ctx);
	if (reason == REASON_DELIVERED)
		return deliver(ctx, &w->verdict.pod, has_routing() ? WAY_INSIDE : WAY_VETH);
	if (has_tunnel() && reason == REASON_TUNNELED)
		return enter_tunnel(ctx, &w->verdict.far, true);
	if (reason != REASON_FORWARDED)
		return TC_ACT_UNSPEC;
	if (has_routing())
		set_mark(ctx, w->verdict.mark);
	return send_out(ctx, &w->route.hop);
}

/* Decides about a packet that no remembered decision applies to. */
static __noinline int decide(struct __sk_buff *ctx)
{
	struct work *w = new_work(ctx);
	enum lab_reason reason;
	int verdict;

	if (!w)
		return drop_unseen(ctx, DIR_FROM_NETWORK);
	linearize(ctx);
	reason = decide_in(ctx, w, false);
	if (reason == REASON_NONE) {
		if (tells_all())
			let_pass(ctx, w, POINT_TO_STACK, DIR_FROM_NETWORK);
		return TC_ACT_UNSPEC;
	}
	if (reason == REASON_FORWARDED)
		reason = decide_route(ctx, w);
	announce(ctx, w, reason, DIR_FROM_NETWORK);
	verdict = act(ctx, w, reason);
	reason = account(ctx, w, reason, DIR_FROM_NETWORK, verdict);
	if (has_cache())
		remember(w, reason);
	return verdict;
}

SEC("tcx/ingress")
int lab_from_network(struct __sk_buff *ctx)
{
	struct cached_flow *known;

	/* Switches flood, and bridges pass on, what is for others. */
	if (ctx->pkt_type != PACKET_HOST || !is_ipv4(ctx))
		return TC_ACT_UNSPEC;
	if (has_tunnel() && is_for_tunnel(ctx))
		return TC_ACT_UNSPEC;
	if (!has_cache()) {
		APART();
		return decide(ctx);
	}
	known = recall(ctx, false, NULL);
	return known ? follow(ctx, known, DIR_FROM_NETWORK) : decide(ctx);
}

/* What came out of the tunnel, where Services are the stack's: it has to see what it may have translated. */
static __always_inline enum lab_reason decide_untranslated(struct __sk_buff *ctx, struct work *w)
{
	if (parse_ipv4(ctx, &w->p) != PARSE_OK)
		return REASON_MALFORMED;
	if (tells_all())
		arrive(ctx, &w->p, POINT_FROM_TUNNEL, DIR_FROM_NETWORK);
	return enter_pod(ctx, w, &w->p.ev.dst, true);
}

/* What is not delivered, nor sent on, is the stack's, whoever the frame was for. */
static __always_inline int take_in(struct __sk_buff *ctx, int verdict)
{
	if (verdict == TC_ACT_UNSPEC && ctx->pkt_type != PACKET_HOST)
		bpf_skb_change_type(ctx, PACKET_HOST);
	return verdict;
}

/* Sends an answer to a packet that came out of the tunnel, made from the packet itself, back to where that came from. */
static __always_inline int answer_by_tunnel(struct __sk_buff *ctx, struct work *w)
{
	w->verdict.far.sender = LAB_REMOTE_NODE;
	w->verdict.far.node = w->from.node;
	return enter_tunnel(ctx, &w->verdict.far, false);
}

/* Decides about a packet out of the tunnel that no remembered decision applies to. */
static __noinline int decide_tunneled(struct __sk_buff *ctx, const struct far_end *from)
{
	__u32 before = has_cache() ? common_generation() : 0;
	enum lab_reason origin = check_origin(ctx, from), reason = origin;
	struct work *w = new_work(ctx);
	int verdict;

	if (!w)
		return drop_unseen(ctx, DIR_FROM_NETWORK);
	w->from = *from;
	if (cfg_tells)
		know_sender(from->sender);
	linearize(ctx);
	if (origin == REASON_NONE) {
		reason = has_kube_proxy_replacement() ? decide_in(ctx, w, true) : decide_untranslated(ctx, w);
		if (reason == REASON_NONE)
			reason = REASON_TO_KERNEL;
	} else if (w->p.ev.ether_type == bpf_htons(ETH_P_IP)) {
		parse_ipv4(ctx, &w->p); /* to report it */
	}
	if (reason == REASON_FORWARDED)
		reason = decide_route(ctx, w);
	announce(ctx, w, reason, DIR_FROM_NETWORK);
	verdict = take_in(ctx, act(ctx, w, reason));
	if (is_drop(reason, DIR_FROM_NETWORK) && verdict == TC_ACT_REDIRECT)
		verdict = answer_by_tunnel(ctx, w);
	reason = account(ctx, w, reason, DIR_FROM_NETWORK, verdict);
	if (has_cache() && common_generation() == before) /* or its origin may be another one than was found */
		remember(w, reason);
	return verdict;
}

SEC("tcx/ingress")
int lab_from_tunnel(struct __sk_buff *ctx)
{
	struct cached_flow *known = NULL;
	struct far_end from = {};

	/* No more than is looked at: a packet of a large send has its headers in one piece, and to pull data in front of the rest is dear. */
	if ((void *)(long)ctx->data + ETH_HLEN + sizeof(struct iphdr) > (void *)(long)ctx->data_end)
		linearize(ctx);
	leave_tunnel(ctx, &from);
	if (has_cache() && is_ipv4(ctx))
		known = recall(ctx, false, &from);
	return known ? follow(ctx, known, DIR_FROM_NETWORK) : decide_tunneled(ctx, &from);
}

/* Decides about a packet that goes out. REASON_NONE: it is passed on unchanged and not counted. */
static __always_inline enum lab_reason decide_out(struct __sk_buff *ctx, struct packet *p, struct change *c)
{
	if (parse_ipv4(ctx, p) != PARSE_OK)
		return REASON_NONE;
	if (tells_all() && leaves_from_us(ctx, p))
		arrive(ctx, p, POINT_FROM_STACK, DIR_TO_NETWORK);
	look_at_flow(ctx, p, c, cfg_masquerade);
	/* Answers of backends, which the stack has sent on as they are, get the address that the client asked for. */
	if (c->outcome != CANNOT_PARSE && !(c->shape == SHAPE_ECHO && p->ev.icmp_type == ICMP_ECHO) && translate_back(p, &c->from, c))
		return REASON_FORWARDED;
	return cfg_masquerade ? masquerade(ctx, p, c) : REASON_NONE;
}

/* Carries out the decision about a packet that leaves. */
static __always_inline int act_out(struct __sk_buff *ctx, const struct work *w, enum lab_reason reason)
{
	return !is_drop(reason, DIR_TO_NETWORK) && rewrite(ctx, &w->p, &w->c) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/* Decides about a packet without MARK_DONE. */
static __noinline int leave(struct __sk_buff *ctx)
{
	enum lab_reason reason;
	struct work *w;
	int verdict;

	if (!is_ipv4(ctx))
		return TC_ACT_UNSPEC;
	w = new_work(ctx);
	if (!w)
		return drop_unseen(ctx, DIR_TO_NETWORK);
	linearize(ctx);
	reason = decide_out(ctx, &w->p, &w->c);
	if (reason == REASON_NONE) {
		if (tells_all())
			let_pass(ctx, w, POINT_TO_NETWORK, DIR_TO_NETWORK);
		return TC_ACT_UNSPEC;
	}
	announce(ctx, w, reason, DIR_TO_NETWORK);
	verdict = act_out(ctx, w, reason);
	account(ctx, w, reason, DIR_TO_NETWORK, verdict);
	return verdict;
}

SEC("tcx/egress")
int lab_to_network(struct __sk_buff *ctx)
{
	if (!has_routing() && !has_tunnel()) {
		APART();
		return leave(ctx);
	}
	if (!has_mark(ctx, MARK_DONE))
		return leave(ctx);
	set_mark(ctx, 0);
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
