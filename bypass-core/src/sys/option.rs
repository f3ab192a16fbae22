//! Socket options that no wrapper has, as integers or bytes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets an option to the bytes of a C structure, with `setsockopt(2)`.
///
/// # Errors
///
/// The kernel's.
pub fn set(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let (pointer, len) = (value.as_ptr().cast(), value.len() as libc::socklen_t);
    // SAFETY: the kernel reads `len` bytes from a slice of that length.
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

/// Reads an option into `value` with `getsockopt(2)`, and returns how many bytes it has.
///
/// # Errors
///
/// The kernel's.
pub fn get(fd: BorrowedFd<'_>, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
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

/// How many packets the socket has dropped because its receive buffer was full, modulo 2³²
/// (`SO_MEMINFO`, Linux 4.12+). Unlike `SO_RXQ_OVFL` this is known without receiving another
/// packet, and costs nothing per packet.
///
/// # Errors
///
/// The kernel's.
pub fn queue_drops(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = [0; 4 * 9];
    let len = get(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut info)?;
    let drops = info.get(4 * libc::SK_MEMINFO_DROPS as usize..len).and_then(<[u8]>::first_chunk);
    drops.map(|bytes| u32::from_ne_bytes(*bytes)).ok_or(io::ErrorKind::Unsupported.into())
}
