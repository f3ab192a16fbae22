//! [`Requests`]: what a generator sends, in which order, and what is answered.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Result, ensure};
use bypass_core::MacAddr;
use bypass_core::sandbox::Host;

use super::tables::{FRAME, FRAMES, HEADERS, PATCH, Plan, Request};

/// From the client to the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) macs: [MacAddr; 2],
    pub(crate) from: Ipv4Addr,
    pub(crate) to: SocketAddrV4,
}

impl Route {
    /// From the host to an address of the sandbox.
    pub(crate) fn from(host: &Host, to: SocketAddrV4) -> Self {
        let [here, there] = &host.ends;
        Self { macs: [there.mac, here.mac], from: host.there, to }
    }
}

/// A datagram that may be sent, as it is or changed at one place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Template {
    at: u32,
    length: u16,
}

/// Datagrams in the order in which they are sent; after the last one comes the first one again.
#[derive(Debug)]
pub(crate) struct Requests {
    route: Route,
    pub(super) frames: Vec<u8>,
    pub(super) order: Vec<Request>,
    plan: Plan,
}

impl Requests {
    pub(crate) fn new(route: Route) -> Self {
        Self { route, frames: Vec::new(), order: Vec::new(), plan: Plan::default() }
    }

    /// Has each datagram begin with a number of 16 bits, which its answer begins with, too. In the eight bytes
    /// at `at` (0 or 8) of an answer those of `mask` are as in one of `expected`.
    pub(crate) fn answered(mut self, at: u16, mask: [u8; 8], expected: [[u8; 8]; 2]) -> Self {
        self.plan.number_at = HEADERS as u16;
        (self.plan.answer_at, self.plan.mask, self.plan.expected) = (at, mask, expected);
        self
    }

    /// Has datagrams count: a number of 64 bits at `at` is `first`, and `step` more in each.
    pub(crate) fn counted(mut self, at: usize, first: u64, step: u64) -> Self {
        self.plan.sequence_at = (HEADERS + at) as u16;
        (self.plan.first, self.plan.step) = (first, step);
        self
    }

    /// Has datagrams say when they were due: the lower 48 bits of [`now`](super::now), at `at`.
    pub(crate) fn stamped(mut self, at: usize) -> Self {
        self.plan.due_at = (HEADERS + at) as u16;
        self
    }

    /// Makes a datagram.
    pub(crate) fn template(&mut self, payload: &[u8]) -> Result<Template> {
        let (at, length) = (self.frames.len(), HEADERS + payload.len());
        ensure!(length <= FRAME, "a datagram of {} B is too long for a frame", payload.len());
        ensure!(at + FRAME <= FRAMES, "the datagrams have more than {FRAMES} B in all");
        self.frames.extend(headers(&self.route, payload.len() as u16));
        self.frames.extend(payload);
        Ok(Template { at: at as u32, length: length as u16 })
    }

    /// Sends a datagram next.
    pub(crate) fn push(&mut self, template: Template) {
        let Template { at, length } = template;
        self.order.push(Request { at, length, patch_at: 0, patch: [0; PATCH] });
    }

    /// Sends a datagram with other bytes at `place` next.
    pub(crate) fn push_with(&mut self, template: Template, place: usize, bytes: [u8; PATCH]) {
        let Template { at, length } = template;
        let patch_at = (HEADERS + place) as u16;
        self.order.push(Request { at, length, patch_at, patch: bytes });
    }

    pub(super) fn plan(&self, interface: u32) -> Plan {
        Plan { interface, requests: self.order.len() as u32, ..self.plan }
    }
}

/// What is before the payload, but for the port of the stretch. The checksum of UDP may be left out over IPv4; a
/// network card would check it.
fn headers(route: &Route, payload: u16) -> [u8; HEADERS] {
    let mut frame = [0; HEADERS];
    frame[..6].copy_from_slice(&route.macs[1].0);
    frame[6..12].copy_from_slice(&route.macs[0].0);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip = &mut frame[14..34];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(20 + 8 + payload).to_be_bytes());
    (ip[8], ip[9]) = (64, 17);
    ip[12..16].copy_from_slice(&route.from.octets());
    ip[16..20].copy_from_slice(&route.to.ip().octets());
    let words = ip.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let udp = &mut frame[34..];
    udp[2..4].copy_from_slice(&route.to.port().to_be_bytes());
    udp[4..6].copy_from_slice(&(8 + payload).to_be_bytes());
    frame
}
