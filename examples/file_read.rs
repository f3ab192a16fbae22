//! Reads a file through io_uring, with several reads in flight, and says what was in it.
//!
//! ```text
//! cargo run --release --example file_read                          # reads the program itself
//! cargo run --release --example file_read -- /var/log/syslog 64    # another file, 64 reads in flight
//! cargo run --release --example file_read -- --json                # as JSON
//! ```
//!
//! What has been read before comes from the page cache; then the rate is that of copying.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use bypass_io::io_uring::Ring;
use bypass_io::io_uring::buf::{BufPool, IoBufMut};
use bypass_io::io_uring::fs::File;
use bypass_io::io_uring::op::{OpenOptions, PathAt};
use lexopt::prelude::*;

const USAGE: &str = "usage: file_read [FILE [READS IN FLIGHT]] [--json]";

/// Bytes in a read.
const SIZE: usize = 128 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut path, mut depth, mut json) = (None, None, false);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("json") => json = true,
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(());
            }
            Value(value) if path.is_none() => path = Some(PathBuf::from(value)),
            Value(value) if depth.is_none() => depth = Some(value.parse()?),
            _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
        }
    }
    let path = path.map_or_else(std::env::current_exe, Ok)?;
    let depth = depth.unwrap_or(8).clamp(1, 128);

    let ring = Ring::local()?;
    let opened = File::open(&ring, PathAt::new(&path)?, OpenOptions::read_only())?.wait(None)?;
    let file = opened.map_err(|error| format!("{}: {error}", path.display()))?;
    let len = file.metadata()?.wait(None)??.len();

    // A buffer travels into a read and comes back with it, so there are as many as reads in flight.
    let pool = BufPool::local(SIZE, depth)?;
    let mut in_flight = VecDeque::with_capacity(depth);
    let (mut next, mut bytes, mut sum) = (0, 0, (1, 0));
    let start = Instant::now();
    loop {
        while next < len
            && let Some(buf) = pool.take()
        {
            in_flight.push_back((next, file.read_at(buf, next)?));
            next += SIZE as u64;
        }
        // The kernel ends them in any order; they are taken in the order of the file.
        let Some((at, read)) = in_flight.pop_front() else { break };
        let done = read.wait(None)?;
        let (mut read, mut buf) = (done.result?, done.buf);
        // A read may end early; then another goes on into the rest of its buffer.
        while read > 0 && buf.len() < SIZE && at + (buf.len() as u64) < len {
            let filled = buf.len();
            let done = file.read_at(buf.slice_mut(filled..)?, at + filled as u64)?.wait(None)?;
            (read, buf) = (done.result?, done.buf.into_inner());
        }
        sum = adler32(sum, &buf);
        bytes += buf.len();
    }
    let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
    let adler = sum.1 << 16 | sum.0;
    if json {
        let report = serde_json::json!({
            "file": path.display().to_string(), "bytes": bytes, "adler32": format!("{adler:08x}"),
            "megabytes_per_second": rate, "reads_in_flight": depth, "bytes_per_read": SIZE,
        });
        println!("{report}");
        return Ok(());
    }
    println!("{}: {bytes} bytes, Adler-32 {adler:08x}", path.display());
    println!("{rate:.0} MB/s, {depth} reads of {} KiB in flight", SIZE >> 10);
    Ok(())
}

/// The checksum of zlib (RFC 1950, section 9).
fn adler32((mut a, mut b): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    // So many bytes can be added before a sum may not fit any more.
    for bytes in bytes.chunks(5552) {
        for byte in bytes {
            a += u32::from(*byte);
            b += a;
        }
        (a, b) = (a % 65_521, b % 65_521);
    }
    (a, b)
}
