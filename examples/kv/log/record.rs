//! What a log consists of: groups of records, each group whole or not there.
//!
//! ```text
//! group    checksum of all that follows: 4   checksum of the group before: 4   number: 8
//!          bytes of records: 4   nothing: 4   the records   zeroes up to a multiple of 4096
//! record   kind: 1   key length: 1   then by kind, and the key
//! ```
//!
//! A group names the one before by its checksum, so what an earlier life of the file left behind a torn
//! group never passes for what came next.

use std::io::Read;

use crate::protocol::MAX_ITEM;
use crate::store::{Item, Store};

/// What a direct write is a multiple of.
pub const BLOCK: usize = 4096;
/// Bytes in front of the records.
pub const HEADER: usize = 24;
/// Bytes of the longest record, that of the largest item.
pub const LONGEST: usize = MAX_ITEM + 512;
/// Bytes of the longest group that is believed: twice what is ever written.
const LONGEST_GROUP: usize = 8 * MAX_ITEM;

/// Bytes of the longest record that has no value.
pub const MAX_OTHER: usize = 2 + 16 + 255;

const WRITTEN: u8 = 1;
const DELETED: u8 = 2;
const TOUCHED: u8 = 3;
const FLUSHED: u8 = 4;
const END: u8 = 5;

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    Written {
        key: &'a [u8],
        flags: u32,
        expires: u32,
        cas: u64,
        value: &'a [u8],
    },
    Deleted {
        key: &'a [u8],
    },
    Touched {
        key: &'a [u8],
        expires: u32,
    },
    /// Items up to this number are gone; all are at this second.
    Flushed {
        cas: u64,
        at: u32,
    },
    /// The end of a snapshot, with the number of its items and the last unique number.
    End {
        items: u64,
        cas: u64,
    },
}

/// Where records are put.
pub trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Bytes that the record of an item takes.
pub fn length_of(item: Item<'_>) -> usize {
    let key: usize = item.key().map(<[u8]>::len).sum();
    22 + key + item.length()
}

/// Writes the record of an item.
pub fn written(out: &mut impl Sink, item: Item<'_>) {
    let key: usize = item.key().map(<[u8]>::len).sum();
    out.put(&[WRITTEN, key as u8]);
    out.put(&item.flags().to_le_bytes());
    out.put(&item.expires().to_le_bytes());
    out.put(&item.cas().to_le_bytes());
    out.put(&(item.length() as u32).to_le_bytes());
    item.key().for_each(|piece| out.put(piece));
    item.value().for_each(|piece| out.put(piece));
}

/// Writes any other record.
pub fn other(out: &mut impl Sink, record: Record<'_>) {
    match record {
        Record::Deleted { key } => {
            out.put(&[DELETED, key.len() as u8]);
            out.put(key);
        }
        Record::Touched { key, expires } => {
            out.put(&[TOUCHED, key.len() as u8]);
            out.put(&expires.to_le_bytes());
            out.put(key);
        }
        Record::Flushed { cas, at } => {
            out.put(&[FLUSHED, 0]);
            out.put(&cas.to_le_bytes());
            out.put(&at.to_le_bytes());
        }
        Record::End { items, cas } => {
            out.put(&[END, 0]);
            out.put(&items.to_le_bytes());
            out.put(&cas.to_le_bytes());
        }
        // It has a way of its own, from the store.
        Record::Written { .. } => {}
    }
}

/// Takes the record at the front of `bytes`.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let &[kind, key_length] = cut(bytes, 2)?.first_chunk()?;
    let key_length = usize::from(key_length);
    let word = |bytes: &mut &[u8]| Some(u32::from_le_bytes(*cut(bytes, 4)?.first_chunk()?));
    let long = |bytes: &mut &[u8]| Some(u64::from_le_bytes(*cut(bytes, 8)?.first_chunk()?));
    Some(match kind {
        WRITTEN => {
            let (flags, expires, cas) = (word(bytes)?, word(bytes)?, long(bytes)?);
            let length = word(bytes)? as usize;
            let (key, value) = (cut(bytes, key_length)?, cut(bytes, length)?);
            Record::Written { key, flags, expires, cas, value }
        }
        DELETED => Record::Deleted { key: cut(bytes, key_length)? },
        TOUCHED => {
            let expires = word(bytes)?;
            Record::Touched { key: cut(bytes, key_length)?, expires }
        }
        FLUSHED => Record::Flushed { cas: long(bytes)?, at: word(bytes)? },
        END => Record::End { items: long(bytes)?, cas: long(bytes)? },
        _ => return None,
    })
}

fn cut<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(front)
}

/// Does to a store what a record says.
pub fn replay(store: &mut Store, record: Record<'_>) {
    match record {
        Record::Written { key, flags, expires, cas, value } => {
            // A store that is smaller than it was keeps what was used last.
            let _evicted = store.restore(key, flags, expires, cas, value);
        }
        Record::Deleted { key } => {
            store.delete(key);
        }
        Record::Touched { key, expires } => {
            store.touch(key, expires);
        }
        Record::Flushed { cas, at: 0 } => store.restore_flush(cas),
        Record::Flushed { at, .. } => store.flush(Some(at)),
        Record::End { cas, .. } => store.restore_cas(cas),
    }
}

/// Where a file of groups goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub offset: u64,
    pub number: u64,
    pub checksum: u32,
}

/// Completes a group: `bytes` begins with room for the header and is a multiple of [`BLOCK`] long, `used` is
/// how much of it is filled, header included. Returns where the next one goes.
pub fn seal(bytes: &mut [u8], used: usize, end: End) -> End {
    bytes[used..].fill(0);
    bytes[4..8].copy_from_slice(&end.checksum.to_le_bytes());
    bytes[8..16].copy_from_slice(&end.number.to_le_bytes());
    bytes[16..20].copy_from_slice(&((used - HEADER) as u32).to_le_bytes());
    bytes[20..24].fill(0);
    let checksum = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    End { offset: end.offset + bytes.len() as u64, number: end.number + 1, checksum }
}

/// Reads groups up to the first that does not belong, shows their records, and says where that is.
/// An error is a record that cannot be read in a group that is whole.
pub fn read(mut file: impl Read, mut visit: impl FnMut(Record<'_>)) -> Result<End, String> {
    let (mut end, mut group) = (End::default(), Vec::new());
    loop {
        group.resize(BLOCK, 0);
        if file.read_exact(&mut group).is_err() {
            break;
        }
        let word = |at: usize| {
            u32::from_le_bytes([group[at], group[at + 1], group[at + 2], group[at + 3]])
        };
        let (checksum, before, length) = (word(0), word(4), word(16) as usize);
        let number = u64::from(word(8)) | u64::from(word(12)) << 32;
        if (before, number) != (end.checksum, end.number) || length > LONGEST_GROUP || length == 0 {
            break;
        }
        group.resize((HEADER + length).next_multiple_of(BLOCK), 0);
        if file.read_exact(&mut group[BLOCK..]).is_err() {
            break;
        }
        if crc32fast::hash(&group[4..]) != checksum {
            break;
        }
        let mut records = &group[HEADER..HEADER + length];
        while !records.is_empty() {
            let wrong = || format!("group {number} is whole and holds what is no record");
            visit(take(&mut records).ok_or_else(wrong)?);
        }
        let offset = end.offset + group.len() as u64;
        end = End { offset, number: number + 1, checksum };
    }
    Ok(end)
}
