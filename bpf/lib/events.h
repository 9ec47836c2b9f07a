//go:build ignore

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "drop.h"
#include "maps.h"
#include "packet.h"

static __always_inline void count(enum lab_reason reason, enum lab_direction dir, __u64 bytes)
{
	__u32 index = dir * LAB_REASON_MAX + reason;
	struct metric *m = bpf_map_lookup_elem(&lab_metrics, &index);

	if (!m)
		return;
	m->packets++;
	m->bytes += bytes;
}

/* Readers poll: a wakeup for each record costs more than the record. */
static __always_inline void report(struct __sk_buff *ctx, const struct packet *p, enum lab_reason reason, enum lab_direction dir)
{
	struct event *e = bpf_ringbuf_reserve(&lab_events, sizeof(*e), 0);
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;

	if (!e) {
		count(LAB_EVENT_LOST, dir, 0);
		return;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = bpf_ktime_get_ns();
	e->ifindex = p->ifindex;
	e->length = ctx->len;
	e->src_id = p->src_id;
	e->dst_id = p->dst_id;
	e->src = p->src;
	e->dst = p->dst;
	e->sport = p->sport;
	e->dport = p->dport;
	e->ether_type = p->ether_type;
	e->reason = reason;
	e->direction = dir;
	e->proto = p->proto;
	e->ttl = p->ttl;
	e->tcp_flags = p->tcp_flags;
	e->icmp_type = p->icmp_type;
	if (data + ETH_HLEN <= data_end) {
		copy_mac(&e->dst_mac, data);
		copy_mac(&e->src_mac, data + ETH_ALEN);
	}
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/*
 * Counts what becomes of a packet, and reports it when asked for. It comes before the packet is
 * rewritten, and once in a program: inlined at every drop it would make up most of the code.
 */
static __always_inline void account(struct __sk_buff *ctx, const struct packet *p, enum lab_reason reason, enum lab_direction dir)
{
	count(reason, dir, ctx->len);
	if (cfg_trace || is_drop(reason))
		report(ctx, p, reason, dir);
}
