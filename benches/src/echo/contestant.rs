//! What a server is made of and how it is compared.

use std::convert::Infallible;
use std::net::{TcpListener, UdpSocket};

use anyhow::{Context as _, Result};

/// What a server runs on. Those of this program serve until the process ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    /// This program, given a bound socket.
    Udp(fn(UdpSocket) -> Result<Infallible>),
    /// This program, given a socket that listens.
    Tcp(fn(TcpListener) -> Result<Infallible>),
    /// sockperf, with these options.
    Sockperf(&'static [&'static str]),
}

/// A server by name.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    /// Whether it is one of ours; the others are peers.
    pub(crate) ours: bool,
    /// Whether it spins and never sleeps: such servers are compared with each other only.
    pub(crate) spins: bool,
}

impl Contestant {
    pub(super) const fn peer(name: &'static str, program: Program) -> Self {
        Self { name, program, ours: false, spins: false }
    }

    pub(super) const fn ours(name: &'static str, program: Program) -> Self {
        Self { name, program, ours: true, spins: false }
    }

    pub(super) const fn spinning(self) -> Self {
        Self { spins: true, ..self }
    }

    pub(super) fn find<'a>(contestants: &'a [Self], name: &str) -> Result<&'a Self> {
        let contestant = contestants.iter().find(|contestant| contestant.name == name);
        contestant.with_context(|| format!("there is no server `{name}`"))
    }
}
