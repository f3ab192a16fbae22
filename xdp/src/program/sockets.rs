//! [`XskMap`]: which socket takes the redirected frames of a queue.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bypass_core::{Error, Result};

use super::sys::{self, SocketMap};

/// A map of type `BPF_MAP_TYPE_XSKMAP`, from queues to AF_XDP sockets.
///
/// The one of a [`Program`](super::Program), or of any other program: through a descriptor that a
/// privileged process has passed on, or a path where it is pinned. Changing it takes no capability
/// where `kernel.unprivileged_bpf_disabled` is 0, and from Linux 5.19 on in any case.
#[derive(Debug)]
pub struct XskMap(SocketMap);

impl XskMap {
    /// Takes a map through its descriptor.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when it is another kind of map, or no map.
    pub fn from_fd(map: OwnedFd) -> Result<Self> {
        let name = format!("{map:?}");
        let why = match SocketMap::new(map) {
            Ok(Ok(map)) => return Ok(Self(map)),
            Ok(Err(other)) => format!("it is a map of type {other}, not an XSKMAP (17)"),
            Err(error) => format!("it cannot be looked at as a map: {error}"),
        };
        Err(Error::config("XSKMAP", name, why))
    }

    /// Opens a map that is pinned in a BPF file system.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when there is none, [`Error::Config`] when it is another kind of map.
    pub fn open_pinned(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let map = sys::open_pinned(path)
            .map_err(|error| Error::os(format!("open the map at {}", path.display()), error))?;
        Self::from_fd(map)
    }

    /// How many queues the map has room for.
    #[must_use]
    pub fn queues(&self) -> u32 {
        self.0.entries
    }

    /// Gives a queue's frames to a socket, which must be bound to that queue. The entry goes when
    /// the socket is closed.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a queue that the map has no room for; [`Error::Os`] with `EEXIST` when
    /// another socket serves the queue, `EOPNOTSUPP` when this one has no RX ring yet or
    /// is no AF_XDP socket.
    pub fn insert(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<()> {
        self.check(queue)?;
        self.0.insert(queue, socket).map_err(|error| {
            let remedy = match error.raw_os_error() {
                Some(libc::EEXIST) => "another socket serves this queue: close it first",
                Some(libc::EOPNOTSUPP) => "it must be an AF_XDP socket that has an RX ring",
                Some(libc::EPERM) => "it takes CAP_BPF before Linux 5.19",
                _ => "",
            };
            let error = Error::os(format!("give queue {queue} to a socket"), error);
            if remedy.is_empty() { error } else { error.with_remedy(remedy) }
        })
    }

    /// Takes a queue's frames from its socket, if it has one; they go to the kernel from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a queue that the map has no room for; the kernel's.
    pub fn remove(&self, queue: u32) -> Result<()> {
        self.check(queue)?;
        let refused = |error| Error::os(format!("take queue {queue} from its socket"), error);
        self.0.remove(queue).map_err(refused)
    }

    fn check(&self, queue: u32) -> Result<()> {
        if queue < self.queues() {
            return Ok(());
        }
        let why = format!("the XDP program's map has room for {} queues only", self.queues());
        Err(Error::config("queue", queue, why))
    }
}

impl AsFd for XskMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
