// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "basis.h"
#include "deliver.h"
#include "events.h"
#include "mark.h"
#include "packet.h"
#include "record.h"
#include "rewrite.h"
#include "route.h"

/* What was decided about a packet. */
struct verdict {
	struct neighbour pod; /* where it is delivered, or who is answered by ARP */
	struct far_end far; /* where it is tunneled to */
	enum lab_mark mark; /* what it leaves with, where it is forwarded */
	bool fragment; /* the stack gets it, to fragment it */
};

/* All that is known about a packet while a decision is made. On the stack it would take most of a program's room. */
struct work {
	struct basis basis; /* of what the node's routes say of the packet */
	struct tuple own; /* the packet's */
	__u32 hash; /* of that */
	/* Numbers that the decision rests on, each read before what it stands for. */
	__u32 generation; /* the sum of those that every decision rests on */
	__u32 routes; /* of the node's */
	__u32 pod_generation; /* of the pod that gets the packet */
	struct packet p;
	struct change c;
	struct route route;
	struct verdict verdict;
	struct far_end from; /* where it came from, if that was by the tunnel */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct work);
	__uint(max_entries, 1);
} lab_work SEC(".maps");

static __always_inline struct work *this_work(void)
{
	return bpf_map_lookup_elem(&lab_work, &only_key);
}

/* Nothing is known yet. */
static __always_inline struct work *clean_work(struct __sk_buff *ctx)
{
	struct work *w = this_work();

	if (!w)
		return NULL;
	if (has_kube_proxy_replacement())
		__builtin_memset(w, 0, sizeof(*w));
	else
		__builtin_memset(&w->p, 0, sizeof(w->p)); /* in that mode nothing else is read before it is written */
	look_at_frame(ctx, &w->p);
	return w;
}

/* Nothing is known of the packet yet, and nothing has been told of it. */
static __always_inline struct work *new_work(struct __sk_buff *ctx)
{
	if (cfg_tells)
		begin_telling();
	return clean_work(ctx);
}

/* The pod of this node that has the address that a packet goes to, NULL if there is none. */
static __always_inline const struct endpoint *find_pod(struct work *w, const struct ip *a)
{
	const struct generations *g;

	if (has_cache()) {
		g = generations();
		if (g)
			w->pod_generation = endpoint_generation(g, a);
	}
	return bpf_map_lookup_elem(&lab_endpoints, a);
}

/*
 * Decides that a pod of this node gets the packet. Every delivery is decided here, whoever sent the packet and by which
 * way it came, so what a pod accepts is asked about in no other place.
 */
static __always_inline enum lab_reason decide_delivery(struct work *w, const struct endpoint *ep)
{
	w->p.ev.dst_id = ep->id;
	w->verdict.pod = behind_veth(ep);
	return REASON_DELIVERED;
}
