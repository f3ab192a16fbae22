//! [`Exporter`]: a board over HTTP, as Prometheus text and as JSON.

mod address;
mod http;
mod metrics;
mod pages;
mod server;

use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};

pub use self::address::Address;
use self::address::Listener;
use self::pages::Pages;
use self::server::Server;
use super::Board;
use crate::{Error, Result};

/// Serves a [`Board`] over HTTP from a thread of its own, until it is dropped.
///
/// - `/metrics`: in Prometheus' text format, or OpenMetrics where the client prefers that;
/// - `/json`: everything, each worker as a [`Reading`](super::Reading).
///
/// ```
/// use bypass_core::telemetry::{Board, Exporter};
/// # use std::io::{Read, Write};
///
/// let board = Board::new();
/// let exporter = Exporter::start(&board, "127.0.0.1:0")?; // or "unix:/run/application.sock"
/// println!("telemetry at http://{}/metrics", exporter.address());
/// # let mut client = std::net::TcpStream::connect(exporter.address().to_string())?;
/// # client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")?;
/// # let mut answer = String::new();
/// # client.read_to_string(&mut answer)?;
/// # assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Clients cannot hold the workers up. The thread has the lowest priority (nice 19), whose weight is 15
/// where a worker's is 1024 (`sched_prio_to_weight` in `kernel/sched/core.c`): it takes little of a core
/// that a worker spins on. However many ask, each page is made ten times a second at the most, and served
/// as it was in between. There are 16 connections at a time, each with 4 KiB of request and five seconds
/// to live; when one more comes, the oldest makes room for it.
///
/// Whoever reaches the address can read it: there is no encryption and nobody has to say who they are.
/// Take a loopback address, one of a management network, or a Unix socket, whose directory says who
/// may.
#[derive(Debug)]
pub struct Exporter {
    address: Address,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Listens at an [`Address`], such as `127.0.0.1:9100` or `unix:/run/application.sock`, and serves the
    /// board there. The thread runs on the cores that the calling thread may run on.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for what is no address; [`Error::Os`] when it cannot be listened at, with
    /// what to do about it.
    pub fn start(board: &Board, place: &str) -> Result<Self> {
        Self::listen(place)?.serve(board)
    }

    /// Listens at an [`Address`], and serves nothing yet: for a program that enters another network
    /// namespace or gives up privileges, or that may have one thread only until it has done so.
    ///
    /// ```
    /// use bypass_core::telemetry::{Board, Exporter};
    ///
    /// let listening = Exporter::listen("127.0.0.1:0")?; // where others reach it
    /// // ... enter the namespace in which the packets are ...
    /// let exporter = listening.serve(&Board::new())?;
    /// # Ok::<(), bypass_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn listen(place: &str) -> Result<Listening> {
        let (listener, address) = place.parse::<Address>()?.listen()?;
        Ok(Listening { listener, address })
    }

    /// Where it listens; port 0 has become one that was free.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// An exporter's address that is [listened](Exporter::listen) at: clients connect, and are answered when it
/// [serves](Self::serve).
#[derive(Debug)]
pub struct Listening {
    listener: Listener,
    address: Address,
}

impl Listening {
    /// Serves the board. The thread runs on the cores that the calling thread may run on.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when there is no thread or no descriptor to be had.
    pub fn serve(self, board: &Board) -> Result<Exporter> {
        let Self { listener, address } = self;
        let refused = |what| move |error| Error::os(what, error);
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(refused("make an eventfd for the exporter"))?;
        let stopped = stop.try_clone().map_err(|error| Error::os("share an eventfd", error))?;
        let server = Server::new(listener, stopped, Pages::new(board.clone()));
        let thread = std::thread::Builder::new()
            .name("exporter".to_owned())
            .spawn(move || server.run())
            .map_err(|error| Error::os("start the exporter's thread", error))?;
        Ok(Exporter { address, stop, thread: Some(thread) })
    }
}

impl Drop for Exporter {
    /// Ends the thread, and removes a Unix socket's file.
    fn drop(&mut self) {
        // There is room: nobody else writes to it.
        let _told = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
