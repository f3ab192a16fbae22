//! [`Books`]: who would buy and sell how much of what at which price, from ITCH messages.
//!
//! Orders are in one table by their reference numbers, price levels in a book for each security. A
//! message about an order looks it up and changes one level. Nothing is allocated once the tables
//! have grown to what the day needs; room for a usual one is there from the start.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

use super::itch::{Message, Side, Symbol};

/// Orders and levels that there is room for at the start.
const ORDERS: usize = 1 << 17;
const LEVELS: usize = 64;

/// The symbol of a security that has not been listed.
pub const NOBODY: Symbol = *b"        ";

/// An order that is on the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    locate: u16,
    side: Side,
    price: u32,
    shares: u32,
}

/// All orders of one side at one price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level {
    /// In 1/10 000 dollars.
    pub price: u32,
    pub shares: u64,
    pub orders: u32,
}

/// The best of both sides, where there are any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Top {
    pub bid: Option<Level>,
    pub ask: Option<Level>,
}

/// The best of a security has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    pub locate: u16,
    pub before: Top,
    pub now: Top,
}

/// What cannot be, unless messages were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// About an order that is not there.
    UnknownOrder,
    /// A new order with the number of another.
    OrderTwice,
    /// More shares executed or cancelled than the order has.
    TooManyShares,
    /// Neither to buy nor to sell.
    Side,
}

impl Oddity {
    pub const ALL: [Self; 4] =
        [Self::UnknownOrder, Self::OrderTwice, Self::TooManyShares, Self::Side];

    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownOrder => "unknown_order",
            Self::OrderTwice => "order_twice",
            Self::TooManyShares => "too_many_shares",
            Self::Side => "no_side",
        }
    }
}

/// One side of a book. The best level is the last, where most of the changes are: it is found at
/// once, and little has to move.
#[derive(Debug, Default)]
struct Ladder(Vec<Level>);

/// A security's book.
#[derive(Debug, Default)]
pub struct Book {
    pub symbol: Symbol,
    bids: Ladder,
    asks: Ladder,
}

/// The books of all securities, by their stock locate.
pub struct Books {
    books: Vec<Book>,
    orders: HashMap<u64, Order, BuildHasherDefault<ByAge>>,
}

/// Puts orders into the table in the order of their references. An exchange gives those out one after the other,
/// so orders of the same time share cache lines: 64 ns a message rather than 80 with a hash that spreads them.
#[derive(Default)]
struct ByAge(u64);

