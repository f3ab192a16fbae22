//! The log of a shard: every change is appended to a file, and after a crash the file tells them again.
//!
//! Records are gathered in a registered buffer while the ones before them are committed: one write past the
//! page cache to a fixed file, with an `fdatasync` linked behind it, in one submission. At [`Level::Durable`]
//! an answer is held until the commit of its record is done. When the file has grown enough, a
//! [snapshot](snapshot) of the store takes its place, while everything goes on.
//!
//! In the folder of a shard lie `snapshot-N`, once there was one, and the logs from `log-N` on.

mod folder;
pub mod record;
pub mod snapshot;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bypass_io::io_uring::buf::{BufPool, PoolBuf};
use bypass_io::io_uring::chain::{Chain, One, PendingChain};
use bypass_io::io_uring::fixed::{BufferTable, FileTable, FixedFd};
use bypass_io::io_uring::op::{Fsync, Write};
use bypass_io::io_uring::{Local, Ring};

use crate::Result;
use crate::shard::Change;
use crate::store::Store;
use folder::Folder;
use record::{BLOCK, End, HEADER, LONGEST, Record, Sink};

/// Bytes of a group: the longest record fits, and many short ones.
const GROUP: usize = (2 * LONGEST).next_multiple_of(BLOCK);

/// When a change is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// So often. A crash takes what was acknowledged within this time and one commit before it.
    Interval(Duration),
    /// Before it is acknowledged.
    Durable,
}

/// What to log, and where.
#[derive(Clone, Debug)]
pub struct Options {
    pub folder: PathBuf,
    pub level: Level,
    /// Bytes of log after which a snapshot is made.
    pub compact_at: u64,
}

pub struct Log {
    folder: Folder,
    level: Level,
    compact_at: u64,
    least_compact_at: u64,
    pool: BufPool,
    files: FileTable,
    file: FixedFd,
    /// Where the next group goes.
    end: End,
    /// The group that is being gathered.
    group: Group,
    /// Its number, counted from the start of the program: what answers wait for.
    number: u64,
    /// The last group that is on the disk.
    durable: u64,
    commit: Option<Commit>,
    last_commit: Instant,
    /// Bytes in the files since the last snapshot.
    grown: u64,
    /// A snapshot is being made.
    compacting: bool,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub commits: u64,
    pub bytes: u64,
    pub snapshots: u64,
}

struct Group {
    buffer: PoolBuf,
    used: usize,
}

impl Sink for Group {
    fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }
}

/// A commit under way.
struct Commit {
    chain: PendingChain<(One<Write<PoolBuf>>, One<Fsync>), Local>,
    number: u64,
}

