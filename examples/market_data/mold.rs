//! MoldUDP64: how numbered messages travel in datagrams.
//!
//! A downstream packet has a header (session, number of its first message, count) and that many
//! blocks, each a length of two bytes and a message. A count of zero is a heartbeat, one of `0xffff`
//! the end of the session; both carry the number of the next message. A request packet, a header of
//! the same form, asks a retransmission server for `count` messages.

use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Ref, Unaligned};

/// The longest packet that is made here; it fits into an Ethernet frame, with some to spare.
pub const LONGEST: usize = 1400;
/// The length of a block's length.
pub const PREFIX: usize = 2;
/// The number of a session's first message.
pub const FIRST: u64 = 1;

/// The count that ends a session.
const END: u16 = 0xffff;

/// The name of a session: letters and digits, filled up with blanks.
pub type Session = [u8; 10];

/// What every packet begins with, and all that a request is.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub session: Session,
    /// Of the first message, or of the one that comes next.
    pub sequence: U64,
    pub count: U16,
}

impl Header {
    pub const LEN: usize = size_of::<Self>();

    /// Of a packet with `count` messages, or of a request for them.
    pub fn new(session: Session, sequence: u64, count: u16) -> Self {
        Self { session, sequence: sequence.into(), count: count.into() }
    }

    pub fn heartbeat(session: Session, next: u64) -> Self {
        Self::new(session, next, 0)
    }

    pub fn end(session: Session, next: u64) -> Self {
        Self::new(session, next, END)
    }
}

/// A packet whose blocks are all there.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    pub session: Session,
    pub content: Content<'a>,
}

#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    Messages(Blocks<'a>),
    Heartbeat {
        next: u64,
    },
    /// The session is over; `next` would be the number of its next message.
    End {
        next: u64,
    },
}

/// Messages with consecutive numbers.
#[derive(Debug, Clone, Copy)]
pub struct Blocks<'a> {
    pub first: u64,
    pub count: u16,
    bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, bytes) =
            Ref::<_, Header>::from_prefix(bytes).map_err(|_| Malformed::Header)?;
        let (session, first, count) = (header.session, header.sequence.get(), header.count.get());
        let content = match count {
            0 => Content::Heartbeat { next: first },
            END => Content::End { next: first },
            _ => Content::Messages(Blocks { first, count, bytes }.checked()?),
        };
        Ok(Self { session, content })
    }
}

impl<'a> Blocks<'a> {
    /// The number after the last message's.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// The messages in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let message;
            (message, rest) = split(rest)?;
            Some(message)
        })
    }

    /// So many blocks, and nothing behind them.
    fn checked(self) -> Result<Self, Malformed> {
        let mut rest = self.bytes;
        for _ in 0..self.count {
            (_, rest) = split(rest).ok_or(Malformed::Truncated)?;
        }
        if !rest.is_empty() {
            return Err(Malformed::Trailing);
        }
        match self.first.checked_add(u64::from(self.count)) {
            Some(_) => Ok(self),
            None => Err(Malformed::Sequence),
        }
    }
}

/// The first block's message, and what is behind it.
pub fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<PREFIX>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Why bytes are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than a header.
    Header,
    /// A block goes beyond the end.
    Truncated,
    /// There is something behind the last block.
    Trailing,
    /// The numbers of its messages are more than there are numbers.
    Sequence,
    /// It is of another session.
    Session,
}

impl Malformed {
    pub const ALL: [Self; 5] =
        [Self::Header, Self::Truncated, Self::Trailing, Self::Sequence, Self::Session];

    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "short_packet",
            Self::Truncated => "truncated_block",
            Self::Trailing => "trailing_bytes",
            Self::Sequence => "impossible_number",
            Self::Session => "other_session",
        }
    }
}
