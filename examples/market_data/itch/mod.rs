//! NASDAQ TotalView-ITCH 5.0: what is in a message block.
//!
//! A message is never copied to be read: [`Message`] is a reference to one of the structures in
//! [`messages`], which lie over the bytes that came in. All types of the specification are known, by
//! type and length; what is neither is [`Malformed`].

mod messages;

use zerocopy::FromBytes as _;

pub use messages::*;

/// Ties each type to its structure: the enumeration, the lengths, and the way from bytes.
macro_rules! messages {
    ($($kind:literal $name:ident)*) => {
        /// A message of any type.
        #[derive(Debug, Clone, Copy)]
        #[allow(dead_code, reason = "all that a feed says, whether this program reads it or not")]
        pub enum Message<'a> {
            $($name(&'a $name),)*
        }

        impl<'a> Message<'a> {
            /// The types, each with its length in bytes.
            #[allow(dead_code, reason = "tests go through all of them")]
            pub const TYPES: &'static [(u8, usize)] = &[$(($kind, size_of::<$name>()),)*];

            /// Reads one message, which is all of `bytes`.
            pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
                match bytes.first() {
                    $(Some(&$kind) => match $name::ref_from_bytes(bytes) {
                        Ok(message) => Ok(Self::$name(message)),
                        Err(_) => Err(Malformed::Length),
                    },)*
                    Some(_) => Err(Malformed::Type),
                    None => Err(Malformed::Empty),
                }
            }
        }
    };
}

messages! {
    b'S' SystemEvent
    b'R' StockDirectory
    b'H' TradingAction
    b'Y' RegSho
    b'L' ParticipantPosition
    b'V' MwcbDeclineLevels
    b'W' MwcbStatus
    b'K' IpoQuotingPeriod
    b'J' LuldAuctionCollar
    b'h' OperationalHalt
    b'A' AddOrder
    b'F' AddOrderAttributed
    b'E' OrderExecuted
    b'C' OrderExecutedWithPrice
    b'X' OrderCancel
    b'D' OrderDelete
    b'U' OrderReplace
    b'P' Trade
    b'Q' CrossTrade
    b'B' BrokenTrade
    b'I' Noii
    b'N' RetailInterest
    b'O' DirectListing
}

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
