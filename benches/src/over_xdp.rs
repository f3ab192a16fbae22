//! [`OverXdp`]: an open loop of datagrams over AF_XDP, for a server at the other end of a wire.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use bypass_io::any::{AnyDatagram, AnySocket, open_socket};
use bypass_io::prelude::*;

use crate::open_loop::{Source, Stretch};

/// Datagrams that are sent at once.
const BATCH: usize = 64;
/// Numbers of requests, of which each is under way once.
const NUMBERS: usize = 1 << 16;
/// After this long without an answer a request is lost.
const LOST_AFTER: Duration = Duration::from_millis(50);
const PORT: u16 = 40_000;
/// A rate without limit, in requests a second.
const FLOOD: f64 = 1e8;

/// What is asked, and what is answered.
pub(crate) trait Dialogue {
    /// A stretch begins.
    fn begin(&mut self) {}

    /// Writes the next request, with this number, into a datagram.
    fn ask(&mut self, number: u16, datagram: &mut AnyDatagram) -> Result<()>;

    /// The number of the request that this answers; `None` for what is too short to be an answer.
    fn number(&self, answer: &[u8]) -> Result<Option<u16>>;
}

pub(crate) struct OverXdp<D> {
    socket: AnySocket,
    server: SocketAddr,
    dialogue: D,
    /// The number of the next request. It goes on from stretch to stretch, so that an answer that is late has none
    /// of those that are under way, or not before they have all been used.
    number: u16,
    /// When the requests under way were due, by their numbers; `u64::MAX` for none.
    due: Vec<u64>,
    outgoing: Burst<AnyDatagram>,
    received: Burst<AnyDatagram>,
}

impl<D: Dialogue> Source for OverXdp<D> {
    fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch> {
        let rate = rate.min(FLOOD);
        let total = (rate * duration.as_secs_f64()) as u64;
        let interval = 1e9 / rate;
        let due = |number: u64| (number as f64 * interval) as u64;
        let mut run = Stretch::new()?;
        self.dialogue.begin();
        self.due.fill(u64::MAX);
        let (start, mut made) = (Instant::now(), 0);
        let mut last = start;
        loop {
            let now = start.elapsed();
            // Who has fallen behind so far leaves the rest out.
            let more = if now < 2 * duration { total - made } else { 0 };
            let now = now.as_nanos() as u64;
            let room = self.outgoing.room() as u64;
            let wanted = (0..room.min(more)).take_while(|more| due(made + more) <= now).count();
            let begin = self.outgoing.len();
            let got = self.socket.alloc(&mut self.outgoing, wanted);
            for datagram in &mut self.outgoing[begin..begin + got] {
                datagram.send_to(self.server);
                self.dialogue.ask(self.number, datagram)?;
                self.due[usize::from(self.number)] = due(made);
                self.number = self.number.wrapping_add(1);
                made += 1;
            }
            if !self.outgoing.is_empty() {
                let first_due = due(run.sent);
                run.send(self.socket.send(&mut self.outgoing)? as u64, first_due, now);
                last = Instant::now();
            }
            self.socket.flush()?;
            if self.receive(start, &mut run)? > 0 {
                last = Instant::now();
            }
            let all_sent = more == 0 && self.outgoing.is_empty();
            if all_sent && (run.answered >= run.sent || last.elapsed() > LOST_AFTER) {
                return Ok(run);
            }
        }
    }
}

impl<D: Dialogue> OverXdp<D> {
    pub(crate) fn open(here: Ipv4Addr, server: SocketAddr, dialogue: D) -> Result<Self> {
        let socket = open_socket(&format!("udp+xdp://{here}:{PORT}"))?;
        Ok(Self {
            socket,
            server,
            dialogue,
            number: 0,
            due: vec![u64::MAX; NUMBERS],
            outgoing: Burst::with_capacity(BATCH),
            received: Burst::with_capacity(BATCH),
        })
    }

    fn receive(&mut self, start: Instant, run: &mut Stretch) -> Result<usize> {
        let received = self.socket.recv(&mut self.received)?;
        let now = start.elapsed().as_nanos() as u64;
        for datagram in self.received.iter() {
            let Some(number) = self.dialogue.number(datagram.data())? else { continue };
            let due = std::mem::replace(&mut self.due[usize::from(number)], u64::MAX);
            // What was asked for in an earlier stretch.
            if due != u64::MAX {
                run.answer(now.saturating_sub(due));
            }
        }
        self.received.clear();
        Ok(received)
    }
}
