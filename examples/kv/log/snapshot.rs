//! A snapshot: all live items in one file, which takes the place of the logs before it.
//!
//! First the changes go into a new log, `log-N`. Then the store is walked through, some buckets between two
//! turns of the shard. An item that changes meanwhile is in the new log too, and that is read after
//! `snapshot-N`, so it does not matter which of its states the snapshot has. The file gets its name when it
//! is whole and on the disk; only then do the files before it go.

use std::cell::RefCell;
use std::fs::File;

use bypass_io::io_uring::op::{Fsync, PathAt, Rename, RenameMode, Unlink, Write};
use bypass_io::io_uring::{Fd, Ring};

use super::Log;
use super::record::{self, BLOCK, End, HEADER, Record};
use crate::Result;
use crate::server::Core;

/// Bytes of a group after which it is written.
const ENOUGH: usize = 256 << 10;
/// Buckets between two looks at how much that is.
const BUCKETS: usize = 8;

/// Makes a snapshot while the shard works on.
pub async fn make(ring: &Ring, core: &RefCell<Core>) -> Result {
    let (directory, log, new, whole) = {
        let core = core.borrow();
        let folder = &core.log.as_ref().ok_or("there is a log")?.folder;
        let number = folder.generation + 1;
        let whole = folder.snapshot(number);
        let new = whole.with_extension("new");
        (folder.directory.clone(), folder.open_log(ring, number)?, new, whole)
    };
    // Nothing in the new log counts before it is known to have its name.
    ring.push(Fsync::all(&directory))?.await??;
    let old = with_log(core, |log_of_shard| log_of_shard.switch(&log))?;
    let file = Fd::new(File::create(&new)?);
    let (mut bucket, mut items, mut end) = (Some(0), 0, End::default());
    let mut group = Vec::with_capacity(2 * ENOUGH);
    while let Some(mut at) = bucket {
        group.clear();
        group.resize(HEADER, 0);
        {
            let core = core.borrow();
            let store = &core.shard.store;
            bucket = loop {
                let next = store.visit(at, BUCKETS, |item| {
                    record::written(&mut group, item);
                    items += 1;
                });
                match next {
                    Some(next) if group.len() < ENOUGH => at = next,
                    other => break other,
                }
            };
            if bucket.is_none() {
                if let Some(at) = store.flush_at() {
                    record::other(&mut group, Record::Flushed { cas: 0, at });
                }
                record::other(&mut group, Record::End { items, cas: store.last_cas() });
            }
        }
        let used = group.len();
        group.resize(used.next_multiple_of(BLOCK), 0);
        let offset = end.offset;
        end = record::seal(&mut group, used, end);
        let done = ring.push(Write::new(&file, group, offset))?.await?;
        if done.result? != done.buf.len() {
            return Err(format!("a write to {} fell short", new.display()).into());
        }
        group = done.buf;
    }
    ring.push(Fsync::all(&file))?.await??;
    ring.push(Rename::new(PathAt::new(&new)?, PathAt::new(&whole)?, RenameMode::Replace))?
        .await??;
    ring.push(Fsync::all(&directory))?.await??;
    for path in old {
        // One that is left is removed by the next start.
        if let Err(error) = ring.push(Unlink::file(PathAt::new(&path)?))?.await? {
            eprintln!("note: {} is left: {error}", path.display());
        }
    }
    with_log(core, |log| {
        log.compacted(end.offset);
        Ok(())
    })
}

fn with_log<T>(core: &RefCell<Core>, f: impl FnOnce(&mut Log) -> Result<T>) -> Result<T> {
    f(core.borrow_mut().log.as_mut().ok_or("there is a log")?)
}
