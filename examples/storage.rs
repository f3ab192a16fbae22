//! An append-only log that survives `kill -9`, and random reads past the page cache.
//!
//! ```text
//! cargo run --release --example storage
//! cargo run --release --example storage -- --rounds 20 --dir /mnt/disk
//! ```
//!
//! The program starts itself as a writer, kills it with SIGKILL at a moment that nobody chose,
//! recovers the log, and holds what it finds against what the writer had acknowledged; again and again
//! on the same log. Every round also tears the last page of a copy. Then it reads pages at random.
//!
//! The writer gathers records while a commit is under way and commits them together: one write from a
//! registered buffer to a fixed file, past the page cache, with an `fdatasync` linked behind it, in one
//! submission. It acknowledges a record when both are done. SIGKILL takes nothing from the kernel, so
//! these rounds prove the order of things and the recovery; that a disk keeps what `fdatasync` promised
//! when its power fails, they do not.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::error::Error;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bypass_io::io_uring::buf::{BufPool, PoolBuf};
use bypass_io::io_uring::chain::{Chain, One, PendingChain};
use bypass_io::io_uring::fixed::{BufferTable, FileTable, FixedFd};
use bypass_io::io_uring::op::{Fsync, Open, OpenOptions, PathAt, Read, Write};
use bypass_io::io_uring::{Fd, Local, Pending, Ring};
use lexopt::prelude::*;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// What is written and read at once, and verified by itself: what every disk takes directly.
const PAGE: usize = 4096;
/// Pages that one commit can take.
const GROUP: usize = 64;
/// Reads under way.
const DEPTH: usize = 32;
/// The option by which the program knows that it shall write.
const WRITER: &str = "write-until-killed";

const USAGE: &str = "usage: storage [--rounds N] [--dir DIR]";

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run() -> Result<()> {
    let mut rounds = 5;
    // Beside the program, and not in the temporary folder, which may have no disk.
    let mut folder = std::env::current_exe()?.with_file_name("");
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long(WRITER) => return write_until_killed(Path::new(&args.value()?)),
            Long("rounds") => rounds = args.value()?.parse()?,
            Long("dir") => folder = args.value()?.into(),
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(());
            }
            _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
        }
    }
    let log = Scratch(folder.join(format!("storage-example-{}.log", std::process::id())));
    crash_again_and_again(&log.0, rounds)?;
    read_at_random(&log.0)
}

/// A file that goes with the program.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been made.
        let _gone = fs::remove_file(&self.0);
    }
}

// --- Pages -----------------------------------------------------------------------------------------
//
// checksum of all that follows: 4   checksum of the page before: 4   page: 8   its first record: 8
// records: 2   bytes of records: 2   and then the records, each with its length: 2
//
// A page names the page before by its checksum, so what an earlier life of the log left behind a torn
// page never passes for what came next.

const HEADER: usize = 28;

/// A page whose checksum is right.
#[derive(Clone, Copy)]
struct Page<'a> {
    checksum: u32,
    before: u32,
    number: u64,
    first: u64,
    count: u16,
    records: &'a [u8],
}

impl<'a> Page<'a> {
    /// Seals what has been put behind the header.
    fn seal(page: &mut [u8], before: u32, number: u64, first: u64, count: u16, end: usize) -> u32 {
        page[end..].fill(0);
        page[4..8].copy_from_slice(&before.to_le_bytes());
        page[8..16].copy_from_slice(&number.to_le_bytes());
        page[16..24].copy_from_slice(&first.to_le_bytes());
        page[24..26].copy_from_slice(&count.to_le_bytes());
        page[26..28].copy_from_slice(&((end - HEADER) as u16).to_le_bytes());
        let checksum = crc32fast::hash(&page[4..]);
        page[..4].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }

    /// `None` for what is no whole page: torn, damaged, or never written.
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let short = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let checksum = word(0)?;
        if bytes.len() != PAGE || crc32fast::hash(&bytes[4..]) != checksum {
            return None;
        }
        let records = bytes[HEADER..].get(..short(26)?.into())?;
        let page = Self {
            checksum,
            before: word(4)?,
            number: number(8)?,
            first: number(16)?,
            count: short(24)?,
            records,
        };
        // A page of zeroes has the checksum of zeroes.
        (page.count > 0).then_some(page)
    }

    fn records(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.records;
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk()?;
            let (record, behind) = behind.split_at_checked(u16::from_le_bytes(*length).into())?;
            rest = behind;
            Some(record)
        })
    }
}

// --- The log ---------------------------------------------------------------------------------------

/// Where the log goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct End {
    page: u64,
    record: u64,
    checksum: u32,
}

