//! The traffic generator: one thread, one connected socket, a closed and an open loop.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::echo::generator::Generator;
use crate::mmsg::{Batch, Wait};
use crate::open_loop::{Source, Stretch};

/// Bytes of UDP payload.
pub(crate) const PAYLOAD: usize = 64;

/// Bytes that carry the mark of a message and what sockperf reads.
const HEADER: usize = 14;

/// Datagrams under way in the closed loop.
pub(crate) const WINDOW: usize = 64;

/// After this long without an answer a datagram is lost.
const LOST_AFTER: Duration = Duration::from_millis(100);

pub(crate) struct Client {
    socket: UdpSocket,
    batch: Batch,
}

/// The eight bytes that the client put at the front.
fn mark(answer: &[u8]) -> Result<u64> {
    answer.first_chunk().map(|mark| u64::from_le_bytes(*mark)).context("an answer is cut short")
}

impl Client {
    pub(crate) fn connect(here: Ipv4Addr, server: SocketAddrV4) -> Result<Box<dyn Generator>> {
        let socket = UdpSocket::bind((here, 0)).context("cannot bind the client's socket")?;
        socket.connect(server).context("cannot connect to the server")?;
        socket.set_read_timeout(Some(LOST_AFTER))?;
        Ok(Box::new(Self { socket, batch: Batch::connected(WINDOW) }))
    }

    fn await_first_answer(&mut self) -> Result<()> {
        let give_up = Instant::now() + Duration::from_secs(5);
        while Instant::now() < give_up {
            self.message(0, PAYLOAD, 0);
            // Until the server has bound its socket, each try tells of the refusal of the last.
            let answered = self.batch.send(&self.socket, 1).map_err(anyhow::Error::from);
            if answered.and_then(|_| self.receive(Wait::ForOne)).is_ok_and(|n| n > 0) {
                return Ok(());
            }
            // Nothing tells when another program is ready; meanwhile it needs the core.
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("it answers nothing")
    }

    /// Lays the message at `index` out as sockperf's: eight bytes of our own, flags that ask for an
    /// answer, the length; its server takes no other, and the others do not look.
    fn message(&mut self, index: usize, length: usize, mark: u64) {
        let message = self.batch.fill(index, length);
        message[..8].copy_from_slice(&mark.to_le_bytes());
        message[8..10].copy_from_slice(&[0, 3]);
        message[10..HEADER].copy_from_slice(&(length as u32).to_be_bytes());
        message[HEADER..].fill(mark as u8);
    }

    /// Sends so many messages and returns the number.
    fn send(&mut self, count: usize) -> Result<usize> {
        for index in 0..count {
            self.message(index, PAYLOAD, 0);
        }
        self.batch.send(&self.socket, count).context("cannot send")?;
        Ok(count)
    }

    /// How many datagrams came; 0 when none did within the timeout.
    fn receive(&mut self, wait: Wait) -> Result<usize> {
        match self.batch.receive(&self.socket, WINDOW, wait) {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error).context("cannot receive"),
        }
    }
}

impl Generator for Client {
    /// Waits until the server answers, then proves that it sends back what it got: a full window
    /// of datagrams of several sizes.
    fn verify(&mut self) -> Result<()> {
        self.await_first_answer()?;
        let size = |index| if index < WINDOW / 2 { PAYLOAD } else { HEADER + index };
        for index in 0..WINDOW {
            self.message(index, size(index), index as u64);
        }
        self.batch.send(&self.socket, WINDOW)?;
        let mut missing: Vec<usize> = (0..WINDOW).collect();
        while !missing.is_empty() {
            let count = self.receive(Wait::ForOne)?;
            ensure!(count > 0, "it left {} of {WINDOW} datagrams unanswered", missing.len());
            for index in 0..count {
                let answer = self.batch.payload(index);
                let number = mark(answer)? as usize;
                let place = missing.iter().position(|&missing| missing == number);
                let place = place.with_context(|| format!("it answered {number} twice"))?;
                missing.swap_remove(place);
                let body = answer.get(HEADER..).unwrap_or_default();
                ensure!(
                    answer.len() == size(number) && body.iter().all(|&byte| byte == number as u8),
                    "it answered with what it was not sent: {answer:?}"
                );
            }
        }
        Ok(())
    }

    /// Keeps a window of datagrams under way for `duration`, then lets the window run empty;
    /// returns the round trips.
    fn closed_loop(&mut self, duration: Duration) -> Result<u64> {
        let end = Instant::now() + duration;
        let mut round_trips = 0;
        let mut outstanding = self.send(WINDOW)?;
        while outstanding > 0 {
            let count = self.receive(Wait::ForOne)?;
            round_trips += count as u64;
            let running = Instant::now() < end;
            if count == 0 && running {
                bail!("{outstanding} datagrams were lost in the closed loop");
            } else if count == 0 {
                break;
            } else if running {
                self.send(count)?;
            } else {
                outstanding -= count.min(outstanding);
            }
        }
        Ok(round_trips)
    }
}

impl Source for Client {
    /// Sends `rate` datagrams per second on a fixed schedule, however the server fares. Each
    /// carries the time at which it was due, so that a stall counts for all that it delayed.
    fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch> {
        let total = (rate * duration.as_secs_f64()) as u64;
        let due = |number: u64| (number as f64 * 1e9 / rate) as u64;
        let mut result = Stretch::new()?;
        let start = Instant::now();
        let mut last_progress = start;
        while result.answered < total {
            let now = start.elapsed().as_nanos() as u64;
            let mut count = 0;
            while count < WINDOW
                && result.sent + (count as u64) < total
                && due(result.sent + count as u64) <= now
            {
                self.message(count, PAYLOAD, due(result.sent + count as u64));
                count += 1;
            }
            if count > 0 {
                self.batch.send(&self.socket, count)?;
                result.send(count as u64, due(result.sent), now);
                last_progress = Instant::now();
            }
            let count = self.receive(Wait::No)?;
            if count == 0 {
                if result.sent == total && last_progress.elapsed() > LOST_AFTER {
                    break;
                }
                continue;
            }
            last_progress = Instant::now();
            let now = start.elapsed().as_nanos() as u64;
            for index in 0..count {
                let due = mark(self.batch.payload(index))?;
                result.answer(now.saturating_sub(due));
            }
        }
        Ok(result)
    }
}
