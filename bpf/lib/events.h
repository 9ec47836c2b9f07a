// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "drop.h"
#include "maps.h"
#include "packet.h"

static __always_inline void count(enum lab_reason reason, enum lab_direction dir, __u64 bytes)
{
	__u32 only = 0;
	struct metrics *all = bpf_map_lookup_elem(&lab_metrics, &only);
	struct metric *m;

	if (!all)
		return;
	m = &all->of[dir][reason % REASON_MAX]; /* which it is below, and the verifier has to see */
	m->packets++;
	m->bytes += bytes;
}

/* What is worth reporting of a packet's frame, before anything is done with it. */
static __always_inline void look_at_frame(struct __sk_buff *ctx, struct packet *p)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;

	p->ev.ifindex = ctx->ifindex;
	p->ev.ether_type = ctx->protocol;
	p->ev.length = ctx->len;
	p->mark = ctx->mark;
	if (data + ETH_HLEN <= data_end) {
		copy_mac(&p->ev.dst_mac, data);
		copy_mac(&p->ev.src_mac, data + ETH_ALEN);
	}
}

/* Whether somebody reads events. */
static __always_inline bool has_reader(__u64 now)
{
	const __u64 *until = bpf_map_lookup_elem(&lab_event_until, &only_key);

	return until && now < *until;
}

/*
 * Writes an event, if somebody reads events. Readers poll, because a wakeup for each record costs more than the record.
 * An event that finds no room takes a number of the sequence too, so a reader sees how many are missing.
 */
static __noinline int report(const struct packet *p, enum lab_reason reason, enum lab_direction dir)
{
	__u64 now = bpf_ktime_get_ns(), *sequence = bpf_map_lookup_elem(&lab_event_seq, &only_key), number;
	struct event *e;

	if (!p || !sequence || !has_reader(now))
		return 0;
	number = __sync_fetch_and_add(sequence, 1) + 1;
	e = bpf_ringbuf_reserve(&lab_events, sizeof(*e), 0);
	if (!e) {
		count(REASON_EVENT_LOST, dir, 0);
		return 0;
	}
	e->head.type = EVENT_PACKET;
	e->head.version = EVENT_VERSION;
	e->head.length = sizeof(*e);
	e->head.cpu = bpf_get_smp_processor_id();
	e->head.sequence = number;
	e->head.time_ns = now;
	e->ifindex = p->ev.ifindex;
	e->length = p->ev.length;
	e->src_id = p->ev.src_id;
	e->dst_id = p->ev.dst_id;
	e->src = p->ev.src;
	e->dst = p->ev.dst;
	e->sport = p->ev.sport;
	e->dport = p->ev.dport;
	e->ether_type = p->ev.ether_type;
	e->reason = reason;
	e->direction = dir;
	e->proto = p->ev.proto;
	e->ttl = p->ev.ttl;
	e->tcp_flags = p->ev.tcp_flags;
	e->icmp_type = p->ev.icmp_type;
	e->dst_mac = p->ev.dst_mac;
	e->src_mac = p->ev.src_mac;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

/*
 * Counts a packet by its reason, and reports it if it is dropped or if all packets are reported. A program decides, acts,
 * and calls this, each once for a packet: to act can fail, as when headers cannot be rewritten. So the reason is the
 * decided one, unless the verdict says that it could not be carried out. Ignored ARP is dropped without being a drop.
 * Returns the reason.
 */
static __always_inline enum lab_reason account(const struct packet *p, enum lab_reason reason, enum lab_direction dir, int verdict)
{
	if (verdict == TC_ACT_SHOT && reason != REASON_ARP_IGNORED && !is_drop(reason, dir))
		reason = REASON_REWRITE;
	count(reason, dir, p->ev.length);
	if (cfg_trace || is_drop(reason, dir))
		report(p, reason, dir);
	return reason;
}
