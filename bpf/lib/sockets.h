// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* A UDP socket of the node's that has spoken to a Service. */
struct udp_socket {
	__u64 cookie;
	__u32 service; /* that it is connected to; 0: none */
	__u32 backend; /* of that one */
};

/* A UDP socket without this has never spoken to a Service: its datagrams need no look-up. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__type(key, int);
	__type(value, struct udp_socket);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_sockets SEC(".maps");
