//! [`Day`]: all messages of a day, from a file or made up.
//!
//! In memory it is what NASDAQ's files are: each message behind its length, in two bytes. The blocks
//! of a MoldUDP64 packet have the same form, so a packet's content is a piece of the day.

mod generate;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::mold::{FIRST, PREFIX};

/// Numbered messages, the first of which is [`FIRST`].
pub struct Day {
    bytes: Vec<u8>,
    /// Where each message begins, and where the last one ends.
    starts: Vec<usize>,
}

impl Day {
    /// Makes up a day of `count` messages; the same seed gives the same day.
    pub fn generate(seed: u64, count: usize) -> Self {
        let mut day = Self::with_capacity(count);
        generate::day(&mut day, seed, count);
        day
    }

    /// Reads up to `limit` messages from an ITCH file as NASDAQ publishes them, packed by gzip or not.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or ends within a message.
    pub fn open(path: &Path, limit: usize) -> io::Result<Self> {
        let file = BufReader::new(File::open(path)?);
        if path.extension().is_some_and(|extension| extension == "gz") {
            Self::read(BufReader::new(MultiGzDecoder::new(file)), limit)
        } else {
            Self::read(file, limit)
        }
    }

    fn read(mut from: impl Read, limit: usize) -> io::Result<Self> {
        let mut day = Self::with_capacity(0);
        let mut message = Vec::new();
        while day.len() < limit as u64 {
            let mut prefix = [0; PREFIX];
            match from.read(&mut prefix[..1])? {
                0 => break,
                _ => from.read_exact(&mut prefix[1..])?,
            }
            message.resize(usize::from(u16::from_be_bytes(prefix)), 0);
            from.read_exact(&mut message)?;
            day.push(&message);
        }
        Ok(day)
    }

    fn with_capacity(count: usize) -> Self {
        let mut starts = Vec::with_capacity(count + 1);
        starts.push(0);
        // A message is some 30 bytes.
        Self { bytes: Vec::with_capacity(32 * count), starts }
    }

    /// Appends a message.
    fn push(&mut self, message: &[u8]) {
        // None that is read or made here is longer.
        self.bytes.extend_from_slice(&(message.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(message);
        self.starts.push(self.bytes.len());
    }

    /// How many messages there are.
    pub fn len(&self) -> u64 {
        self.starts.len() as u64 - 1
    }

    /// The day as a file has it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The blocks of the messages from number `first` on, below number `end`, that fit into `room`
    /// bytes, and how many they are.
    pub fn blocks(&self, first: u64, end: u64, room: usize) -> (&[u8], u16) {
        let Range { start, end } = self.places(first, end);
        let begin = self.starts[start];
        let fit = self.starts[start..=end].partition_point(|&at| at - begin <= room) - 1;
        // The highest count of all has a meaning of its own.
        let fit = fit.min(usize::from(u16::MAX) - 1);
        (&self.bytes[begin..self.starts[start + fit]], fit as u16)
    }

    fn places(&self, first: u64, end: u64) -> Range<usize> {
        let place = |number: u64| number.saturating_sub(FIRST).min(self.len()) as usize;
        let start = place(first);
        start..place(end).max(start)
    }
}
