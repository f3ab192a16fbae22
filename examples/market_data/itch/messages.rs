//! The messages as they lie in memory: big endian, without padding.
//!
//! From the specification, NQTVITCHSpecification version 5.0. A code is the letter that stands there.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

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

/// A point in the day: `O` first message, `S` and `E` system hours, `Q` and `M` market hours, `C` last message.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SystemEvent {
    pub header: Header,
    pub event: u8,
}

/// A security, before anything else about it.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct StockDirectory {
    pub header: Header,
    pub stock: Symbol,
    pub market_category: u8,
    pub financial_status: u8,
    pub round_lot_size: U32,
    pub round_lots_only: u8,
    pub issue_classification: u8,
    pub issue_subtype: [u8; 2],
    pub authenticity: u8,
    pub short_sale_threshold: u8,
    pub ipo: u8,
    pub luld_tier: u8,
    pub etp: u8,
    pub etp_leverage: U32,
    pub inverse: u8,
}

/// A security is halted (`H`), paused (`P`), quoted only (`Q`) or trades (`T`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TradingAction {
    pub header: Header,
    pub stock: Symbol,
    pub state: u8,
    pub reserved: u8,
    pub reason: [u8; 4],
}

/// Whether short sales are restricted.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RegSho {
    pub header: Header,
    pub stock: Symbol,
    pub action: u8,
}

/// A market maker and what it is for a security.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ParticipantPosition {
    pub header: Header,
    pub mpid: [u8; 4],
    pub stock: Symbol,
    pub primary: u8,
    pub mode: u8,
    pub state: u8,
}

/// The levels of the market-wide circuit breaker, in 1/100 000 000 dollars.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MwcbDeclineLevels {
    pub header: Header,
    pub level1: U64,
    pub level2: U64,
    pub level3: U64,
}

/// A level has been breached.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MwcbStatus {
    pub header: Header,
    pub breached: u8,
}

/// When quoting of a new issue begins.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IpoQuotingPeriod {
    pub header: Header,
    pub stock: Symbol,
    pub release_time: U32,
    pub qualifier: u8,
    pub price: Price,
}

/// The bounds of an auction after a pause.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LuldAuctionCollar {
    pub header: Header,
    pub stock: Symbol,
    pub reference: Price,
    pub upper: Price,
    pub lower: Price,
    pub extension: U32,
}

/// One market has halted (`H`) or resumed (`T`) a security.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OperationalHalt {
    pub header: Header,
    pub stock: Symbol,
    pub market: u8,
    pub action: u8,
}

/// A new order on the book.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AddOrder {
    pub header: Header,
    pub reference: U64,
    pub side: u8,
    pub shares: U32,
    pub stock: Symbol,
    pub price: Price,
}

/// A new order, with the participant whose it is.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AddOrderAttributed {
    pub header: Header,
    pub reference: U64,
    pub side: u8,
    pub shares: U32,
    pub stock: Symbol,
    pub price: Price,
    pub attribution: [u8; 4],
}

/// An order was executed, in part or in full, at its price.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OrderExecuted {
    pub header: Header,
    pub reference: U64,
    pub shares: U32,
    pub match_number: U64,
}

/// An order was executed at another price than its own.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OrderExecutedWithPrice {
    pub header: Header,
    pub reference: U64,
    pub shares: U32,
    pub match_number: U64,
    pub printable: u8,
    pub price: Price,
}

/// An order has become smaller by so many shares.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OrderCancel {
    pub header: Header,
    pub reference: U64,
    pub shares: U32,
}

/// An order is gone.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OrderDelete {
    pub header: Header,
    pub reference: U64,
}

/// An order has given way to another of the same side and security.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OrderReplace {
    pub header: Header,
    pub original: U64,
    pub reference: U64,
    pub shares: U32,
    pub price: Price,
}

/// An execution of an order that was not displayed.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Trade {
    pub header: Header,
    pub reference: U64,
    pub side: u8,
    pub shares: U32,
    pub stock: Symbol,
    pub price: Price,
    pub match_number: U64,
}

/// What a cross has traded.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CrossTrade {
    pub header: Header,
    pub shares: U64,
    pub stock: Symbol,
    pub price: Price,
    pub match_number: U64,
    pub cross: u8,
}

/// An execution that does not count.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BrokenTrade {
    pub header: Header,
    pub match_number: U64,
}

/// The net order imbalance before a cross.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Noii {
    pub header: Header,
    pub paired: U64,
    pub imbalance: U64,
    pub direction: u8,
    pub stock: Symbol,
    pub far: Price,
    pub near: Price,
    pub reference: Price,
    pub cross: u8,
    pub variation: u8,
}

/// Retail interest: on which side there is some.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RetailInterest {
    pub header: Header,
    pub stock: Symbol,
    pub interest: u8,
}

/// Price discovery of a direct listing with capital raise.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DirectListing {
    pub header: Header,
    pub stock: Symbol,
    pub open_eligible: u8,
    pub lowest_allowable: Price,
    pub highest_allowable: Price,
    pub near: Price,
    pub near_time: U64,
    pub lower_collar: Price,
    pub upper_collar: Price,
}
