//! The log: groups of pages, committed together, and what is found of them later.

use std::fs;
use std::io::{BufReader, Read as _};
use std::path::Path;

use bypass_io::io_uring::buf::{BufPool, PoolBuf};
use bypass_io::io_uring::chain::{Chain, One, PendingChain};
use bypass_io::io_uring::fixed::{FileTable, FixedFd};
use bypass_io::io_uring::op::{Fsync, Open, OpenOptions, PathAt, Write};
use bypass_io::io_uring::{Local, Ring};

use super::page::{HEADER, PAGE, Page};
use super::{Result, register};

/// Pages that one commit can take.
const GROUP: usize = 64;

/// Where the log goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub page: u64,
    pub record: u64,
    pub checksum: u32,
}

/// Reads the log from its beginning to the first page that does not belong, and says where that is.
/// Every record is shown to `visit`.
pub fn recover(path: &Path, mut visit: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<End> {
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
pub struct Group {
    buffer: PoolBuf,
    /// Bytes of the page that is being filled, and records in it.
    filled: usize,
    records: u16,
    /// Where the log goes on behind the pages that are sealed.
    end: End,
}

/// A commit under way, and what is in the log when it is done.
pub struct Commit {
    pub chain: PendingChain<(One<Write<PoolBuf>>, One<Fsync>), Local>,
    pub end: End,
}

pub struct Log {
    pub ring: Ring,
    file: FixedFd,
    pool: BufPool,
    pub end: End,
}

impl Log {
    /// Opens the log where it ends. The kernel knows its file and its buffers from then on.
    pub fn open(path: &Path, end: End) -> Result<Self> {
        let ring = Ring::builder().entries(8).build_local()?;
        // Two groups: one is gathered while the other is committed.
        let pool = BufPool::local(GROUP * PAGE, 2)?;
        register(&ring, &pool)?;
        let options = OpenOptions::write_only().create(0o600).direct();
        let file = ring.push(Open::new(PathAt::new(path)?, options))?.wait(None)?;
        let file = FileTable::new(&ring, 1)?.install(&file?)?;
        Ok(Self { ring, file, pool, end })
    }

    pub fn group(&self) -> Result<Group> {
        let mut buffer = self.pool.take().ok_or("both groups are under way")?;
        buffer.set_len(PAGE);
        Ok(Group { buffer, filled: HEADER, records: 0, end: self.end })
    }

    /// Writes the group behind the last one, and has the kernel bring it to the disk as soon as it is
    /// written. A write that falls short breaks the link, so what was not written is not acknowledged.
    pub fn commit(&mut self, mut group: Group) -> Result<Commit> {
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
    pub fn append(&mut self, record: &[u8]) -> bool {
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
