// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Gives to the AF_XDP socket of the receiving queue what the filter names, and everything else to
 * the kernel: attaching this program never cuts a machine off.
 *
 * The filter lies in maps and may be exchanged while packets flow. It exists twice: the program
 * reads the slot that `config.active` names, user space writes the other one and then flips
 * `active`, so that every packet is judged by one whole filter, the old or the new.
 *
 * User space's half is src/program/maps.rs; names and numbers here are also there.
 */
#include "kernel.h"

/* Sets of 16-bit numbers: EtherTypes, and destination ports. */
#define SLOTS 2
#define SETS 64
#define WORDS_PER_SET (65536 / 64)

enum {
	SET_ETHER_TYPES = 0,
	/* Ports at whatever address: UDP's, and TCP's behind them. A prefix names such a pair too. */
	SET_PORTS = 1,
};

/* What the value of a prefix says instead of a pair of sets: take every packet. */
#define EVERY_PACKET 0

/* Bits of `config.rules`: which kinds of rules the filter has, so that no map is asked in vain. */
enum {
	RULE_EVERYTHING = 1 << 0,
	RULE_ETHER_TYPES = 1 << 1,
	RULE_PORTS = 1 << 2,
	RULE_PREFIXES_V4 = 1 << 3,
	RULE_PREFIXES_V6 = 1 << 4,
};

#define MAX_PREFIXES 2048

struct config {
	__u32 active;
	__u32 rules[SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS *SETS *WORDS_PER_SET);
	__type(key, __u32);
	__type(value, __u64);
} sets SEC(".maps");

/* The slot is part of the prefix: 32 bits that always match in whole. */
struct prefix_v4 {
	__u32 bits;
	__u32 slot;
	__be32 address;
};

struct prefix_v6 {
	__u32 bits;
	__u32 slot;
	__be32 address[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SLOTS *MAX_PREFIXES);
	__type(key, struct prefix_v4);
	__type(value, __u32);
} prefixes_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SLOTS *MAX_PREFIXES);
	__type(key, struct prefix_v6);
	__type(value, __u32);
} prefixes_v6 SEC(".maps");

