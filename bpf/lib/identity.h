// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <linux/types.h>

#include "ipcache.h"
#include "maps.h"

/* Who is talking: identities that are the same in every cluster. */
enum lab_identity {
	LAB_HOST = 1, /* this node */
	LAB_WORLD = 2, /* outside the cluster */
	LAB_INIT = 5, /* a pod whose identity is not known yet */
	LAB_REMOTE_NODE = 6,
};

static __always_inline __u32 identity_of_pod(const struct endpoint *ep)
{
	return ep->identity ? ep->identity : LAB_INIT;
}

/* The identity that other nodes are told of who has an address that is no pod's of this node. */
static __always_inline __u32 identity_abroad(const struct ip *a)
{
	const struct ipcache_entry *e = who_has(a);

	if (!e || !e->identity)
		return LAB_WORLD;
	return e->identity == LAB_HOST ? LAB_REMOTE_NODE : e->identity;
}
