//! Network interfaces of the calling thread's namespace.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::Name;
use crate::{Error, Result};

/// The index of the interface of this name.
///
/// # Errors
///
/// [`Error::NoSuchInterface`], which says what was `attempt`ed.
pub fn index(socket: BorrowedFd<'_>, name: &str, attempt: &str) -> Result<u32> {
    rustix::net::netdevice::name_to_index(socket, name).map_err(|_| Error::NoSuchInterface {
        attempt: attempt.to_owned().into(),
        name: name.to_owned(),
    })
}

/// The largest packet, without link-layer header, that the interface sends (`SIOCGIFMTU` of
/// `netdevice(7)`), in bytes.
///
/// # Errors
///
/// [`Error::Os`].
pub fn mtu(socket: BorrowedFd<'_>, name: &str) -> Result<usize> {
    let refused = |error: io::Error| Error::os(format!("read the MTU of {name}"), error);
    // SAFETY: integers and arrays of integers may be all zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(refused(io::ErrorKind::InvalidInput.into()));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the kernel reads the name, which ends with a zero, and writes the MTU into `request`.
    let answer =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) };
    if answer != 0 {
        return Err(refused(io::Error::last_os_error()));
    }
    // SAFETY: the call succeeded, so this is the member that the kernel has written.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(|_| refused(io::ErrorKind::InvalidData.into()))
}

/// Binds an AF_PACKET socket to an interface and an EtherType (`ETH_P_ALL`: all of them).
///
/// # Errors
///
/// The kernel's.
pub fn bind(socket: BorrowedFd<'_>, index: u32, ethertype: u16) -> io::Result<()> {
    let mut name = Name::default();
    let len = name.set_link(index, ethertype);
    // SAFETY: the kernel reads `len` bytes, fewer than a name has.
    let answer = unsafe { libc::bind(socket.as_raw_fd(), (&raw const name).cast(), len) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The index of the interface that an AF_PACKET socket is bound to; `None` when that is gone.
#[must_use]
pub fn bound(socket: BorrowedFd<'_>) -> Option<u32> {
    let (mut name, mut len) = (Name::default(), Name::ROOM);
    // SAFETY: the kernel writes at most `len` bytes, which is the size of the name, and to `len`.
    let answer =
        unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut name).cast(), &raw mut len) };
    let index = name.link(len).filter(|_| answer == 0)?.interface;
    // The kernel writes -1 when it removes the interface.
    i32::try_from(index).ok().filter(|index| *index > 0).map(i32::unsigned_abs)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_loopback_interface_is_found_and_no_other() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let fd = socket.as_fd();
        assert!(index(fd, "lo", "test").unwrap() > 0);
        assert!(mtu(fd, "lo").unwrap() >= 1500);
        for name in ["", "nosuch0", "a-name-that-is-longer-than-the-kernel-allows"] {
            let error = index(fd, name, "open a port").unwrap_err();
            assert!(matches!(error, Error::NoSuchInterface { .. }), "{error}");
            assert!(mtu(fd, name).is_err());
        }
    }
}
