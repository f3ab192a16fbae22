//! A queue of an interface, driven by one crate or another in the way that costs least.
//!
//! Each peer does what its own examples do: descriptors go from ring to ring, and what is free is
//! kept in a stack of addresses, unless the crate keeps it itself.

mod in_place;
mod ours;
#[expect(unsafe_code, reason = "the crate gives raw pointers")]
mod s2n;
#[expect(unsafe_code, reason = "the crate trusts its caller with lifetimes")]
mod xdp;
#[expect(unsafe_code, reason = "the crate gives raw pointers")]
mod xdpilone;
#[expect(unsafe_code, reason = "the crate trusts its caller with descriptors")]
mod xsk_rs;

use std::os::fd::BorrowedFd;

use anyhow::{Result, bail};
use rustix::net::{SendFlags, sockopt};

use super::rig::Place;

/// The most frames that a call moves.
pub(crate) const BURST: usize = 64;
/// Chunks that each contestant has, half of which it receives into.
const CHUNKS: u32 = 4096;
const CHUNK: u32 = 2048;
/// Entries in each ring.
const RING: u32 = 2048;
/// Frames that a system call sends in copy mode.
const PER_CALL: usize = 32;

/// A queue, as the thread that owns it drives it.
pub(crate) trait Lane: Sized {
    fn open(place: &Place) -> Result<Self>;

    /// Takes up to [`BURST`] frames that have come and gives as many chunks to receive into.
    /// Returns how many came.
    fn receive(&mut self) -> Result<usize>;

    /// Takes back what was sent, and puts up to `count` frames into the TX ring. Returns how many.
    fn send(&mut self, count: usize) -> Result<usize>;

    /// Puts up to [`BURST`] frames that have come into the TX ring, addresses swapped, and gives as
    /// many chunks to receive into. Returns how many.
    fn forward(&mut self) -> Result<usize>;

    /// The socket.
    fn fd(&self) -> Result<BorrowedFd<'_>>;

    /// Has the kernel send the `count` frames that were put into the TX ring last.
    fn kick(&mut self, count: usize) -> Result<()>;

    /// System calls so far.
    fn calls(&self) -> u64;
}

/// What is done with a lane, whichever it is.
pub(crate) trait Drive {
    type Outcome;

    fn drive<L: Lane>(self) -> Result<Self::Outcome>;
}

/// Ours: with frames in place, and with frames that the application owns.
pub(crate) const OURS: &[&str] = &[IN_PLACE, OWNED];
const IN_PLACE: &str = "bypass-xdp in place";
const OWNED: &str = "bypass-xdp";

/// All contestants but ours.
pub(crate) const PEERS: &[&str] = &["xdpilone", "s2n-quic-xdp", "xsk-rs", "xdp"];

pub(crate) fn drive<D: Drive>(name: &str, work: D) -> Result<D::Outcome> {
    match name {
        IN_PLACE => work.drive::<in_place::InPlace>(),
        OWNED => work.drive::<ours::Ours>(),
        "xdpilone" => work.drive::<xdpilone::Xdpilone>(),
        "s2n-quic-xdp" => work.drive::<s2n::S2n>(),
        "xsk-rs" => work.drive::<xsk_rs::XskRs>(),
        "xdp" => work.drive::<xdp::Xdp>(),
        _ => bail!("there is no contestant `{name}`"),
    }
}

/// Swaps the addresses of a frame.
fn swap_addresses(frame: &mut [u8]) {
    if let Some((to, from)) = frame.split_at_mut_checked(6)
        && let Some(from) = from.get_mut(..6)
    {
        to.swap_with_slice(from);
    }
}

/// Enough for a full TX ring: the default lets a fraction of it be in flight.
fn widen_send_buffer(socket: BorrowedFd<'_>) -> Result<()> {
    sockopt::set_socket_send_buffer_size_force(socket, RING as usize * 2 * CHUNK as usize)?;
    Ok(())
}

/// Calls the kernel until it has taken `count` frames, and returns how many calls that took.
pub(crate) fn kick(socket: BorrowedFd<'_>, count: usize) -> u64 {
    let calls = count.div_ceil(PER_CALL).max(1);
    for _ in 0..calls {
        // Budget spent, completion ring full, link congested: what is left goes with the next.
        let _goes_later = rustix::net::send(socket, &[], SendFlags::DONTWAIT);
    }
    calls as u64
}
