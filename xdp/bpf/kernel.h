/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the program needs of the kernel's interface, so that building it needs clang and nothing
 * else. The numbers are those of include/uapi/linux/bpf.h, the conventions of map definitions
 * (`.maps`, `.ksyms`) those of libbpf.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
/* In network byte order. */
typedef __u16 __be16;
typedef __u32 __be32;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name
#define __inlined inline __attribute__((always_inline))
/* A function of the kernel; its address is 0 where the kernel has none of that name. */
#define __optional_kfunc __attribute__((section(".ksyms"), weak))

/* The constant in network byte order; the object is built for little endian. */
#define NET16(host) ((__be16)__builtin_bswap16(host))

enum {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_XSKMAP = 17,
};

enum { BPF_F_NO_PREALLOC = 1 };

enum xdp_action { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };

struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)51;
static long (*bpf_xdp_adjust_meta)(struct xdp_md *ctx, int delta) = (void *)54;

/* include/net/xdp.h; only that it is an enum matters here. */
enum xdp_rss_hash_type { XDP_RSS_TYPE_NONE };

/* net/core/xdp.c: since Linux 6.3, the VLAN tag since 6.8. */
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx,
					 __u64 *timestamp) __optional_kfunc;
extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, __u32 *hash,
				    enum xdp_rss_hash_type *rss_type) __optional_kfunc;
extern int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx, __be16 *vlan_proto,
					__u16 *vlan_tci) __optional_kfunc;
