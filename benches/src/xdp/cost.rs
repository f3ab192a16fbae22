//! What a descriptor costs in user space: RX with fill, TX with completion.
//!
//! One thread does everything in turns: it has a burst of frames arrive, and takes them and gives them
//! back with the clock running; then it takes back what was sent and puts a burst into the TX ring with
//! the clock running, and has the kernel send it. So each measurement finds a full burst, whatever else
//! the machine does.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::cycles;
use super::lanes::{self, BURST, Drive, Lane};
use super::rig::{Place, Rig};
use super::source::Sender;

/// What is to be measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) bursts: u32,
}

/// Cycles per frame.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) receive: Cycles,
    pub(crate) send: Cycles,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Cycles {
    pub(crate) median: f64,
    pub(crate) least: f64,
}

pub(crate) fn measure(name: &str, job: Job) -> Result<Outcome> {
    let rig = Rig::enter()?;
    let _sink = rig.sink()?;
    let place = rig.near()?;
    let _everything = place.redirect.attach(place.index)?;
    let sender = Sender::open(&rig)?;
    lanes::drive(name, Turns { place: &place, sender, job })
}

struct Turns<'a> {
    place: &'a Place,
    sender: Sender,
    job: Job,
}

impl Drive for Turns<'_> {
    type Outcome = Outcome;

    fn drive<L: Lane>(mut self) -> Result<Outcome> {
        let mut lane = L::open(self.place)?;
        let (mut receive, mut send) = (Samples::default(), Samples::default());
        for _ in 0..self.job.bursts {
            self.sender.send(BURST)?;
            receive.take(|| lane.receive())?;
            // What came in two parts.
            while lane.receive()? > 0 {}
        }
        for _ in 0..self.job.bursts {
            // Takes the burst before back, too.
            send.take(|| lane.send(BURST))?;
            // By hand, so that everybody finds what was sent with the clock running.
            lanes::kick(lane.fd()?, BURST);
        }
        Ok(Outcome { receive: receive.cycles()?, send: send.cycles()? })
    }
}

/// Cycles per burst, of those that were full.
#[derive(Default)]
struct Samples(Vec<u64>);

impl Samples {
    #[inline]
    fn take(&mut self, work: impl FnOnce() -> Result<usize>) -> Result<()> {
        let begin = cycles::now();
        let count = work()?;
        let end = cycles::now();
        if count == BURST {
            self.0.push(end - begin);
        }
        Ok(())
    }

    fn cycles(mut self) -> Result<Cycles> {
        self.0.sort_unstable();
        ensure!(!self.0.is_empty(), "no burst was full");
        let per_frame = |burst: u64| burst as f64 / BURST as f64;
        Ok(Cycles { median: per_frame(self.0[self.0.len() / 2]), least: per_frame(self.0[0]) })
    }
}
