// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

/*
 * An iterator that lists the node's UDP sockets which are connected to a Service's backend. User space destroys those
 * whose backend is gone. sock_diag does not report the storage that BPF programs keep with a UDP socket.
 */

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "lib/sockets.h"

/* The fields of the kernel's structures that are needed to find that storage. */
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	void *value;
} __attribute__((preserve_access_index));

SEC("iter/bpf_sk_storage_map")
int lab_connected(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	const struct udp_socket *to = ctx->value;
	struct udp_socket copy;

	if (!to || !to->service)
		return 0;
	copy = *to;
	bpf_seq_write(ctx->meta->seq, &copy, sizeof(copy));
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