impl Log {
    /// Fills `store` with what the folder of this shard has, and goes on where its log ends.
    pub fn open(
        ring: &Ring,
        options: &Options,
        shard: (usize, usize),
        store: &mut Store,
    ) -> Result<Self> {
        let (folder, file, end) = Folder::recover(ring, &options.folder, shard, store)?;
        // One group is gathered while the other is committed.
        let pool = BufPool::local(GROUP, 2)?;
        if let Err(refused) = BufferTable::new(ring, 1)?.register(&pool) {
            eprintln!("note: the buffers of the log are not registered: {refused}");
        }
        let files = FileTable::new(ring, 4)?;
        let file = files.install(&file)?;
        Ok(Self {
            folder,
            level: options.level,
            compact_at: options.compact_at,
            least_compact_at: options.compact_at,
            group: Group::new(&pool)?,
            pool,
            files,
            file,
            grown: end.offset,
            end,
            number: 1,
            durable: 0,
            commit: None,
            last_commit: Instant::now(),
            compacting: false,
            counters: Counters::default(),
        })
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Adds what has changed. The group is full now and then; then this waits for the one before it.
    pub fn append(&mut self, ring: &Ring, store: &mut Store, change: Change<'_>) -> Result {
        match change {
            Change::Written(key) => {
                let Some(item) = store.peek(key) else { return Ok(()) };
                self.make_room(ring, record::length_of(item))?;
                record::written(&mut self.group, item);
            }
            Change::Deleted(key) => self.other(ring, Record::Deleted { key })?,
            Change::Touched(key, expires) => self.other(ring, Record::Touched { key, expires })?,
            Change::Flushed(_) => {
                let (cas, at) = (store.flushed(), store.flush_at().unwrap_or(0));
                self.other(ring, Record::Flushed { cas, at })?;
            }
        }
        Ok(())
    }

    fn other(&mut self, ring: &Ring, record: Record<'_>) -> Result {
        self.make_room(ring, record::MAX_OTHER)?;
        record::other(&mut self.group, record);
        Ok(())
    }

    fn make_room(&mut self, ring: &Ring, need: usize) -> Result {
        if self.group.used + need > GROUP {
            while self.commit.is_some() {
                ring.wait(1, Some(Duration::from_millis(1)))?;
                self.finish_commit()?;
            }
            self.start_commit(ring)?;
        }
        Ok(())
    }

    /// What an answer to the last change has to wait for: the group that must be on the disk. `None` when
    /// nothing is waited for.
    pub fn ticket(&self) -> Option<u64> {
        (self.level == Level::Durable).then_some(self.number)
    }

    /// The last group that is on the disk.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Goes on with what is under way, as far as it goes without waiting. Whether something was done.
    pub fn turn(&mut self, ring: &Ring) -> Result<bool> {
        let finished = self.finish_commit()?;
        let started = self.commit.is_none() && self.group.used > HEADER && self.is_due();
        if started {
            self.start_commit(ring)?;
        }
        Ok(finished || started)
    }

    /// How long nothing has to be done, if no completion comes.
    pub fn idle_time(&self) -> Option<Duration> {
        match self.level {
            Level::Interval(interval) if self.group.used > HEADER && self.commit.is_none() => {
                Some(interval.saturating_sub(self.last_commit.elapsed()))
            }
            _ => None,
        }
    }

    fn is_due(&self) -> bool {
        match self.level {
            Level::Durable => true,
            Level::Interval(interval) => {
                self.group.used > GROUP / 2 || self.last_commit.elapsed() >= interval
            }
        }
    }

    /// Writes the group behind the last one, and has the kernel bring it to the disk as soon as it is
    /// written. A write that falls short breaks the link, so what was not written is not acknowledged.
    fn start_commit(&mut self, ring: &Ring) -> Result {
        let next = Group::new(&self.pool)?;
        let mut group = std::mem::replace(&mut self.group, next);
        group.buffer.set_len(group.used.next_multiple_of(BLOCK));
        let (offset, length) = (self.end.offset, group.buffer.len() as u64);
        self.end = record::seal(&mut group.buffer, group.used, self.end);
        let write = Write::new(&self.file, group.buffer, offset);
        let chain = ring
            .push_chain(Chain::new(write).then(Fsync::data(&self.file)))
            .map_err(|refused| refused.why)?;
        ring.submit()?;
        self.commit = Some(Commit { chain, number: self.number });
        self.number += 1;
        self.last_commit = Instant::now();
        self.grown += length;
        self.counters.bytes += length;
        Ok(())
    }

    /// Takes the result of the commit under way, if it is there.
    fn finish_commit(&mut self) -> Result<bool> {
        let Some(commit) = self.commit.take_if(|commit| commit.chain.is_done()) else {
            return Ok(false);
        };
        let done = commit.chain.try_take().map_err(|_| "the commit was done")?;
        let whole = done.summary.to_result();
        whole.map_err(|error| format!("cannot write to {}: {error}", self.folder.describe()))?;
        self.durable = commit.number;
        self.counters.commits += 1;
        Ok(true)
    }

    /// Whether a snapshot is to be made; asked again, it is not.
    pub fn wants_snapshot(&mut self) -> bool {
        let wants = !self.compacting && self.grown >= self.compact_at;
        self.compacting |= wants;
        wants
    }

    /// Goes on in another file, which is the next log, and returns the files that a snapshot replaces.
    fn switch(&mut self, file: &File) -> Result<Vec<PathBuf>> {
        // What is being gathered goes into the new file. The commit under way, if there is one, is done
        // before any to the new file begins.
        self.file = self.files.install(file)?;
        (self.end, self.grown) = (End::default(), 0);
        let old = self.folder.files()?;
        self.folder.generation += 1;
        Ok(old)
    }

    /// There is a snapshot of so many bytes: the next one is made when the log is as long again.
    fn compacted(&mut self, bytes: u64) {
        self.compact_at = self.least_compact_at.max(bytes);
        self.compacting = false;
        self.counters.snapshots += 1;
    }

    /// Brings everything to the disk.
    pub fn close(mut self, ring: &Ring) -> Result {
        while self.commit.is_some() || self.group.used > HEADER {
            if self.commit.is_none() {
                self.start_commit(ring)?;
            }
            ring.wait(1, Some(Duration::from_millis(1)))?;
            self.finish_commit()?;
        }
        Ok(())
    }
}

impl Group {
    fn new(pool: &BufPool) -> Result<Self> {
        let mut buffer = pool.take().ok_or("both groups of the log are under way")?;
        buffer.set_len(GROUP);
        Ok(Self { buffer, used: HEADER })
    }
}

/// The folder of a shard, which says of how many it is one.
fn name(folder: &Path, (index, shards): (usize, usize)) -> PathBuf {
    folder.join(format!("shard-{index}-of-{shards}"))
}
