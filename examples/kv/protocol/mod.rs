//! memcached's text protocol: what clients ask, and the lines that answer.
//!
//! Limits and wording are memcached's (`doc/protocol.txt`, `proto_text.c` of version 1.6); a test sends the
//! same to both and compares.

pub mod frame;
mod line;
#[cfg(test)]
mod tests;

use line::{Words, number, signed};

/// Bytes of the longest key.
pub const MAX_KEY: usize = 250;
/// Bytes of the largest item, with what memcached keeps beside key and value.
pub const MAX_ITEM: usize = 1 << 20;
/// memcached's own share of an item.
const ITEM_HEADER: usize = 48 + 8 + 1 + 2;
/// Bytes without an end of line after which only a `get` is waited for any longer.
pub const MAX_LINE: usize = 2048;
/// The longest line, a `get` of very many keys.
const MAX_GET: usize = 1 << 20;

/// What a client asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Items by their keys, each with its unique number where `cas` is set.
    Get {
        keys: Keys<'a>,
        cas: bool,
    },
    Write(Write<'a>),
    /// A `set` or another write of a value that no item can hold; a `set` removes what was there.
    TooLarge {
        how: How,
        key: &'a [u8],
        noreply: bool,
    },
    Delete {
        key: &'a [u8],
        noreply: bool,
    },
    /// `incr` and `decr`.
    Count {
        key: &'a [u8],
        by: u64,
        up: bool,
        noreply: bool,
    },
    Touch {
        key: &'a [u8],
        expires: i32,
        noreply: bool,
    },
    FlushAll {
        delay: i32,
        noreply: bool,
    },
    Version,
    Stats,
    ResetStats,
    Verbosity {
        noreply: bool,
    },
    /// The end of the connection.
    Quit,
    /// What makes no sense, and the line that says so.
    Refused {
        line: &'static str,
        noreply: bool,
    },
}

/// `set`, `add`, `replace`, `append`, `prepend`, `cas`.
#[derive(Debug, PartialEq, Eq)]
pub struct Write<'a> {
    pub how: How,
    pub key: &'a [u8],
    pub flags: u32,
    pub expires: i32,
    pub value: &'a [u8],
    pub noreply: bool,
}

/// On which condition a value is stored, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    /// Only over the item with this number.
    Cas(u64),
}

/// The keys of a `get`, all of them of a legal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a>(Words<'a>);

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.0.next()
    }
}

/// What is the first key if this is a request that has any: a guess that costs little.
#[must_use]
pub fn first_key(requests: &[u8]) -> Option<&[u8]> {
    let line = &requests[..requests.len().min(MAX_KEY)];
    line.split(|byte| matches!(byte, b' ' | b'\r' | b'\n')).nth(1)
}

/// What lies at the front of the bytes that have come.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// Not enough yet: there have to be at least so many.
    More(usize),
    /// A request, and its length, which may exceed what has come: the rest is to be skipped.
    Request(Request<'a>, usize),
    /// No line, and none to come: the connection is of no use.
    Hopeless,
}

pub const ERROR: &str = "ERROR\r\n";
pub const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";
pub const BAD_DELETE: &str =
    "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
pub const BAD_CHUNK: &str = "CLIENT_ERROR bad data chunk\r\n";
pub const BAD_DELTA: &str = "CLIENT_ERROR invalid numeric delta argument\r\n";
pub const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument\r\n";
pub const NOT_A_NUMBER: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
pub const TOO_LARGE: &str = "SERVER_ERROR object too large for cache\r\n";
pub const OUT_OF_MEMORY: &str = "SERVER_ERROR out of memory storing object\r\n";
pub const REPLY_TOO_LARGE: &str = "SERVER_ERROR out of memory writing get response\r\n";

/// Whether memcached could hold an item of this size.
#[must_use]
pub fn fits(key: usize, value: usize) -> bool {
    ITEM_HEADER + key + value <= MAX_ITEM
}

/// Reads the request at the front of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some(end) = line::end(bytes) else { return unfinished(bytes) };
    let text = &bytes[..end];
    let text = text.strip_suffix(b"\r").filter(|text| !text.is_empty()).unwrap_or(text);
    let behind = end + 1;
    let mut words = Words::new(text);
    let count = words.take(9).count();
    let Some(command) = words.next() else { return refused(ERROR, behind) };
    let request = match command {
        b"get" | b"gets" if count > 1 => return get(words, command == b"gets", behind),
        b"set" | b"add" | b"replace" | b"append" | b"prepend" if matches!(count, 5 | 6) => {
            return write(command, words, bytes, behind);
        }
        b"cas" if matches!(count, 6 | 7) => return write(command, words, bytes, behind),
        b"delete" if matches!(count, 2..=4) => delete(words, count),
        b"incr" | b"decr" if matches!(count, 3 | 4) => counter(words, command == b"incr"),
        b"touch" if matches!(count, 3 | 4) => touch(words),
        b"flush_all" if matches!(count, 1..=3) => flush_all(words, count),
        b"verbosity" if matches!(count, 2 | 3) => verbosity(words),
        b"version" => Request::Version,
        b"stats" if count == 1 => Request::Stats,
        b"stats" if words.next() == Some(b"reset") => Request::ResetStats,
        b"quit" => Request::Quit,
        _ => return refused(ERROR, behind),
    };
    Parsed::Request(request, behind)
}

