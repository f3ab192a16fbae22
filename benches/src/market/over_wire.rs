//! Over a wire: the receiver on an interface of one machine, the source on another.
//!
//! Their clocks are not the same, so nothing is said about latency.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bypass_core::worker::pin_to;
use bypass_io::any::AnyDatagram;
use bypass_io::prelude::*;
use serde::Deserialize as _;
use serde_json::Value;
use zerocopy::IntoBytes as _;

use super::mold::FIRST;
use super::receivers::Control;
use super::source::{Feed, LOST_AFTER, header};
use super::{Job, NAME};
use crate::cable::SERVER_CORE;
use crate::open_loop::{Source, Stretch};
use crate::over_xdp::{Dialogue, OverXdp};
use crate::wire::{Ends, Remote, Served};

/// Between two looks at what has been received.
const LOOK: Duration = Duration::from_millis(5);

/// Starts a receiver for a source elsewhere.
pub(crate) fn start(name: &str, at: Ipv4Addr, job: &Value) -> Result<Box<dyn Served>> {
    let job = Job::deserialize(job)?;
    let receiver = super::find(name)?;
    let control = Arc::new(Control::default());
    let (ready, is_ready) = mpsc::channel();
    let thread = {
        let control = Arc::clone(&control);
        thread::spawn(move || {
            pin_to(SERVER_CORE)?;
            (receiver.run)(at, &Feed::new(job.messages), &control, ready)
        })
    };
    let address = is_ready.recv().ok();
    let mut receiving = Receiving { control, thread: Some(thread), address, begun: false };
    match address {
        Some(_) => Ok(Box::new(receiving)),
        None => Err(receiving.end().err().context("the receiver did not start")?),
    }
}

struct Receiving {
    control: Arc<Control>,
    thread: Option<JoinHandle<Result<()>>>,
    address: Option<SocketAddrV4>,
    /// A stretch is on.
    begun: bool,
}

impl Receiving {
    fn end(&mut self) -> Result<()> {
        self.control.stop();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => anyhow::bail!("the receiver panicked"),
            None => Ok(()),
        }
    }
}

impl Served for Receiving {
    fn address(&self) -> SocketAddrV4 {
        self.address.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
    }

    fn begin(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            self.control.end().context("the receiver has gone")?;
        }
        self.control.begin()
    }

    /// Messages that have been received since the stretch began.
    fn counters(&mut self) -> Result<Value> {
        Ok(self.control.received().into())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// The feed, packet by packet.
struct Packets {
    packets: Vec<Vec<u8>>,
    messages: u64,
    place: usize,
    /// The number of the next message.
    next: u64,
}

impl Dialogue for Packets {
    fn begin(&mut self) {
        (self.place, self.next) = (0, FIRST);
    }

    fn ask(&mut self, _: u16, datagram: &mut AnyDatagram) -> Result<()> {
        datagram.fill(&self.packets[self.place])?;
        let header = header(self.next, self.messages);
        datagram.data_mut()[..header.as_bytes().len()].copy_from_slice(header.as_bytes());
        // It begins anew where it ends, with the books as they were.
        (self.place, self.next) =
            ((self.place + 1) % self.packets.len(), self.next + self.messages);
        Ok(())
    }

    /// Nobody answers a feed.
    fn number(&self, _: &[u8]) -> Result<Option<u16>> {
        Ok(None)
    }
}

pub(super) struct OverWire {
    packets: OverXdp<Packets>,
    messages: u64,
    receiver: Remote,
}

impl OverWire {
    pub(super) fn open(ends: Ends, name: &str, job: &Job) -> Result<Self> {
        let receiver = Remote::start(ends, NAME, name, job)?;
        let Feed { packets, messages } = Feed::new(job.messages);
        let packets = Packets { packets, messages, place: 0, next: FIRST };
        let packets = OverXdp::open(ends.here, receiver.address.into(), packets)?;
        Ok(Self { packets, messages, receiver })
    }
}

impl Source for OverWire {
    /// `rate` is in messages, which are sent in whole packets.
    fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch> {
        self.receiver.begin()?;
        let mut stretch = self.packets.offer(rate / self.messages as f64, duration)?;
        stretch.sent *= self.messages;
        let mut since = Instant::now();
        while stretch.answered < stretch.sent && since.elapsed() < LOST_AFTER {
            let received = self.receiver.counters()?;
            if received > stretch.answered {
                (stretch.answered, since) = (received, Instant::now());
            } else {
                thread::sleep(LOOK);
            }
        }
        Ok(stretch)
    }
}
