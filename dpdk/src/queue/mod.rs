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
//! - What `net_ring` hands out was sent here, and has an Ethernet header in its first segment ([`limits`]); so has
//!   what `net_null` makes up. What others hand out is looked at.

mod burst;
mod limits;
mod pair;
mod rx;
mod tx;

use std::sync::atomic::{AtomicU8, Ordering};

pub(crate) use burst::FastPath;
pub use pair::QueuePair;
pub use rx::RxQueue;
pub use tx::TxQueue;

/// Not 0 when receiving looks at what came. It does once this process has sent packets that others hold too,
/// or marked packets with their queue: a driver that passes packets on as they are (`net_ring`) would hand
/// out what somebody else can see, or the mark of another queue.
static LOOK: AtomicU8 = AtomicU8::new(0);

/// From now on receiving looks at what came.
pub(crate) fn look_at_what_comes() {
    LOOK.store(1, Ordering::Relaxed);
}

/// Drivers that move no bytes: what is sent comes back as it is, or is made up and freed. They never look
/// at a packet, so there is none that they cannot take; and looking at each one to count its bytes would
/// cost more than everything else that is done with it.
const PASSING: [&str; 2] = ["net_null", "net_ring"];

/// Whether the driver only passes pointers on.
fn is_passing(driver: &str) -> bool {
    PASSING.contains(&driver)
}
