//! What is lost is found, asked for and recovered, over a link that loses frames; what nobody can send again is
//! counted, and the feed goes on.

use std::net::SocketAddr;

use bypass_core::backend::memory::{Faults, LinkOptions, MemoryPort, link};
use bypass_core::testing::allocations::{CountingAllocator, on_this_thread};
use bypass_io::MacAddr;
use bypass_io::prelude::*;
use bypass_io::telemetry::Clock;
use bypass_io::udp::neighbours::Table;
use bypass_io::udp::{Config, UdpOverL2};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::book::Books;
use crate::day::Day;
use crate::formats::{SESSION, market, messages, packet};
use crate::itch::{Message, Side};
use crate::mold::{FIRST, Header};
use crate::receiver::{Receiver, Servers};
use crate::sequence::{Handler, Origin, PATIENCE, RETRY, Sequencer, TRIES, WINDOW};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

type Socket = UdpOverL2<MemoryPort, Table>;

/// Notes the numbers that it was handed.
#[derive(Default)]
struct Notes(Vec<u64>);

impl Handler for Notes {
    fn message(&mut self, sequence: u64, _: &[u8]) {
        self.0.push(sequence);
    }
}

/// Both ends of a link on which so much goes wrong.
fn ends(faults: Faults) -> [Socket; 2] {
    let (near, far) = link(&LinkOptions { faults, ..LinkOptions::default() }).unwrap();
    [(near, 1), (far, 2)].map(|(end, host)| {
        let net = format!("10.0.0.{host}/24").parse().unwrap();
        // Nothing is lost for want of an address.
        let table = [1, 2].into_iter().fold(Table::new(), |table, host| {
            table.with([10, 0, 0, host].into(), MacAddr([2, 0, 0, 0, 0, host]))
        });
        let mac = MacAddr([2, 0, 0, 0, 0, host]);
        let config = Config::new(mac, 9000).address(net).neighbours(table);
        UdpOverL2::new(end.open().unwrap(), config).unwrap()
    })
}

/// The exchange's end: one packet of the feed, and answers to what is asked for of the last `retain`
/// messages.
fn publish(exchange: &mut Socket, to: SocketAddr, day: &Day, next: u64, retain: u64) -> u64 {
    let (mut asked, mut out) = (Burst::with_capacity(64), Burst::with_capacity(64));
    exchange.recv(&mut asked).unwrap();
    for request in asked.iter() {
        let Ok(request) = Header::ref_from_bytes(request.data()) else { continue };
        let (first, count) = (request.sequence.get(), u64::from(request.count.get()));
        if first.saturating_add(retain) >= next {
            let (bytes, _) = packet(day, first, next.min(first + count));
            exchange.compose(&bytes, to, &mut out).unwrap();
        }
    }
    asked.clear();
    let end = FIRST + day.len();
    let (bytes, count) = if next == end {
        (Header::end(SESSION, end).as_bytes().to_vec(), 0)
    } else {
        // Packets of 1 to 7 messages.
        packet(day, next, end.min(next + 1 + next % 7))
    };
    exchange.compose(&bytes, to, &mut out).unwrap();
    exchange.send(&mut out).unwrap();
    exchange.flush().unwrap();
    next + u64::from(count)
}

/// Runs a day through a link, and returns the receiver when the session is over.
fn run(day: &Day, faults: Faults, retain: u64) -> Receiver<Socket> {
    let [near, mut exchange] = ends(faults);
    let (here, there) = (near.local_addr(), exchange.local_addr());
    // Feed and retransmissions are told apart by their ports; here all counts as recovered.
    let servers =
        Servers { retransmission: there, orders: SocketAddr::from(([10, 0, 0, 2], 9001)) };
    let mut receiver = Receiver::new(near, servers, market(1_000_000), Clock::new());
    let mut next = FIRST;
    while !receiver.sequencer.is_over() {
        next = publish(&mut exchange, here, day, next, retain);
        receiver.turn().unwrap();
    }
    receiver
}

fn books(day: &Day) -> Books {
    let mut books = Books::new();
    for message in messages(day) {
        books.apply(Message::read(message).unwrap()).unwrap();
    }
    books
}

fn levels(books: &Books) -> Vec<Vec<crate::book::Level>> {
    let sides = |book| [Side::Buy, Side::Sell].map(|side| (book, side));
    let sides = books.iter().flat_map(sides);
    sides
        .map(|(book, side): (&crate::book::Book, _)| book.levels(side).copied().collect())
        .collect()
}

#[test]
fn what_a_lossy_link_swallows_is_asked_for_and_recovered() {
    let day = Day::generate(5, 20_000);
    for (seed, faults) in [
        (1, Faults { loss: 0.03, ..Faults::default() }),
        (2, Faults { loss: 0.02, duplication: 0.02, reordering: 0.05, ..Faults::default() }),
        (3, Faults { loss: 0.1, corruption: 0.02, ..Faults::default() }),
    ] {
        let receiver = run(&day, Faults { seed, ..faults }, u64::MAX);
        let counts = &receiver.sequencer.counts;
        assert_eq!((counts.live + counts.recovered, counts.lost), (day.len(), 0), "{counts:?}");
        assert!(counts.gaps > 10 && counts.requests >= counts.gaps, "{counts:?}");
        assert_eq!(receiver.market.oddities, [0; 4]);
        assert_eq!(receiver.market.malformed, [0; 3]);
        assert_eq!(levels(&receiver.market.books), levels(&books(&day)));
        assert_eq!(receiver.market.meter.latency.summary().count, day.len());
    }
}

