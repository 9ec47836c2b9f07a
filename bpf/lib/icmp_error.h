// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "drop.h"
#include "icmp.h"
#include "node.h"
#include "packet.h"
#include "tuple.h"

/*
 * Sends an ICMP error to the sender of a dropped packet, for the reasons that a router reports. mtu is the size that
 * would have passed. There is no error about errors, about fragments but the first, and for blackhole routes.
 */
__noinline int send_icmp_error(struct __sk_buff *ctx, const struct packet *p, enum shape shape, enum lab_reason reason, __u16 mtu)
{
	struct icmp_error e = { .type = ICMP_DEST_UNREACH, .quote = QUOTE_MAX };
	const struct pace pace = { .second = 100, .burst = 50 };
	struct ip from;

	if (!p || (shape != SHAPE_PACKET && shape != SHAPE_ECHO))
		return TC_ACT_SHOT;
	from = address_of(p->ev.ifindex);
	e.from = v4(&from);
	switch (reason) {
	case REASON_TTL:
		e.type = ICMP_TIME_EXCEEDED;
		break;
	case REASON_NO_ROUTE:
		e.code = ICMP_NET_UNREACH;
		break;
	case REASON_UNREACHABLE:
		e.code = ICMP_HOST_UNREACH;
		break;
	case REASON_PROHIBITED:
		e.code = ICMP_PKT_FILTERED;
		break;
	case REASON_TOO_BIG:
		e.code = ICMP_FRAG_NEEDED;
		e.mtu = mtu;
		break;
	default:
		return TC_ACT_SHOT;
	}
	/* "Fragmentation needed" is not limited in number, as in the kernel: without it a connection makes no progress. */
	if (reason != REASON_TOO_BIG && !may_tell(v4(&p->ev.src), pace))
		return TC_ACT_SHOT;
	return make_icmp_error(ctx, &e) ? bpf_redirect(p->ev.ifindex, 0) : TC_ACT_SHOT;
}
