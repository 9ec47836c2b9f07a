// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"

/* Who has the addresses of a prefix, and where they are. */

struct ipcache_key {
	__u32 bits; /* that count: of pad and addr */
	__u32 pad; /* always 0 */
	struct ip addr;
};
_Static_assert(sizeof(struct ipcache_key) == 24, "shared with datapath/");

enum lab_ipcache_flag {
	LAB_NODE_ADDRESS = 1, /* it is a node's own: other nodes reach it as it is, only pods do so by a tunnel */
} __attribute__((packed));

struct ipcache_entry {
	struct ip node; /* the address of the node that it is on, by which a tunnel leads there; 0: it is on this node, or on none */
	__u32 identity; /* 0: it is not known */
	enum lab_ipcache_flag flags;
	__u8 pad[3];
};
_Static_assert(sizeof(struct ipcache_entry) == 24, "shared with datapath/");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct ipcache_key);
	__type(value, struct ipcache_entry);
	__uint(max_entries, 524288);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_ipcache SEC(".maps");

static __noinline const struct ipcache_entry *who_has(const struct ip *a)
{
	struct ipcache_key key = { .bits = 8 * (sizeof(key.pad) + sizeof(key.addr)), .addr = *a };

	return bpf_map_lookup_elem(&lab_ipcache, &key);
}