/// Reads the log from its beginning to the first page that does not belong, and says where that is.
/// Every record is shown to `visit`.
fn recover(path: &Path, mut visit: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<End> {
    let mut end = End::default();
    let Ok(file) = fs::File::open(path) else { return Ok(end) };
    let (mut file, mut bytes) = (BufReader::with_capacity(1 << 20, file), [0; PAGE]);
    // What is shorter than a page is torn.
    while file.read_exact(&mut bytes).is_ok() {
        let Some(page) = Page::open(&bytes) else { break };
        if (page.number, page.first, page.before) != (end.page, end.record, end.checksum) {
            break;
        }
        for record in page.records() {
            visit(end.record, record)?;
            end.record += 1;
        }
        if end.record != page.first + u64::from(page.count) {
            return Err(format!("page {} holds fewer records than it says", page.number).into());
        }
        (end.page, end.checksum) = (end.page + 1, page.checksum);
    }
    Ok(end)
}

/// Records on their way into the log.
struct Group {
    buffer: PoolBuf,
    /// Bytes of the page that is being filled, and records in it.
    filled: usize,
    records: u16,
    /// Where the log goes on behind the pages that are sealed.
    end: End,
}

/// A commit under way, and what is in the log when it is done.
struct Commit {
    chain: PendingChain<(One<Write<PoolBuf>>, One<Fsync>), Local>,
    end: End,
}

struct Log {
    ring: Ring,
    file: FixedFd,
    pool: BufPool,
    end: End,
}

impl Log {
    /// Opens the log where it ends. The kernel knows its file and its buffers from then on.
    fn open(path: &Path, end: End) -> Result<Self> {
        let ring = Ring::builder().entries(8).build_local()?;
        // Two groups: one is gathered while the other is committed.
        let pool = BufPool::local(GROUP * PAGE, 2)?;
        register(&ring, &pool)?;
        let options = OpenOptions::write_only().create(0o600).direct();
        let file = ring.push(Open::new(PathAt::new(path)?, options))?.wait(None)?;
        let file = FileTable::new(&ring, 1)?.install(&file?)?;
        Ok(Self { ring, file, pool, end })
    }

    fn group(&self) -> Result<Group> {
        let mut buffer = self.pool.take().ok_or("both groups are under way")?;
        buffer.set_len(PAGE);
        Ok(Group { buffer, filled: HEADER, records: 0, end: self.end })
    }

    /// Writes the group behind the last one, and has the kernel bring it to the disk as soon as it is
    /// written. A write that falls short breaks the link, so what was not written is not acknowledged.
    fn commit(&mut self, mut group: Group) -> Result<Commit> {
        group.seal();
        let offset = self.end.page * PAGE as u64;
        self.end = group.end;
        let write = Write::new(&self.file, group.buffer, offset);
        let chain = self.ring.push_chain(Chain::new(write).then(Fsync::data(&self.file)))?;
        self.ring.submit()?;
        Ok(Commit { chain, end: self.end })
    }
}

impl Group {
    /// Adds a record; false when there is no room for it.
    fn append(&mut self, record: &[u8]) -> bool {
        let need = 2 + record.len();
        if self.filled + need > PAGE {
            if self.buffer.len() == GROUP * PAGE {
                return false;
            }
            self.seal();
            self.buffer.set_len(self.buffer.len() + PAGE);
            (self.filled, self.records) = (HEADER, 0);
        }
        let page = self.page();
        let place = &mut page.0[page.1..page.1 + need];
        place[..2].copy_from_slice(&(record.len() as u16).to_le_bytes());
        place[2..].copy_from_slice(record);
        self.filled += need;
        self.records += 1;
        true
    }

    /// The page that is being filled, and how far.
    fn page(&mut self) -> (&mut [u8], usize) {
        let start = self.buffer.len() - PAGE;
        (&mut self.buffer[start..], self.filled)
    }

    fn seal(&mut self) {
        let (End { page, record, checksum }, records) = (self.end, self.records);
        let (bytes, filled) = self.page();
        let checksum = Page::seal(bytes, checksum, page, record, records, filled);
        self.end = End { page: page + 1, record: record + u64::from(records), checksum };
    }
}

/// Makes the pool's buffers known to the kernel. Without that everything works, only slower.
fn register(ring: &Ring, pool: &BufPool) -> Result<()> {
    if let Err(refused) = BufferTable::new(ring, 1)?.register(pool) {
        eprintln!("note: the buffers are not registered: {refused}");
    }
    Ok(())
}

// --- The writer ------------------------------------------------------------------------------------

/// What record `number` is: everyone can say, so everyone can verify.
fn record(number: u64, bytes: &mut Vec<u8>) {
    let length = 8 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize;
    bytes.clear();
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend((8..length).map(|at| (number as usize).wrapping_mul(31).wrapping_add(at) as u8));
}

fn verify(number: u64, found: &[u8]) -> Result<()> {
    let mut expected = Vec::new();
    record(number, &mut expected);
    if found == expected {
        Ok(())
    } else {
        Err(format!("record {number} is not what it was").into())
    }
}

/// Appends record after record, and prints how many are in the log for good after every commit.
fn write_until_killed(path: &Path) -> Result<()> {
    let mut log = Log::open(path, recover(path, verify)?)?;
    let (mut number, mut bytes) = (log.end.record, Vec::new());
    let mut under_way: Option<Commit> = None;
    let mut acknowledge = std::io::stdout().lock();
    loop {
        let mut group = log.group()?;
        // As many as come while the last group is committed.
        loop {
            record(number, &mut bytes);
            if !group.append(&bytes) {
                break;
            }
            number += 1;
            log.ring.submit()?;
            if under_way.as_ref().is_none_or(|commit| commit.chain.is_done()) {
                break;
            }
        }
        if let Some(commit) = under_way.take() {
            commit.chain.wait(None)?.summary.to_result()?;
            writeln!(acknowledge, "{}", commit.end.record)?;
            acknowledge.flush()?;
        }
        under_way = Some(log.commit(group)?);
    }
}

// --- Crashes ---------------------------------------------------------------------------------------

fn crash_again_and_again(path: &Path, rounds: u32) -> Result<()> {
    println!("| round | commits | acknowledged | recovered | lost | torn page: accepted |");
    println!("|--:|--:|--:|--:|--:|--:|");
    let mut before = End::default();
    for round in 1..=rounds {
        let (commits, acknowledged) = crash(path)?;
        let acknowledged = acknowledged.max(before.record);
        // Fails where a record is not the one that was written.
        let end = recover(path, verify)?;
        let lost = acknowledged.saturating_sub(end.record);
        let accepted = tear(path, end)?;
        println!("| {round} | {commits} | {acknowledged} | {} | {lost} | {accepted} |", end.record);
        if lost > 0 || accepted > 0 || end.record < before.record {
            return Err("the log does not keep its promise".into());
        }
        before = end;
    }
    println!("\n{} records in {} pages, all verified\n", before.record, before.page);
    Ok(())
}

/// Lets a writer write and kills it; returns how often it has committed and what it had acknowledged.
fn crash(path: &Path) -> Result<(u64, u64)> {
    let mut writer = Writer::start(path)?;
    let output = writer.0.stdout.take().ok_or("the writer has no output")?;
    let lines = BufReader::new(output).lines();
    let (mut commits, mut acknowledged) = (0, 0);
    // A moment after that many commits, at which nobody knows what the writer is doing.
    let (enough, moment) = (1 + chance() % 50, Duration::from_micros(chance() % 5000));
    for line in lines {
        // A line goes into the pipe whole or not at all.
        acknowledged = line?.parse()?;
        commits += 1;
        if commits == enough {
            std::thread::sleep(moment);
            writer.0.kill()?;
        }
    }
    let status = writer.0.wait()?;
    if commits < enough {
        return Err(format!("the writer ended by itself: {status}").into());
    }
    Ok((commits, acknowledged))
}

/// The writer's process, which does not outlive this value.
struct Writer(Child);

impl Writer {
    fn start(path: &Path) -> Result<Self> {
        let mut writer = Command::new(std::env::current_exe()?);
        Ok(Self(writer.arg(format!("--{WRITER}")).arg(path).stdout(Stdio::piped()).spawn()?))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It has ended already, but for errors.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Damages the last page of copies of the log, as a write that was cut would: in one the file ends
/// inside the page, in one a part of it is what was there before. Returns how many records of it were
/// accepted nevertheless.
fn tear(path: &Path, end: End) -> Result<u64> {
    let mut whole = fs::read(path)?;
    whole.truncate(end.page as usize * PAGE);
    let Some(start) = whole.len().checked_sub(PAGE) else { return Ok(0) };
    let last = Page::open(&whole[start..]).ok_or("the last page is not whole")?;
    let (first, used) = (last.first, HEADER + last.records.len());
    let cut = start + 1 + chance() as usize % (PAGE - 1);
    let hole = start + chance() as usize % used;
    let mut damaged = whole.clone();
    damaged[hole..whole.len().min(hole + 512)].iter_mut().for_each(|byte| *byte = !*byte);
    let copy = Scratch(path.with_extension("torn"));
    let mut accepted = 0;
    for bytes in [&whole[..cut], &damaged] {
        fs::write(&copy.0, bytes)?;
        let found = recover(&copy.0, verify)?.record;
        if found < first {
            return Err("a page was lost that was not torn".into());
        }
        accepted += found - first;
    }
    Ok(accepted)
}

/// A number that nobody chose.
fn chance() -> u64 {
    RandomState::new().hash_one(0)
}

// --- Reads -----------------------------------------------------------------------------------------

/// A read under way.
type PageRead = Pending<Read<PoolBuf>, Local>;

/// Reads and verifies pages at random for a second, [`DEPTH`] at a time.
fn read_at_random(path: &Path) -> Result<()> {
    let pages = recover(path, |_, _| Ok(()))?.page;
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
    while began.elapsed() < Duration::from_secs(1) {
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
    let reads = latencies.len();
    let at = |percent: usize| latencies[(reads - 1) * percent / 100].as_secs_f64() * 1e6;
    println!(
        "random reads of {PAGE} B past the page cache, {DEPTH} at a time: {:.0} per second, \
         p50 {:.0} µs, p99 {:.0} µs, {:.2} system calls per read, all verified",
        reads as f64 / began.elapsed().as_secs_f64(),
        at(50),
        at(99),
        ring.counters().enters as f64 / reads as f64,
    );
    Ok(())
}
