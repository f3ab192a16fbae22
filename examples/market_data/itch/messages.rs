//! The messages as they lie in memory: big endian, without padding.
//!
//! From the specification, NQTVITCHSpecification version 5.0. A code is the letter that stands there.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Malformed;

/// A security's name, filled up with blanks.
pub type Symbol = [u8; 8];
/// In 1/10 000 dollars.
pub type Price = U32;

/// What every message begins with.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub kind: u8,
    /// The security, as a number that is the same all day.
    pub locate: U16,
    pub tracking: U16,
    /// Nanoseconds since midnight.
    pub timestamp: [u8; 6],
}

impl Header {
    pub fn new(kind: u8, locate: u16, nanos: u64) -> Self {
        let [_, _, timestamp @ ..] = nanos.to_be_bytes();
        Self { kind, locate: locate.into(), tracking: 0.into(), timestamp }
    }

    /// Nanoseconds since midnight.
    #[allow(dead_code, reason = "this program has a clock of its own")]
    pub fn nanos(&self) -> u64 {
        let [a, b, c, d, e, f] = self.timestamp;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// Ties each type to its structure, which begins with the header, and to its place in the enumeration, its
/// length, and the way from bytes.
macro_rules! messages {
    ($($(#[$about:meta])+ $kind:literal $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$about])+
            #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
            #[repr(C)]
            pub struct $name {
                pub header: Header,
                $(pub $field: $type,)*
            }
        )*

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
    /// A point in the day: `O` first message, `S` and `E` system hours, `Q` and `M` market hours, `C` last message.
    b'S' SystemEvent { event: u8 }
    /// A security, before anything else about it.
    b'R' StockDirectory {
        stock: Symbol, market_category: u8, financial_status: u8, round_lot_size: U32, round_lots_only: u8,
        issue_classification: u8, issue_subtype: [u8; 2], authenticity: u8, short_sale_threshold: u8,
        ipo: u8, luld_tier: u8, etp: u8, etp_leverage: U32, inverse: u8,
    }
    /// A security is halted (`H`), paused (`P`), quoted only (`Q`) or trades (`T`).
    b'H' TradingAction { stock: Symbol, state: u8, reserved: u8, reason: [u8; 4] }
    /// Whether short sales are restricted.
    b'Y' RegSho { stock: Symbol, action: u8 }
    /// A market maker and what it is for a security.
    b'L' ParticipantPosition { mpid: [u8; 4], stock: Symbol, primary: u8, mode: u8, state: u8 }
    /// The levels of the market-wide circuit breaker, in 1/100 000 000 dollars.
    b'V' MwcbDeclineLevels { level1: U64, level2: U64, level3: U64 }
    /// A level has been breached.
    b'W' MwcbStatus { breached: u8 }
    /// When quoting of a new issue begins.
    b'K' IpoQuotingPeriod { stock: Symbol, release_time: U32, qualifier: u8, price: Price }
    /// The bounds of an auction after a pause.
    b'J' LuldAuctionCollar { stock: Symbol, reference: Price, upper: Price, lower: Price, extension: U32 }
    /// One market has halted (`H`) or resumed (`T`) a security.
    b'h' OperationalHalt { stock: Symbol, market: u8, action: u8 }
    /// A new order on the book.
    b'A' AddOrder { reference: U64, side: u8, shares: U32, stock: Symbol, price: Price }
    /// A new order, with the participant whose it is.
    b'F' AddOrderAttributed {
        reference: U64, side: u8, shares: U32, stock: Symbol, price: Price, attribution: [u8; 4],
    }
    /// An order was executed, in part or in full, at its price.
    b'E' OrderExecuted { reference: U64, shares: U32, match_number: U64 }
    /// An order was executed at another price than its own.
    b'C' OrderExecutedWithPrice {
        reference: U64, shares: U32, match_number: U64, printable: u8, price: Price,
    }
    /// An order has become smaller by so many shares.
    b'X' OrderCancel { reference: U64, shares: U32 }
    /// An order is gone.
    b'D' OrderDelete { reference: U64 }
    /// An order has given way to another of the same side and security.
    b'U' OrderReplace { original: U64, reference: U64, shares: U32, price: Price }
    /// An execution of an order that was not displayed.
    b'P' Trade { reference: U64, side: u8, shares: U32, stock: Symbol, price: Price, match_number: U64 }
    /// What a cross has traded.
    b'Q' CrossTrade { shares: U64, stock: Symbol, price: Price, match_number: U64, cross: u8 }
    /// An execution that does not count.
    b'B' BrokenTrade { match_number: U64 }
    /// The net order imbalance before a cross.
    b'I' Noii {
        paired: U64, imbalance: U64, direction: u8, stock: Symbol, far: Price, near: Price,
        reference: Price, cross: u8, variation: u8,
    }
    /// Retail interest: on which side there is some.
    b'N' RetailInterest { stock: Symbol, interest: u8 }
    /// Price discovery of a direct listing with capital raise.
    b'O' DirectListing {
        stock: Symbol, open_eligible: u8, lowest_allowable: Price, highest_allowable: Price, near: Price,
        near_time: U64, lower_collar: Price, upper_collar: Price,
    }
}
