//! One shard: it carries requests out on its store and writes the answers.

use std::io::Write as _;
use std::sync::Arc;

use crate::protocol::{
    How, MAX_ITEM, MAX_KEY, NOT_A_NUMBER, OUT_OF_MEMORY, Request, TOO_LARGE, Write,
};
use crate::stats::{Figure, Stats};
use crate::store::{Counted, Item, Store, Written};

/// What a request has changed, for those who keep a record of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// The item of this key is another one.
    Written(&'a [u8]),
    /// It has another deadline.
    Touched(&'a [u8], u32),
    Deleted(&'a [u8]),
    /// All items are gone, or will be at this second.
    Flushed(Option<u32>),
}

/// Where a request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It has been answered.
    Done,
    /// Another shard has what it is about.
    Shard(usize),
    /// The answer has no more room: it has to be sent before there is more.
    Full,
}

/// Bytes of the longest answer, in which there is room for any item.
pub const FULL: usize = 2 * MAX_ITEM;
/// Bytes of the line in front of a value, and of what is behind it.
const LINES: usize = MAX_KEY + 64;

pub struct Shard {
    pub index: usize,
    pub store: Store,
    pub stats: Arc<Stats>,
}

impl Shard {
    /// The shard that a key belongs to. It stays the same from one start to the next, because each shard
    /// has a log of its own.
    pub fn of(&self, key: &[u8]) -> usize {
        let shards = self.stats.shards();
        if shards == 1 { 0 } else { crc32fast::hash(key) as usize % shards }
    }

    /// Carries out as much of a request as this shard can. `progress` says how much has been done, by this
    /// shard or others; it begins at 0. The answer grows at the end of `out`, where items have
    /// `room` bytes in all.
    pub fn carry_out<'a>(
        &mut self,
        request: &Request<'a>,
        progress: &mut usize,
        (out, room): (&mut Vec<u8>, usize),
        changed: &mut impl FnMut(&mut Store, Change<'_>),
    ) -> Next {
        let key = match *request {
            Request::Get { keys, cas } => {
                for key in keys.skip(*progress) {
                    let owner = self.of(key);
                    if owner != self.index {
                        return Next::Shard(owner);
                    }
                    if !self.get(key, cas, out, room) {
                        return Next::Full;
                    }
                    *progress += 1;
                }
                out.extend_from_slice(b"END\r\n");
                return Next::Done;
            }
            Request::FlushAll { delay, noreply } => {
                while *progress < self.stats.shards() {
                    if *progress != self.index {
                        return Next::Shard(*progress);
                    }
                    let at = (delay > 0).then(|| self.store.deadline(delay));
                    self.store.flush(at);
                    changed(&mut self.store, Change::Flushed(at));
                    *progress += 1;
                }
                self.stats.add(self.index, Figure::FlushAll, 1);
                answer(out, noreply, "OK\r\n");
                return Next::Done;
            }
            Request::Write(Write { key, .. })
            | Request::TooLarge { key, .. }
            | Request::Delete { key, .. }
            | Request::Count { key, .. }
            | Request::Touch { key, .. } => key,
            Request::Version => {
                out.extend_from_slice(
                    concat!("VERSION ", env!("CARGO_PKG_VERSION"), "\r\n").as_bytes(),
                );
                return Next::Done;
            }
            Request::Stats => {
                self.stats.write(out);
                return Next::Done;
            }
            Request::ResetStats => {
                self.stats.reset();
                out.extend_from_slice(b"RESET\r\n");
                return Next::Done;
            }
            Request::Verbosity { noreply } => {
                answer(out, noreply, "OK\r\n");
                return Next::Done;
            }
            Request::Refused { line, noreply } => {
                answer(out, noreply, line);
                return Next::Done;
            }
            Request::Quit => return Next::Done,
        };
        let owner = self.of(key);
        if owner != self.index {
            return Next::Shard(owner);
        }
        self.change(request, out, changed);
        Next::Done
    }

    /// Shows an item, if there is one; false when there is no room for it.
    fn get(&mut self, key: &[u8], cas: bool, out: &mut Vec<u8>, room: usize) -> bool {
        let found = self.store.get(key);
        if found.is_some_and(|item| out.len() + item.length() + LINES > room) {
            return false;
        }
        let figure = if found.is_some() { Figure::GetHits } else { Figure::GetMisses };
        if let Some(item) = found {
            show(item, key, cas, out);
        }
        self.stats.add(self.index, figure, 1);
        true
    }

    fn change(
        &mut self,
        request: &Request<'_>,
        out: &mut Vec<u8>,
        changed: &mut impl FnMut(&mut Store, Change<'_>),
    ) {
        let (store, count) = (&mut self.store, |figure| self.stats.add(self.index, figure, 1));
        match *request {
            Request::Write(Write { how, key, flags, expires, value, noreply }) => {
                count(Figure::Sets);
                let expires = store.deadline(expires);
                let stored = store.write(how, key, flags, expires, value);
                if stored == Written::Stored {
                    changed(store, Change::Written(key));
                }
                answer(out, noreply, line(stored));
            }
            Request::TooLarge { how, key, noreply } => {
                // Rather nothing than what the client has just replaced.
                if how == How::Set && store.delete(key) {
                    changed(store, Change::Deleted(key));
                }
                answer(out, noreply, TOO_LARGE);
            }
            Request::Delete { key, noreply } => {
                let there = store.delete(key);
                count(if there { Figure::DeleteHits } else { Figure::DeleteMisses });
                if there {
                    changed(store, Change::Deleted(key));
                }
                answer(out, noreply, if there { "DELETED\r\n" } else { "NOT_FOUND\r\n" });
            }
            Request::Count { key, by, up, noreply } => match store.count(key, by, up) {
                Counted::Now(number) => {
                    changed(store, Change::Written(key));
                    if !noreply {
                        // Writing into memory does not fail.
                        let _written = write!(out, "{number}\r\n");
                    }
                }
                Counted::NotFound => answer(out, noreply, "NOT_FOUND\r\n"),
                Counted::NotANumber => answer(out, noreply, NOT_A_NUMBER),
            },
            Request::Touch { key, expires, noreply } => {
                let expires = store.deadline(expires);
                let there = store.touch(key, expires);
                count(if there { Figure::TouchHits } else { Figure::TouchMisses });
                if there {
                    changed(store, Change::Touched(key, expires));
                }
                answer(out, noreply, if there { "TOUCHED\r\n" } else { "NOT_FOUND\r\n" });
            }
            _ => {}
        }
        self.publish();
    }

    /// Shows the store's counters to the others.
    pub fn publish(&self) {
        self.stats.show(self.index, &self.store.counters());
    }
}

/// Writes an answer, unless the client wants none.
fn answer(out: &mut Vec<u8>, noreply: bool, line: &str) {
    if !noreply {
        out.extend_from_slice(line.as_bytes());
    }
}

fn line(stored: Written) -> &'static str {
    match stored {
        Written::Stored => "STORED\r\n",
        Written::NotStored => "NOT_STORED\r\n",
        Written::Exists => "EXISTS\r\n",
        Written::NotFound => "NOT_FOUND\r\n",
        Written::OutOfMemory => OUT_OF_MEMORY,
    }
}

/// `VALUE key flags length [cas]`, and the value.
fn show(item: Item<'_>, key: &[u8], cas: bool, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key);
    for number in
        [u64::from(item.flags()), item.length() as u64].into_iter().chain(cas.then(|| item.cas()))
    {
        out.push(b' ');
        out.extend_from_slice(digits.format(number).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    item.value().for_each(|piece| out.extend_from_slice(piece));
    out.extend_from_slice(b"\r\n");
}
