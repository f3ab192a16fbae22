//! The traffic generator: one thread, one connected socket, a closed and an open loop.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;

use crate::mmsg::Batch;

/// Bytes of UDP payload.
pub(crate) const PAYLOAD: usize = 64;

/// Datagrams under way in the closed loop.
pub(crate) const WINDOW: usize = 64;

/// After this long without an answer a datagram is lost.
const LOST_AFTER: Duration = Duration::from_millis(100);

pub(crate) struct Client {
    socket: UdpSocket,
    batch: Batch,
}

/// What an open loop saw.
pub(crate) struct OpenLoop {
    /// From the intended time of sending to the answer, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let socket =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind the client's socket")?;
        socket
            .connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
            .context("cannot connect to the server")?;
        socket.set_read_timeout(Some(LOST_AFTER))?;
        Ok(Self { socket, batch: Batch::connected(WINDOW) })
    }

    /// Proves that the server sends back what it got, for several sizes and a full window.
    pub(crate) fn verify(&mut self) -> Result<()> {
        let sizes: Vec<usize> =
            (0..WINDOW).map(|index| if index < WINDOW / 2 { PAYLOAD } else { 8 + index }).collect();
        for (index, &size) in sizes.iter().enumerate() {
            self.batch.fill(index, size).fill(index as u8);
        }
        self.batch.send(&self.socket, WINDOW)?;
        let mut missing: Vec<usize> = (0..WINDOW).collect();
        while !missing.is_empty() {
            let count = self.receive(libc::MSG_WAITFORONE)?;
            ensure!(
                count > 0,
                "the server left {} of {WINDOW} datagrams unanswered",
                missing.len()
            );
            for index in 0..count {
                let payload = self.batch.payload(index);
                let Some(&first) = payload.first() else {
                    bail!("the server answered with an empty datagram")
                };
                let place = missing.iter().position(|&sent| sent == usize::from(first));
                let expected = payload.len() == sizes[usize::from(first) % WINDOW]
                    && payload.iter().all(|b| *b == first);
                match place {
                    Some(place) if expected => missing.swap_remove(place),
                    _ => bail!("the server answered with what it was not sent: {payload:?}"),
                };
            }
        }
        Ok(())
    }

    /// Keeps a window of datagrams under way for `duration`, then lets the window run empty; returns the round trips.
    pub(crate) fn closed_loop(&mut self, duration: Duration) -> Result<u64> {
        let end = Instant::now() + duration;
        let mut round_trips = 0;
        let mut outstanding = self.send_window()?;
        while outstanding > 0 {
            let count = self.receive(libc::MSG_WAITFORONE)?;
            round_trips += count as u64;
            let running = Instant::now() < end;
            if count == 0 && running {
                bail!("{outstanding} datagrams were lost in the closed loop");
            } else if count == 0 {
                break;
            } else if running {
                // What came back goes out again as it is.
                self.batch.send(&self.socket, count)?;
            } else {
                outstanding -= count.min(outstanding);
            }
        }
        Ok(round_trips)
    }

    fn send_window(&mut self) -> Result<usize> {
        for index in 0..WINDOW {
            self.batch.fill(index, PAYLOAD).fill(0);
        }
        self.batch.send(&self.socket, WINDOW).context("cannot send")?;
        Ok(WINDOW)
    }

    /// Sends `rate` datagrams per second on a fixed schedule, however the server fares. Each carries the time at which
    /// it was due, so that a stall counts for all that it delayed.
    pub(crate) fn open_loop(&mut self, rate: u32, duration: Duration) -> Result<OpenLoop> {
        let total = u64::from(rate) * duration.as_millis() as u64 / 1000;
        let due = |number: u64| number * 1_000_000_000 / u64::from(rate);
        // 100 ns to 10 s with three digits.
        let mut result = OpenLoop {
            latency: Histogram::new_with_bounds(100, 10_000_000_000, 3)?,
            sent: 0,
            received: 0,
        };
        let start = Instant::now();
        let mut last_progress = start;
        while result.received < total {
            let now = start.elapsed().as_nanos() as u64;
            let mut count = 0;
            while count < WINDOW
                && result.sent + (count as u64) < total
                && due(result.sent + count as u64) <= now
            {
                let stamp = due(result.sent + count as u64);
                self.batch.fill(count, PAYLOAD)[..8].copy_from_slice(&stamp.to_le_bytes());
                count += 1;
            }
            if count > 0 {
                self.batch.send(&self.socket, count)?;
                result.sent += count as u64;
                last_progress = Instant::now();
            }
            let count = self.receive(libc::MSG_DONTWAIT)?;
            if count == 0 {
                if result.sent == total && last_progress.elapsed() > LOST_AFTER {
                    break;
                }
                continue;
            }
            last_progress = Instant::now();
            let now = start.elapsed().as_nanos() as u64;
            for index in 0..count {
                let Some(stamp) = self.batch.payload(index).first_chunk() else {
                    bail!("an answer is cut short")
                };
                result.latency.record(now.saturating_sub(u64::from_le_bytes(*stamp)).max(100))?;
            }
            result.received += count as u64;
        }
        Ok(result)
    }

    /// How many datagrams came; 0 when none did within the timeout.
    fn receive(&mut self, flags: i32) -> Result<usize> {
        match self.batch.receive(&self.socket, WINDOW, flags) {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error).context("cannot receive"),
        }
    }
}
