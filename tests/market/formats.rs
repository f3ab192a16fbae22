//! Packets and messages, good and bad.

use std::collections::BTreeSet;

use bypass_io::telemetry::{Clock, Meter};
use proptest::prelude::*;
use zerocopy::IntoBytes as _;

use crate::day::Day;
use crate::itch::{Malformed, Message};
use crate::mold::{self, Content, FIRST, Header, LONGEST, Packet};
use crate::ouch::EnterOrder;
use crate::receiver::{Market, Schedule};
use crate::sequence::{Handler, Origin, Sequencer};

/// Type and length, from chapter 1 of the specification of ITCH 5.0.
pub const LENGTHS: [(u8, usize); 23] = [
    (b'S', 12),
    (b'R', 39),
    (b'H', 25),
    (b'Y', 20),
    (b'L', 26),
    (b'V', 35),
    (b'W', 12),
    (b'K', 28),
    (b'J', 35),
    (b'h', 21),
    (b'A', 36),
    (b'F', 40),
    (b'E', 31),
    (b'C', 36),
    (b'X', 23),
    (b'D', 19),
    (b'U', 35),
    (b'P', 44),
    (b'Q', 40),
    (b'B', 19),
    (b'I', 50),
    (b'N', 20),
    (b'O', 48),
];

pub const SESSION: mold::Session = *b"TEST000001";

/// Nobody listens.
struct Nobody;

impl Handler for Nobody {
    fn message(&mut self, _: u64, _: &[u8]) {}
}

/// What takes the messages of a feed with so many a second.
pub fn market(rate: u64) -> Market {
    Market::new(Schedule { begin: 0, rate }, Meter::start(Clock::new()))
}

/// A packet of the messages from number `first` on, below `end`, and how many they are.
pub fn packet(day: &Day, first: u64, end: u64) -> (Vec<u8>, u16) {
    let (blocks, count) = day.blocks(first, end, LONGEST - Header::LEN);
    let header = Header::new(SESSION, first, count);
    ([header.as_bytes(), blocks].concat(), count)
}

/// Every message of a day.
pub fn messages(day: &Day) -> Vec<&[u8]> {
    let mut rest = day.bytes();
    let mut messages = Vec::new();
    while let Some((message, more)) = mold::split(rest) {
        messages.push(message);
        rest = more;
    }
    messages
}

#[test]
fn types_have_the_lengths_of_the_specification() {
    assert_eq!(Message::TYPES, LENGTHS);
    for (kind, length) in LENGTHS {
        let mut bytes = vec![0; length];
        bytes[0] = kind;
        assert!(Message::read(&bytes).is_ok());
        for wrong in [&bytes[..length - 1], &[&bytes[..], &[0]].concat()] {
            assert_eq!(Message::read(wrong).unwrap_err(), Malformed::Length);
        }
    }
    assert_eq!(Message::read(b"").unwrap_err(), Malformed::Empty);
    assert_eq!(Message::read(b"Z1234567890").unwrap_err(), Malformed::Type);
    assert_eq!(size_of::<EnterOrder>(), 49);
    assert_eq!(Header::LEN, 20);
}

#[test]
fn a_made_up_day_has_every_type_and_the_number_of_messages_asked_for() {
    let day = Day::generate(7, 50_000);
    assert_eq!(day.len(), 50_000);
    let kinds: BTreeSet<u8> = messages(&day).iter().map(|message| message[0]).collect();
    assert_eq!(kinds, LENGTHS.map(|(kind, _)| kind).into());
    assert!(messages(&day).into_iter().all(|message| Message::read(message).is_ok()));
    assert_eq!(day.bytes(), Day::generate(7, 50_000).bytes());
    assert_ne!(day.bytes(), Day::generate(8, 50_000).bytes());
    for count in [0, 1, 2, 3, 4, 10, 80] {
        assert_eq!(Day::generate(1, count).len(), count as u64);
    }
}

