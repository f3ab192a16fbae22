//! compio: one task per read under way, on one runtime.

use std::rc::Rc;
use std::time::Instant;

use ::compio::buf::BufResult;
use ::compio::fs::{File, OpenOptions};
use ::compio::io::AsyncReadAt as _;
use anyhow::{Result, anyhow};

use super::super::Job;
use super::super::file::{BLOCK, verify};
use crate::child::{Clock, Recorder, Tally};

pub(super) fn read(job: &Job, clock: Clock) -> Result<Tally> {
    let runtime = ::compio::runtime::Runtime::new()?;
    runtime.block_on(async move {
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_DIRECT).open(&job.file).await?;
        let file = Rc::new(file);
        let readers: Vec<_> = (0..job.depth)
            .map(|task| {
                ::compio::runtime::spawn(read_alone(Rc::clone(&file), job.choice(task), clock))
            })
            .collect();
        let mut all = Recorder::new(clock)?;
        for reader in readers {
            all.add(&reader.await.map_err(|_| anyhow!("a task panicked"))??)?;
        }
        Ok(all.finish())
    })
}

async fn read_alone(
    file: Rc<File>,
    mut choice: impl FnMut() -> u64,
    clock: Clock,
) -> Result<Recorder> {
    let mut recorder = Recorder::new(clock)?;
    // Aligned, as everything of this size in this program.
    let mut buffer = Vec::with_capacity(BLOCK);
    loop {
        let (block, begun) = (choice(), Instant::now());
        let BufResult(read, filled) = file.read_at(buffer, block * BLOCK as u64).await;
        read?;
        verify(&filled, block)?;
        buffer = filled;
        buffer.clear();
        if !recorder.record(begun, Instant::now()) {
            return Ok(recorder);
        }
    }
}
