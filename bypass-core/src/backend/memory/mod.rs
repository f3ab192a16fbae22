//! Two linked ports in memory: for tests, for simulations, and to measure what the traits cost.
//!
//! A link behaves like a cable between two network cards: what one end sends the other receives,
//! in order, nothing is lost unless [`Faults`] say so, and a full cable pushes back. Its ends may
//! be on different threads.
//!
//! ```
//! use bypass_core::backend::memory::{link, LinkOptions};
//! use bypass_core::{Buffer, Burst, PacketIo};
//!
//! let (a, b) = link(&LinkOptions::default())?;
//! let (mut a, mut b) = (a.open()?, b.open()?);
//! let mut burst = Burst::with_capacity(32);
//! a.alloc(&mut burst, 1);
//! burst[0].fill(&[0xff; 60])?;
//! a.send(&mut burst)?;
//! assert_eq!(b.recv(&mut burst)?, 1);
//! assert_eq!(burst[0].data(), [0xff; 60]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bell;
mod faults;
mod options;
mod port;

use rtrb::{Consumer, Producer, RingBuffer};

use self::bell::{Bell, bells};
pub use self::faults::Faults;
pub use self::options::LinkOptions;
pub use self::port::MemoryPort;
use crate::Result;
use crate::pool::{Detached, FrameMeta, Kind, PoolBuf};

/// Marks the pools and frames of this backend.
#[derive(Clone, Copy, Debug)]
pub struct Memory;

impl Kind for Memory {
    type Meta = FrameMeta;
    const BACKEND: &'static str = "memory";
}

/// The frame of this backend.
pub type MemoryFrame = PoolBuf<Memory>;

/// One segment on the cable.
#[derive(Debug)]
struct Wire {
    segment: Detached<Memory>,
    /// Another segment of the same frame follows.
    more: bool,
}

/// An end that is not open yet: it can be taken to the thread that will drive it.
#[derive(Debug)]
pub struct MemoryEnd {
    tx: Producer<Wire>,
    rx: Consumer<Wire>,
    /// Behind the cable: see `Bell::drop`.
    bell: Bell,
    options: LinkOptions,
    seed: u64,
}

/// Makes a link.
///
/// # Errors
///
/// [`Error::Config`](crate::Error::Config) for options that do not fit together;
/// [`Error::Os`](crate::Error::Os) when the process has no descriptor left.
pub fn link(options: &LinkOptions) -> Result<(MemoryEnd, MemoryEnd)> {
    options.check()?;
    let (a_tx, b_rx) = RingBuffer::new(options.ring);
    let (b_tx, a_rx) = RingBuffer::new(options.ring);
    let (a_bell, b_bell) = bells()?;
    let end = |tx, rx, bell, seed| MemoryEnd { tx, rx, bell, options: options.clone(), seed };
    let seed = options.faults.seed;
    Ok((end(a_tx, a_rx, a_bell, seed), end(b_tx, b_rx, b_bell, seed.wrapping_add(1))))
}

/// Puts a segment behind those that a frame has so far.
fn join(frame: Option<MemoryFrame>, segment: MemoryFrame) -> MemoryFrame {
    let Some(mut frame) = frame else { return segment };
    let _same_pool = frame.chain(segment);
    frame
}

#[cfg(test)]
mod tests;
