//! [`RxQueue`], [`TxQueue`]: the ends of a port's queues; [`QueuePair`]: one of each, as a
//! [`PacketIo`](bypass_core::PacketIo).
//!
//! # What the unsafe code here relies on
//!
//! - `rte_eth_fp_ops` has the functions and the data of each started port's queues; it changes when a
//!   port is started or stopped, which does not happen while one of these is there (they hold
//!   [`Running`]).
//! - A queue's functions are called by one thread at a time: each queue is handed out once, is not
//!   `Sync`, and takes `&mut self`.
//! - What a driver hands out on receive is ours, and what it takes for sending is its own
//!   (`rte_eth_rx_burst`, `rte_eth_tx_burst`).

mod burst;
mod pair;
mod rx;
mod tx;

use std::sync::atomic::AtomicBool;

pub(crate) use burst::FastPath;
pub use pair::QueuePair;
pub use rx::RxQueue;
pub use tx::TxQueue;

/// Whether packets that others hold too have been sent by this process. From then on receiving looks
/// whether what came is one of them: a driver that passes packets on as they are (`net_ring`) would hand
/// out what somebody else can see.
static SHARED: AtomicBool = AtomicBool::new(false);
