// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * A program of a test's own, as a user of XSKMAPs may write one: makes frames longer or shorter at their
 * end before they go to the socket of their queue.
 */
#include "kernel.h"

static long (*bpf_xdp_adjust_tail)(struct xdp_md *ctx, int delta) = (void *)65;

/* EtherType for local experiments. */
#define ETH_EXPERIMENT 0x88b5

struct tail {
	/* Bytes to add to each frame, or to take off. */
	__u32 delta;
	/* Frames that the kernel would not change. */
	__u32 refused;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tail);
} tail SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

SEC("xdp.frags")
int bypass_tail(struct xdp_md *ctx)
{
	const void *at = (void *)(long)ctx->data;
	const void *end = (void *)(long)ctx->data_end;
	__u32 first = 0;
	struct tail *wanted = bpf_map_lookup_elem(&tail, &first);

	if (!wanted || at + 14 > end || *(__be16 *)(at + 12) != NET16(ETH_EXPERIMENT))
		return XDP_PASS;
	if (bpf_xdp_adjust_tail(ctx, (int)wanted->delta)) {
		wanted->refused++;
		return XDP_DROP;
	}
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}

char program_license[] SEC("license") = "Dual MIT/GPL";

/* What this was built from, and by what; `cargo xtask bpf` sets and checks it. */
char program_stamp[] SEC("stamp") = STAMP;
