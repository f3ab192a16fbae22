//! Socket options that no wrapper has, as integers or bytes.
//!
//! Outside of this crate there are only options whose value is known: a few structures hold
//! addresses at which the kernel then writes (`XDP_UMEM_REG`, `TCP_ZEROCOPY_RECEIVE`), so setting or
//! reading just any structure is not safe. None of those is as short as an `int`.
//!
//! ```compile_fail,E0603
//! # use std::os::fd::BorrowedFd;
//! fn register(xdp: BorrowedFd<'_>, memory: &[u8]) -> std::io::Result<()> {
//!     bypass_core::sys::option::set(xdp, libc::SOL_XDP, libc::XDP_UMEM_REG, memory)
//! }
//! ```

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Error, Occupancy, Result};

/// Sets an option to the bytes of a C structure, with `setsockopt(2)`. The structure must be one that
/// holds no addresses.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn set(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let (pointer, len) = (value.as_ptr().cast(), value.len() as libc::socklen_t);
    // SAFETY: the kernel reads `len` bytes from a slice of that length, among which is no address.
    let answer = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, pointer, len) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option to an `int`.
///
/// # Errors
///
/// The kernel's.
pub fn set_int(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    set(fd, level, name, &value.to_ne_bytes())
}

/// Reads an option into `value` with `getsockopt(2)`, and returns how many bytes it has. Must be one
/// for which the kernel follows no address in `value`.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn get(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &mut [u8],
) -> io::Result<usize> {
    let mut len = value.len() as libc::socklen_t;
    let pointer = value.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `len` bytes, which is the length of the slice, and to `len`.
    let answer = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, pointer, &raw mut len) };
    if answer == 0 { Ok(len as usize) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option that is an `int`.
///
/// # Errors
///
/// The kernel's.
pub fn get_int(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value = [0; 4];
    get(fd, level, name, &mut value)?;
    Ok(i32::from_ne_bytes(value))
}

/// Which queue of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// `SO_RCVBUF`.
    Receive,
    /// `SO_SNDBUF`.
    Send,
}

/// The longest queue of a socket, in bytes: the kernel keeps twice of it in an `int`.
pub const MAX_QUEUE: usize = i32::MAX as usize / 2;

/// Makes a socket's queue `size` bytes long: `SO_RCVBUFFORCE` or `SO_SNDBUFFORCE`, or what is
/// allowed without CAP_NET_ADMIN. Answers what to tell in [`Caps::fallbacks`](crate::Caps) where
/// that is less.
///
/// # Errors
///
/// [`Error::Config`] beyond [`MAX_QUEUE`], [`Error::Os`] when the kernel refuses.
pub fn set_queue(fd: BorrowedFd<'_>, queue: Queue, size: usize) -> Result<Option<String>> {
    let (force, limited, what, limit) = match queue {
        Queue::Receive => (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, "receive buffer", "rmem_max"),
        Queue::Send => (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, "send buffer", "wmem_max"),
    };
    if size > MAX_QUEUE {
        // The kernel would take less without a word.
        return Err(Error::config(what, size, "a socket's queue is shorter than 1 GiB"));
    }
    let value = size as i32;
    if set_int(fd, libc::SOL_SOCKET, force, value).is_ok() {
        return Ok(None);
    }
    let refused = |error| Error::os(format!("set the {what} of a socket to {size} bytes"), error);
    set_int(fd, libc::SOL_SOCKET, limited, value).map_err(refused)?;
    // The kernel tells twice of what it was asked for.
    let got = get_int(fd, libc::SOL_SOCKET, limited).map_err(refused)? / 2;
    Ok((got < value).then(|| {
        format!(
            "{what}: {size} bytes preferred, {got} obtained: the limit is net.core.{limit}, which \
             CAP_NET_ADMIN may exceed"
        )
    }))
}

/// Takes the error that is pending on a socket (`SO_ERROR`).
#[must_use]
pub fn take_error(fd: BorrowedFd<'_>) -> Option<io::Error> {
    let pending = get_int(fd, libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(0);
    (pending != 0).then(|| io::Error::from_raw_os_error(pending))
}

/// How many frames an AF_PACKET socket has dropped since this was last asked, which sets it back
/// (`PACKET_STATISTICS` in `packet(7)`).
///
/// # Errors
///
/// The kernel's.
pub fn packet_drops(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // struct tpacket_stats: packets, drops
    let mut counts = [0; 8];
    get(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut counts)?;
    let [.., a, b, c, d] = counts;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

/// How many packets an AF_XDP socket has dropped because its RX ring was full (`rx_ring_full` of
/// `XDP_STATISTICS`, Linux 5.9+).
///
/// # Errors
///
/// The kernel's.
pub fn xdp_ring_full(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // struct xdp_statistics: rx_dropped, rx_invalid_descs, tx_invalid_descs, rx_ring_full, ...
    let mut counts = [0; 48];
    let len = get(fd, libc::SOL_XDP, libc::XDP_STATISTICS, &mut counts)?;
    let full = counts.get(24..len).and_then(<[u8]>::first_chunk);
    full.map(|full| u64::from_ne_bytes(*full)).ok_or(io::ErrorKind::Unsupported.into())
}

/// How many packets the socket has dropped because its receive buffer was full, modulo 2³²
/// (`SO_MEMINFO`, Linux 4.12+). Unlike `SO_RXQ_OVFL` this is known without receiving another
/// packet, and costs nothing per packet.
///
/// # Errors
///
/// The kernel's.
pub fn queue_drops(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let [drops] = memory_info(fd, [libc::SK_MEMINFO_DROPS])?;
    Ok(drops)
}

/// Bytes in the socket's receive queue, with the kernel's bookkeeping, and bytes that may be there
/// (`SO_MEMINFO`, Linux 4.12+).
///
/// # Errors
///
/// The kernel's.
pub fn receive_queue(fd: BorrowedFd<'_>) -> io::Result<Occupancy> {
    let [used, size] = memory_info(fd, [libc::SK_MEMINFO_RMEM_ALLOC, libc::SK_MEMINFO_RCVBUF])?;
    Ok(Occupancy { used: used.into(), size: size.into() })
}

/// Some of the numbers that `SO_MEMINFO` tells (`include/uapi/linux/sock_diag.h`).
fn memory_info<const N: usize>(fd: BorrowedFd<'_>, which: [i32; N]) -> io::Result<[u32; N]> {
    let mut info = [0; 4 * 9];
    let len = get(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut info)?;
    let mut numbers = [0; N];
    for (number, at) in numbers.iter_mut().zip(which) {
        let bytes = info.get(4 * at as usize..len).and_then(<[u8]>::first_chunk);
        let bytes = bytes.ok_or(io::ErrorKind::Unsupported)?;
        *number = u32::from_ne_bytes(*bytes);
    }
    Ok(numbers)
}
