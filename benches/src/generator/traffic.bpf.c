// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The load generator: requests that leave on a fixed schedule, made of the frames of a live-frame test run
 * (Linux 5.18); answers, counted and timed where they arrive (tcx, Linux 6.6).
 */
#include "../../../xdp/bpf/kernel.h"

static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static long (*bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to, __u32 len) = (void *)26;
static long (*bpf_xdp_adjust_tail)(struct xdp_md *ctx, int delta) = (void *)65;
static long (*bpf_xdp_store_bytes)(struct xdp_md *ctx, __u32 offset, void *from,
				   __u32 len) = (void *)190;

/* include/uapi/linux/bpf.h; nothing in it is looked at. */
struct __sk_buff;

enum tcx_action_base { TCX_NEXT = -1, TCX_DROP = 2 };

/* Bytes of all frames, and of the longest one. */
#define FRAMES (8 << 20)
#define FRAME 1514
/* Ethernet, IP without options, UDP; and what is looked at of an answer's payload. */
#define HEADERS 42
#define ANSWER 16
#define PATCH 16
#define NUMBERS (1 << 16)
/* Where the port is in the frame of a request that its answer is sent to, and how many such ports there are. */
#define PORT_AT 34
#define PORTS (1 << 12)
/* Fraction of a nanosecond, in bits. */
#define FRACTION 16
/* Latency: 128 buckets for each power of two, up to 2^34 ns. */
#define PRECISION 7
#define LONGEST ((1ULL << 34) - 1)
#define BUCKETS ((34 - PRECISION + 1) << PRECISION)

/* What is sent and what comes back; the same throughout a stretch. Offsets are those in a frame, 0 for none. */
struct plan {
	/* Nanoseconds. */
	__u64 duration;
	/* From one request to the next, in units of 2^-FRACTION ns. */
	__u64 interval;
	/* The least from one to the next when they are late, in nanoseconds. */
	__u64 gap;
	/* A number of 64 bits in the frame: of the first request, and from one to the next. */
	__u64 first, step;
	/* Of the eight bytes of an answer at `answer_at`, these are either of those. */
	__u64 mask, expected[2];
	__u32 interface;
	/* Entries of `order`. */
	__u32 requests;
	/* A request's number of 16 bits, which its answer has at the begin of its payload. */
	__u16 number_at;
	__u16 sequence_at;
	/* The time at which it was due, 48 bits of it. */
	__u16 due_at;
	/* In the payload: 0 or 8. */
	__u16 answer_at;
	/* That answers are sent to: another one in each stretch, of PORTS that begin with a multiple of it. */
	__u16 port;
	__u16 unused[3];
};

struct progress {
	/* When the first request was due. */
	__u64 begin;
	/* When the next one is, since then, in units of 2^-FRACTION ns. */
	__u64 next;
	/* When the last one left. */
	__u64 last;
	__u64 sent;
	/* The latest that a request was, in nanoseconds. */
	__u64 late;
	/* In `order`. */
	__u32 place;
	/* Requests that could not be made: there is a mistake in them. */
	__u32 failed;
	__u32 over;
	__u32 unused;
};

struct request {
	/* In `frames`. */
	__u32 at;
	__u16 length;
	/* Bytes of its own, at that place of the frame. */
	__u16 patch_at;
	__u8 patch[PATCH];
};

struct answers {
	__u64 answered;
	/* Other than those that are waited for. */
	__u64 unexpected;
	/* To requests of an earlier stretch. */
	__u64 late;
	/* What one of those began with. */
	__u8 text[ANSWER];
	__u64 latency[BUCKETS];
};

struct frames {
	__u8 bytes[FRAMES];
};

/* When requests under way were due, by their numbers. */
struct due {
	__u64 at[NUMBERS];
};

#define ARRAY(name, kind, entry, count)     \
	struct {                            \
		__uint(type, kind);         \
		__uint(max_entries, count); \
		__type(key, __u32);         \
		__type(value, entry);       \
	} name SEC(".maps")

ARRAY(plan, BPF_MAP_TYPE_ARRAY, struct plan, 1);
ARRAY(progress, BPF_MAP_TYPE_ARRAY, struct progress, 1);
ARRAY(frames, BPF_MAP_TYPE_ARRAY, struct frames, 1);
ARRAY(order, BPF_MAP_TYPE_ARRAY, struct request, 1);
ARRAY(due, BPF_MAP_TYPE_ARRAY, struct due, 1);
ARRAY(answers, BPF_MAP_TYPE_PERCPU_ARRAY, struct answers, 1);

/* The only entry of a map that has one. */
static __inlined void *sole(void *map)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(map, &first);
}

/* Where a field of the frame lies, if there is one and it is inside. */
static __inlined void *field(struct xdp_md *ctx, __u16 at, __u32 length)
{
	void *place = (void *)(long)ctx->data + (at & 0x7ff);

	return at && place + length <= (void *)(long)ctx->data_end ? place : 0;
}

