// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "ct.h"
#include "tuple.h"

/*
 * The working memory of the functions that look up and make entries of flows. On the stack it would take most of a
 * program's room, and the verifier would have more state to track.
 */
struct opening {
	struct tuple t; /* of the packets of a flow that is being opened */
	struct flow_entry e; /* the entry there */
	struct tuple key; /* of another entry */
	struct flow_entry back; /* the entry there */
	struct bpf_sock_tuple socket; /* of the packets whose socket is looked for */
	__u64 netns; /* of the pod that the flow is to, where that may have another with the same tuple; NO_NETNS: it may not */
	__u32 least; /* the shortest time, in seconds, for which a port that was tried still rests */
	__be16 rested; /* that port */
	__u8 pad[2];
};

#define NO_NETNS (~0ull)

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct opening);
	__uint(max_entries, 1);
} lab_opening SEC(".maps");

static __always_inline struct opening *this_opening(void)
{
	return bpf_map_lookup_elem(&lab_opening, &only_key);
}
