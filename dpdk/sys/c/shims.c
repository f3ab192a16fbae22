#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ip.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_net.h>

#include "shims.h"

int bypass_errno(void)
{
	return rte_errno;
}

void bypass_set_errno(int value)
{
	rte_errno = value;
}

unsigned int bypass_lcore_id(void)
{
	return rte_lcore_id();
}

static ssize_t log_write(void *cookie, const char *text, size_t len)
{
	bypass_log_t take = (bypass_log_t)cookie;

	take(rte_log_cur_msg_loglevel(), text, len);
	return len;
}

int bypass_log_to(bypass_log_t take)
{
	cookie_io_functions_t functions = { .write = log_write };
	FILE *stream = fopencookie((void *)take, "w", functions);
	int failed;

	if (stream == NULL)
		return -ENOMEM;
	failed = rte_openlog_stream(stream);
	if (failed)
		fclose(stream);
	return failed;
}

uint64_t bypass_tsc_cycles(void)
{
	return rte_rdtsc();
}

struct rte_mempool_cache *bypass_mempool_default_cache(struct rte_mempool *pool, unsigned int lcore)
{
	return rte_mempool_default_cache(pool, lcore);
}

int bypass_mempool_get_bulk(struct rte_mempool *pool, void **objects, unsigned int n,
			    struct rte_mempool_cache *cache)
{
	return rte_mempool_generic_get(pool, objects, n, cache);
}

void bypass_mempool_put_bulk(struct rte_mempool *pool, void *const *objects, unsigned int n,
			     struct rte_mempool_cache *cache)
{
	rte_mempool_generic_put(pool, objects, n, cache);
}

void bypass_mempool_cache_flush(struct rte_mempool_cache *cache, struct rte_mempool *pool)
{
	rte_mempool_cache_flush(cache, pool);
}

bool bypass_mempool_full(const struct rte_mempool *pool)
{
	return rte_mempool_full(pool);
}

uint16_t bypass_pktmbuf_data_room_size(struct rte_mempool *pool)
{
	return rte_pktmbuf_data_room_size(pool);
}

uint16_t bypass_pktmbuf_priv_size(struct rte_mempool *pool)
{
	return rte_pktmbuf_priv_size(pool);
}

struct rte_mbuf *bypass_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int bypass_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, n);
}

void bypass_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

void bypass_pktmbuf_free_seg(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free_seg(mbuf);
}

void bypass_pktmbuf_reset(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_reset(mbuf);
}

uint16_t bypass_mbuf_refcnt_update(struct rte_mbuf *mbuf, int16_t by)
{
	return rte_mbuf_refcnt_update(mbuf, by);
}

void bypass_pktmbuf_attach(struct rte_mbuf *indirect, struct rte_mbuf *direct)
{
	rte_pktmbuf_attach(indirect, direct);
}

void bypass_pktmbuf_detach(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_detach(mbuf);
}

void bypass_pktmbuf_attach_extbuf(struct rte_mbuf *mbuf, void *data, rte_iova_t iova, uint16_t len,
				  struct rte_mbuf_ext_shared_info *shared)
{
	rte_pktmbuf_attach_extbuf(mbuf, data, iova, len, shared);
}

struct rte_mbuf_ext_shared_info *bypass_pktmbuf_ext_shinfo_init(void *data, uint16_t *len,
								rte_mbuf_extbuf_free_callback_t free,
								void *argument)
{
	return rte_pktmbuf_ext_shinfo_init_helper(data, len, free, argument);
}

void bypass_mbuf_ext_refcnt_set(struct rte_mbuf_ext_shared_info *shared, uint16_t to)
{
	rte_mbuf_ext_refcnt_set(shared, to);
}

int bypass_pktmbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail)
{
	return rte_pktmbuf_chain(head, tail);
}

int bypass_pktmbuf_linearize(struct rte_mbuf *mbuf)
{
	return rte_pktmbuf_linearize(mbuf);
}

const void *bypass_pktmbuf_read(const struct rte_mbuf *mbuf, uint32_t offset, uint32_t len,
				void *copy)
{
	return rte_pktmbuf_read(mbuf, offset, len, copy);
}

uint16_t bypass_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, mbufs, n);
}

uint16_t bypass_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, mbufs, n);
}

uint16_t bypass_eth_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_tx_prepare(port, queue, mbufs, n);
}

int bypass_eth_rx_queue_count(uint16_t port, uint16_t queue)
{
	return rte_eth_rx_queue_count(port, queue);
}

int bypass_eth_rx_descriptor_status(uint16_t port, uint16_t queue, uint16_t offset)
{
	return rte_eth_rx_descriptor_status(port, queue, offset);
}

int bypass_eth_tx_descriptor_status(uint16_t port, uint16_t queue, uint16_t offset)
{
	return rte_eth_tx_descriptor_status(port, queue, offset);
}

int bypass_eth_link(uint16_t port, uint32_t *speed, bool *is_up, bool *is_full_duplex)
{
	struct rte_eth_link link = { 0 };
	int failed = rte_eth_link_get_nowait(port, &link);

	*speed = link.link_speed;
	*is_up = link.link_status == RTE_ETH_LINK_UP;
	*is_full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return failed;
}

int bypass_net_intel_cksum_prepare(struct rte_mbuf *mbuf)
{
	return rte_net_intel_cksum_prepare(mbuf);
}
