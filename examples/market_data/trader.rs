//! [`Trader`]: decides on an order when the best of a book has changed.

use super::book::{Books, Tick};
use super::itch::Side;
use super::ouch::EnterOrder;

/// Shares of an order.
const SHARES: u32 = 100;
/// Orders that wait to be sent, at the most.
const ROOM: usize = 64;

/// A rule as simple as one can be, in the place of yours: when somebody bids more than the best did
/// before, it buys at the best ask.
pub struct Trader {
    number: u64,
    pub orders: Vec<EnterOrder>,
    /// Orders that there was no room for.
    pub forgone: u64,
}

impl Trader {
    pub fn new() -> Self {
        Self { number: 0, orders: Vec::with_capacity(ROOM), forgone: 0 }
    }

    pub fn on_tick(&mut self, tick: &Tick, books: &Books) {
        let (Some(before), Some(now), Some(ask)) = (tick.before.bid, tick.now.bid, tick.now.ask)
        else {
            return;
        };
        if now.price <= before.price {
            return;
        }
        if self.orders.len() == ROOM {
            self.forgone += 1;
            return;
        }
        self.number += 1;
        let stock = books.symbol(tick.locate);
        self.orders.push(EnterOrder::new(self.number, Side::Buy, SHARES, stock, ask.price));
    }
}
