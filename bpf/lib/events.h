// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
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

/* Readers poll: a wakeup for each record costs more than the record. */
static __always_inline void report(struct packet *p, enum lab_reason reason, enum lab_direction dir)
{
	p->ev.time_ns = bpf_ktime_get_ns();
	p->ev.reason = reason;
	p->ev.direction = dir;
	if (bpf_ringbuf_output(&lab_events, &p->ev, sizeof(p->ev), BPF_RB_NO_WAKEUP))
		count(REASON_EVENT_LOST, dir, 0);
}

/*
 * Counts what became of a packet, and reports it when asked for. It comes once in a program, after what was
 * decided has been done: what cannot be done becomes another reason.
 */
static __always_inline void account(struct packet *p, enum lab_reason reason, enum lab_direction dir)
{
	count(reason, dir, p->ev.length);
	if (cfg_trace || is_drop(reason, dir))
		report(p, reason, dir);
}
