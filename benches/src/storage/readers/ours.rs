//! Ours: one ring of this thread.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Instant;

use anyhow::{Context as _, Result};
use io_uring_ext::buf::AlignedBuf;
use io_uring_ext::op::Read;
use io_uring_ext::{Fd, Local, Pending, Ring, SqPoll};

use super::super::Job;
use super::super::file::{BLOCK, verify};
use crate::child::{Clock, Recorder, Tally};

/// Reads submitted at once. The device begins with the first ones while the others are prepared, and
/// many share one system call; with all of a large turn at once it would idle meanwhile.
const BATCH: u64 = 8;

/// With a kernel thread that takes the submissions.
pub(super) fn polled(job: &Job, clock: Clock) -> Result<Tally> {
    let ring = Ring::builder().entries(job.depth as u32).sqpoll(SqPoll::default());
    read(&ring.build_local()?, job, clock)
}

/// Any buffer, any descriptor.
pub(super) fn plain(job: &Job, clock: Clock) -> Result<Tally> {
    read(&Ring::builder().entries(job.depth as u32).build_local()?, job, clock)
}

/// A read under way.
struct Slot<'r> {
    ring: &'r Ring,
    file: &'r Fd,
    read: Option<Pending<Read<AlignedBuf>, Local>>,
    block: u64,
    begun: Instant,
}

impl Slot<'_> {
    fn start(&mut self, buffer: AlignedBuf, block: u64, begun: Instant) -> Result<()> {
        let read = Read::new(self.file, buffer, block * BLOCK as u64);
        self.read = Some(self.ring.push(read).map_err(|refused| refused.why)?);
        (self.block, self.begun) = (block, begun);
        Ok(())
    }
}

fn read(ring: &Ring, job: &Job, clock: Clock) -> Result<Tally> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&job.file)?;
    let file = &Fd::new(file);
    let (mut recorder, mut choice) = (Recorder::new(clock)?, job.choice(0));
    let begun = Instant::now();
    let mut slots = Vec::new();
    for _ in 0..job.depth {
        let mut slot = Slot { ring, file, read: None, block: 0, begun };
        slot.start(AlignedBuf::new(BLOCK)?, choice(), begun)?;
        slots.push(slot);
    }
    let (mut total, mut goes_on) = (0, true);
    while goes_on {
        // Submits what was started in the last turn, too.
        ring.wait(1, None)?;
        let ended = Instant::now();
        for slot in &mut slots {
            let Some(read) = slot.read.take_if(|read| read.is_done()) else { continue };
            let read = read.try_take().ok().context("it was done")?;
            read.result?;
            verify(&read.buf, slot.block)?;
            total += 1;
            goes_on &= recorder.record(slot.begun, ended);
            slot.start(read.buf, choice(), ended)?;
            if total % BATCH == 0 {
                ring.submit()?;
            }
        }
    }
    Ok(recorder.finish_with(ring.counters().enters, total))
}
