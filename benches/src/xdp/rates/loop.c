// The same loops by hand on libxdp: what a C programmer would write.
//
// usage: loop INTERFACE drop|send|forward MAP CORE WARM_UP_MS WINDOW_MS FRAME
// MAP is an inherited descriptor of an XSKMAP, FRAME what is sent, in hexadecimal.
// Prints "begin" where the window begins, "end FRAMES CALLS" where it ends.

#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_xdp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <xdp/xsk.h>

enum { BURST = 64, CHUNKS = 4096, CHUNK = 2048, RING = 2048, PER_CALL = 32 };

static struct xsk_ring_cons rx, completion;
static struct xsk_ring_prod tx, fill;
static struct xsk_socket *sock;
static uint8_t *memory;
static uint64_t stack[CHUNKS];
static unsigned stacked;
static unsigned length;
static uint64_t calls;

static void die(const char *what, int error)
{
	fprintf(stderr, "loop: %s: %s\n", what, strerror(error));
	exit(1);
}

static uint64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// In copy mode a call sends so many; what is left goes with the next.
static void kick(unsigned count)
{
	if (!xsk_ring_prod__needs_wakeup(&tx))
		return;
	for (unsigned sent = 0; sent < count; sent += PER_CALL) {
		sendto(xsk_socket__fd(sock), NULL, 0, MSG_DONTWAIT, NULL, 0);
		calls++;
	}
}

// There is room for every chunk, but the kernel shows what it has received before it shows that it has taken
// the chunks for it out of the ring (xsk_flush).
static void reserve_fill(uint32_t count, uint32_t *at)
{
	while (xsk_ring_prod__reserve(&fill, count, at) != count)
		;
}

static unsigned drop(void)
{
	uint32_t from, to;
	unsigned count = xsk_ring_cons__peek(&rx, BURST, &from);
	if (!count)
		return 0;
	reserve_fill(count, &to);
	for (unsigned i = 0; i < count; i++) {
		uint64_t addr = xsk_ring_cons__rx_desc(&rx, from++)->addr;
		*xsk_ring_prod__fill_addr(&fill, to++) = addr & ~(uint64_t)(CHUNK - 1);
	}
	xsk_ring_prod__submit(&fill, count);
	xsk_ring_cons__release(&rx, count);
	return count;
}

static unsigned transmit(void)
{
	uint32_t at;
	unsigned done = xsk_ring_cons__peek(&completion, BURST, &at);
	for (unsigned i = 0; i < done; i++)
		stack[stacked++] = *xsk_ring_cons__comp_addr(&completion, at++);
	if (done)
		xsk_ring_cons__release(&completion, done);
	unsigned count = stacked < BURST ? stacked : BURST;
	if (!count || xsk_ring_prod__reserve(&tx, count, &at) != count) {
		kick(1);
		return 0;
	}
	for (unsigned i = 0; i < count; i++) {
		struct xdp_desc *desc = xsk_ring_prod__tx_desc(&tx, at++);
		desc->addr = stack[--stacked];
		desc->len = length;
		desc->options = 0;
	}
	xsk_ring_prod__submit(&tx, count);
	kick(count);
	return count;
}

static unsigned forward(void)
{
	uint32_t from, to;
	unsigned done = xsk_ring_cons__peek(&completion, BURST, &from);
	if (done) {
		reserve_fill(done, &to);
		for (unsigned i = 0; i < done; i++) {
			uint64_t addr = *xsk_ring_cons__comp_addr(&completion, from++);
			*xsk_ring_prod__fill_addr(&fill, to++) = addr & ~(uint64_t)(CHUNK - 1);
		}
		xsk_ring_prod__submit(&fill, done);
		xsk_ring_cons__release(&completion, done);
	}
	unsigned room = xsk_prod_nb_free(&tx, BURST);
	unsigned count = xsk_ring_cons__peek(&rx, room < BURST ? room : BURST, &from);
	if (!count)
		return 0;
	if (xsk_ring_prod__reserve(&tx, count, &to) != count)
		die("TX ring", ENOSPC);
	for (unsigned i = 0; i < count; i++) {
		const struct xdp_desc *came = xsk_ring_cons__rx_desc(&rx, from++);
		uint8_t *frame = memory + came->addr, swapped[12];
		memcpy(swapped, frame + 6, 6);
		memcpy(swapped + 6, frame, 6);
		memcpy(frame, swapped, 12);
		struct xdp_desc *desc = xsk_ring_prod__tx_desc(&tx, to++);
		desc->addr = came->addr;
		desc->len = came->len;
		desc->options = 0;
	}
	xsk_ring_prod__submit(&tx, count);
	xsk_ring_cons__release(&rx, count);
	kick(count);
	return count;
}

static void open_socket(const char *interface, int map)
{
	struct xsk_umem *umem;
	struct xsk_umem_config layout = {
		.fill_size = RING, .comp_size = RING, .frame_size = CHUNK,
	};
	struct xsk_socket_config config = {
		.rx_size = RING, .tx_size = RING,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = XDP_COPY | XDP_USE_NEED_WAKEUP,
	};
	int error = xsk_umem__create(&umem, memory, (uint64_t)CHUNKS * CHUNK, &fill, &completion, &layout);
	if (error)
		die("umem", -error);
	error = xsk_socket__create(&sock, interface, 0, umem, &rx, &tx, &config);
	if (error)
		die("socket", -error);
	int fd = xsk_socket__fd(sock), room = RING * 2 * CHUNK, queue = 0;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
	uint32_t at;
	if (xsk_ring_prod__reserve(&fill, RING, &at) != RING)
		die("fill ring", ENOSPC);
	for (uint64_t n = 0; n < RING; n++)
		*xsk_ring_prod__fill_addr(&fill, at++) = (RING + n) * CHUNK;
	xsk_ring_prod__submit(&fill, RING);
	if (bpf_map_update_elem(map, &queue, &fd, 0))
		die("map", errno);
}

int main(int argc, char **argv)
{
	if (argc != 8) {
		fprintf(stderr, "loop: seven arguments\n");
		return 1;
	}
	unsigned (*work)(void) = !strcmp(argv[2], "drop") ? drop
	                       : !strcmp(argv[2], "send") ? transmit : forward;
	cpu_set_t core;
	CPU_ZERO(&core);
	CPU_SET(atoi(argv[4]), &core);
	if (sched_setaffinity(0, sizeof core, &core))
		die("core", errno);
	memory = mmap(NULL, (size_t)CHUNKS * CHUNK, PROT_READ | PROT_WRITE,
	              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		die("memory", errno);
	for (length = 0; sscanf(argv[7] + 2 * length, "%2hhx", &memory[length]) == 1; length++)
		;
	for (unsigned n = 1; n < CHUNKS; n++)
		memcpy(memory + (size_t)n * CHUNK, memory, length);
	for (stacked = 0; stacked < RING; stacked++)
		stack[stacked] = (uint64_t)stacked * CHUNK;
	open_socket(argv[1], atoi(argv[3]));

	uint64_t begin = now_ms() + atoi(argv[5]), end = begin + atoi(argv[6]), frames = 0;
	while (now_ms() < begin)
		work();
	calls = 0;
	printf("begin\n");
	fflush(stdout);
	while (now_ms() < end)
		frames += work();
	printf("end %lu %lu\n", (unsigned long)frames, (unsigned long)calls);
	return 0;
}
