// The same loops by hand: what a C programmer would write on DPDK.
//
// usage: loop null|ring|memif|virtio BURST TOUCH CORE WARM_UP_MS WINDOW_MS LEN MBUFS CACHE IN_RING MEGABYTES HUGE
// TOUCH: 0, 1 to change the first byte of each packet, 2 to see first whether it has one.
// Prints "PACKETS SECONDS START_UP_SECONDS".

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

enum { TURNS = 4096, MOST = 64, DESCRIPTORS = 1024, PATIENCE = 10 };

static struct rte_mempool *pool;
static uint16_t burst, len, from, to;
static bool touch, look;
static uint64_t number, sum;

static void die(const char *what)
{
	fprintf(stderr, "loop: %s: %s\n", what, rte_strerror(rte_errno));
	exit(1);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static uint16_t plug(const char *name, const char *arguments)
{
	struct rte_eth_conf conf = {0};
	uint16_t port;
	if (rte_vdev_init(name, arguments) || rte_eth_dev_get_port_by_name(name, &port))
		die(name);
	if (rte_eth_dev_configure(port, 1, 1, &conf) ||
	    rte_eth_rx_queue_setup(port, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL, pool) ||
	    rte_eth_tx_queue_setup(port, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL) ||
	    rte_eth_dev_start(port))
		die(name);
	return port;
}

static bool is_up(uint16_t port)
{
	struct rte_eth_link link;
	return rte_eth_link_get_nowait(port, &link) == 0 && link.link_status;
}

static uint16_t forward(void)
{
	struct rte_mbuf *packets[MOST];
	uint16_t n = rte_eth_rx_burst(from, 0, packets, burst);
	if (n == 0)
		return 0;
	if (touch)
		for (uint16_t i = 0; i < n; i++)
			if (!look || rte_pktmbuf_data_len(packets[i]) > 0)
				++*rte_pktmbuf_mtod(packets[i], uint8_t *);
	uint16_t sent = rte_eth_tx_burst(from, 0, packets, n);
	if (unlikely(sent < n))
		rte_pktmbuf_free_bulk(packets + sent, n - sent);
	return sent;
}

static uint16_t through(void)
{
	static struct rte_mbuf *sending[MOST];
	static uint16_t waiting;
	struct rte_mbuf *packets[MOST];
	if (waiting < burst && rte_pktmbuf_alloc_bulk(pool, sending + waiting, burst - waiting) == 0) {
		for (; waiting < burst; waiting++) {
			char *data = rte_pktmbuf_append(sending[waiting], len);
			memcpy(data, &number, sizeof number);
			number++;
		}
	}
	uint16_t sent = rte_eth_tx_burst(from, 0, sending, waiting);
	waiting -= sent;
	memmove(sending, sending + sent, waiting * sizeof *sending);
	uint16_t n = rte_eth_rx_burst(to, 0, packets, burst);
	for (uint16_t i = 0; i < n; i++) {
		const char *data = rte_pktmbuf_mtod(packets[i], const char *);
		for (uint16_t at = 0; at + 8 <= rte_pktmbuf_data_len(packets[i]); at += 8) {
			uint64_t word;
			memcpy(&word, data + at, sizeof word);
			sum += word;
		}
	}
	rte_pktmbuf_free_bulk(packets, n);
	return n;
}

static double until(double end, uint16_t (*turn)(void), uint64_t *packets)
{
	for (;;) {
		for (int i = 0; i < TURNS; i++)
			*packets += turn();
		double time = now();
		if (time >= end)
			return time;
	}
}

int main(int argc, char **argv)
{
	if (argc != 13) {
		fprintf(stderr, "loop: twelve arguments\n");
		return 1;
	}
	const char *way = argv[1];
	burst = atoi(argv[2]);
	touch = atoi(argv[3]) > 0;
	look = atoi(argv[3]) > 1;
	len = atoi(argv[7]);
	char prefix[32], serving[128], served[128], size[32];
	snprintf(prefix, sizeof prefix, "bypass-c-%d", getpid());
	bool huge = atoi(argv[12]);
	char *eal[] = {"loop", "-l", argv[4], huge ? "--in-memory" : "--no-huge",
	               huge ? "--single-file-segments" : "--no-shconf", "--no-pci", "--no-telemetry", "--iova-mode", "va", "--file-prefix", prefix,
	               "-m", argv[11], "--log-level", "*:1"};
	double begun = now();
	if (rte_eal_init(RTE_DIM(eal), eal) < 0)
		die("start");
	double start_up = now() - begun;
	pool = rte_pktmbuf_pool_create("loop", atoi(argv[8]), atoi(argv[9]), 0,
	                               RTE_PKTMBUF_HEADROOM + 2048, SOCKET_ID_ANY);
	if (pool == NULL)
		die("pool");
	uint16_t (*turn)(void) = forward;
	if (!strcmp(way, "null")) {
		snprintf(size, sizeof size, "size=%d", len);
		from = plug("net_null0", size);
	} else if (!strcmp(way, "ring")) {
		from = plug("net_ring0", "");
		for (int i = 0; i < atoi(argv[10]); i++) {
			struct rte_mbuf *packet = rte_pktmbuf_alloc(pool);
			if (packet == NULL)
				die("packet");
			memset(rte_pktmbuf_append(packet, len), 0, len);
			if (rte_eth_tx_burst(from, 0, &packet, 1) != 1)
				die("ring");
		}
	} else {
		bool memif = !strcmp(way, "memif");
		const char *format = memif ? "role=server,socket=/tmp/bypass-c-%d,socket-abstract=no"
		                           : "iface=/tmp/bypass-c-%d";
		snprintf(serving, sizeof serving, format, getpid());
		format = memif ? "role=client,socket=/tmp/bypass-c-%d,socket-abstract=no"
		               : "path=/tmp/bypass-c-%d";
		snprintf(served, sizeof served, format, getpid());
		to = plug(memif ? "net_memif0" : "net_vhost0", serving);
		from = plug(memif ? "net_memif1" : "net_virtio_user0", served);
		double end = now() + PATIENCE;
		while (!is_up(to) || !is_up(from))
			if (now() > end)
				die("the ends do not find each other");
		turn = through;
	}
	uint64_t packets = 0;
	double begin = until(now() + atoi(argv[5]) / 1e3, turn, &packets);
	packets = 0;
	double end = until(begin + atoi(argv[6]) / 1e3, turn, &packets);
	printf("%lu %.9f %.9f\n", (unsigned long)packets, end - begin, start_up);
	fflush(stdout);
	_exit(0);
}
