// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>

/*
 * What the bits of a packet's mark say. Whoever sets it changes wirelab's bits only. Whoever reads it looks at these only, but
 * for whole_mark().
 *
 *   bits    | mask       | what
 *   31 - 16 | 0xffff0000 | kept for the sender's identity: as found
 *   15 - 14 | 0x0000c000 | kube-proxy's and the kubelet's, in iptables: as found
 *   13 - 8  | 0x00003f00 | MARK_SIGN where the flags are wirelab's: low numbers are others' marks, too
 *   7 - 0   | 0x000000ff | flags
 */
enum lab_mark {
	MARK_OWN = 0x3fff, /* the bits that are wirelab's */
	MARK_SIGN_BITS = 0x3f00,
	MARK_SIGN = 0x2d00,
	/* Flags, with the sign. */
	MARK_DONE = MARK_SIGN | 0x01, /* on a packet that leaves: the program at the NIC has nothing to do */
} __attribute__((packed));

static __always_inline bool has_mark(const struct __sk_buff *ctx, enum lab_mark flag)
{
	return (ctx->mark & (MARK_SIGN_BITS | flag)) == flag;
}

/* Gives the packet these flags and no others of wirelab's; 0: none at all. */
static __always_inline void set_mark(struct __sk_buff *ctx, enum lab_mark flags)
{
	ctx->mark = (ctx->mark & ~MARK_OWN) | flags;
}

/* All bits, others' too. A decision rests on them: the node's rules may look at each. */
static __always_inline __u32 whole_mark(const struct __sk_buff *ctx)
{
	return ctx->mark;
}
