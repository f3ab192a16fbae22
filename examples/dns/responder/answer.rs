//! [`Answer`]: everything of a response behind the question, written before anybody asks.
//!
//! Names are compressed (RFC 1035, section 4.1.4), most often to a part of the name that was asked for.
//! One answer serves names of many lengths (all that a wildcard stands for, all that do not exist), and
//! what lies behind the question moves with its length. So a pointer is stored for one length, and the
//! answer knows where its pointers are: adding the difference to each is all that is left to do.

use std::collections::HashMap;

use super::name::{self, Name};
use super::zone::{Piece, RecordSet};

/// Bytes of a message before the question.
pub(crate) const HEADER: usize = 12;
/// Bytes of the type and class that follow the name in the question.
pub(crate) const QUESTION_TAIL: usize = 4;
/// The class IN.
const IN: u16 = 1;
/// What marks a pointer, and the first place that no pointer reaches.
const POINTER: u16 = 0xc000;
const REACH: usize = 0x4000;

/// A section of a message that holds records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// Response codes (RFC 1035, section 4.1.1; RFC 6891, section 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Rcode {
    #[default]
    NoError = 0,
    FormErr = 1,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    BadVers = 16,
}

/// A response without header, question and OPT record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rcode: Rcode,
    /// Whether it comes from the zone's own data (AA).
    pub(crate) authoritative: bool,
    /// Records in the three sections.
    pub(crate) counts: [u16; 3],
    pub(crate) records: Box<[u8]>,
    /// Where in `records` the pointers are that move with the question's length.
    pub(crate) pointers: Box<[u16]>,
    /// The length of the name that the pointers are right for.
    pub(crate) name_len: u8,
    /// Shorter forms, the longest first: how many bytes of `records`, and how many additional records.
    /// The last one is the shortest that is no truncation.
    pub(crate) shorter: Box<[(u16, u16)]>,
}

/// It is longer than any message.
#[derive(Debug)]
pub(crate) struct TooLong;

/// Writes an [`Answer`].
#[derive(Debug)]
pub(crate) struct Builder {
    answer: Answer,
    records: Vec<u8>,
    pointers: Vec<u16>,
    shorter: Vec<(u16, u16)>,
    /// Where in the message a name stands, in lower case.
    known: HashMap<Name, u16>,
}

impl Builder {
    /// An answer to questions for `name`, or for names below it.
    pub(crate) fn new(name: &[u8]) -> Self {
        let name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let mut builder = Self {
            answer: Answer { name_len, ..Answer::default() },
            records: Vec::new(),
            pointers: Vec::new(),
            shorter: Vec::new(),
            known: HashMap::new(),
        };
        for suffix in name::ancestry(name) {
            builder.remember(suffix, HEADER + name.len() - suffix.len());
        }
        builder
    }

    pub(crate) fn rcode(&mut self, rcode: Rcode) {
        self.answer.rcode = rcode;
    }

    pub(crate) fn authoritative(&mut self) {
        self.answer.authoritative = true;
    }

