//go:build ignore

/*
 * Services at the node's network cards: what comes in for them, and what answers go out. All other
 * traffic passes as it is.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/deliver.h"
#include "lib/events.h"
#include "lib/flow.h"
#include "lib/parse.h"
#include "lib/reject.h"

#define AF_INET 2

static __always_inline bool to_own_pod(const struct ip *dst)
{
	struct ip cidr = cfg_pod_cidr, mask = cfg_pod_mask;

	return (v4(dst) & v4(&mask)) == v4(&cidr);
}

static __always_inline bool is_nat_port(__be16 port)
{
	__u16 p = bpf_ntohs(port);

	return p >= cfg_nat_min && p <= cfg_nat_max;
}

/* What comes in. LAB_REASON_NONE: nothing of ours. */
static __always_inline enum lab_reason decide_in(struct __sk_buff *ctx, struct packet *p, struct change *c)
{
	enum lab_reason reason;

	if (parse_ipv4(ctx, p) != PARSE_OK || to_own_pod(&p->ev.dst))
		return LAB_REASON_NONE;
	c->shape = tuple_of(ctx, p, &c->from);
	if (c->shape == SHAPE_NONE)
		return LAB_REASON_NONE;
	/* An answer to a flow that got a port here. */
	if (is_nat_port(c->from.dport) && translate_back(p, c))
		return LAB_TO_NETWORK;
	reason = translate(p, LAB_OUTSIDE, c);
	if (reason != LAB_REASON_NONE || c->shape == SHAPE_NONE)
		return reason;
	/* A backend on this node sees the client's own address, and is reached through the stack. */
	return ip_equal(&c->src, &c->from.src) ? LAB_TO_KERNEL : LAB_TO_NETWORK;
}

/*
 * Sends a translated packet on its way. It cannot go through the stack: with the node's own address as
 * source, the stack would take it for a forgery. The route is the stack's all the same.
 */
static __always_inline enum lab_reason find_route(struct __sk_buff *ctx, struct packet *p, const struct change *c, struct bpf_fib_lookup *fib)
{
	if (p->ev.ttl <= 1)
		return LAB_DROP_TTL;
	fib->family = AF_INET;
	fib->ifindex = p->ev.ifindex;
	fib->l4_protocol = p->ev.proto;
	fib->ipv4_src = v4(&c->src);
	fib->ipv4_dst = v4(&c->dst);
	switch (bpf_fib_lookup(ctx, fib, sizeof(*fib), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS: /* next hop and its MAC are known */
	case BPF_FIB_LKUP_RET_NO_NEIGH: /* next hop is known; whoever sends asks for its MAC */
		return LAB_TO_NETWORK;
	default: /* blackhole, unreachable, prohibited, not forwarded: as the stack would, without an answer */
		return LAB_DROP_NO_ROUTE;
	}
}

static __always_inline int send_out(struct __sk_buff *ctx, const struct bpf_fib_lookup *fib)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct bpf_redir_neigh next = { .nh_family = AF_INET, .ipv4_nh = fib->ipv4_dst };
	struct iphdr *ip = data + ETH_HLEN;

	if ((void *)(ip + 1) > data_end)
		return TC_ACT_SHOT;
	decrement_ttl(ip);
	return bpf_redirect_neigh(fib->ifindex, &next, sizeof(next), 0);
}

SEC("tcx/ingress")
int lab_from_network(struct __sk_buff *ctx)
{
	struct packet p = {};
	struct change c = { .shape = SHAPE_NONE };
	struct bpf_fib_lookup fib = {};
	enum lab_reason reason;

	p.ev.ifindex = ctx->ifindex;
	p.ev.ether_type = ctx->protocol;
	/* Switches flood, and bridges pass on, what is for others. */
	if (ctx->pkt_type != PACKET_HOST || ctx->vlan_present || p.ev.ether_type != bpf_htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	linearize(ctx);
	reason = decide_in(ctx, &p, &c);
	if (reason == LAB_REASON_NONE)
		return TC_ACT_UNSPEC;
	if (reason == LAB_TO_NETWORK)
		reason = find_route(ctx, &p, &c, &fib);
	account(ctx, &p, reason, LAB_FROM_NETWORK);

	if (reason == LAB_DROP_NO_BACKEND)
		return reject(ctx, &p, &c);
	if (is_drop(reason))
		return TC_ACT_SHOT;
	if (!rewrite(ctx, &c)) {
		count(LAB_DROP_REWRITE, LAB_FROM_NETWORK, ctx->len);
		return TC_ACT_SHOT;
	}
	return reason == LAB_TO_NETWORK ? send_out(ctx, &fib) : TC_ACT_UNSPEC;
}

/*
 * The answers of this node's backends, which the stack has sent on as they are, get the address that the
 * client asked for.
 */
SEC("tcx/egress")
int lab_to_network(struct __sk_buff *ctx)
{
	struct packet p = {};
	struct change c = { .shape = SHAPE_NONE };

	p.ev.ifindex = ctx->ifindex;
	p.ev.ether_type = ctx->protocol;
	if (ctx->vlan_present || p.ev.ether_type != bpf_htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	linearize(ctx);
	if (parse_ipv4(ctx, &p) != PARSE_OK)
		return TC_ACT_UNSPEC;
	c.shape = tuple_of(ctx, &p, &c.from);
	if (c.shape == SHAPE_NONE || !translate_back(&p, &c))
		return TC_ACT_UNSPEC;
	account(ctx, &p, LAB_TO_NETWORK, LAB_DIR_TO_NETWORK);
	if (!rewrite(ctx, &c)) {
		count(LAB_DROP_REWRITE, LAB_DIR_TO_NETWORK, ctx->len);
		return TC_ACT_SHOT;
	}
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
