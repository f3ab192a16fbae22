//! [`Missed`]: what the kernel dropped in front of drivers that do not tell (DPDK 22.11).
//!
//! `net_af_packet` counts nothing, and `net_af_xdp` leaves out what found its RX ring full. They open their
//! sockets when a device is made, or a queue is set up, and keep them to themselves. They are found by what
//! the process has more than before, and asked by descriptors of our own. By these a `net_af_packet` is also told
//! what its driver has no argument for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bypass_core::sys::{interface, option};
use socket2::{SockFilter, SockRef};

/// The driver, by what its devices' names begin with: it has two.
const PACKET: [&str; 2] = ["net_af_packet", "eth_af_packet"];

/// The ring of a `net_af_packet`.
const RING: i32 = libc::tpacket_versions::TPACKET_V2 as i32;

/// What is told of a port when a socket of its driver was not found.
const UNSEEN: &str = "what the kernel drops in front of the port is not counted: a socket of the driver's was not \
                      found among those of the process (another thread opened one at the same time, or /proc is \
                      not there)";

/// A driver's sockets, and what the kernel has dropped in front of them so far.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    sockets: Mutex<Vec<Socket>>,
    /// A socket was not found.
    is_unseen: AtomicBool,
}

/// A descriptor of our own for a driver's socket.
#[derive(Debug)]
enum Socket {
    /// The kernel begins anew with each answer.
    Packet {
        fd: OwnedFd,
        so_far: u64,
    },
    Xdp {
        fd: OwnedFd,
    },
}

impl Missed {
    /// Makes a device by `make`, and finds the sockets that a `net_af_packet` opens for itself.
    pub(crate) fn while_making<T>(device: &str, make: impl FnOnce() -> T) -> (T, Self) {
        if !PACKET.iter().any(|driver| device.starts_with(driver)) {
            return (make(), Self::default());
        }
        let (made, new) = new_sockets(libc::AF_PACKET, make);
        // Other threads may have opened some meanwhile.
        let mut own = new;
        own.retain(|fd| is_drivers(fd.as_fd()));
        if own.len() > 1 && own.iter().any(|fd| group(fd.as_fd()).is_none()) {
            // Nobody can tell which is which.
            own.clear();
        }
        let own: Vec<_> = own.into_iter().map(|fd| Socket::Packet { fd, so_far: 0 }).collect();
        let is_unseen = own.is_empty().into();
        (made, Self { sockets: Mutex::new(own), is_unseen })
    }

    /// Sets a queue of a `net_af_xdp` up, for which the driver opens one socket, unless it answers that it
    /// could not. When another thread has opened one too meanwhile, nobody can tell which is which, and
    /// neither is asked.
    pub(crate) fn while_setting_up(&self, set_up: impl FnOnce() -> i32) -> i32 {
        let (code, mut new) = new_sockets(libc::AF_XDP, set_up);
        match (code, new.pop(), new.is_empty()) {
            (0, Some(fd), true) => self.sockets().push(Socket::Xdp { fd }),
            (0, ..) => self.is_unseen.store(true, Ordering::Relaxed),
            _ => {}
        }
        code
    }

    /// What is to be told when not everything is counted.
    pub(crate) fn fallback(&self) -> Option<String> {
        self.is_unseen.load(Ordering::Relaxed).then(|| UNSEEN.to_owned())
    }

