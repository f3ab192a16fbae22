/* Where the fields of an mbuf are and how large they are: their paths differ between versions of
 * DPDK, so Rust reaches them by offset. */
#ifndef BYPASS_DPDK_LAYOUT_H
#define BYPASS_DPDK_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include <rte_mbuf.h>

#define BYPASS_FIELD(NAME, field)                                                                  \
	static const size_t BYPASS_MBUF_OFFSET_##NAME = offsetof(struct rte_mbuf, field);         \
	static const size_t BYPASS_MBUF_SIZE_##NAME = sizeof(((struct rte_mbuf *)0)->field);

BYPASS_FIELD(BUF_ADDR, buf_addr)
BYPASS_FIELD(NEXT, next)
BYPASS_FIELD(DATA_OFF, data_off)
BYPASS_FIELD(REFCNT, refcnt)
BYPASS_FIELD(NB_SEGS, nb_segs)
BYPASS_FIELD(PORT, port)
BYPASS_FIELD(OL_FLAGS, ol_flags)
BYPASS_FIELD(PACKET_TYPE, packet_type)
BYPASS_FIELD(PKT_LEN, pkt_len)
BYPASS_FIELD(DATA_LEN, data_len)
BYPASS_FIELD(VLAN_TCI, vlan_tci)
BYPASS_FIELD(HASH_RSS, hash.rss)
BYPASS_FIELD(HASH_FDIR_HI, hash.fdir.hi)
BYPASS_FIELD(VLAN_TCI_OUTER, vlan_tci_outer)
BYPASS_FIELD(BUF_LEN, buf_len)
BYPASS_FIELD(POOL, pool)
BYPASS_FIELD(TX_OFFLOAD, tx_offload)
BYPASS_FIELD(SHINFO, shinfo)
BYPASS_FIELD(PRIV_SIZE, priv_size)
BYPASS_FIELD(TIMESYNC, timesync)

/* The bits of `tx_offload`, from the lowest: widths of the lengths that a device needs. */
static const uint32_t BYPASS_TX_L2_LEN_BITS = RTE_MBUF_L2_LEN_BITS;
static const uint32_t BYPASS_TX_L3_LEN_BITS = RTE_MBUF_L3_LEN_BITS;
static const uint32_t BYPASS_TX_L4_LEN_BITS = RTE_MBUF_L4_LEN_BITS;
static const uint32_t BYPASS_TX_TSO_SEGSZ_BITS = RTE_MBUF_TSO_SEGSZ_BITS;
static const uint32_t BYPASS_TX_OUTER_L3_LEN_BITS = RTE_MBUF_OUTL3_LEN_BITS;
static const uint32_t BYPASS_TX_OUTER_L2_LEN_BITS = RTE_MBUF_OUTL2_LEN_BITS;

#endif
