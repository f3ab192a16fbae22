//! A port that is kept from others.

use std::os::fd::{AsFd, OwnedFd};

use socket2::{SockFilter, Socket};

use crate::sys::QueueDrops;
use crate::{Error, Result};

/// A socket that has a port and receives nothing.
#[derive(Debug)]
pub(super) struct Reserved {
    socket: Socket,
    drops: QueueDrops,
}

impl Reserved {
    pub(super) fn new(socket: OwnedFd) -> Result<Self> {
        let socket = Socket::from(socket);
        // `return 0` of a classic BPF program: nothing of the packet is kept.
        let nothing = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
        socket
            .attach_filter(&[nothing])
            .map_err(|error| Error::os("keep a reserved UDP port from receiving", error))?;
        let drops = QueueDrops::new(socket.as_fd());
        Ok(Self { socket, drops })
    }

    /// Datagrams that the kernel had for the port.
    pub(super) fn dropped(&self) -> u64 {
        self.drops.read(self.socket.as_fd())
    }
}
