//! Network interfaces of the calling thread's namespace.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::Name;
use crate::{Error, MacAddr, Result, Unsupported};

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
    let answer = ask(socket, name, libc::SIOCGIFMTU as _).map_err(refused)?;
    // SAFETY: an integer, which any bytes are, and the member that the kernel has written.
    let mtu = unsafe { answer.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(|_| refused(io::ErrorKind::InvalidData.into()))
}

/// The Ethernet address of the interface of this name (`SIOCGIFHWADDR` of `netdevice(7)`).
///
/// ```no_run
/// println!("{}", bypass_core::sys::interface::mac("eth0")?);
/// # Ok::<(), bypass_core::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::NoSuchInterface`]; [`Error::Unsupported`] for an interface that has none.
pub fn mac(name: &str) -> Result<MacAddr> {
    let attempt = format!("read the Ethernet address of {name}");
    let failed = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENODEV) => {
            Error::NoSuchInterface { attempt: attempt.clone().into(), name: name.to_owned() }
        }
        _ => Error::os(attempt.clone(), error),
    };
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(failed)?;
    let answer = ask(socket.as_fd(), name, libc::SIOCGIFHWADDR as _).map_err(failed)?;
    // SAFETY: integers, which any bytes are, and the member that the kernel has written.
    let address = unsafe { answer.ifr_ifru.ifru_hwaddr };
    match (address.sa_family, address.sa_data.first_chunk()) {
        (libc::ARPHRD_ETHER, Some(bytes)) => Ok(MacAddr(bytes.map(|byte| byte as u8))),
        _ => Err(Error::Unsupported(Unsupported {
            what: "Ethernet address".into(),
            backend: "this interface",
            why: format!("{name} is no Ethernet device").into(),
        })),
    }
}

/// Asks netdevice(7) for what `request` names of an interface.
fn ask(socket: BorrowedFd<'_>, name: &str, request: libc::Ioctl) -> io::Result<libc::ifreq> {
    // SAFETY: integers and arrays of integers may be all zero.
    let mut answer: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= answer.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in answer.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the kernel reads the name, which ends with a zero, and writes into `answer`.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut answer) };
    if outcome == 0 { Ok(answer) } else { Err(io::Error::last_os_error()) }
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
    let index = name.interface(len).filter(|_| answer == 0)?;
    // The kernel writes -1 when it removes the interface.
    i32::try_from(index).ok().filter(|index| *index > 0).map(i32::unsigned_abs)
}

#[cfg(test)]
mod tests {
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
            let error = mac(name).unwrap_err();
            assert!(matches!(error, Error::NoSuchInterface { .. }), "{error}");
        }
        let error = mac("lo").unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
    }
}
