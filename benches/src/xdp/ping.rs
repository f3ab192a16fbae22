//! How long a frame takes there and back, both ends spinning, each on a core of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use bypass_core::worker::pin_to;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::lanes::{self, Drive, Lane};
use super::rig::{Place, Rig};

/// A frame that is not back by then is lost, and so is the run.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) warm_up: u32,
    pub(crate) round_trips: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
}

pub(crate) fn measure(name: &str, job: Job) -> Result<Outcome> {
    let rig = Rig::enter()?;
    let (near, far) = (rig.near()?, rig.far()?);
    let _near = near.redirect.attach(near.index)?;
    let _far = far.redirect.attach(far.index)?;
    let (ready, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let echo = scope.spawn(|| {
            pin_to(0)?;
            lanes::drive(name, Echo { place: &far, ready: &ready, stop: &stop })
        });
        let outcome = pin_to(1).map_err(Into::into).and_then(|()| {
            while !ready.load(Ordering::Acquire) {
                ensure!(!echo.is_finished(), "the far end did not start");
                thread::yield_now();
            }
            lanes::drive(name, Ping { place: &near, job })
        });
        stop.store(true, Ordering::Relaxed);
        echo.join().map_err(|_| anyhow!("the far end panicked"))??;
        outcome
    })
}

struct Echo<'a> {
    place: &'a Place,
    ready: &'a AtomicBool,
    stop: &'a AtomicBool,
}

impl Drive for Echo<'_> {
    type Outcome = ();

    fn drive<L: Lane>(self) -> Result<()> {
        let mut lane = L::open(self.place)?;
        self.ready.store(true, Ordering::Release);
        while !self.stop.load(Ordering::Relaxed) {
            let count = lane.forward()?;
            if count > 0 {
                lane.kick(count)?;
            }
        }
        Ok(())
    }
}

struct Ping<'a> {
    place: &'a Place,
    job: Job,
}

impl Drive for Ping<'_> {
    type Outcome = Outcome;

    fn drive<L: Lane>(self) -> Result<Outcome> {
        let mut lane = L::open(self.place)?;
        // 100 ns to 10 s with three digits.
        let mut times = Histogram::<u64>::new_with_bounds(100, 10_000_000_000, 3)?;
        for n in 0..self.job.warm_up + self.job.round_trips {
            let begin = Instant::now();
            ensure!(lane.send(1)? == 1, "a frame was refused");
            lane.kick(1)?;
            while lane.receive()? == 0 {
                ensure!(begin.elapsed() < PATIENCE, "a frame did not come back");
            }
            if n >= self.job.warm_up {
                times.saturating_record(begin.elapsed().as_nanos() as u64);
            }
        }
        Ok(Outcome { p50_ns: times.value_at_quantile(0.5), p99_ns: times.value_at_quantile(0.99) })
    }
}
