// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/types.h>

#include "tuple.h"

/* The map that has the packet's tuple as a key and the translation as value. FOUND_ELSEWHERE: neither, or not that alone. */
enum found {
	FOUND_ELSEWHERE,
	FOUND_IN_CT,
	FOUND_IN_NAT,
};

/* What is known of a packet's addresses. */
enum outcome {
	CANNOT_PARSE, /* it shows no flow that could be translated */
	AS_IT_IS, /* they stay */
	TRANSLATED, /* they become others */
} __attribute__((packed));

/* What becomes of a packet's addresses and ports. */
struct change {
	enum outcome outcome;
	struct tuple from;
	struct translation to; /* where they are translated */
	enum shape shape;
	enum found found;
	bool begun; /* the packet has opened its flow, which raised the flow's generation by one */
	bool back; /* it is an answer, and to is as the opener of its flow sees it; known only with cfg_tells */
	__u32 service; /* that the flow asked for; likewise */
};
