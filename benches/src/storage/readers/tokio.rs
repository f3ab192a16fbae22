//! tokio: one thread, and its pool of threads for calls that block.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::SeekFrom;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::time::Instant;

use ::tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use anyhow::Result;
use io_uring_ext::buf::AlignedBuf;

use super::super::Job;
use super::super::file::{BLOCK, verify};
use crate::child::{Clock, Recorder, Tally};

/// `tokio::fs::File`: a seek and a read, each on a thread of the pool. Every task has a file of its
/// own, because the place to read from is the file's. Direct reads work because this program's
/// allocator aligns what tokio reads into.
pub(super) fn file(job: &Job, clock: Clock) -> Result<Tally> {
    run(job, clock, |job, task| {
        let (file, recorder, choice) = (open(job)?, Recorder::new(clock)?, job.choice(task));
        Ok(read_file(::tokio::fs::File::from_std(file), choice, recorder))
    })
}

async fn read_file(
    mut file: ::tokio::fs::File,
    mut choice: impl FnMut() -> u64,
    mut recorder: Recorder,
) -> Result<Recorder> {
    let mut buffer = vec![0; BLOCK];
    loop {
        let (block, begun) = (choice(), Instant::now());
        file.seek(SeekFrom::Start(block * BLOCK as u64)).await?;
        file.read_exact(&mut buffer).await?;
        verify(&buffer, block)?;
        if !recorder.record(begun, Instant::now()) {
            return Ok(recorder);
        }
    }
}

/// What `tokio::fs` is made of, without the seek and the copy: `pread` on a thread of the pool.
pub(super) fn blocking(job: &Job, clock: Clock) -> Result<Tally> {
    let file = Arc::new(open(job)?);
    run(job, clock, |job, task| {
        let (recorder, choice) = (Recorder::new(clock)?, job.choice(task));
        Ok(read_blocking(Arc::clone(&file), choice, recorder))
    })
}

async fn read_blocking(
    file: Arc<File>,
    mut choice: impl FnMut() -> u64,
    mut recorder: Recorder,
) -> Result<Recorder> {
    let mut buffer = AlignedBuf::new(BLOCK)?;
    loop {
        let (block, begun, file) = (choice(), Instant::now(), Arc::clone(&file));
        let read = ::tokio::task::spawn_blocking(move || {
            file.read_exact_at(&mut buffer, block * BLOCK as u64)?;
            std::io::Result::Ok(buffer)
        });
        buffer = read.await??;
        verify(&buffer, block)?;
        if !recorder.record(begun, Instant::now()) {
            return Ok(recorder);
        }
    }
}

fn open(job: &Job) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&job.file)
}

/// Runs as many tasks as there are to be reads under way.
fn run<F>(job: &Job, clock: Clock, reader: impl Fn(&Job, usize) -> Result<F>) -> Result<Tally>
where
    F: Future<Output = Result<Recorder>> + 'static,
{
    let runtime = ::tokio::runtime::Builder::new_current_thread().build()?;
    let tasks = ::tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let readers: Vec<_> = (0..job.depth)
            .map(|task| Ok(::tokio::task::spawn_local(reader(job, task)?)))
            .collect::<Result<_>>()?;
        let mut all = Recorder::new(clock)?;
        for reader in readers {
            all.add(&reader.await??)?;
        }
        Ok(all.finish())
    })
}
