//! `pread` on as many threads as there are reads under way.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use io_uring_ext::buf::AlignedBuf;

use super::super::Job;
use super::super::file::{BLOCK, verify};
use crate::child::{Clock, Recorder, Tally};

pub(super) fn read(job: &Job, clock: Clock) -> Result<Tally> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&job.file)?;
    let file = &file;
    let mut all = Recorder::new(clock)?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..job.depth)
            .map(|thread| {
                let choice = job.choice(thread);
                scope.spawn(move || read_alone(file, choice, clock))
            })
            .collect();
        for thread in threads {
            all.add(&thread.join().map_err(|_| anyhow!("a thread panicked"))??)?;
        }
        Ok(all.finish())
    })
}

fn read_alone(file: &File, mut choice: impl FnMut() -> u64, clock: Clock) -> Result<Recorder> {
    let mut recorder = Recorder::new(clock)?;
    let mut buffer = AlignedBuf::new(BLOCK)?;
    let mut begun = Instant::now();
    loop {
        let block = choice();
        file.read_exact_at(&mut buffer, block * BLOCK as u64)?;
        verify(&buffer, block)?;
        let ended = Instant::now();
        if !recorder.record(begun, ended) {
            return Ok(recorder);
        }
        begun = ended;
    }
}
