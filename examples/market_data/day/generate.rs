//! A day that nobody has traded: messages of every type, in the shares that they have on a usual day.

use fastrand::Rng;
use zerocopy::{Immutable, IntoBytes};

use super::super::itch::*;
use super::Day;

const SYMBOLS: [&Symbol; 16] = [
    b"AAPL    ",
    b"AMD     ",
    b"AMZN    ",
    b"AVGO    ",
    b"COST    ",
    b"CSCO    ",
    b"GOOG    ",
    b"INTC    ",
    b"META    ",
    b"MSFT    ",
    b"MU      ",
    b"NFLX    ",
    b"NVDA    ",
    b"PEP     ",
    b"QQQ     ",
    b"TSLA    ",
];
/// Orders on the books at the most.
const MOST_ORDERS: usize = 50_000;
/// A cent.
const TICK: u32 = 100;
const SECOND: u64 = 1_000_000_000;
/// When messages begin, system hours, market hours.
const HOURS: [u64; 3] = [3 * 3600 * SECOND, 4 * 3600 * SECOND, 34_200 * SECOND];
/// Messages that close a day.
const CLOSING: usize = 3;

/// Appends the messages of a day.
pub(super) fn day(day: &mut Day, seed: u64, count: usize) {
    let mut exchange = Exchange {
        day,
        random: Rng::with_seed(seed),
        now: HOURS[0],
        reference: 0,
        matches: 0,
        orders: Vec::new(),
        count: count.saturating_sub(CLOSING),
    };
    exchange.open();
    while exchange.has_room() {
        exchange.trade();
    }
    exchange.count = count;
    exchange.close();
}

/// An order on the book.
#[derive(Clone, Copy)]
struct Order {
    reference: u64,
    locate: u16,
    side: Side,
    shares: u32,
    price: u32,
}

struct Exchange<'a> {
    day: &'a mut Day,
    random: Rng,
    /// Nanoseconds since midnight.
    now: u64,
    reference: u64,
    matches: u64,
    orders: Vec<Order>,
    /// Where to stop.
    count: usize,
}

