//! Network interfaces of the calling thread's namespace.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

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
