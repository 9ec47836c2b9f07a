// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "drop.h"
#include "maps.h"
#include "mark.h"
#include "packet.h"
#include "record.h"

static __always_inline void count(enum lab_reason reason, enum lab_direction dir, __u64 bytes)
{
	__u32 only = 0;
	struct metrics *all = bpf_map_lookup_elem(&lab_metrics, &only);
	struct metric *m;

	if (!all)
		return;
	m = &all->of[dir % DIR_MAX][reason % REASON_MAX]; /* which they are below, and the verifier has to see */
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
	p->mark = whole_mark(ctx);
	if (data + ETH_HLEN <= data_end) {
		copy_mac(&p->ev.dst_mac, data);
		copy_mac(&p->ev.src_mac, data + ETH_ALEN);
	}
}

/* Whether somebody reads that. */
static __always_inline bool has_reader(__u32 what, __u64 now)
{
	const __u64 *until = bpf_map_lookup_elem(&lab_event_until, &what);

	return until && now < *until;
}

/* Nothing has been told of the packet yet. */
static __always_inline void begin_telling(void)
{
	struct telling *t = this_telling();

	if (!t)
		return;
	__builtin_memset(t, 0, offsetof(struct telling, step));
	t->now = bpf_ktime_get_coarse_ns();
	t->reader = has_reader(READ_EVENTS, t->now);
	if (cfg_steps)
		t->steps = has_reader(READ_STEPS, t->now);
}

/* Fills in the header of a record. An event that finds no room takes a number of the sequence too, so a reader sees how many are missing. */
static __always_inline bool begin_record(struct telling *t, struct event_header *h, enum lab_event_type type, __u16 length)
{
	__u64 *sequence = bpf_map_lookup_elem(&lab_event_seq, &only_key);

	if (!sequence)
		return false;
	h->type = type;
	h->version = EVENT_VERSION;
	h->length = length;
	h->cpu = bpf_get_smp_processor_id();
	h->sequence = __sync_fetch_and_add(sequence, 1) + 1;
	h->time_ns = bpf_ktime_get_ns();
	if (!t->first)
		t->first = h->sequence;
	h->first = t->first;
	return true;
}

/* Writes a record. Readers poll, because a wakeup for each record costs more than the record. */
static __always_inline void end_record(struct event_header *h, __u32 length, enum lab_direction dir)
{
	if (bpf_ringbuf_output(&lab_events, h, length, BPF_RB_NO_WAKEUP))
		count(REASON_EVENT_LOST, dir, 0);
}
