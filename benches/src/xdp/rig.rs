//! [`Rig`]: a cable in a network of the process's own, and a socket's place at its near end.

use std::fs;

use anyhow::{Context as _, Result};
use bypass_core::sandbox::{Interface, Sandbox};
use bypass_xdp::program::XskMap;

use super::bpf::{self, Program, Verdict};
use crate::cable::unique;
use crate::generator::live::{Attached, index};

/// Bytes in a frame, the shortest that Ethernet has.
pub(crate) const LEN: usize = 60;

/// An EtherType for experiments, which no kernel answers to.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];

/// Two ends of a cable. What leaves the near end is counted and dropped at the far one.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) near: Interface,
    pub(crate) far: Interface,
    _sandbox: Sandbox,
}

/// One end, with a place for a socket that every frame goes to.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) interface: String,
    pub(crate) index: u32,
    pub(crate) map: XskMap,
    pub(crate) redirect: Program,
    /// What is sent from here.
    pub(crate) frame: [u8; LEN],
}

impl Rig {
    /// Moves the process into a network of its own; no thread may have been started yet.
    pub(crate) fn enter() -> Result<Self> {
        let sandbox = Sandbox::enter()?;
        // IPv6 would say things by itself.
        let quiet = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
        fs::write(quiet, "1").with_context(|| format!("cannot write {quiet}"))?;
        let [near, far] = sandbox.veth(&unique())?;
        Ok(Self { near, far, _sandbox: sandbox })
    }

    pub(crate) fn near(&self) -> Result<Place> {
        Place::new(&self.near, &self.far)
    }

    pub(crate) fn far(&self) -> Result<Place> {
        Place::new(&self.far, &self.near)
    }

    /// Has the far end drop what arrives, in the driver.
    pub(crate) fn sink(&self) -> Result<Attached> {
        Program::verdict(Verdict::Drop)?.attach(index(&self.far.name)?)
    }

    /// Frames that have arrived at the far end.
    pub(crate) fn delivered(&self) -> Result<u64> {
        let file = "/proc/thread-self/net/dev";
        let table = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let line = table.lines().find_map(|line| {
            let (name, counters) = line.split_once(':')?;
            (name.trim() == self.far.name).then_some(counters)
        });
        // Bytes, packets and so on.
        let packets = line.and_then(|counters| counters.split_whitespace().nth(1)?.parse().ok());
        packets.with_context(|| format!("{file} does not know {}", self.far.name))
    }
}

impl Place {
    fn new(here: &Interface, there: &Interface) -> Result<Self> {
        let map = bpf::socket_map()?;
        let mut frame = [0; LEN];
        frame[..6].copy_from_slice(&there.mac.0);
        frame[6..12].copy_from_slice(&here.mac.0);
        frame[12..14].copy_from_slice(&ETHER_TYPE);
        Ok(Self {
            interface: here.name.clone(),
            index: index(&here.name)?,
            redirect: Program::redirect(&map)?,
            map,
            frame,
        })
    }

    /// Has `count` frames arrive for the socket, without a wire.
    pub(crate) fn inject(&self, count: u32) -> Result<()> {
        self.redirect.run(&self.frame, self.index, count)
    }
}
