//! The seams and the shared parts of the bypass-io family.
//!
//! Applications normally depend on the facade crate `bypass-io`, which re-exports all of this;
//! backends depend on this crate alone.
//!
//! ```
//! use bypass_core::{Burst, PacketIo, PacketIoExt, Verdict, backend::memory, swap_addresses};
//!
//! /// Runs on every backend.
//! fn reflect<P: PacketIo>(port: &mut P) -> bypass_core::Result<usize> {
//!     let mut burst = Burst::with_capacity(32);
//!     port.reflect(&mut burst, |frame| {
//!         swap_addresses(frame);
//!         Verdict::Send
//!     })
//! }
//!
//! let (a, _b) = memory::link(&memory::LinkOptions::default())?;
//! assert_eq!(reflect(&mut a.open()?)?, 0, "nothing has arrived");
//! # Ok::<(), bypass_core::Error>(())
//! ```
//!
//! What is here:
//!
//! - [`PacketIo`] moves whole layer-2 frames, [`DatagramIo`] moves UDP payloads with addresses; both
//!   are [`Endpoint`]s, and both work on [`Burst`]s of owned [`Buffer`]s.
//! - [`pool`] is the packet memory that most backends share.
//! - [`backend`] has those that need no C library.
//!
//! What is not here: TCP, IP reassembly, routing between interfaces. Frames never cross backends
//! without a copy ([`PacketIoExt::import`]).

pub mod backend;
mod buffer;
#[allow(unsafe_code, reason = "a contiguous batch of owned values over uninitialised memory")]
mod burst;
mod caps;
mod datagram;
mod endpoint;
mod error;
mod frame;
mod packet;
#[allow(unsafe_code, reason = "packet memory that the kernel and the device share with us")]
pub mod pool;
mod queues;
mod rtnetlink;
pub mod sandbox;
mod stats;
#[allow(unsafe_code, reason = "system calls that no safe wrapper has")]
pub mod sys;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod udp;
mod wait;
pub mod worker;

pub use buffer::{Buffer, OutOfRoom, Room};
pub use burst::{Burst, Drain};
pub use caps::{Caps, RxOffloads, TxOffloads};
pub use datagram::{
    Datagram, DatagramIo, DatagramIoExt, Ecn, MacAddr, NextHop, RecvMeta, Transmit,
};
pub use endpoint::{Endpoint, Interest, Occupancy, Ready};
pub use error::{Error, FrameError, Result, Unsupported};
pub use frame::{ChecksumVerdict, Clock, Frame, RxMeta, Timestamp, TxChecksum, TxMeta, VlanTag};
pub use packet::{PacketIo, PacketIoExt, Verdict, Visited, swap_addresses};
pub use queues::Queues;
pub use stats::{DropCause, Drops, FrameCensus, Stats};
pub use wait::{Adaptive, Block, BusyPoll, WaitStrategy};
