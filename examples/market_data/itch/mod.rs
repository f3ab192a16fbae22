//! NASDAQ TotalView-ITCH 5.0: what is in a message block.
//!
//! A message is never copied to be read: [`Message`] is a reference to one of the structures in
//! [`messages`], which lie over the bytes that came in. All types of the specification are known, by
//! type and length; what is neither is [`Malformed`].

mod messages;

pub use messages::*;

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// There are none.
    Empty,
    /// The specification has no such type.
    Type,
    /// Messages of this type have another length.
    Length,
}

impl Malformed {
    pub const ALL: [Self; 3] = [Self::Empty, Self::Type, Self::Length];

    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty_message",
            Self::Type => "unknown_type",
            Self::Length => "wrong_length",
        }
    }
}

/// Of an order: to buy or to sell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Buy,
    Sell,
}

impl Side {
    pub fn of(code: u8) -> Option<Self> {
        match code {
            b'B' => Some(Self::Buy),
            b'S' => Some(Self::Sell),
            _ => None,
        }
    }

    pub fn code(self) -> u8 {
        match self {
            Self::Buy => b'B',
            Self::Sell => b'S',
        }
    }
}
