//! Ours: one ring of this thread.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Instant;

use anyhow::{Context as _, Result};
use io_uring_ext::buf::{BufPool, PoolBuf};
use io_uring_ext::fixed::{BufferTable, FileTable};
use io_uring_ext::op::Read;
use io_uring_ext::{Fd, Local, Pending, Ring, SqPoll, Target};

use super::super::Job;
use super::super::file::{BLOCK, verify};
use crate::child::{Clock, Recorder, Tally};

/// Reads submitted at once. The device begins with the first ones while the others are prepared, and
/// many share one system call; with all of a large turn at once it would idle meanwhile.
const BATCH: u64 = 8;

/// Registered buffers and a fixed file.
pub(super) fn registered(job: &Job, clock: Clock) -> Result<Tally> {
    let ring = Ring::builder().entries(job.depth as u32).build_local()?;
    read_registered(&ring, job, clock)
}

/// The same with a kernel thread that takes the submissions. A read may be complete before the thread
/// has said that its entry is free, so there is room for the next ones beside it.
pub(super) fn polled(job: &Job, clock: Clock) -> Result<Tally> {
    let ring = Ring::builder().entries(2 * job.depth as u32).sqpoll(SqPoll::default());
    read_registered(&ring.build_local()?, job, clock)
}

fn read_registered(ring: &Ring, job: &Job, clock: Clock) -> Result<Tally> {
    let pool = BufPool::local(BLOCK, job.depth)?;
    BufferTable::new(ring, 1)?.register(&pool)?;
    let file = FileTable::new(ring, 1)?.install(&open(job)?)?;
    read(ring, (&file).into(), &pool, job, clock)
}

/// Any buffer, any descriptor.
pub(super) fn plain(job: &Job, clock: Clock) -> Result<Tally> {
    let ring = Ring::builder().entries(job.depth as u32).build_local()?;
    let pool = BufPool::local(BLOCK, job.depth)?;
    read(&ring, (&Fd::new(open(job)?)).into(), &pool, job, clock)
}

fn open(job: &Job) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&job.file)
}

/// A read under way.
struct Slot<'r> {
    ring: &'r Ring,
    file: &'r Target,
    read: Option<Pending<Read<PoolBuf>, Local>>,
    block: u64,
    begun: Instant,
}

impl Slot<'_> {
    fn start(&mut self, buffer: PoolBuf, block: u64, begun: Instant) -> Result<()> {
        let read = Read::new(self.file, buffer, block * BLOCK as u64);
        self.read = Some(self.ring.push(read).map_err(|refused| refused.why)?);
        (self.block, self.begun) = (block, begun);
        Ok(())
    }
}

fn read(ring: &Ring, file: Target, pool: &BufPool, job: &Job, clock: Clock) -> Result<Tally> {
    let (mut recorder, mut choice) = (Recorder::new(clock)?, job.choice(0));
    let begun = Instant::now();
    let mut slots = Vec::new();
    while let Some(buffer) = pool.take() {
        let mut slot = Slot { ring, file: &file, read: None, block: 0, begun };
        slot.start(buffer, choice(), begun)?;
        slots.push(slot);
    }
    let (mut total, mut seen, mut goes_on) = (0, 0, true);
    while goes_on {
        // What a submission in the last turn has brought is there already, and not waited for.
        if ring.counters().completions == seen {
            ring.wait(1, None)?;
        }
        seen = ring.counters().completions;
        let (ended, mut started) = (Instant::now(), 0);
        for slot in &mut slots {
            let Some(read) = slot.read.take_if(|read| read.is_done()) else { continue };
            let read = read.try_take().ok().context("it was done")?;
            read.result?;
            verify(&read.buf, slot.block)?;
            total += 1;
            goes_on &= recorder.record(slot.begun, ended);
            slot.start(read.buf, choice(), ended)?;
            started += 1;
            if started % BATCH == 0 {
                ring.submit()?;
            }
        }
    }
    Ok(recorder.finish_with(ring.counters().enters, total))
}
