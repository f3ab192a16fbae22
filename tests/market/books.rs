//! The order books beside a replay that keeps orders only, and has no idea of levels.

use std::collections::BTreeMap;

use crate::book::{Books, Oddity};
use crate::day::Day;
use crate::formats::messages;
use crate::itch::{Message, Side};

/// Orders by their references: security, side, shares, price.
type Orders = BTreeMap<u64, (u16, u8, u64, u32)>;

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// One message, read by offsets.
fn replay(orders: &mut Orders, message: &[u8]) {
    let at = |from: usize, length: usize| be(&message[from..from + length]);
    match message[0] {
        b'A' | b'F' => {
            let order = (at(1, 2) as u16, message[19], at(20, 4), at(32, 4) as u32);
            assert_eq!(orders.insert(at(11, 8), order), None);
        }
        b'E' | b'C' | b'X' => {
            let order = orders.get_mut(&at(11, 8)).unwrap();
            order.2 -= at(19, 4);
            if order.2 == 0 {
                orders.remove(&at(11, 8));
            }
        }
        b'D' => assert!(orders.remove(&at(11, 8)).is_some()),
        b'U' => {
            let (locate, side, ..) = orders.remove(&at(11, 8)).unwrap();
            let new = (locate, side, at(27, 4), at(31, 4) as u32);
            assert_eq!(orders.insert(at(19, 8), new), None);
        }
        _ => {}
    }
}

/// The levels of one side of one book, the best first.
fn levels(orders: &Orders, locate: u16, side: u8) -> Vec<(u32, u64, u32)> {
    let mut levels: BTreeMap<u32, (u64, u32)> = BTreeMap::new();
    for &(_, _, shares, price) in
        orders.values().filter(|order| (order.0, order.1) == (locate, side))
    {
        let level = levels.entry(price).or_default();
        *level = (level.0 + shares, level.1 + 1);
    }
    let levels = levels.into_iter().map(|(price, (shares, orders))| (price, shares, orders));
    if side == b'B' { levels.rev().collect() } else { levels.collect() }
}

#[test]
fn books_are_what_an_independent_replay_has() {
    for seed in 0..4 {
        let day = Day::generate(seed, 20_000);
        let (mut books, mut orders) = (Books::new(), Orders::new());
        let mut ticks = 0;
        for (number, message) in messages(&day).into_iter().enumerate() {
            let tick = books.apply(Message::read(message).unwrap()).unwrap();
            replay(&mut orders, message);
            let Some(tick) = tick else { continue };
            ticks += 1;
            // Every tick early in the day, where books are small; then some.
            if number % 16 > 0 && number > 1000 {
                continue;
            }
            for (side, best) in [(b'B', tick.now.bid), (b'S', tick.now.ask)] {
                let best = best.map(|best| (best.price, best.shares, best.orders));
                assert_eq!(levels(&orders, tick.locate, side).first().copied(), best);
            }
            assert_ne!(tick.before, tick.now);
        }
        assert!(ticks > 1000);
        for (locate, book) in books.iter().enumerate() {
            for side in [Side::Buy, Side::Sell] {
                let ours: Vec<_> = book
                    .levels(side)
                    .map(|level| (level.price, level.shares, level.orders))
                    .collect();
                assert_eq!(ours, levels(&orders, locate as u16, side.code()));
            }
        }
    }
}

#[test]
fn what_cannot_be_is_named_and_changes_nothing_it_need_not() {
    let day = Day::generate(1, 2000);
    let mut books = Books::new();
    let find = |kind: u8| messages(&day).into_iter().find(|message| message[0] == kind).unwrap();
    let mut apply = |message: &[u8]| books.apply(Message::read(message).unwrap());
    let add = find(b'A').to_vec();
    assert!(apply(&add).unwrap().is_some());
    assert_eq!(apply(&add), Err(Oddity::OrderTwice));
    let mut sideless = add.clone();
    (sideless[18], sideless[19]) = (99, b'X');
    assert_eq!(apply(&sideless), Err(Oddity::Side));
    let mut delete = find(b'D').to_vec();
    delete[11..19].fill(0xee);
    assert_eq!(apply(&delete), Err(Oddity::UnknownOrder));
    // All and more: the order is gone, with its level.
    let mut execute = find(b'E').to_vec();
    execute[11..19].copy_from_slice(&add[11..19]);
    execute[19..23].fill(0x7f);
    assert_eq!(apply(&execute), Err(Oddity::TooManyShares));
    assert_eq!(apply(&execute), Err(Oddity::UnknownOrder));
    let left: usize = books.iter().map(|book| book.levels(Side::Buy).count()).sum();
    assert_eq!(left, 0);
}