/* By queue; the size of this map and the next one is set before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* Every frame is counted in exactly one of these, but for `no_hints`. */
struct counters {
	__u64 redirected;
	/* Named by the filter, but no socket is open on the queue: to the kernel. */
	__u64 no_socket;
	/* Not named by the filter: to the kernel. */
	__u64 passed;
	/* Fragments, which a rule about ports cannot judge: to the kernel. */
	__u64 fragments;
	/* Headers that are cut short or contradict themselves: to the kernel. */
	__u64 malformed;
	/* Redirected without hints, for want of room in front of the frame. */
	__u64 no_hints;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

/* What the device said about the frame; it lies directly in front of it. */
struct hints {
	__u64 timestamp;
	__u32 hash;
	__u32 hash_type;
	__be16 vlan_proto;
	__u16 vlan_tci;
	/* HINTS_MAGIC and a bit for each that is there. */
	__u32 valid;
};

#define HINTS_MAGIC 0x62790000
enum {
	HINT_TIMESTAMP = 1 << 0,
	HINT_HASH = 1 << 1,
	HINT_VLAN = 1 << 2,
};

enum verdict { TAKE, NOT_NAMED, FRAGMENT, MALFORMED };

/* The filter that is in force while one packet is judged. */
struct filter {
	__u32 slot;
	__u32 rules;
};

static __inlined int holds(const struct filter *filter, __u32 set, __u16 member)
{
	__u32 index = (filter->slot * SETS + set) * WORDS_PER_SET + member / 64;
	__u64 *word = bpf_map_lookup_elem(&sets, &index);

	return word && (*word >> (member % 64)) & 1;
}

enum { TCP = 6, UDP = 17 };

/*
 * Looks the destination port up at `header`, the transport header of a packet whose destination has
 * the port sets `prefix_ports` (or none).
 */
static __inlined enum verdict judge_port(const struct filter *filter, const __u32 *prefix_ports,
					 __u8 protocol, const void *header, const void *end)
{
	const __be16 *ports = header;
	__u32 is_tcp = protocol == TCP;
	__u16 port;

	if (header + 4 > end)
		return MALFORMED;
	port = __builtin_bswap16(ports[1]);
	if (filter->rules & RULE_PORTS && holds(filter, SET_PORTS + is_tcp, port))
		return TAKE;
	if (prefix_ports && holds(filter, *prefix_ports + is_tcp, port))
		return TAKE;
	return NOT_NAMED;
}

/* RFC 791 */
struct ipv4 {
	__u8 version_and_words;
	__u8 service;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 hops;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};

static __inlined enum verdict judge_ipv4(const struct filter *filter, const void *at,
					 const void *end)
{
	const struct ipv4 *ip = at;
	__u32 *ports = 0;
	__u32 words;

	if (at + sizeof(*ip) > end)
		return MALFORMED;
	words = ip->version_and_words & 0xf;
	if (ip->version_and_words >> 4 != 4 || words < 5)
		return MALFORMED;
	if (filter->rules & RULE_PREFIXES_V4) {
		struct prefix_v4 key = {
			.bits = 64, .slot = filter->slot, .address = ip->destination,
		};

		ports = bpf_map_lookup_elem(&prefixes_v4, &key);
		if (ports && *ports == EVERY_PACKET)
			return TAKE;
	}
	if (!ports && !(filter->rules & RULE_PORTS))
		return NOT_NAMED;
	if (ip->protocol != UDP && ip->protocol != TCP)
		return NOT_NAMED;
	/* More fragments, or an offset. */
	if (ip->fragment & NET16(0x3fff))
		return FRAGMENT;
	return judge_port(filter, ports, ip->protocol, at + words * 4, end);
}

/* RFC 8200 */
struct ipv6 {
	__u8 version;
	__u8 flow[3];
	__be16 length;
	__u8 next;
	__u8 hops;
	__be32 source[4];
	__be32 destination[4];
};

struct ipv6_extension {
	__u8 next;
	__u8 length;
	__be16 fragment;
	__u32 more;
};

enum { HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT_HEADER = 44, AUTHENTICATION = 51, DESTINATION = 60 };

#define MAX_EXTENSIONS 4

static __inlined enum verdict judge_ipv6(const struct filter *filter, const void *at,
					 const void *end)
{
	const struct ipv6 *ip = at;
	__u32 *ports = 0;
	__u8 next;

	if (at + sizeof(*ip) > end || ip->version >> 4 != 6)
		return MALFORMED;
	if (filter->rules & RULE_PREFIXES_V6) {
		struct prefix_v6 key = { .bits = 160, .slot = filter->slot };

		__builtin_memcpy(key.address, ip->destination, sizeof(key.address));
		ports = bpf_map_lookup_elem(&prefixes_v6, &key);
		if (ports && *ports == EVERY_PACKET)
			return TAKE;
	}
	if (!ports && !(filter->rules & RULE_PORTS))
		return NOT_NAMED;
	next = ip->next;
	at += sizeof(*ip);
#pragma unroll
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		const struct ipv6_extension *extension = at;
		__u32 length;

		if (next != HOP_BY_HOP && next != ROUTING && next != DESTINATION &&
		    next != FRAGMENT_HEADER && next != AUTHENTICATION)
			break;
		if (at + sizeof(*extension) > end)
			return MALFORMED;
		length = (extension->length + 1) * 8;
		if (next == AUTHENTICATION)
			length = (extension->length + 2) * 4;
		if (next == FRAGMENT_HEADER) {
			/* An offset, or more fragments; neither is a whole packet (RFC 6946). */
			if (extension->fragment & NET16(0xfff9))
				return FRAGMENT;
			length = 8;
		}
		next = extension->next;
		at += length;
	}
	if (next != UDP && next != TCP)
		return NOT_NAMED;
	return judge_port(filter, ports, next, at, end);
}

enum { ETH_IPV4 = 0x0800, ETH_IPV6 = 0x86dd, ETH_VLAN = 0x8100, ETH_PROVIDER_VLAN = 0x88a8 };

#define MAX_VLAN_TAGS 2

