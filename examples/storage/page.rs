//! A page: what is written and read at once, and verified by itself.
//!
//! ```text
//! checksum of all that follows: 4   checksum of the page before: 4   page: 8   its first record: 8
//! records: 2   bytes of records: 2   and then the records, each with its length: 2
//! ```
//!
//! A page names the page before by its checksum, so what an earlier life of the log left behind a torn
//! page never passes for what came next.

/// What every disk takes directly.
pub const PAGE: usize = 4096;
/// Bytes before the records.
pub const HEADER: usize = 28;

/// A page whose checksum is right.
#[derive(Clone, Copy)]
pub struct Page<'a> {
    pub checksum: u32,
    pub before: u32,
    pub number: u64,
    pub first: u64,
    pub count: u16,
    pub records: &'a [u8],
}

impl<'a> Page<'a> {
    /// Seals what has been put behind the header.
    pub fn seal(
        page: &mut [u8],
        before: u32,
        number: u64,
        first: u64,
        count: u16,
        end: usize,
    ) -> u32 {
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
    pub fn open(bytes: &'a [u8]) -> Option<Self> {
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

    pub fn records(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.records;
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk()?;
            let (record, behind) = behind.split_at_checked(u16::from_le_bytes(*length).into())?;
            rest = behind;
            Some(record)
        })
    }
}
