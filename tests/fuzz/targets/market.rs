//! Packets of a feed for the receiver of the examples: gaps, messages, order books. Every message of a packet is
//! handed on once, or is counted.

#![no_main]
#![allow(dead_code, reason = "what only the program uses")]
#![allow(unreachable_pub, reason = "what is public in a module of a program is for the others")]

#[path = "../../../examples/market_data/book.rs"]
mod book;
#[path = "../../../examples/market_data/itch/mod.rs"]
mod itch;
#[path = "../../../examples/market_data/mold.rs"]
mod mold;
#[path = "../../../examples/market_data/sequence.rs"]
mod sequence;

use book::Books;
use itch::Message;
use libfuzzer_sys::fuzz_target;
use mold::FIRST;
use sequence::{Handler, Origin, RETRY, Sequencer};

struct Market {
    books: Books,
    handed_on: u64,
}

impl Handler for Market {
    fn message(&mut self, _: u64, message: &[u8]) {
        self.handed_on += 1;
        if let Ok(message) = Message::read(message) {
            // What is odd is told, and nothing else happens.
            let _odd = self.books.apply(message);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut sequencer = Sequencer::new(FIRST);
    let mut market = Market { books: Books::new(), handed_on: 0 };
    let (mut rest, mut now) = (input, 0);
    // Each packet behind its length and where it came from.
    while let [from, length, more @ ..] = rest {
        let (packet, more) = more.split_at(more.len().min(usize::from(*length)));
        rest = more;
        let origin = if from & 1 == 0 { Origin::Feed } else { Origin::Retransmission };
        now += RETRY;
        sequencer.take(packet, origin, now, &mut market);
        // As often as a burst may ask.
        for _ in 0..8 {
            if sequencer.request(now, &mut market).is_none() {
                break;
            }
        }
    }
    let counts = &sequencer.counts;
    assert_eq!(counts.live + counts.recovered, market.handed_on);
});
