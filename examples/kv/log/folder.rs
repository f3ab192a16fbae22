//! The files of a shard, and what they tell after a crash.

use std::fs::{self, File, TryLockError};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bypass_io::io_uring::op::{Open, OpenOptions, PathAt};
use bypass_io::io_uring::{Fd, Ring};

use super::record::{self, End, Record};
use crate::Result;
use crate::store::Store;

/// How long the log of a process that was killed may still be written by the kernel.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// To bring names to the disk.
    pub(super) directory: Fd,
    /// The number of the log that is written.
    pub(super) generation: u64,
}

impl Folder {
    /// Fills `store` from the files, and returns the log that goes on, open, with its end.
    pub(super) fn recover(
        ring: &Ring,
        folder: &Path,
        shard: (usize, usize),
        store: &mut Store,
    ) -> Result<(Self, File, End)> {
        let path = super::name(folder, shard);
        refuse_others(folder, shard.1)?;
        fs::create_dir_all(&path)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        let (snapshots, logs) = (numbers(&path, "snapshot-")?, numbers(&path, "log-")?);
        let first = snapshots.last().copied().unwrap_or(0);
        let last = logs.last().copied().unwrap_or(first).max(first);
        let fresh = snapshots.is_empty() && logs.is_empty();
        if !fresh && !(first..=last).all(|number| logs.contains(&number)) {
            let path = path.display();
            let why =
                format!("{path} is damaged: of the logs {first} to {last} there are {logs:?}");
            return Err(why.into());
        }
        let directory = Fd::new(File::open(&path)?);
        let this = Self { path, directory, generation: last };
        if snapshots.last().is_some() {
            this.read_snapshot(first, store)?;
        }
        let mut files = Vec::new();
        for number in first..=last {
            let file = this.open_log(ring, number)?;
            let end = this.read_log(number, store)?;
            files.push((number, file, end));
        }
        let torn =
            |file: &File, end: End| Ok::<_, std::io::Error>(file.metadata()?.len() != end.offset);
        for (at, (number, file, end)) in files.iter().enumerate() {
            // The next log is written to when all of this one is on the disk.
            if torn(file, *end)? && files[at + 1..].iter().any(|(_, _, next)| next.offset > 0) {
                let (path, offset) = (this.log(*number), end.offset);
                return Err(format!("{} is damaged at byte {offset}", path.display()).into());
            }
        }
        for (_, file, end) in &files {
            // What is behind the end was never acknowledged.
            if torn(file, *end)? {
                file.set_len(end.offset)?;
                file.sync_all()?;
            }
        }
        let (_, log, end) = files.pop().ok_or("there is a log")?;
        File::open(&this.path)?.sync_all()?;
        this.remove_before(first)?;
        Ok((this, log, end))
    }

    pub(super) fn describe(&self) -> String {
        self.log(self.generation).display().to_string()
    }

    pub(super) fn log(&self, number: u64) -> PathBuf {
        self.path.join(format!("log-{number}"))
    }

    pub(super) fn snapshot(&self, number: u64) -> PathBuf {
        self.path.join(format!("snapshot-{number}"))
    }

    /// All files that have their names.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>> {
        let snapshots = numbers(&self.path, "snapshot-")?.into_iter().map(|n| self.snapshot(n));
        let logs = numbers(&self.path, "log-")?.into_iter().filter(|&n| n <= self.generation);
        Ok(snapshots.chain(logs.map(|n| self.log(n))).collect())
    }

    /// Opens a log for direct writes and locks it. The lock belongs to the open file, which the kernel keeps
    /// while it writes: when it is free, nothing more comes from a process that was killed.
    pub(super) fn open_log(&self, ring: &Ring, number: u64) -> Result<File> {
        let path = self.log(number);
        let failed = |error: std::io::Error| {
            format!(
                "cannot open {} for direct writes: {error}; the log needs a disk's file system",
                path.display()
            )
        };
        let options = OpenOptions::write_only().create(0o600).direct();
        let opened = ring.push(Open::new(PathAt::new(&path)?, options))?.wait(None);
        let opened = opened.map_err(|error| error.to_string())?;
        let file = File::from(opened.map_err(failed)?);
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(format!("{} is another process's", path.display()).into());
                }
                Err(TryLockError::Error(error)) => return Err(failed(error).into()),
            }
        }
    }

    fn read_snapshot(&self, number: u64, store: &mut Store) -> Result {
        let path = self.snapshot(number);
        let (mut items, mut promised) = (0_u64, None);
        read(&path, |record| {
            match record {
                Record::Written { .. } => items += 1,
                Record::End { items, .. } => promised = Some(items),
                _ => {}
            }
            record::replay(store, record);
        })?;
        if promised != Some(items) {
            return Err(format!("{} is damaged: {items} of {promised:?}", path.display()).into());
        }
        Ok(())
    }

    fn read_log(&self, number: u64, store: &mut Store) -> Result<End> {
        read(&self.log(number), |record| record::replay(store, record))
    }

    /// Removes what is older than this snapshot, and snapshots that were not finished.
    fn remove_before(&self, number: u64) -> Result {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let old = ["log-", "snapshot-"].iter().any(|kind| {
                let of = name.strip_prefix(kind).and_then(|of| of.parse::<u64>().ok());
                of.is_some_and(|of| of < number)
            });
            if old || name.ends_with(".new") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn read(path: &Path, visit: impl FnMut(Record<'_>)) -> Result<End> {
    let named = |error: String| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| named(error.to_string()))?;
    Ok(record::read(BufReader::with_capacity(1 << 20, file), visit).map_err(named)?)
}

/// The numbers of the files of this kind, in order.
fn numbers(folder: &Path, kind: &str) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(kind));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A key belongs to a shard by their number: with another one, logs would be read by the wrong shards.
fn refuse_others(folder: &Path, shards: usize) -> Result {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name();
        let Some((_, of)) = name.to_str().and_then(|name| name.rsplit_once("-of-")) else {
            continue;
        };
        if of != shards.to_string() {
            let folder = folder.display();
            let why = format!("{folder} has the logs of {of} shards; start with `--workers {of}`");
            return Err(why.into());
        }
    }
    Ok(())
}
