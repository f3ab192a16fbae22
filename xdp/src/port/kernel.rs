//! [`Kernel`]: the calls of an open port, and what their errors say about the link.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bypass_core::{Error, Result};

use crate::socket::Interface;
use crate::sys::{self, Statistics};

/// What became of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// `recv` has told, or some other call.
    Down,
    /// Removed: the kernel has unbound the socket for good.
    Gone,
}

/// The kernel, as the port sees it.
#[derive(Debug)]
pub(super) struct Kernel {
    link: Arc<Interface>,
    state: State,
    /// What became of the link was found out, and not told.
    untold: bool,
    pub(super) syscalls: u64,
    /// Times that a wait slept.
    pub(super) wakeups: u64,
}

impl Kernel {
    pub(super) fn new(link: Arc<Interface>) -> Self {
        Self { link, state: State::Up, untold: false, syscalls: 0, wakeups: 0 }
    }

    pub(super) fn link(&self) -> &Interface {
        &self.link
    }

    /// Whether the link was up when the kernel was last asked.
    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether the link was down when the kernel was last asked.
    pub(super) fn is_down(&self) -> bool {
        self.state == State::Down
    }

    /// Rings the doorbell of the TX ring.
    pub(super) fn kick(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.syscalls += 1;
        let outcome = sys::kick_tx(socket);
        self.learn(&outcome);
        outcome
    }

    /// Rings the doorbell of the fill ring, polls a device that is polled, and looks after the link.
    ///
    /// A link that has gone down since is an error, once; everything else is no news.
    pub(super) fn poll(&mut self, socket: BorrowedFd<'_>) -> Result<()> {
        self.syscalls += 1;
        let before = self.state;
        let outcome = sys::kick_rx(socket);
        self.learn(&outcome);
        let is_news = std::mem::take(&mut self.untold) || self.state != before;
        match outcome {
            Err(error) if self.state != State::Up && is_news => Err(self.explain("receive", error)),
            _ => Ok(()),
        }
    }

    /// The error of [`poll`](Self::poll) could not be passed on: its next call has it again.
    pub(super) fn tell_later(&mut self) {
        self.untold = true;
    }

    fn learn(&mut self, outcome: &io::Result<()>) {
        self.state = match outcome.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(libc::ENXIO)) => State::Gone,
            Err(Some(libc::ENETDOWN)) => State::Down,
            _ if self.state == State::Gone => State::Gone,
            _ => State::Up,
        };
    }

    pub(super) fn explain(&self, what: &str, error: io::Error) -> Error {
        self.link.explain(format!("{what} on {}", self.link.name), error)
    }

    pub(super) fn still_there(&self) -> Result<()> {
        if self.state != State::Gone {
            return Ok(());
        }
        let attempt = "use an AF_XDP port whose interface was removed".into();
        Err(Error::NoSuchInterface { attempt, name: self.link.name.clone() })
    }

    /// The kernel's counters of the socket; zeros where it has none.
    pub(super) fn statistics(&self, socket: BorrowedFd<'_>) -> Statistics {
        sys::statistics(socket).unwrap_or(Statistics {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: None,
            rx_fill_ring_empty_descs: None,
            tx_ring_empty_descs: None,
        })
    }
}
