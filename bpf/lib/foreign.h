// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>

#include "parse.h"

/*
 * Whether a pod's ICMP error quotes a packet that was not sent to the pod, or not sent by the receiver of the error. Such
 * an error would be taken for one about the flow of others. A pod does not forward, so it has no reason to send one.
 */
__noinline int is_foreign_error(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct iphdr *ip = data + ETH_HLEN, *quoted;
	const struct icmphdr *icmp;

	if ((void *)(ip + 1) > data_end || ip->protocol != IPPROTO_ICMP || ip->frag_off & bpf_htons(IP_OFFSET_MASK))
		return false;
	icmp = (void *)ip + ip->ihl * 4;
	if ((void *)(icmp + 1) > data_end)
		return false;
	switch (icmp->type) {
	case ICMP_DEST_UNREACH:
	case ICMP_SOURCE_QUENCH:
	case ICMP_REDIRECT:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		quoted = (void *)(icmp + 1);
		return (void *)(quoted + 1) > data_end || quoted->saddr != ip->daddr || quoted->daddr != ip->saddr;
	}
	return false;
}
