//! NASDAQ OUCH 4.2: the order to buy or sell.
//!
//! Here it travels alone in a datagram. At NASDAQ it goes through SoupBinTCP, which is TCP with
//! logins, numbers and heartbeats around the same bytes.

use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::itch::{Side, Symbol};

/// Numbers an order, in letters and digits.
pub type Token = [u8; 14];

/// A new order.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EnterOrder {
    pub kind: u8,
    pub token: Token,
    pub side: u8,
    pub shares: U32,
    pub stock: Symbol,
    pub price: U32,
    /// Seconds; 0 for an order that is executed at once or never.
    pub time_in_force: U32,
    pub firm: [u8; 4],
    pub display: u8,
    pub capacity: u8,
    pub intermarket_sweep: u8,
    pub minimum_quantity: U32,
    pub cross: u8,
    pub customer: u8,
}

impl EnterOrder {
    const KIND: u8 = b'O';

    pub fn new(number: u64, side: Side, shares: u32, stock: Symbol, price: u32) -> Self {
        Self {
            kind: Self::KIND,
            token: token(number),
            side: side.code(),
            shares: shares.into(),
            stock,
            price: price.into(),
            time_in_force: 0.into(),
            firm: *b"BYPS",
            display: b'Y',
            capacity: b'P',
            intermarket_sweep: b'N',
            minimum_quantity: 0.into(),
            cross: b'N',
            customer: b'N',
        }
    }

    /// An order that an exchange would take.
    pub fn read(bytes: &[u8]) -> Option<&Self> {
        let order = Self::ref_from_bytes(bytes).ok()?;
        let right = order.kind == Self::KIND
            && order.token.iter().all(u8::is_ascii_alphanumeric)
            && Side::of(order.side).is_some()
            && (1..1_000_000).contains(&order.shares.get())
            && order.stock.iter().all(|letter| letter.is_ascii_graphic() || *letter == b' ');
        right.then_some(order)
    }
}

fn token(number: u64) -> Token {
    let (mut token, mut rest) = ([b'0'; 14], number);
    for digit in token.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    token
}