    /// Has a `net_af_packet` receive nothing that this machine itself sends: its driver puts each socket into a
    /// group of its own, for which `PACKET_IGNORE_OUTGOING` of the socket means nothing.
    ///
    /// # Errors
    ///
    /// The kernel's, or that no socket was found.
    pub(crate) fn leave_out_what_is_sent(&self) -> io::Result<()> {
        /// Where a filter finds what it did not find in the packet (`linux/filter.h`).
        const KIND: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
        let step = |code: u32, to: u8, number: u32| SockFilter::new(code as u16, to, 0, number);
        let filter = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, KIND),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, u32::from(libc::PACKET_OUTGOING)),
            step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
            step(libc::BPF_RET | libc::BPF_K, 0, 0),
        ];
        let sockets = self.sockets();
        if sockets.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, UNSEEN));
        }
        sockets.iter().try_for_each(|socket| match socket {
            Socket::Packet { fd, .. } => SockRef::from(fd).attach_filter(&filter),
            Socket::Xdp { .. } => Ok(()),
        })
    }

    /// Packets that were dropped for want of room.
    pub(crate) fn packets(&self) -> u64 {
        self.sockets().iter_mut().map(Socket::missed).sum()
    }

    /// Closes our descriptors: the kernel may use the packets' memory until the last is closed.
    pub(crate) fn forget(&self) {
        self.sockets().clear();
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<Socket>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Socket {
    fn missed(&mut self) -> u64 {
        match self {
            Self::Packet { fd, so_far } => {
                *so_far += u64::from(option::packet_drops(fd.as_fd()).unwrap_or(0));
                *so_far
            }
            Self::Xdp { fd } => option::xdp_ring_full(fd.as_fd()).unwrap_or(0),
        }
    }
}

/// What `make` returns, and the sockets of this family that the process has more than before.
fn new_sockets<T>(family: i32, make: impl FnOnce() -> T) -> (T, Vec<OwnedFd>) {
    let before = sockets(family);
    let made = make();
    let mut after = sockets(family);
    after.retain(|name, _| !before.contains_key(name));
    (made, after.into_values().collect())
}

/// The sockets of this family that this process has open now, each once, by what the kernel calls them:
/// `socket:[4711]`, whose number is not given again.
fn sockets(family: i32) -> BTreeMap<PathBuf, OwnedFd> {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    // To close any descriptor of a file gives up the locks that this process has on it (fcntl(2)), and DPDK
    // has some: nothing but sockets is duplicated.
    let open = open.filter(|entry| {
        let name = fs::read_link(entry.path());
        name.is_ok_and(|name| name.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
    });
    // Gathered first: ours are descriptors too.
    let numbers: Vec<RawFd> =
        open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let ours = numbers.into_iter().filter_map(duplicate).filter(|fd| {
        let of = option::get_int(fd.as_fd(), libc::SOL_SOCKET, libc::SO_DOMAIN);
        of.is_ok_and(|of| of == family)
    });
    let named = |fd: OwnedFd| {
        let name = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
        Some((name, fd))
    };
    ours.filter_map(named).collect()
}

/// Whether a packet socket is one of a device's. It shares its packets in the group that the driver makes of
/// those: the lower half of this process's number, with the interface's put over it. Since DPDK 25.03 the only
/// one of a device is in no group; then its ring is of the driver's kind.
fn is_drivers(socket: BorrowedFd<'_>) -> bool {
    let Some(interface) = interface::bound(socket) else { return false };
    let wanted = (std::process::id() ^ interface) & 0xffff;
    match group(socket) {
        // Behind it are the way of sharing, and flags.
        Some(group) => group & 0xffff == wanted,
        None => {
            let ring = option::get_int(socket, libc::SOL_PACKET, libc::PACKET_VERSION);
            cfg!(dpdk_25_03) && ring.is_ok_and(|ring| ring == RING)
        }
    }
}

/// The group that a packet socket shares its packets in.
fn group(socket: BorrowedFd<'_>) -> Option<u32> {
    let group = option::get_int(socket, libc::SOL_PACKET, libc::PACKET_FANOUT).ok()?;
    (group != 0).then_some(group.cast_unsigned())
}

/// A descriptor of our own for the same file, whichever that is by now.
fn duplicate(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: any number may be duplicated; one that is no descriptor is refused.
    let own = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    // SAFETY: the kernel has just made it, for us.
    (own >= 0).then(|| unsafe { OwnedFd::from_raw_fd(own) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look at the sockets leaves the process its locks on files.
    #[test]
    fn locks_on_files_stay() {
        let file = tempfile::tempfile().unwrap();
        let lock = |kind: libc::c_int| {
            // SAFETY: all zeroes is a lock of the whole file.
            let mut lock: libc::flock = unsafe { std::mem::zeroed() };
            lock.l_type = kind as libc::c_short;
            lock
        };
        // SAFETY: the lock is read.
        let code = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &lock(libc::F_WRLCK)) };
        assert_eq!(code, 0);
        sockets(libc::AF_PACKET);
        // A lock of this description is in the way of the process's own, if that is still there.
        let mut asked = lock(libc::F_WRLCK);
        // SAFETY: the lock is read and written.
        let code = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut asked) };
        assert_eq!((code, i32::from(asked.l_type)), (0, libc::F_WRLCK));
    }

    fn socket(family: i32) -> Option<OwnedFd> {
        // SAFETY: has no preconditions.
        let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        // SAFETY: the kernel has just made it, for us.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Whoever cannot tell which socket is the driver's says so.
    #[test]
    fn a_socket_that_is_not_found_is_told_of() {
        let set_up = |sockets: usize, code| {
            let (missed, mut opened) = (Missed::default(), Vec::new());
            missed.while_setting_up(|| {
                opened.extend((0..sockets).filter_map(|_| socket(libc::AF_XDP)));
                code
            });
            (opened.len() == sockets).then(|| (missed.sockets().len(), missed.fallback()))
        };
        let Some(found) = set_up(1, 0) else {
            println!("AF_XDP sockets need CAP_NET_RAW");
            return;
        };
        assert_eq!(found, (1, None));
        for sockets in [0, 2] {
            let (found, fallback) = set_up(sockets, 0).unwrap();
            assert_eq!(found, 0);
            assert!(fallback.unwrap().contains("is not counted"), "{sockets}");
        }
        assert_eq!(set_up(2, -libc::ENOMEM).unwrap(), (0, None), "there is no queue");
    }

    /// A thread that opens packet sockets all the time is not taken for a device.
    #[test]
    fn sockets_of_others_are_not_counted() {
        let open = || socket(libc::AF_PACKET);
        for device in ["net_af_packet0", "eth_af_packet0"] {
            let (other, missed) = Missed::while_making(device, open);
            if other.is_none() {
                println!("packet sockets need CAP_NET_RAW");
                return;
            }
            assert!(missed.sockets().is_empty(), "it is nobody's device");
            assert!(missed.fallback().is_some(), "and that is told");
            assert!(missed.leave_out_what_is_sent().is_err());
        }
        let (other, new) = new_sockets(libc::AF_PACKET, open);
        assert_eq!(new.len(), 1, "found it is");
        drop((other, new));
    }
}
