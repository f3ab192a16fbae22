//! The writers: each brings group after group to the disk.

use std::os::unix::fs::FileExt as _;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use io_uring_ext::Ring;
use io_uring_ext::buf::{AlignedBuf, BufPool};
use io_uring_ext::chain::Chain;
use io_uring_ext::fixed::{BufferTable, FileTable};
use io_uring_ext::op::{Fsync, RwFlags, Write};

use super::Job;
use super::group::{self, Clients};
use crate::child::{Clock, Tally};

/// A contestant.
pub(crate) struct Writer {
    pub(crate) name: &'static str,
    /// Whether it is compared with all the others.
    pub(crate) ours: bool,
    pub(super) write: fn(&Job, Clock) -> Result<Tally>,
}

pub(crate) const WRITERS: &[Writer] = &[
    Writer { name: "io_uring", ours: true, write: linked },
    Writer { name: "io_uring, RWF_DSYNC", ours: false, write: synchronous },
    Writer { name: "writer thread", ours: false, write: on_a_thread },
    #[cfg(feature = "peers")]
    Writer { name: "tokio::fs", ours: false, write: tokio },
];

pub(crate) fn find(name: &str) -> Result<&'static Writer> {
    let writer = WRITERS.iter().find(|writer| writer.name == name);
    writer.with_context(|| format!("there is no writer `{name}`"))
}

/// A write from a registered buffer to a fixed file, and an `fdatasync` linked behind it: one
/// submission and one sleep per group.
fn linked(job: &Job, clock: Clock) -> Result<Tally> {
    let ring = Ring::builder().entries(8).build_local()?;
    let (pool, file) = registered(&ring, job)?;
    let mut clients = Clients::new(job, clock)?;
    loop {
        let mut buffer = pool.take().context("the buffer is in use")?;
        buffer.set_len(group::size(job));
        let place = clients.fill(&mut buffer);
        let chain = Chain::new(Write::new(&file, buffer, place)).then(Fsync::data(&file));
        let chain = ring.push_chain(chain).map_err(|refused| refused.why)?;
        // Submits, and sleeps for both completions in the same call.
        ring.wait(2, None)?;
        chain.wait(None).map_err(|error| anyhow!("{error}"))?.summary.to_result()?;
        if !clients.acknowledge() {
            break;
        }
    }
    let (recorder, groups) = clients.finish();
    Ok(recorder.finish_with(ring.counters().enters, groups))
}

/// One write that is done when it is on the disk.
fn synchronous(job: &Job, clock: Clock) -> Result<Tally> {
    let ring = Ring::builder().entries(8).build_local()?;
    let (pool, file) = registered(&ring, job)?;
    let mut clients = Clients::new(job, clock)?;
    loop {
        let mut buffer = pool.take().context("the buffer is in use")?;
        buffer.set_len(group::size(job));
        let place = clients.fill(&mut buffer);
        let write = Write::new(&file, buffer, place).flags(RwFlags::DSYNC);
        let write = ring.push(write).map_err(|refused| refused.why)?;
        ring.wait(1, None)?;
        let written = write.wait(None).map_err(|error| anyhow!("{error}"))?.result?;
        ensure!(written == group::size(job), "a write fell short");
        if !clients.acknowledge() {
            break;
        }
    }
    let (recorder, groups) = clients.finish();
    Ok(recorder.finish_with(ring.counters().enters, groups))
}

fn registered(ring: &Ring, job: &Job) -> Result<(BufPool, io_uring_ext::fixed::FixedFd)> {
    let pool = BufPool::local(group::size(job), 1)?;
    BufferTable::new(ring, 1)?.register(&pool)?;
    let file = FileTable::new(ring, 1)?.install(&group::open(job)?)?;
    Ok((pool, file))
}

/// The clients' thread hands groups to a thread that blocks.
fn on_a_thread(job: &Job, clock: Clock) -> Result<Tally> {
    let file = group::open(job)?;
    let (groups, to_write) = mpsc::sync_channel::<(AlignedBuf, u64)>(1);
    let (written, acknowledgements) = mpsc::sync_channel(1);
    let writer = thread::spawn(move || -> Result<()> {
        for (buffer, place) in to_write {
            file.write_all_at(&buffer, place)?;
            file.sync_data()?;
            written.send(buffer)?;
        }
        Ok(())
    });
    let mut clients = Clients::new(job, clock)?;
    let mut buffer = AlignedBuf::new(group::size(job))?;
    loop {
        let place = clients.fill(&mut buffer);
        groups.send((buffer, place)).context("the writer is gone")?;
        buffer = acknowledgements.recv().context("the writer is gone")?;
        if !clients.acknowledge() {
            break;
        }
    }
    drop(groups);
    writer.join().map_err(|_| anyhow!("the writer panicked"))??;
    Ok(clients.finish().0.finish())
}

/// `tokio::fs::File`: seek, write and `sync_data`, each on a thread of its pool.
#[cfg(feature = "peers")]
fn tokio(job: &Job, clock: Clock) -> Result<Tally> {
    use ::tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
    let runtime = ::tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut file = ::tokio::fs::File::from_std(group::open(job)?);
        let mut clients = Clients::new(job, clock)?;
        let mut buffer = vec![0; group::size(job)];
        loop {
            let place = clients.fill(&mut buffer);
            file.seek(std::io::SeekFrom::Start(place)).await?;
            file.write_all(&buffer).await?;
            // Waits for the write, too.
            file.sync_data().await?;
            if !clients.acknowledge() {
                return Ok(clients.finish().0.finish());
            }
        }
    })
}
