// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>

/*
 * What the bits of a packet's mark say. Whoever reads it looks at its own bits only, and whoever sets it leaves the
 * others as they are.
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

/* With flags, or with 0: none. */
static __always_inline void set_mark(struct __sk_buff *ctx, enum lab_mark flags)
{
	ctx->mark = (ctx->mark & ~MARK_OWN) | flags;
}
