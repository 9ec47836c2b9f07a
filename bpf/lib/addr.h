// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>

/* IPv4 as ::ffff:a.b.c.d, what netip.Addr.As16() gives. Aligned, so that it is copied in two moves. */
struct ip {
	__u8 b[16];
} __attribute__((aligned(8)));
_Static_assert(sizeof(struct ip) == 16, "shared with datapath/");

struct mac {
	__u8 b[6];
} __attribute__((aligned(2)));
_Static_assert(sizeof(struct mac) == 6, "shared with datapath/");

/* The same bytes as words. */
union ip_words {
	struct ip ip;
	__u32 w32[4];
	__u64 w64[2];
};

static __always_inline struct ip ip_from_v4(__be32 v4)
{
	union ip_words u;

	u.w32[0] = 0;
	u.w32[1] = 0;
	u.w32[2] = bpf_htonl(0xffff);
	u.w32[3] = v4;
	return u.ip;
}

static __always_inline __be32 v4(const struct ip *a)
{
	union ip_words u = { .ip = *a };

	return u.w32[3];
}

static __always_inline bool is_v4(const struct ip *a)
{
	const union ip_words *x = (const void *)a;

	return !x->w64[0] && x->w32[2] == bpf_htonl(0xffff);
}

/* Whether there is an address at all: none is all zeros. */
static __always_inline bool is_set(const struct ip *a)
{
	const union ip_words *x = (const void *)a;

	return x->w64[0] || x->w64[1];
}

static __always_inline bool ip_equal(const struct ip *a, const struct ip *b)
{
	const union ip_words *x = (const void *)a, *y = (const void *)b;

	return x->w64[0] == y->w64[0] && x->w64[1] == y->w64[1];
}

/* Whether an address is in a network, whose mask has all the bits of a mapped address in front of IPv4's. */
static __always_inline bool ip_in(const struct ip *a, volatile const struct ip *net, volatile const struct ip *mask)
{
	const union ip_words *x = (const void *)a;
	volatile const union ip_words *n = (volatile const void *)net, *m = (volatile const void *)mask;

	return (x->w64[0] & m->w64[0]) == n->w64[0] && (x->w64[1] & m->w64[1]) == n->w64[1];
}

/* Whether an address means the host itself, whichever that is: RFC 1122, 3.2.1.3; RFC 4291, 2.5.3. */
static __always_inline bool is_loopback(const struct ip *a)
{
	const union ip_words *x = (const void *)a;

	if (is_v4(a))
		return a->b[12] == 127;
	return !x->w64[0] && x->w64[1] == bpf_cpu_to_be64(1);
}

/* Multicast, and of IPv4 what is beyond it. */
static __always_inline bool is_multicast(const struct ip *a)
{
	return is_v4(a) ? a->b[12] >= 224 : a->b[0] == 0xff;
}

/* Any total order will do, as long as both directions of a flow agree on it. */
static __always_inline bool ip_less(const struct ip *a, const struct ip *b)
{
	const union ip_words *x = (const void *)a, *y = (const void *)b;

	if (x->w64[0] != y->w64[0])
		return x->w64[0] < y->w64[0];
	return x->w64[1] < y->w64[1];
}

/* The kernel's headers do not say that Ethernet addresses in a frame lie at even offsets. */
static __always_inline void copy_mac(void *to, const void *from)
{
	__u16 *t = to;
	const __u16 *f = from;

	t[0] = f[0];
	t[1] = f[1];
	t[2] = f[2];
}