impl Hasher for ByAge {
    fn write_u64(&mut self, reference: u64) {
        // The table takes the place from the low bits. Every second place stays free: one that was deleted is as
        // good as new only where free ones are near. The top bits tell neighbours apart.
        const PLACE: u64 = u64::MAX >> 7;
        let mixed = reference.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = (reference << 1) & PLACE | mixed & !PLACE;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(self.0 << 8 | u64::from(byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Books {
    pub fn new() -> Self {
        let orders = HashMap::with_capacity_and_hasher(ORDERS, BuildHasherDefault::default());
        Self { books: Vec::new(), orders }
    }

    /// The books that there are, by stock locate.
    pub fn iter(&self) -> impl Iterator<Item = &Book> {
        self.books.iter()
    }

    pub fn symbol(&self, locate: u16) -> Symbol {
        self.books.get(usize::from(locate)).map_or(NOBODY, |book| book.symbol)
    }

    /// Takes a message; a tick when it has changed what is best.
    pub fn apply(&mut self, message: Message<'_>) -> Result<Option<Tick>, Oddity> {
        match message {
            Message::AddOrder(add) => {
                let side = Side::of(add.side).ok_or(Oddity::Side)?;
                let (price, shares) = (add.price.get(), add.shares.get());
                let order = Order { locate: add.header.locate.get(), side, price, shares };
                self.add(add.reference.get(), order)
            }
            Message::AddOrderAttributed(add) => {
                let side = Side::of(add.side).ok_or(Oddity::Side)?;
                let (price, shares) = (add.price.get(), add.shares.get());
                let order = Order { locate: add.header.locate.get(), side, price, shares };
                self.add(add.reference.get(), order)
            }
            Message::OrderExecuted(executed) => {
                self.reduce(executed.reference.get(), executed.shares.get())
            }
            Message::OrderExecutedWithPrice(executed) => {
                self.reduce(executed.reference.get(), executed.shares.get())
            }
            Message::OrderCancel(cancel) => {
                self.reduce(cancel.reference.get(), cancel.shares.get())
            }
            Message::OrderDelete(delete) => {
                let order = self.remove(delete.reference.get())?;
                Ok(self.change(order.locate, |book| book.take(order, order.shares)))
            }
            Message::OrderReplace(replace) => {
                let old = self.remove(replace.original.get())?;
                let (price, shares) = (replace.price.get(), replace.shares.get());
                let new = Order { price, shares, ..old };
                // The old one is gone even if the new one cannot be.
                let twice = self.orders.try_insert(replace.reference.get(), new).is_err();
                let tick = self.change(old.locate, |book| {
                    book.take(old, old.shares);
                    if !twice {
                        book.put(new);
                    }
                });
                if twice { Err(Oddity::OrderTwice) } else { Ok(tick) }
            }
            Message::StockDirectory(directory) => {
                self.book(directory.header.locate.get()).symbol = directory.stock;
                Ok(None)
            }
            // They tell of the day, or of trades; the books stay as they are.
            _ => Ok(None),
        }
    }

    fn add(&mut self, reference: u64, order: Order) -> Result<Option<Tick>, Oddity> {
        if self.orders.try_insert(reference, order).is_err() {
            return Err(Oddity::OrderTwice);
        }
        Ok(self.change(order.locate, |book| book.put(order)))
    }

    /// Takes shares from an order, which is gone when it has none left.
    fn reduce(&mut self, reference: u64, shares: u32) -> Result<Option<Tick>, Oddity> {
        let order = self.orders.get_mut(&reference).ok_or(Oddity::UnknownOrder)?;
        let (before, left) = (*order, order.shares.saturating_sub(shares));
        order.shares = left;
        if left == 0 {
            self.orders.remove(&reference);
        }
        let tick = self.change(before.locate, |book| book.take(before, before.shares - left));
        if shares > before.shares { Err(Oddity::TooManyShares) } else { Ok(tick) }
    }

    fn remove(&mut self, reference: u64) -> Result<Order, Oddity> {
        self.orders.remove(&reference).ok_or(Oddity::UnknownOrder)
    }

    fn change(&mut self, locate: u16, what: impl FnOnce(&mut Book)) -> Option<Tick> {
        let book = self.book(locate);
        let before = book.top();
        what(book);
        let now = book.top();
        (now != before).then_some(Tick { locate, before, now })
    }

    fn book(&mut self, locate: u16) -> &mut Book {
        let index = usize::from(locate);
        if index >= self.books.len() {
            self.books.resize_with(index + 1, Book::new);
        }
        &mut self.books[index]
    }
}

impl Book {
    fn new() -> Self {
        let ladder = || Ladder(Vec::with_capacity(LEVELS));
        Self { symbol: NOBODY, bids: ladder(), asks: ladder() }
    }

    pub fn top(&self) -> Top {
        Top { bid: self.bids.0.last().copied(), ask: self.asks.0.last().copied() }
    }

    /// The levels of a side, the best first.
    pub fn levels(&self, side: Side) -> impl Iterator<Item = &Level> {
        let ladder = match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        };
        ladder.0.iter().rev()
    }

    fn put(&mut self, order: Order) {
        let (ladder, place) = self.find(order);
        match place {
            Ok(place) => {
                let level = &mut ladder.0[place];
                level.shares += u64::from(order.shares);
                level.orders += 1;
            }
            Err(place) => {
                let (price, shares) = (order.price, order.shares.into());
                ladder.0.insert(place, Level { price, shares, orders: 1 });
            }
        }
    }

    /// Takes shares of an order, as it was before, out of its level.
    fn take(&mut self, order: Order, shares: u32) {
        let (ladder, place) = self.find(order);
        // An order that is in the table is in a level.
        let Ok(place) = place else { return };
        let level = &mut ladder.0[place];
        level.shares -= u64::from(shares);
        level.orders -= u32::from(shares == order.shares);
        if level.orders == 0 {
            ladder.0.remove(place);
        }
    }

    fn find(&mut self, order: Order) -> (&mut Ladder, Result<usize, usize>) {
        let ladder = match order.side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        let place = ladder.find(order.side, order.price);
        (ladder, place)
    }
}

impl Ladder {
    /// Where the level of this price is, or would be.
    fn find(&self, side: Side, price: u32) -> Result<usize, usize> {
        let worse_or_same = |level: &Level| match side {
            Side::Buy => level.price <= price,
            Side::Sell => level.price >= price,
        };
        match self.0.iter().rposition(worse_or_same) {
            Some(place) if self.0[place].price == price => Ok(place),
            Some(place) => Err(place + 1),
            None => Err(0),
        }
    }
}
