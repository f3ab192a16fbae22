//! How many frames a second: dropped, sent, forwarded.
//!
//! Frames are made on core 0 by live-frame test runs, whose work for the socket (the XDP program, the
//! copy) is done there, too; the contestant has core 1. What was sent counts when it has arrived at
//! the far end.

mod in_c;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use bypass_core::worker::pin_to;
use serde::{Deserialize, Serialize};

use super::lanes::{self, BURST, Drive, Lane};
use super::rig::{Place, Rig};
use crate::child::Window;

pub(crate) use in_c::{IN_C, compile};

/// Where frames are made, and where the contestant runs.
pub(crate) const SOURCE_CORE: usize = 0;
pub(crate) const CORE: usize = 1;

/// Frames that one test run makes: it costs milliseconds to begin one.
const RUN: u32 = 1 << 18;

/// What is done with frames, in the words of the kernel's `xdpsock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// `rxdrop`: receive and drop.
    Drop,
    /// `txonly`: send.
    Send,
    /// `l2fwd`: send back what arrives, addresses swapped.
    Forward,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) window: Window,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) frames: u64,
    pub(crate) seconds: f64,
    pub(crate) calls: u64,
    /// Frames that the source made meanwhile.
    pub(crate) offered: u64,
}

pub(crate) fn measure(name: &str, job: Job) -> Result<Outcome> {
    let rig = Rig::enter()?;
    let _sink = rig.sink()?;
    let place = rig.near()?;
    let (stop, offered) = (AtomicBool::new(false), AtomicU64::new(0));
    let run = Run { rig: &rig, place: &place, job, offered: &offered };
    thread::scope(|scope| {
        let source = scope.spawn(|| match job.work {
            Work::Send => Ok(()),
            Work::Drop | Work::Forward => source(&place, &stop, &offered),
        });
        pin_to(CORE)?;
        let outcome = if name == IN_C { in_c::run(&run) } else { lanes::drive(name, run) };
        stop.store(true, Ordering::Relaxed);
        source.join().map_err(|_| anyhow!("the source panicked"))??;
        let outcome = outcome?;
        ensure!(outcome.frames > 0, "{name} moved no frame");
        Ok(outcome)
    })
}

/// Makes frames as fast as it can.
fn source(place: &Place, stop: &AtomicBool, offered: &AtomicU64) -> Result<()> {
    pin_to(SOURCE_CORE)?;
    while !stop.load(Ordering::Relaxed) {
        place.inject(RUN)?;
        offered.fetch_add(u64::from(RUN), Ordering::Relaxed);
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Run<'a> {
    rig: &'a Rig,
    place: &'a Place,
    job: Job,
    offered: &'a AtomicU64,
}

/// The counters where the window begins.
struct Mark {
    time: Instant,
    delivered: u64,
    offered: u64,
}

impl Run<'_> {
    fn mark(&self) -> Result<Mark> {
        let delivered = self.rig.delivered()?;
        Ok(Mark { time: Instant::now(), delivered, offered: self.offered.load(Ordering::Relaxed) })
    }

    /// What went on since, with the frames that have arrived at the far end.
    fn since(&self, begin: &Mark) -> Result<Outcome> {
        let end = self.mark()?;
        Ok(Outcome {
            frames: end.delivered - begin.delivered,
            seconds: (end.time - begin.time).as_secs_f64(),
            calls: 0,
            offered: end.offered - begin.offered,
        })
    }

    /// Works until then, and returns how many frames were in hand.
    fn until<L: Lane>(&self, lane: &mut L, end: Instant) -> Result<u64> {
        let mut frames = 0;
        while Instant::now() < end {
            let count = match self.job.work {
                Work::Drop => lane.receive()?,
                Work::Send => lane.send(BURST)?,
                Work::Forward => lane.forward()?,
            };
            match self.job.work {
                Work::Forward if count > 0 => lane.kick(count)?,
                Work::Send => lane.kick(count)?,
                Work::Drop | Work::Forward => {}
            }
            frames += count as u64;
        }
        Ok(frames)
    }
}

impl Drive for Run<'_> {
    type Outcome = Outcome;

    fn drive<L: Lane>(self) -> Result<Outcome> {
        let mut lane = L::open(self.place)?;
        let window = self.job.window;
        self.until(&mut lane, Instant::now() + window.warm_up)?;
        let (begin, calls) = (self.mark()?, lane.calls());
        let received = self.until(&mut lane, begin.time + window.duration)?;
        let mut outcome = self.since(&begin)?;
        outcome.calls = lane.calls() - calls;
        if self.job.work == Work::Drop {
            outcome.frames = received;
        }
        Ok(outcome)
    }
}