    /// Adds a record set of `owner`; without one, of the name that was asked for.
    pub(crate) fn add(
        &mut self,
        section: Section,
        owner: Option<&[u8]>,
        rtype: u16,
        set: &RecordSet,
    ) {
        for data in &set.data {
            match owner {
                // It begins at the same place for every question.
                None => self.records.extend((POINTER | HEADER as u16).to_be_bytes()),
                Some(owner) => self.name(owner),
            }
            self.records.extend([rtype, IN].map(u16::to_be_bytes).concat());
            self.records.extend(set.ttl.to_be_bytes());
            let length_at = self.records.len();
            self.records.extend([0; 2]);
            for piece in data {
                match piece {
                    Piece::Bytes(bytes) => self.records.extend(bytes),
                    Piece::Name(name) => self.name(name),
                }
            }
            let length = (self.records.len() - length_at - 2) as u16;
            self.records[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
            self.answer.counts[section as usize] += 1;
        }
    }

    /// What comes from here on may be left out, set by set.
    pub(crate) fn may_end_here(&mut self) {
        // One that does not fit is too long altogether, which `finish` finds.
        self.shorter.push((self.records.len() as u16, self.answer.counts[2]));
    }

    /// The answer.
    ///
    /// # Errors
    ///
    /// When it is longer than any message.
    pub(crate) fn finish(mut self) -> Result<Answer, TooLong> {
        // With the longest question, and an OPT record.
        if HEADER + name::MAX_LEN + QUESTION_TAIL + self.records.len() + 11 > usize::from(u16::MAX)
        {
            return Err(TooLong);
        }
        self.shorter.retain(|(len, _)| usize::from(*len) < self.records.len());
        self.shorter.reverse();
        self.answer.records = self.records.into();
        self.answer.pointers = self.pointers.into();
        self.answer.shorter = self.shorter.into();
        Ok(self.answer)
    }

    fn name(&mut self, name: &[u8]) {
        for suffix in name::ancestry(name) {
            if let Some(at) = self.known.get(&name::lower(suffix)) {
                self.pointers.push(self.records.len() as u16);
                self.records.extend((POINTER | at).to_be_bytes());
                return;
            }
            let here = HEADER + usize::from(self.answer.name_len) + QUESTION_TAIL;
            self.remember(suffix, here + self.records.len());
            let label = suffix.first().map_or(1, |len| 1 + usize::from(*len));
            self.records.extend(&suffix[..label]);
        }
    }

    fn remember(&mut self, name: &[u8], at: usize) {
        // Also when the question is longer.
        if name.len() > 1 && at + name::MAX_LEN < REACH {
            self.known.entry(name::lower(name)).or_insert(at as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"\x03www\x07example\x00";

    fn set(name: &[u8]) -> RecordSet {
        RecordSet { ttl: 7, data: vec![vec![Piece::Bytes(vec![0, 9]), Piece::Name(name.into())]] }
    }

    #[test]
    fn names_are_compressed_to_the_question_and_to_each_other() {
        let mut builder = Builder::new(NAME);
        builder.add(Section::Answer, None, 15, &set(b"\x04mail\x07EXAMPLE\x00"));
        builder.add(Section::Answer, Some(NAME), 15, &set(b"\x04Mail\x07example\x00"));
        builder.add(Section::Additional, Some(b"\x00"), 15, &set(b"\x00"));
        let answer = builder.finish().unwrap();
        let fixed = b"\x00\x0f\x00\x01\x00\x00\x00\x07";
        // The first name begins behind the question (29 + 10 bytes of the record + length 2 + 2).
        let expected = [
            b"\xc0\x0c",
            &fixed[..],
            b"\x00\x09\x00\x09\x04mail\xc0\x10",
            b"\xc0\x0c",
            fixed,
            b"\x00\x04\x00\x09\xc0\x2b",
            b"\x00",
            fixed,
            b"\x00\x03\x00\x09\x00",
        ]
        .concat();
        assert_eq!(*answer.records, *expected);
        assert_eq!((answer.counts, &*answer.pointers), ([2, 0, 1], &[19, 21, 35][..]));
    }

    #[test]
    fn what_may_be_left_out_is_known() {
        let mut builder = Builder::new(NAME);
        builder.add(Section::Answer, None, 15, &set(b"\x00"));
        builder.may_end_here();
        builder.add(Section::Additional, None, 15, &set(b"\x00"));
        builder.may_end_here();
        builder.add(Section::Additional, None, 15, &set(b"\x00"));
        builder.may_end_here();
        assert_eq!(*builder.finish().unwrap().shorter, [(30, 1), (15, 0)]);
    }

    #[test]
    fn what_fits_no_message_is_refused() {
        let mut builder = Builder::new(NAME);
        let data = vec![vec![Piece::Bytes(vec![0; 40_000])]; 2];
        builder.add(Section::Answer, None, 16, &RecordSet { ttl: 0, data });
        assert!(builder.finish().is_err());
    }
}
