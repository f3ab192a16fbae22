/* DPDK's inline functions, thread-local variables and function-like macros as functions that can be
 * linked. None belongs into a loop over packets: a call per packet costs more than the packet. */
#ifndef BYPASS_DPDK_SHIMS_H
#define BYPASS_DPDK_SHIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

/* Thread-local variables. */
int bypass_errno(void);
void bypass_set_errno(int value);
unsigned int bypass_lcore_id(void);

/* Messages: from now on DPDK's go to `take`, with their level, on the thread that says them. Returns 0,
 * or a negative errno. */
typedef void (*bypass_log_t)(uint32_t level, const char *text, size_t len);
int bypass_log_to(bypass_log_t take);

/* Clock. */
uint64_t bypass_tsc_cycles(void);

/* Mempools. */
struct rte_mempool_cache *bypass_mempool_default_cache(struct rte_mempool *pool, unsigned int lcore);
int bypass_mempool_get_bulk(struct rte_mempool *pool, void **objects, unsigned int n,
			    struct rte_mempool_cache *cache);
void bypass_mempool_put_bulk(struct rte_mempool *pool, void *const *objects, unsigned int n,
			     struct rte_mempool_cache *cache);
void bypass_mempool_cache_flush(struct rte_mempool_cache *cache, struct rte_mempool *pool);
bool bypass_mempool_full(const struct rte_mempool *pool);
uint16_t bypass_pktmbuf_data_room_size(struct rte_mempool *pool);
uint16_t bypass_pktmbuf_priv_size(struct rte_mempool *pool);

/* Mbufs: allocation and release. */
struct rte_mbuf *bypass_pktmbuf_alloc(struct rte_mempool *pool);
int bypass_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n);
void bypass_pktmbuf_free(struct rte_mbuf *mbuf);
void bypass_pktmbuf_free_seg(struct rte_mbuf *mbuf);
void bypass_pktmbuf_reset(struct rte_mbuf *mbuf);
uint16_t bypass_mbuf_refcnt_update(struct rte_mbuf *mbuf, int16_t by);

/* Mbufs: data that others share. */
void bypass_pktmbuf_attach(struct rte_mbuf *indirect, struct rte_mbuf *direct);
void bypass_pktmbuf_detach(struct rte_mbuf *mbuf);
void bypass_pktmbuf_attach_extbuf(struct rte_mbuf *mbuf, void *data, rte_iova_t iova, uint16_t len,
				  struct rte_mbuf_ext_shared_info *shared);
struct rte_mbuf_ext_shared_info *bypass_pktmbuf_ext_shinfo_init(void *data, uint16_t *len,
								rte_mbuf_extbuf_free_callback_t free,
								void *argument);
void bypass_mbuf_ext_refcnt_set(struct rte_mbuf_ext_shared_info *shared, uint16_t to);

/* Mbufs: chains. */
int bypass_pktmbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail);
int bypass_pktmbuf_linearize(struct rte_mbuf *mbuf);
const void *bypass_pktmbuf_read(const struct rte_mbuf *mbuf, uint32_t offset, uint32_t len,
				void *copy);

/* Bursts; Rust has its own over `rte_eth_fp_ops`, these are the reference that it is measured with. */
uint16_t bypass_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);
uint16_t bypass_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);
uint16_t bypass_eth_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);
int bypass_eth_rx_queue_count(uint16_t port, uint16_t queue);
int bypass_eth_rx_descriptor_status(uint16_t port, uint16_t queue, uint16_t offset);
int bypass_eth_tx_descriptor_status(uint16_t port, uint16_t queue, uint16_t offset);

/* The state of a link, without waiting for one: its structure differs between versions. Returns 0, or a
 * negative errno. */
int bypass_eth_link(uint16_t port, uint32_t *speed, bool *is_up, bool *is_full_duplex);

/* Checksums that a device completes. */
int bypass_net_intel_cksum_prepare(struct rte_mbuf *mbuf);

#endif