static __inlined long copy(struct xdp_md *ctx, struct request *request, struct frames *from)
{
	__u32 length = request->length, at = request->at;
	int longer = (int)length - (int)(ctx->data_end - ctx->data);

	if (longer && bpf_xdp_adjust_tail(ctx, longer))
		return -1;
	if (length < HEADERS || length > FRAME || at > FRAMES - FRAME)
		return -1;
	return bpf_xdp_store_bytes(ctx, 0, from->bytes + at, length);
}

/*
 * Makes the next request of a frame, if it is due. XDP_TX is the way back to the interface that the test run
 * names: what is made leaves by it.
 */
SEC("xdp")
int bypass_generate(struct xdp_md *ctx)
{
	__u64 now = bpf_ktime_get_ns(), when, *wide;
	struct plan *wanted = sole(&plan);
	struct progress *done = sole(&progress);
	struct frames *from = sole(&frames);
	struct due *under_way = sole(&due);
	struct request *request;
	__u16 number, *narrow;
	__u32 place;

	/* The program is on another interface, too, which has no traffic. */
	if (!wanted || !done || !from || !under_way || ctx->ingress_ifindex != wanted->interface)
		return XDP_PASS;
	if (!done->begin)
		done->begin = now;
	if (now >= done->begin + wanted->duration) {
		done->over = 1;
		return XDP_DROP;
	}
	when = done->begin + (done->next >> FRACTION);
	if (now < when || now < done->last + wanted->gap)
		return XDP_DROP;
	place = done->place;
	request = bpf_map_lookup_elem(&order, &place);
	if (!request || copy(ctx, request, from)) {
		done->failed++;
		return XDP_DROP;
	}
	narrow = field(ctx, PORT_AT, sizeof(*narrow));
	if (narrow)
		*narrow = __builtin_bswap16(wanted->port);
	wide = field(ctx, request->patch_at, PATCH);
	if (wide)
		__builtin_memcpy(wide, request->patch, PATCH);
	wide = field(ctx, wanted->sequence_at, sizeof(*wide));
	if (wide)
		*wide = __builtin_bswap64(wanted->first + done->sent * wanted->step);
	narrow = field(ctx, wanted->due_at, 6);
	if (narrow) {
		narrow[0] = __builtin_bswap16(when >> 32);
		narrow[1] = __builtin_bswap16(when >> 16);
		narrow[2] = __builtin_bswap16(when);
	}
	number = done->sent;
	narrow = field(ctx, wanted->number_at, sizeof(*narrow));
	if (narrow) {
		*narrow = __builtin_bswap16(number);
		under_way->at[number] = when;
	}
	if (now - when > done->late)
		done->late = now - when;
	done->last = now;
	done->next += wanted->interval;
	done->sent++;
	done->place = place + 1 < wanted->requests ? place + 1 : 0;
	return XDP_TX;
}

static __inlined __u32 bucket(__u64 nanoseconds)
{
	__u64 rest, at = nanoseconds < LONGEST ? nanoseconds : LONGEST;
	__u32 shift = 0;

	rest = at >> (PRECISION + 1);
	for (int bits = 16; bits; bits /= 2) {
		if (rest >> bits) {
			rest >>= bits;
			shift += bits;
		}
	}
	shift += rest != 0;
	return (shift << PRECISION) + (__u32)(at >> shift);
}

static __inlined __u64 eight(const __u8 *bytes)
{
	__u64 value;

	__builtin_memcpy(&value, bytes, sizeof(value));
	return value;
}

/* Counts an answer, which ends here. */
SEC("tcx/ingress")
int bypass_count(struct __sk_buff *skb)
{
	__u64 now = bpf_ktime_get_ns(), when, text;
	struct plan *wanted = sole(&plan);
	struct due *under_way = sole(&due);
	struct answers *seen = sole(&answers);
	__u8 bytes[HEADERS + ANSWER];
	__u32 place;
	__u16 number, port;

	if (!wanted || !under_way || !seen || bpf_skb_load_bytes(skb, 0, bytes, sizeof(bytes)))
		return TCX_NEXT;
	/* UDP over IPv4 without options, to one of those ports. */
	port = bytes[36] << 8 | bytes[37];
	if (bytes[12] != 0x08 || bytes[13] != 0x00 || bytes[14] != 0x45 || bytes[23] != 17 ||
	    (port ^ wanted->port) / PORTS)
		return TCX_NEXT;
	if (port != wanted->port) {
		seen->late++;
		return TCX_DROP;
	}
	text = eight(bytes + HEADERS + (wanted->answer_at & 8)) & wanted->mask;
	if (text != wanted->expected[0] && text != wanted->expected[1]) {
		seen->unexpected++;
		__builtin_memcpy(seen->text, bytes + HEADERS, ANSWER);
		return TCX_DROP;
	}
	number = bytes[HEADERS] << 8 | bytes[HEADERS + 1];
	when = under_way->at[number];
	/* It has come already. */
	if (!when)
		return TCX_DROP;
	under_way->at[number] = 0;
	place = bucket(now - when);
	if (place < BUCKETS)
		seen->latency[place]++;
	seen->answered++;
	return TCX_DROP;
}

char program_license[] SEC("license") = "Dual MIT/GPL";

/* What this was built from, and by what; `cargo xtask bpf` sets and checks it. */
char program_stamp[] SEC("stamp") = STAMP;