#[test]
fn a_day_is_read_from_a_file_packed_or_not_and_one_cut_short_is_an_error() {
    let folder = std::env::temp_dir().join(format!("market-day-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let day = Day::generate(3, 1000);
    let (plain, packed) = (folder.join("day.itch"), folder.join("day.itch.gz"));
    std::fs::write(&plain, day.bytes()).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, day.bytes()).unwrap();
    std::fs::write(&packed, encoder.finish().unwrap()).unwrap();
    for file in [&plain, &packed] {
        assert_eq!(Day::open(file, usize::MAX).unwrap().bytes(), day.bytes());
        let part = Day::open(file, 100).unwrap();
        assert_eq!((part.len(), part.bytes()), (100, &day.bytes()[..part.bytes().len()]));
    }
    std::fs::write(&plain, &day.bytes()[..day.bytes().len() - 1]).unwrap();
    let cut = Day::open(&plain, usize::MAX).map(|day| day.len()).unwrap_err();
    assert_eq!(cut.kind(), std::io::ErrorKind::UnexpectedEof);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn packets_hold_as_many_messages_as_fit_and_no_more() {
    let day = Day::generate(1, 500);
    let (mut next, mut seen) = (FIRST, Vec::new());
    while next < FIRST + day.len() {
        let (bytes, count) = packet(&day, next, u64::MAX);
        assert!(count > 0 && bytes.len() <= LONGEST);
        let Content::Messages(blocks) = Packet::read(&bytes).unwrap().content else {
            panic!("a packet of messages is one");
        };
        assert_eq!((blocks.first, blocks.end()), (next, next + u64::from(count)));
        seen.extend(blocks.iter().map(<[u8]>::to_vec));
        next = blocks.end();
        if next < FIRST + day.len() {
            assert!(bytes.len() + 2 + 50 > LONGEST, "there was room for another: {}", bytes.len());
        }
    }
    assert_eq!(seen, messages(&day));
}

#[test]
fn what_is_wrong_with_a_packet_is_named() {
    let day = Day::generate(1, 100);
    let (good, _) = packet(&day, FIRST, FIRST + 3);
    let wrong = |bytes: &[u8]| Packet::read(bytes).unwrap_err();
    assert_eq!(wrong(&good[..19]), mold::Malformed::Header);
    assert_eq!(wrong(&good[..good.len() - 1]), mold::Malformed::Truncated);
    assert_eq!(wrong(&[&good[..], &[0]].concat()), mold::Malformed::Trailing);
    let mut impossible = good.clone();
    impossible[10..18].fill(0xff);
    assert_eq!(wrong(&impossible), mold::Malformed::Sequence);
    let mut sequencer = Sequencer::new(FIRST);
    sequencer.take(&good, Origin::Feed, 0, &mut Nobody);
    let mut other = good;
    other[0] ^= 1;
    sequencer.take(&other, Origin::Feed, 0, &mut Nobody);
    assert_eq!(sequencer.counts.malformed[mold::Malformed::Session as usize], 1);
}

proptest! {
    /// Whatever comes, nothing panics, and every packet is either counted as malformed or taken.
    #[test]
    fn garbage_is_counted(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20),
    ) {
        let mut sequencer = Sequencer::new(FIRST);
        let mut market = market(1);
        for (now, packet) in (0..).zip(&packets) {
            sequencer.take(packet, Origin::Feed, now, &mut market);
            while sequencer.request(now, &mut market).is_some() {}
        }
        let malformed: u64 = sequencer.counts.malformed.iter().sum();
        prop_assert_eq!(sequencer.counts.packets, packets.len() as u64);
        prop_assert!(malformed <= sequencer.counts.packets);
    }

    /// Good packets in which some bytes are wrong: what is in them may be odd, and is counted.
    #[test]
    fn broken_packets_break_nothing(
        seed in 0u64..1000,
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let day = Day::generate(seed, 400);
        let mut market = market(1);
        let mut sequencer = Sequencer::new(FIRST);
        let (mut next, mut now) = (FIRST, 0);
        while next < FIRST + day.len() {
            let (mut bytes, count) = packet(&day, next, u64::MAX);
            for (place, value) in &wrong {
                let place = place.index(bytes.len());
                bytes[place] = *value;
            }
            if seed % 3 == 0 {
                bytes.truncate(cut.index(bytes.len()));
            }
            sequencer.take(&bytes, Origin::Feed, now, &mut market);
            while sequencer.request(now, &mut market).is_some() {}
            next += u64::from(count);
            now += 40_000_000;
        }
    }

    /// Messages of a known type whose content is random.
    #[test]
    fn any_message_is_taken_or_counted(
        kinds in prop::collection::vec((0..LENGTHS.len(), any::<[u8; 50]>(), 0u64..6), 1..200),
    ) {
        let mut market = market(1);
        for (sequence, (kind, mut bytes, reference)) in (FIRST..).zip(kinds) {
            let (kind, length) = LENGTHS[kind];
            bytes[0] = kind;
            // Few references, so that messages meet.
            bytes[11..19].copy_from_slice(&reference.to_be_bytes());
            market.message(sequence, &bytes[..length]);
        }
        prop_assert_eq!(market.malformed, [0; 3]);
    }
}
