//! How many queues an interface has (`ETHTOOL_GCHANNELS` of `linux/ethtool.h`).
//!
//! # What the unsafe code here relies on
//!
//! The kernel reads the name and the first word of the structure that `ifr_data` points to, and writes
//! that structure, all during the call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Debug, Default)]
struct Channels {
    cmd: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// How many queues can have a socket: the interface's RX or TX queues in use, whichever are more. A
/// driver that cannot tell has one.
pub(crate) fn queues(socket: BorrowedFd<'_>, interface: &str) -> io::Result<u32> {
    // SAFETY: integers and pointers may be all zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    let mut channels = Channels { cmd: ETHTOOL_GCHANNELS, ..Channels::default() };
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    let number = libc::SIOCETHTOOL as libc::Ioctl;
    // SAFETY: the name ends with a zero, and `ifru_data` points to the structure that this command is
    // about, which nothing else accesses during the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw mut request) };
    if answer == 0 {
        return Ok((channels.combined + channels.rx.max(channels.tx)).max(1));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EOPNOTSUPP) { Ok(1) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<Channels>(), 36);
        assert_eq!(std::mem::offset_of!(Channels, rx), 20);
        assert_eq!(std::mem::offset_of!(Channels, combined), 32);
    }

    #[test]
    fn a_driver_without_channels_has_one_queue() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(queues(socket.as_fd(), "lo").unwrap(), 1);
        for none in ["nosuch0", "a-name-that-is-longer-than-the-kernel-allows"] {
            let error = queues(socket.as_fd(), none).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{none}");
        }
    }
}
