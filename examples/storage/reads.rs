//! Pages at random, past the page cache.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use bypass_io::io_uring::buf::{BufPool, PoolBuf};
use bypass_io::io_uring::fixed::FileTable;
use bypass_io::io_uring::op::{Open, OpenOptions, PathAt, Read};
use bypass_io::io_uring::{Fd, Local, Pending, Ring};
use bypass_io::worker::Stop;
use serde::Serialize;

use super::page::{PAGE, Page};
use super::{Result, chance, register};

/// Reads under way.
const DEPTH: usize = 32;

/// What they took; every page was verified.
#[derive(Serialize)]
pub struct Reads {
    reads_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    system_calls_per_read: f64,
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads_per_second, p50_us, p99_us, system_calls_per_read } = self;
        write!(
            f,
            "random reads of {PAGE} B past the page cache, {DEPTH} at a time: {reads_per_second:.0} per second, \
             p50 {p50_us:.0} µs, p99 {p99_us:.0} µs, {system_calls_per_read:.2} system calls per read, all verified"
        )
    }
}

/// A read under way.
type PageRead = Pending<Read<PoolBuf>, Local>;

/// Reads and verifies pages at random for a second, [`DEPTH`] at a time.
/// Nothing where there are none, or no time.
pub fn read_at_random(path: &Path, pages: u64, stop: &Stop) -> Result<Option<Reads>> {
    if pages == 0 {
        return Ok(None);
    }
    let ring = Ring::builder().entries(DEPTH as u32).build_local()?;
    let pool = BufPool::local(PAGE, DEPTH)?;
    register(&ring, &pool)?;
    let options = OpenOptions::read_only().direct();
    let file: Fd = Fd::new(ring.push(Open::new(PathAt::new(path)?, options))?.wait(None)??);
    let file = FileTable::new(&ring, 1)?.install(&file)?;

    let mut state = chance();
    let mut start = |buffer| -> Result<(PageRead, u64, Instant)> {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let page = state % pages;
        let read = ring.push(Read::new(&file, buffer, page * PAGE as u64))?;
        Ok((read, page, Instant::now()))
    };
    let mut under_way = Vec::with_capacity(DEPTH);
    while let Some(buffer) = pool.take() {
        under_way.push(Some(start(buffer)?));
    }
    let (began, mut latencies) = (Instant::now(), Vec::new());
    while began.elapsed() < Duration::from_secs(1) && !stop.stopping() {
        ring.wait(1, None)?;
        for place in &mut under_way {
            let done = place.take_if(|(read, ..)| read.is_done());
            let Some((read, number, begun)) = done else { continue };
            let read = read.try_take().map_err(|_| "it was done")?;
            latencies.push(begun.elapsed());
            if read.result? != PAGE || Page::open(&read.buf).is_none_or(|p| p.number != number) {
                return Err(format!("page {number} is not what it was").into());
            }
            *place = Some(start(read.buf)?);
        }
    }
    latencies.sort_unstable();
    let Some(last) = latencies.len().checked_sub(1) else { return Ok(None) };
    let at = |percent: usize| latencies[last * percent / 100].as_secs_f64() * 1e6;
    let reads = latencies.len() as f64;
    Ok(Some(Reads {
        reads_per_second: reads / began.elapsed().as_secs_f64(),
        p50_us: at(50),
        p99_us: at(99),
        system_calls_per_read: ring.counters().enters as f64 / reads,
    }))
}