#[test]
fn what_nobody_remembers_is_counted_as_lost() {
    let day = Day::generate(6, 1000);
    let receiver = run(&day, Faults { loss: 0.01, seed: 4, ..Faults::default() }, 0);
    let counts = &receiver.sequencer.counts;
    assert!(counts.lost > 0, "{counts:?}");
    assert_eq!(counts.live + counts.recovered + counts.lost, day.len(), "{counts:?}");
    // Nothing came twice, so what is lost is what was missing.
    assert_eq!(counts.lost, counts.missing, "{counts:?}");
}

#[test]
fn requests_are_repeated_until_patience_ends() {
    let day = Day::generate(1, 100);
    let (mut sequencer, mut notes) = (Sequencer::new(FIRST), Notes::default());
    let take = |sequencer: &mut Sequencer, notes: &mut Notes, first, end, now| {
        let (bytes, _) = packet(&day, first, end);
        sequencer.take(&bytes, Origin::Feed, now, notes);
    };
    take(&mut sequencer, &mut notes, 1, 4, 0);
    // 4 and 5 are missing, then 7 to 9: both are asked for at once.
    take(&mut sequencer, &mut notes, 6, 7, 10);
    take(&mut sequencer, &mut notes, 10, 12, 10);
    let asked = |sequencer: &mut Sequencer, notes: &mut Notes, now| {
        let request = sequencer.request(now, notes)?;
        Some((request.sequence.get(), request.count.get()))
    };
    assert_eq!(asked(&mut sequencer, &mut notes, 10), Some((4, 2)));
    assert_eq!(asked(&mut sequencer, &mut notes, 10), Some((7, 3)));
    assert_eq!(asked(&mut sequencer, &mut notes, 10), None);
    assert_eq!(asked(&mut sequencer, &mut notes, 9 + RETRY), None);
    let mut now = 10 + RETRY;
    assert_eq!(asked(&mut sequencer, &mut notes, now), Some((4, 2)));
    assert_eq!(asked(&mut sequencer, &mut notes, now), Some((7, 3)));
    assert_eq!(asked(&mut sequencer, &mut notes, now), None);
    // A part comes; the rest is asked for at once.
    take(&mut sequencer, &mut notes, 4, 5, now);
    assert_eq!(asked(&mut sequencer, &mut notes, now), Some((5, 1)));
    take(&mut sequencer, &mut notes, 5, 6, now);
    assert_eq!(notes.0, [1, 2, 3, 4, 5, 6]);
    // Nobody sends the others.
    for _ in 2..TRIES {
        now += RETRY;
        assert_eq!(asked(&mut sequencer, &mut notes, now), Some((7, 3)));
    }
    now = 10 + PATIENCE - 1;
    assert_eq!(asked(&mut sequencer, &mut notes, now), Some((7, 3)));
    now += RETRY;
    assert_eq!(asked(&mut sequencer, &mut notes, now), None);
    assert_eq!(notes.0, [1, 2, 3, 4, 5, 6, 10, 11]);
    assert_eq!((sequencer.counts.gaps, sequencer.counts.missing, sequencer.counts.lost), (2, 5, 3));
    assert!(!sequencer.has_gap());
    // What comes too late is a duplicate.
    take(&mut sequencer, &mut notes, 8, 9, now);
    assert_eq!((notes.0.len(), sequencer.counts.duplicates), (8, 1));
}

#[test]
fn a_full_window_gives_up_the_oldest_gap() {
    let day = Day::generate(1, WINDOW + 100);
    let (mut sequencer, mut notes) = (Sequencer::new(FIRST), Notes::default());
    // Number 1 never comes, 3 neither.
    for first in [2].into_iter().chain(4..=WINDOW as u64 + 3) {
        let (bytes, _) = packet(&day, first, first + 1);
        sequencer.take(&bytes, Origin::Feed, 0, &mut notes);
    }
    assert_eq!((sequencer.counts.lost, notes.0.as_slice()), (1, &[2][..]));
    let (bytes, _) = packet(&day, 3, 4);
    sequencer.take(&bytes, Origin::Retransmission, 0, &mut notes);
    assert_eq!((notes.0.len(), sequencer.counts.recovered), (WINDOW + 2, 1));
    assert!(notes.0.is_sorted());
}

#[test]
fn a_message_allocates_nothing() {
    let day = Day::generate(9, 60_000);
    let half = FIRST + day.len() / 2;
    let packets: Vec<Vec<u8>> = std::iter::successors(Some(FIRST), |&next| {
        let next = next + u64::from(packet(&day, next, u64::MAX).1);
        (next < FIRST + day.len()).then_some(next)
    })
    .map(|first| packet(&day, first, u64::MAX).0)
    .collect();
    let mut sequencer = Sequencer::new(FIRST);
    let mut market = market(1_000_000);
    let mut before = None;
    for packet in &packets {
        sequencer.take(packet, Origin::Feed, 0, &mut market);
        market.trader.orders.clear();
        if before.is_none() && sequencer.counts.live >= half {
            before = Some(on_this_thread());
        }
    }
    assert_eq!(on_this_thread(), before.unwrap());
    assert_eq!(sequencer.counts.live, day.len());
}