fn refused(line: &'static str, used: usize) -> Parsed<'static> {
    Parsed::Request(Request::Refused { line, noreply: false }, used)
}

/// No line yet: a long one can only be a `get`.
fn unfinished(bytes: &[u8]) -> Parsed<'_> {
    let start = bytes.iter().position(|&byte| byte != b' ').unwrap_or(bytes.len());
    let get = bytes[start..].starts_with(b"get ") || bytes[start..].starts_with(b"gets ");
    let limit = if get && start <= 100 { MAX_GET } else { MAX_LINE };
    if bytes.len() > limit { Parsed::Hopeless } else { Parsed::More(bytes.len() + 1) }
}

fn get(keys: Words<'_>, cas: bool, used: usize) -> Parsed<'_> {
    let mut each = keys;
    if each.any(|key| key.len() > MAX_KEY) {
        return refused(BAD_FORMAT, used);
    }
    Parsed::Request(Request::Get { keys: Keys(keys), cas }, used)
}

/// A number of 32 bits, of which memcached takes one of 64, too.
fn low_half(word: &[u8]) -> Option<u32> {
    number::<u64>(word).map(|number| number as u32)
}

/// Whether the last word asks for no answer.
fn noreply(words: &Words<'_>) -> bool {
    (*words).last() == Some(b"noreply")
}

fn write<'a>(command: &[u8], mut words: Words<'a>, bytes: &'a [u8], behind: usize) -> Parsed<'a> {
    let noreply = noreply(&words);
    let wrong = |line| Parsed::Request(Request::Refused { line, noreply }, behind);
    let (Some(key), Some(flags), Some(expires), Some(length)) = (
        words.next().filter(|key| key.len() <= MAX_KEY),
        words.next().and_then(low_half),
        words.next().and_then(signed),
        words.next().and_then(signed),
    ) else {
        return wrong(BAD_FORMAT);
    };
    let Some(length) =
        usize::try_from(length).ok().filter(|&length| length < i32::MAX as usize - 1)
    else {
        return wrong(BAD_FORMAT);
    };
    let how = match command {
        b"set" => How::Set,
        b"add" => How::Add,
        b"replace" => How::Replace,
        b"append" => How::Append,
        b"prepend" => How::Prepend,
        _ => match words.next().and_then(number) {
            Some(cas) => How::Cas(cas),
            None => return wrong(BAD_FORMAT),
        },
    };
    let used = behind + length + 2;
    if !fits(key.len(), length) {
        return Parsed::Request(Request::TooLarge { how, key, noreply }, used);
    }
    let Some(data) = bytes.get(behind..used) else { return Parsed::More(used) };
    let request = match data.strip_suffix(b"\r\n") {
        Some(value) => Request::Write(Write { how, key, flags, expires, value, noreply }),
        None => Request::Refused { line: BAD_CHUNK, noreply },
    };
    Parsed::Request(request, used)
}

fn delete(mut words: Words<'_>, count: usize) -> Request<'_> {
    let noreply = noreply(&words) && count > 2;
    let key = words.next().unwrap_or_default();
    let zero = words.next() == Some(b"0");
    // `delete key 0` is what old clients send.
    let valid = match count {
        2 => true,
        3 => zero || noreply,
        _ => zero && noreply,
    };
    if !valid {
        return Request::Refused { line: BAD_DELETE, noreply };
    }
    if key.len() > MAX_KEY {
        return Request::Refused { line: BAD_FORMAT, noreply };
    }
    Request::Delete { key, noreply }
}

fn counter(mut words: Words<'_>, up: bool) -> Request<'_> {
    let noreply = noreply(&words);
    let Some(key) = words.next().filter(|key| key.len() <= MAX_KEY) else {
        return Request::Refused { line: BAD_FORMAT, noreply };
    };
    match words.next().and_then(number) {
        Some(by) => Request::Count { key, by, up, noreply },
        None => Request::Refused { line: BAD_DELTA, noreply },
    }
}

fn touch(mut words: Words<'_>) -> Request<'_> {
    let noreply = noreply(&words);
    let Some(key) = words.next().filter(|key| key.len() <= MAX_KEY) else {
        return Request::Refused { line: BAD_FORMAT, noreply };
    };
    match words.next().and_then(signed) {
        Some(expires) => Request::Touch { key, expires, noreply },
        None => Request::Refused { line: BAD_EXPTIME, noreply },
    }
}

fn flush_all(mut words: Words<'_>, count: usize) -> Request<'_> {
    let noreply = noreply(&words);
    if count == 1 + usize::from(noreply) {
        return Request::FlushAll { delay: 0, noreply };
    }
    match words.next().and_then(signed) {
        Some(delay) => Request::FlushAll { delay, noreply },
        None => Request::Refused { line: BAD_EXPTIME, noreply },
    }
}

fn verbosity(mut words: Words<'_>) -> Request<'_> {
    let noreply = noreply(&words);
    match words.next().and_then(low_half) {
        Some(_) => Request::Verbosity { noreply },
        None => Request::Refused { line: BAD_FORMAT, noreply },
    }
}
