//! The raw layer that the socket backends share, io_uring's among them.
//!
//! - [`Coalescer`] plans which datagrams leave as one message, [`TrainPlanner`] copes with devices
//!   that refuse it.
//! - [`Name`] is a socket address, [`ControlBuffer`] with [`encode`] and [`decode`] what travels
//!   beside a packet, both as bytes in the kernel's layout.
//! - [`SendBatch`] and [`RecvBatch`] are what `sendmmsg(2)` and `recvmmsg(2)` work on.
//! - [`RecvSlots`] receives straight into a pool's buffers.
//! - [`vlan`], [`checksum`] and [`restore_vlan`] make sense of what AF_PACKET says beside a frame.
//! - [`QueueDrops`] counts what did not fit in a socket's queue.
//! - [`wait`] sleeps on a descriptor, [`option`] sets what no wrapper sets, [`interface`] looks up
//!   network interfaces.
//!
//! # What the unsafe code here relies on
//!
//! The kernel reads and writes what the arguments of a system call point to while the call lasts,
//! and not afterwards: none of the calls made here is asynchronous. The ring that AF_PACKET fills by
//! itself has its own rules, in its own module.

mod aux;
mod coalesce;
mod control;
mod drops;
mod fallback;
mod fixed;
pub mod interface;
mod name;
pub mod option;
mod recv;
mod ring;
mod send;
mod slots;
mod wait;

pub use aux::{VLAN_LEN, checksum, restore_vlan, vlan};
pub use coalesce::{Coalescer, Train, segments};
pub use control::{AuxData, CONTROL_ROOM, ControlBuffer, Received, decode, encode};
pub use drops::QueueDrops;
pub use fallback::TrainPlanner;
pub use name::{Family, Name};
pub use recv::{Message, RecvBatch};
pub(crate) use ring::{PacketRing, RingFrame};
pub use send::{Outgoing, SendBatch};
pub use slots::{Batch, RecvSlots};
pub use wait::wait;

/// A header that points to nothing.
const EMPTY_HEADER: libc::mmsghdr = {
    // SAFETY: integers and pointers may be all zero.
    unsafe { std::mem::zeroed() }
};