impl Exchange<'_> {
    fn has_room(&self) -> bool {
        self.day.len() < self.count as u64
    }

    fn say<M: IntoBytes + Immutable>(&mut self, message: M) {
        if self.has_room() {
            self.day.push(message.as_bytes());
        }
        self.now += self.random.u64(100..20_000);
    }

    fn header(&self, kind: u8, locate: u16) -> Header {
        Header::new(kind, locate, self.now)
    }

    fn event(&mut self, event: u8) {
        self.say(SystemEvent { header: self.header(b'S', 0), event });
    }

    /// What comes before the market opens.
    fn open(&mut self) {
        self.event(b'O');
        self.now = HOURS[1];
        for (locate, &&stock) in (1..).zip(&SYMBOLS) {
            self.list(locate, stock);
        }
        self.event(b'S');
        let [level1, level2, level3] =
            [4_800, 4_500, 4_100].map(|points: u64| (points * 100_000_000).into());
        let header = self.header(b'V', 0);
        self.say(MwcbDeclineLevels { header, level1, level2, level3 });
        self.now = HOURS[2];
        self.event(b'Q');
    }

    fn list(&mut self, locate: u16, stock: Symbol) {
        self.say(StockDirectory {
            header: self.header(b'R', locate),
            stock,
            market_category: b'Q',
            financial_status: b'N',
            round_lot_size: 100.into(),
            round_lots_only: b'N',
            issue_classification: b'C',
            issue_subtype: *b"Z ",
            authenticity: b'P',
            short_sale_threshold: b'N',
            ipo: b'N',
            luld_tier: b'1',
            etp: b'N',
            etp_leverage: 0.into(),
            inverse: b'N',
        });
        let header = self.header(b'H', locate);
        self.say(TradingAction { header, stock, state: b'T', reserved: b' ', reason: *b"    " });
        self.say(RegSho { header: self.header(b'Y', locate), stock, action: b'0' });
        self.say(ParticipantPosition {
            header: self.header(b'L', locate),
            mpid: *b"MAKR",
            stock,
            primary: b'Y',
            mode: b'N',
            state: b'A',
        });
    }

    fn close(&mut self) {
        for event in *b"MEC" {
            self.event(event);
        }
    }

    /// One message of market hours, of ten thousand that are shared out as they usually are.
    fn trade(&mut self) {
        let draw = self.random.u32(..10_000);
        match draw {
            0..4200 if self.orders.len() < MOST_ORDERS => self.add(draw < 400),
            0..7700 => self.delete(),
            7700..8800 => self.replace(),
            8800..9500 => self.execute(draw >= 9450),
            9500..9750 => self.cancel(),
            9750..9900 => self.hidden_trade(),
            _ => self.rare(draw),
        }
    }

    /// Somewhere near the middle, which stays where it is: buyers below, sellers above.
    fn price(&mut self, locate: u16, side: Side) -> u32 {
        let middle = 400_000 + 350_000 * u32::from(locate);
        // Most are near.
        let away = TICK * (1 + self.random.u32(..40).min(self.random.u32(..40)));
        match side {
            Side::Buy => middle - away,
            Side::Sell => middle + away,
        }
    }

    fn locate(&mut self) -> (u16, Symbol) {
        let place = self.random.usize(..SYMBOLS.len());
        (place as u16 + 1, *SYMBOLS[place])
    }

    fn side(&mut self) -> Side {
        if self.random.bool() { Side::Buy } else { Side::Sell }
    }

    fn shares(&mut self) -> u32 {
        100 * self.random.u32(1..=10)
    }

    fn next_reference(&mut self) -> u64 {
        self.reference += 1;
        self.reference
    }

    fn next_match(&mut self) -> u64 {
        self.matches += 1;
        self.matches
    }

    fn add(&mut self, attributed: bool) {
        let ((locate, stock), side, shares) = (self.locate(), self.side(), self.shares());
        let (price, reference) = (self.price(locate, side), self.next_reference());
        self.orders.push(Order { reference, locate, side, shares, price });
        let (reference, side) = (reference.into(), side.code());
        let (shares, price) = (shares.into(), price.into());
        if attributed {
            let header = self.header(b'F', locate);
            let attribution = *b"MAKR";
            self.say(AddOrderAttributed {
                header,
                reference,
                side,
                shares,
                stock,
                price,
                attribution,
            });
        } else {
            let header = self.header(b'A', locate);
            self.say(AddOrder { header, reference, side, shares, stock, price });
        }
    }

    /// Any order, or a new one where there is none yet.
    fn any(&mut self) -> Option<usize> {
        if self.orders.is_empty() {
            self.add(false);
            return None;
        }
        Some(self.random.usize(..self.orders.len()))
    }

    fn delete(&mut self) {
        let Some(place) = self.any() else { return };
        let Order { reference, locate, .. } = self.orders.swap_remove(place);
        self.say(OrderDelete { header: self.header(b'D', locate), reference: reference.into() });
    }

    fn replace(&mut self) {
        let Some(place) = self.any() else { return };
        let old = self.orders[place];
        let (price, shares) = (self.price(old.locate, old.side), self.shares());
        let reference = self.next_reference();
        self.orders[place] = Order { reference, price, shares, ..old };
        self.say(OrderReplace {
            header: self.header(b'U', old.locate),
            original: old.reference.into(),
            reference: reference.into(),
            shares: shares.into(),
            price: price.into(),
        });
    }

    /// A part of an order, or all of it.
    fn part(&mut self, place: usize) -> (Order, u32) {
        let order = self.orders[place];
        let part = order.shares.min(self.shares());
        if part == order.shares {
            self.orders.swap_remove(place);
        } else {
            self.orders[place].shares -= part;
        }
        (order, part)
    }

    fn execute(&mut self, at_another_price: bool) {
        let Some(place) = self.any() else { return };
        let (order, shares) = self.part(place);
        let (reference, shares) = (order.reference.into(), shares.into());
        let match_number = self.next_match().into();
        if at_another_price {
            let header = self.header(b'C', order.locate);
            let (printable, price) = (b'Y', order.price.into());
            self.say(OrderExecutedWithPrice {
                header,
                reference,
                shares,
                match_number,
                printable,
                price,
            });
        } else {
            let header = self.header(b'E', order.locate);
            self.say(OrderExecuted { header, reference, shares, match_number });
        }
    }

    fn cancel(&mut self) {
        let Some(place) = self.any() else { return };
        let less = self.orders[place].shares / 2;
        if less == 0 {
            return self.delete();
        }
        self.orders[place].shares -= less;
        let Order { reference, locate, .. } = self.orders[place];
        let header = self.header(b'X', locate);
        self.say(OrderCancel { header, reference: reference.into(), shares: less.into() });
    }

    fn hidden_trade(&mut self) {
        let ((locate, stock), side, shares) = (self.locate(), self.side(), self.shares());
        let (price, match_number) = (self.price(locate, side), self.next_match());
        self.say(Trade {
            header: self.header(b'P', locate),
            reference: 0.into(),
            side: side.code(),
            shares: shares.into(),
            stock,
            price: price.into(),
            match_number: match_number.into(),
        });
    }

    /// What a day has few of.
    fn rare(&mut self, draw: u32) {
        let (locate, stock) = self.locate();
        let price = self.price(locate, Side::Buy);
        let (lower, upper) = ((price - 1000).into(), (price + 1000).into());
        let header = |exchange: &Self, kind| exchange.header(kind, locate);
        match draw % 9 {
            0 => self.say(Noii {
                header: header(self, b'I'),
                paired: 5000.into(),
                imbalance: 300.into(),
                direction: b'B',
                stock,
                far: lower,
                near: upper,
                reference: price.into(),
                cross: b'C',
                variation: b'1',
            }),
            1 => {
                let match_number = self.next_match().into();
                self.say(CrossTrade {
                    header: header(self, b'Q'),
                    shares: 1000.into(),
                    stock,
                    price: price.into(),
                    match_number,
                    cross: b'I',
                });
            }
            2 => {
                let match_number = self.next_match().into();
                self.say(BrokenTrade { header: header(self, b'B'), match_number });
            }
            3 => self.say(RetailInterest { header: header(self, b'N'), stock, interest: b'B' }),
            4 => self.say(LuldAuctionCollar {
                header: header(self, b'J'),
                stock,
                reference: price.into(),
                upper,
                lower,
                extension: 1.into(),
            }),
            5 => self.say(OperationalHalt {
                header: header(self, b'h'),
                stock,
                market: b'Q',
                action: b'T',
            }),
            6 => self.say(IpoQuotingPeriod {
                header: header(self, b'K'),
                stock,
                release_time: 36_000.into(),
                qualifier: b'A',
                price: price.into(),
            }),
            7 => self.say(MwcbStatus { header: self.header(b'W', 0), breached: b'1' }),
            _ => self.say(DirectListing {
                header: header(self, b'O'),
                stock,
                open_eligible: b'N',
                lowest_allowable: lower,
                highest_allowable: upper,
                near: price.into(),
                near_time: self.now.into(),
                lower_collar: lower,
                upper_collar: upper,
            }),
        }
    }
}
