/* What the bindings are made from: DPDK's headers, the constants that only C can compute, and the
 * inline functions that Rust has no other way to call. */
#ifndef BYPASS_DPDK_WRAPPER_H
#define BYPASS_DPDK_WRAPPER_H

#include <rte_config.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_interrupts.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>
#include <rte_memzone.h>
#include <rte_pdump.h>
#include <rte_ring.h>
#include <rte_telemetry.h>
#include <rte_version.h>
#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
#include <rte_epoll.h>
#endif

#include "layout.h"
#include "shims.h"

#endif
