//! The client: an open loop of datagrams over AF_XDP.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bypass_io::any::{AnyDatagram, AnySocket, open_socket};
use bypass_io::prelude::*;

use super::workload::{self, Request, Workload};
use crate::open_loop::{Source, Stretch};

/// Datagrams that are sent at once.
const BATCH: usize = 64;
/// Numbers of requests, of which each is under way once.
const NUMBERS: usize = 1 << 16;
/// After this long without an answer a request is lost.
const LOST_AFTER: Duration = Duration::from_millis(50);
/// Bytes of the frame header.
const HEADER: usize = 8;
const PORT: u16 = 40_000;

pub(super) struct Client {
    socket: AnySocket,
    server: SocketAddr,
    requests: Vec<Request>,
    value: Vec<u8>,
    /// The next request.
    next: usize,
    /// When the requests under way were due, by their numbers; `u64::MAX` for none.
    due: Vec<u64>,
    outgoing: Burst<AnyDatagram>,
    received: Burst<AnyDatagram>,
}

impl Source for Client {
    fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch> {
        let total = (rate * duration.as_secs_f64()) as u64;
        let interval = 1e9 / rate;
        let due = |number: u64| (number as f64 * interval) as u64;
        let mut run = Stretch::new()?;
        self.due.fill(u64::MAX);
        let (start, mut made) = (Instant::now(), 0);
        let mut last = start;
        while run.answered < total {
            let now = start.elapsed().as_nanos() as u64;
            let wanted = (0..self.outgoing.room() as u64)
                .take_while(|more| made + more < total && due(made + more) <= now)
                .count();
            let begin = self.outgoing.len();
            let got = self.socket.alloc(&mut self.outgoing, wanted);
            for place in begin..begin + got {
                self.write(place, made as usize, due(made))?;
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
            } else if made == total && self.outgoing.is_empty() && last.elapsed() > LOST_AFTER {
                break;
            }
        }
        Ok(run)
    }
}

impl Client {
    pub(super) fn open(here: Ipv4Addr, server: SocketAddr, workload: &Workload) -> Result<Self> {
        let socket = open_socket(&format!("udp+xdp://{here}:{PORT}"))?;
        Ok(Self {
            socket,
            server,
            requests: workload.draw(),
            value: workload.value(),
            next: 0,
            due: vec![u64::MAX; NUMBERS],
            outgoing: Burst::with_capacity(BATCH),
            received: Burst::with_capacity(BATCH),
        })
    }

    fn write(&mut self, place: usize, number: usize, due: u64) -> Result<()> {
        let Request { reads, key } = self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        let number = number % NUMBERS;
        self.due[number] = due;
        let datagram = &mut self.outgoing[place];
        datagram.send_to(self.server);
        let key = workload::key(key);
        let mut text = [0; HEADER + 64];
        let mut length = 0;
        let mut put = |bytes: &[u8]| {
            text[length..length + bytes.len()].copy_from_slice(bytes);
            length += bytes.len();
        };
        let [high, low] = (number as u16).to_be_bytes();
        put(&[high, low, 0, 0, 0, 1, 0, 0]);
        put(if reads { b"get " } else { b"set " });
        put(&key);
        if reads {
            put(b"\r\n");
            datagram.fill(&text[..length])?;
            return Ok(());
        }
        put(b" 0 0 ");
        put(self.value.len().to_string().as_bytes());
        put(b"\r\n");
        datagram.set_len(length + self.value.len() + 2)?;
        let data = datagram.data_mut();
        data[..length].copy_from_slice(&text[..length]);
        data[length..length + self.value.len()].copy_from_slice(&self.value);
        data[length + self.value.len()..].copy_from_slice(b"\r\n");
        Ok(())
    }

    fn receive(&mut self, start: Instant, run: &mut Stretch) -> Result<usize> {
        let received = self.socket.recv(&mut self.received)?;
        let now = start.elapsed().as_nanos() as u64;
        for datagram in self.received.iter() {
            let Some((header, text)) = datagram.data().split_first_chunk::<HEADER>() else {
                continue;
            };
            let number = usize::from(u16::from_be_bytes([header[0], header[1]]));
            let due = std::mem::replace(&mut self.due[number], u64::MAX);
            // What was asked for in an earlier stretch.
            if due == u64::MAX {
                continue;
            }
            let right = text.starts_with(b"VALUE key-") || text == b"STORED\r\n";
            ensure!(right, "an answer is {:?}", String::from_utf8_lossy(text));
            run.answer(now.saturating_sub(due));
        }
        self.received.clear();
        Ok(received)
    }
}
