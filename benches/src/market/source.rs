//! The feed, and the generator that sends it.

use std::collections::HashSet;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bypass_core::sandbox::Host;
use zerocopy::IntoBytes as _;

use super::day::Day;
use super::itch::Message;
use super::mold::{FIRST, Header, Session, split};
use super::receivers::Control;
use crate::generator::{Generator, Requests, Route};
use crate::open_loop::{self, Stretch};

/// That packets come from.
const SESSION: Session = *b"BENCH00001";
/// Messages that are sent over and over again, about.
const MESSAGES: usize = 40_000;
/// Where a packet has the time at which it was due: the first message's timestamp.
const STAMP: std::ops::Range<usize> = Header::LEN + 2 + 5..Header::LEN + 2 + 11;
/// After this long without a message the rest is lost; longer than a receiver waits for what is missing.
pub(super) const LOST_AFTER: Duration = Duration::from_millis(150);

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
        let packets = all
            .chunks_exact(per_packet)
            .map(|blocks| [header(FIRST, messages).as_bytes(), &blocks.concat()].concat());
        Self { packets: packets.collect(), messages }
    }

    /// Bytes in a packet.
    pub(super) fn mean_length(&self) -> f64 {
        let total: usize = self.packets.iter().map(Vec::len).sum();
        total as f64 / self.packets.len() as f64
    }
}

/// Of a packet whose first message has this number.
pub(super) fn header(first: u64, messages: u64) -> Header {
    Header::new(SESSION, first, messages as u16)
}

/// When the packet was due, and now: the lower 48 bits of the generator's clock, in nanoseconds.
pub(super) fn late(packet: &[u8], now: u64) -> Option<u64> {
    let stamp: [u8; 6] = packet.get(STAMP)?.try_into().ok()?;
    let [a, b, c, d, e, f] = stamp;
    let due = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    Some(now.wrapping_sub(due) & 0xffff_ffff_ffff)
}

pub(super) struct Source<'a> {
    generator: Generator,
    /// In every packet.
    messages: u64,
    control: &'a Control,
}

impl<'a> Source<'a> {
    /// On a thread of the host.
    pub(super) fn open(
        host: &Host,
        to: SocketAddrV4,
        feed: &Feed,
        control: &'a Control,
    ) -> Result<Self> {
        let mut requests = Requests::new(Route::from(host, to))
            .counted(size_of::<Session>(), FIRST, feed.messages)
            .stamped(STAMP.start);
        for packet in &feed.packets {
            let template = requests.template(packet)?;
            requests.push(template);
        }
        let generator = Generator::open(&host.ends[1].name, &requests)?;
        Ok(Self { generator, messages: feed.messages, control })
    }
}

impl open_loop::Source for Source<'_> {
    /// `rate` is in messages, which are sent in whole packets.
    fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch> {
        self.control.begin()?;
        let sent = self.generator.send(rate / self.messages as f64, duration)?;
        let mut stretch = Stretch::new()?;
        stretch.sent(sent.count * self.messages, duration, sent.late);
        let (mut received, mut since) = (0, Instant::now());
        while received < stretch.sent && since.elapsed() < LOST_AFTER {
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
