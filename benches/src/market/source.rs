//! The feed, and an open loop that sends it over AF_XDP.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bypass_core::{Buffer as _, Burst, Datagram as _, DatagramIo, Endpoint as _};
use bypass_io::xdp::XdpSocket;
use bypass_io::{Bind as _, UdpOptions};
use zerocopy::IntoBytes as _;

use super::day::Day;
use super::itch::Message;
use super::mold::{FIRST, Header, split};
use super::receivers::Control;
use crate::open_loop::{self, Stretch};

const SESSION: [u8; 10] = *b"BENCH00001";
/// Messages that are sent over and over again, about.
const MESSAGES: usize = 40_000;
/// Where a packet has the time at which it was due: the first message's timestamp.
const STAMP: std::ops::Range<usize> = Header::LEN + 2 + 5..Header::LEN + 2 + 11;
const BURST: usize = 64;
/// After this long without a message the rest is lost; longer than a receiver waits for what is missing.
const LOST_AFTER: Duration = Duration::from_millis(150);

/// Packets that leave the books as they were: at the end every order is deleted, so they can be sent again.
pub(super) struct Feed {
    pub(super) packets: Vec<Vec<u8>>,
    /// In every packet.
    pub(super) messages: u64,
}

impl Feed {
    pub(super) fn new(messages: u64) -> Self {
        let day = Day::generate(1, MESSAGES);
        let mut all = Vec::new();
        let (mut open, mut rest) = (HashSet::new(), day.bytes());
        let block = |message: &[u8]| [&(message.len() as u16).to_be_bytes(), message].concat();
        let mut template = None;
        while let Some((message, more)) = split(rest) {
            match Message::read(message) {
                Ok(Message::AddOrder(add)) => drop(open.insert(add.reference.get())),
                Ok(Message::AddOrderAttributed(add)) => drop(open.insert(add.reference.get())),
                Ok(Message::OrderReplace(replace)) => {
                    open.remove(&replace.original.get());
                    open.insert(replace.reference.get());
                }
                Ok(Message::OrderDelete(delete)) => {
                    open.remove(&delete.reference.get());
                    template = Some(*delete);
                }
                _ => {}
            }
            all.push(block(message));
            rest = more;
        }
        // Some were executed meanwhile; to delete them again does no harm.
        if let Some(mut delete) = template {
            for reference in open {
                delete.reference = reference.into();
                all.push(block(delete.as_bytes()));
            }
        }
        let per_packet = messages as usize;
        let packets = all.chunks_exact(per_packet).map(|blocks| {
            let header = Header::new(SESSION, FIRST, messages as u16);
            [header.as_bytes(), &blocks.concat()].concat()
        });
        Self { packets: packets.collect(), messages }
    }

    /// Bytes in a packet.
    pub(super) fn mean_length(&self) -> f64 {
        let total: usize = self.packets.iter().map(Vec::len).sum();
        total as f64 / self.packets.len() as f64
    }
}

/// When the packet was due, in nanoseconds since a stretch began.
pub(super) fn due(packet: &[u8]) -> Option<u64> {
    let stamp: [u8; 6] = packet.get(STAMP)?.try_into().ok()?;
    let [a, b, c, d, e, f] = stamp;
    Some(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

pub(super) struct Source<'a> {
    socket: XdpSocket,
    to: SocketAddr,
    feed: &'a Feed,
    control: &'a Control,
    outgoing: Burst<<XdpSocket as DatagramIo>::Datagram>,
}

impl<'a> Source<'a> {
    pub(super) fn open(
        here: Ipv4Addr,
        to: SocketAddr,
        feed: &'a Feed,
        control: &'a Control,
    ) -> Result<Self> {
        let socket = XdpSocket::bind(&UdpOptions::new(SocketAddr::from((here, 0))))?;
        Ok(Self { socket, to, feed, control, outgoing: Burst::with_capacity(BURST) })
    }

    fn write(&mut self, place: usize, number: u64, due: u64) -> Result<()> {
        let packets = &self.feed.packets;
        let packet = &packets[number as usize % packets.len()];
        let datagram = &mut self.outgoing[place];
        datagram.send_to(self.to);
        datagram.fill(packet)?;
        let sequence = FIRST + number * self.feed.messages;
        let header = Header::new(SESSION, sequence, self.feed.messages as u16);
        let data = datagram.data_mut();
        data[..Header::LEN].copy_from_slice(header.as_bytes());
        data[STAMP].copy_from_slice(&due.to_be_bytes()[2..]);
        Ok(())
    }
}

impl open_loop::Source for Source<'_> {
    /// `rate` is in messages, which are sent in whole packets.
    fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch> {
        let messages = self.feed.messages;
        let packet_rate = rate / messages as f64;
        let total = (packet_rate * duration.as_secs_f64()) as u64;
        let interval = 1e9 / packet_rate;
        let due = |number: u64| (number as f64 * interval) as u64;
        let mut stretch = Stretch::new()?;
        self.outgoing.clear();
        let (start, mut made, mut sent) = (self.control.begin()?, 0, 0);
        while sent < total {
            let now = start.elapsed().as_nanos() as u64;
            let wanted = (0..self.outgoing.room() as u64)
                .take_while(|more| made + more < total && due(made + more) <= now)
                .count();
            let begin = self.outgoing.len();
            let got = self.socket.alloc(&mut self.outgoing, wanted);
            for place in begin..begin + got {
                self.write(place, made, due(made))?;
                made += 1;
            }
            if !self.outgoing.is_empty() {
                let taken = self.socket.send(&mut self.outgoing)? as u64;
                stretch.send(taken * messages, due(sent), now);
                sent += taken;
                self.socket.flush()?;
            }
        }
        let (mut received, mut since) = (0, Instant::now());
        while received < stretch.sent && since.elapsed() < LOST_AFTER {
            self.socket.flush()?;
            let now = self.control.received();
            if now > received {
                (received, since) = (now, Instant::now());
            }
        }
        let latency = self.control.end().context("the receiver has gone")?;
        stretch.answered = self.control.received();
        stretch.latency.add(latency)?;
        Ok(stretch)
    }
}