static __inlined enum verdict judge(struct xdp_md *ctx)
{
	const void *at = (void *)(long)ctx->data;
	const void *end = (void *)(long)ctx->data_end;
	struct filter filter;
	struct config *all;
	__u32 first = 0;
	__be16 type;

	all = bpf_map_lookup_elem(&config, &first);
	if (!all)
		return NOT_NAMED;
	filter.slot = *(volatile __u32 *)&all->active & 1;
	filter.rules = *(volatile __u32 *)&all->rules[filter.slot];
	if (filter.rules & RULE_EVERYTHING)
		return TAKE;

	if (at + 14 > end)
		return MALFORMED;
	type = *(__be16 *)(at + 12);
	at += 14;
#pragma unroll
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (type != NET16(ETH_VLAN) && type != NET16(ETH_PROVIDER_VLAN))
			break;
		if (at + 4 > end)
			return MALFORMED;
		type = *(__be16 *)(at + 2);
		at += 4;
	}
	if (filter.rules & RULE_ETHER_TYPES &&
	    holds(&filter, SET_ETHER_TYPES, __builtin_bswap16(type)))
		return TAKE;
	if (type == NET16(ETH_IPV4) && filter.rules & (RULE_PORTS | RULE_PREFIXES_V4))
		return judge_ipv4(&filter, at, end);
	if (type == NET16(ETH_IPV6) && filter.rules & (RULE_PORTS | RULE_PREFIXES_V6))
		return judge_ipv6(&filter, at, end);
	return NOT_NAMED;
}

/* Asks the device and writes what it says in front of the frame; 0 when that was possible. */
static __inlined int put_hints(struct xdp_md *ctx)
{
	struct hints hints = {};
	enum xdp_rss_hash_type type = 0;
	struct hints *place;

	hints.valid = HINTS_MAGIC;
	if (bpf_xdp_metadata_rx_timestamp &&
	    !bpf_xdp_metadata_rx_timestamp(ctx, &hints.timestamp) && hints.timestamp)
		hints.valid |= HINT_TIMESTAMP;
	if (bpf_xdp_metadata_rx_hash && !bpf_xdp_metadata_rx_hash(ctx, &hints.hash, &type)) {
		hints.hash_type = type;
		hints.valid |= HINT_HASH;
	}
	if (bpf_xdp_metadata_rx_vlan_tag &&
	    !bpf_xdp_metadata_rx_vlan_tag(ctx, &hints.vlan_proto, &hints.vlan_tci))
		hints.valid |= HINT_VLAN;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(hints)))
		return -1;
	place = (void *)(long)ctx->data_meta;
	if ((void *)(place + 1) > (void *)(long)ctx->data)
		return -1;
	*place = hints;
	return 0;
}

static __inlined int steer(struct xdp_md *ctx, int with_hints)
{
	__u32 queue = ctx->rx_queue_index;
	struct counters *count = bpf_map_lookup_elem(&counters, &queue);

	/* A queue beyond the size of the maps has no socket either. */
	if (!count)
		return XDP_PASS;
	switch (judge(ctx)) {
	case TAKE:
		break;
	case FRAGMENT:
		count->fragments++;
		return XDP_PASS;
	case MALFORMED:
		count->malformed++;
		return XDP_PASS;
	default:
		count->passed++;
		return XDP_PASS;
	}
	/* A frame for the kernel keeps no hints: they would keep it from being merged with others. */
	if (with_hints && bpf_map_lookup_elem(&sockets, &queue) && put_hints(ctx))
		count->no_hints++;
	/* The flags are what to do where there is no socket. */
	if (bpf_redirect_map(&sockets, queue, XDP_PASS) == XDP_REDIRECT) {
		count->redirected++;
		return XDP_REDIRECT;
	}
	count->no_socket++;
	return XDP_PASS;
}

SEC("xdp")
int bypass_steer(struct xdp_md *ctx)
{
	return steer(ctx, 0);
}

/* Bound to one device, whose driver answers what `put_hints` asks. */
SEC("?xdp")
int bypass_hints(struct xdp_md *ctx)
{
	return steer(ctx, 1);
}

/* The kernel lends the functions that `put_hints` asks to programs under its own licence only. */
char program_license[] SEC("license") = "Dual MIT/GPL";

/* What this was built from, and by what; `cargo xtask bpf` sets and checks it. */
char program_stamp[] SEC("stamp") = STAMP;
