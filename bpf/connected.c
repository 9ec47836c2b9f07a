// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

/*
 * An iterator that lists the UDP sockets of the node's network namespace which are connected to a Service's backend. User space
 * destroys those whose backend is gone. sock_diag does not report the storage that BPF programs keep with a UDP socket. The
 * iterator goes through the sockets and not through the storage: some kernels load no program that gets a value of a map to write
 * to, as an iterator of maps does.
 */

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "lib/sockets.h"

/* The fields of the kernel's structures that are needed to find those sockets. */
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct udp_sock;

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
} __attribute__((preserve_access_index));

SEC("iter/udp")
int lab_connected(struct bpf_iter__udp *ctx)
{
	struct udp_sock *sk = ctx->udp_sk;
	const struct udp_socket *to;
	struct udp_socket copy;

	if (!sk)
		return 0; /* the end of the list */
	to = bpf_sk_storage_get(&lab_sockets, sk, NULL, 0);
	if (!to || !to->service)
		return 0;
	copy = *to;
	bpf_seq_write(ctx->meta->seq, &copy, sizeof(copy));
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
