//! [`Missed`]: what the kernel dropped in front of `net_af_packet`, which does not tell (DPDK 22.11).
//!
//! The driver opens its sockets when the device is made, and keeps them to itself. They are found by what
//! the process has more than before, and asked (`PACKET_STATISTICS` in packet(7)) by descriptors of our
//! own.

use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use bypass_core::sys::option;

/// The driver, by what its devices' names begin with.
const DRIVER: &str = "net_af_packet";

/// The sockets of a device, and what the kernel has dropped in front of them so far.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    sockets: Vec<OwnedFd>,
    packets: Mutex<u64>,
}

impl Missed {
    /// Makes a device by `make`, and finds its sockets.
    pub(crate) fn while_making<T>(device: &str, make: impl FnOnce() -> T) -> (T, Self) {
        if !device.starts_with(DRIVER) {
            return (make(), Self::default());
        }
        let before = sockets();
        let made = make();
        let new = sockets().into_iter().filter(|fd| !before.contains(fd));
        (made, Self { sockets: new.filter_map(duplicate).collect(), packets: Mutex::new(0) })
    }

    /// Packets that were dropped for want of room.
    pub(crate) fn packets(&self) -> u64 {
        // The kernel begins anew with each answer.
        let new =
            self.sockets.iter().filter_map(|socket| option::packet_drops(socket.as_fd()).ok());
        let mut packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
        *packets += new.map(u64::from).sum::<u64>();
        *packets
    }
}

/// The packet sockets that this process has open.
fn sockets() -> BTreeSet<RawFd> {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|&fd| is_packet_socket(fd)).collect()
}

fn is_packet_socket(fd: RawFd) -> bool {
    let mut domain = MaybeUninit::<libc::c_int>::zeroed();
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    let at = domain.as_mut_ptr().cast();
    // SAFETY: any number may be asked about; there is room for the answer.
    let code = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, at, &raw mut len) };
    // SAFETY: it was zeroed, and is a number.
    code == 0 && unsafe { domain.assume_init() } == libc::AF_PACKET
}

/// A descriptor of our own for the same socket.
fn duplicate(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: any number may be duplicated; one that is no descriptor is refused.
    let own = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if own < 0 {
        return None;
    }
    // SAFETY: the kernel has just made it, for us.
    let own = unsafe { OwnedFd::from_raw_fd(own) };
    // Another thread may have closed the first one meanwhile, and opened something else.
    is_packet_socket(std::os::fd::AsRawFd::as_raw_fd(&own)).then_some(own)
}
