//! Queries that are nearly right: built part by part with something wrong in the parts, then damaged. Whatever
//! comes of them, the server judges as the parser of other hands does, and answers by the rules.
//!
//! It is the fuzzing that a stable toolchain does in a second; nothing leads it by what the code has covered,
//! so that the parts know where the code branches. `tests/fuzz` has the one that is led.

use std::cell::RefCell;
use std::collections::BTreeMap;

use domain::base::Message;
use domain::base::iana::{Class, OptRcode};
use fastrand::Rng;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::example;
use crate::properties::{UDP, check, exchange, names};
use crate::responder::Responder;
use crate::responder::query::{Silence, Transport};

/// Messages.
const CASES: u32 = 10_000;
/// Copies of each, all but one of them damaged, which come in a datagram and by a connection.
const COPIES: usize = 10;

/// A name as it lies in a message, right or wrong.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let labels = |longest| {
        let label = prop::collection::vec(any::<u8>(), 1..longest);
        prop::collection::vec(label, 0..6).prop_map(|labels| {
            let label = |label: Vec<u8>| [vec![label.len() as u8], label].concat();
            labels.into_iter().flat_map(label).collect::<Vec<u8>>()
        })
    };
    let zone = names().prop_map(|name| {
        let name: domain::base::Name<Vec<u8>> = name.parse().unwrap();
        name.as_slice().to_vec()
    });
    // To the header, the question, itself, ahead, and to nowhere.
    let pointer = prop_oneof![Just(0_u16), Just(12), 0..80_u16, 0..=0x3fff_u16];
    let pointed = (labels(10), pointer)
        .prop_map(|(labels, to)| [labels, (0xc000 | to).to_be_bytes().to_vec()].concat());
    prop_oneof![
        20 => zone,
        1 => labels(64).prop_map(|labels| [labels, vec![0]].concat()),
        2 => pointed,
        1 => labels(10),
        1 => (labels(10), 0x40..0xc0_u8).prop_map(|(labels, kind)| [labels, vec![kind, 0]].concat()),
        1 => Just(vec![0]),
    ]
}

fn code() -> impl Strategy<Value = u16> {
    prop_oneof![6 => 1..50_u16, 1 => 250..256_u16, 1 => any::<u16>()]
}

fn class() -> impl Strategy<Value = u16> {
    prop_oneof![20 => Just(1_u16), 1 => Just(3), 1 => Just(255), 1 => any::<u16>()]
}

/// A number, seldom another one.
fn nearly(right: usize) -> impl Strategy<Value = u16> {
    let right = right as u16;
    let off = any::<i8>().prop_map(move |off| right.wrapping_add_signed(off.into()));
    prop_oneof![40 => Just(right), 1 => off, 1 => any::<u16>()]
}

/// A record behind its name and type: class, time to live, data.
fn record_of(rtype: u16, name: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    // What may lie in an OPT record: options of a code and a length.
    let option =
        (any::<u16>(), prop::collection::vec(any::<u8>(), 0..6)).prop_flat_map(|(code, data)| {
            nearly(data.len()).prop_map(move |length| {
                [&code.to_be_bytes()[..], &length.to_be_bytes(), &data].concat()
            })
        });
    let data = prop::collection::vec(option, 0..3).prop_map(|options| options.concat());
    let ttl = prop_oneof![2 => Just([0; 4]), 1 => any::<[u8; 4]>()];
    (any::<u16>(), ttl, data).prop_flat_map(move |(class, ttl, data)| {
        let front = [&name[..], &rtype.to_be_bytes(), &class.to_be_bytes(), &ttl].concat();
        nearly(data.len())
            .prop_map(move |length| [&front[..], &length.to_be_bytes(), &data].concat())
    })
}

fn record() -> impl Strategy<Value = Vec<u8>> {
    let opt =
        prop_oneof![6 => Just(vec![0]), 1 => name()].prop_flat_map(|name| record_of(41, name));
    let other = (code(), name()).prop_flat_map(|(rtype, name)| record_of(rtype, name));
    prop_oneof![3 => opt, 1 => other]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let question = || {
        (name(), code(), class()).prop_map(|(name, rtype, class)| {
            [name, [rtype, class].map(u16::to_be_bytes).concat()].concat()
        })
    };
    let questions = prop_oneof![
        10 => prop::collection::vec(question(), 1),
        1 => prop::collection::vec(question(), 0..4),
    ];
    let few = || prop_oneof![16 => Just(Vec::new()), 1 => prop::collection::vec(record(), 0..3)];
    let additional = prop::collection::vec(record(), 0..3);
    // Opcode, response, and the other flags.
    let flags = prop_oneof![6 => Just(0x0100_u16), 1 => any::<u16>()];
    (any::<u16>(), flags, questions, few(), few(), additional).prop_flat_map(
        |(id, flags, questions, answers, authorities, additional)| {
            let sections = [questions, answers, authorities, additional];
            let counts = sections.each_ref().map(|section| nearly(section.len()));
            let body = sections.concat().concat();
            counts.prop_map(move |counts| {
                let head = [[id, flags].to_vec(), counts.to_vec()].concat();
                let head: Vec<u8> = head.into_iter().flat_map(u16::to_be_bytes).collect();
                [head, body.clone()].concat()
            })
        },
    )
}

/// Damages a message as lines, memory and people do.
fn damage(message: &mut Vec<u8>, random: &mut Rng) {
    for _ in 0..random.usize(0..4) {
        if message.is_empty() {
            return;
        }
        let at = random.usize(0..message.len());
        match random.u8(0..7) {
            0 => message[at] ^= 1 << random.u8(0..8),
            1 => message[at] = *random.choice(&[0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff]).unwrap(),
            2 => message.truncate(at),
            3 => drop(message.remove(at)),
            4 => message.insert(at, random.u8(..)),
            // A pointer.
            5 if at + 1 < message.len() => {
                let to = 0xc000 | random.u16(0..message.len() as u16 + 4);
                message[at..at + 2].copy_from_slice(&to.to_be_bytes());
            }
            // A part once more.
            _ => {
                let part = message[at..message.len().min(at + random.usize(1..40))].to_vec();
                let to = random.usize(0..=message.len());
                message.splice(to..to, part);
            }
        }
    }
}

/// Asks, and judges the answer. Returns what it was.
fn judge(
    responder: &Responder,
    query: &[u8],
    transport: Transport,
) -> Result<String, TestCaseError> {
    let response = match exchange(responder, query, transport) {
        Ok(response) => response,
        Err(silence) => {
            let right = match silence {
                Silence::Short => query.len() < 12,
                Silence::Response => query[2] & 0x80 != 0,
                Silence::NoRoom => false,
            };
            prop_assert!(right, "{silence:?}");
            return Ok(format!("{silence:?}"));
        }
    };
    let asked = Message::from_octets(query).unwrap();
    // The server steps over names in records; where they point to nothing, others read no further.
    let readable = asked.iter().all(|record| record.is_ok());
    let payload = asked.opt().map_or(512, |opt| opt.udp_payload_size().clamp(512, 1232));
    let limit = match transport {
        Transport::Tcp => 65_535,
        Transport::Udp { .. } if readable => payload.into(),
        Transport::Udp { .. } => 1232,
    };
    check(query, &response, limit)?;
    let answered = Message::from_octets(&response[..]).unwrap();
    let header = answered.header();
    let plain = OptRcode::from_rcode(header.rcode());
    let rcode = answered.opt().map_or(plain, |opt| opt.rcode(header));
    if matches!(rcode, OptRcode::NOERROR | OptRcode::NXDOMAIN) {
        // What is answered is a question to others, too, and it comes back as it was asked.
        let question = asked.sole_question();
        prop_assert!(question.is_ok(), "{question:?}");
        let question = question.unwrap();
        prop_assert!(matches!(question.qclass(), Class::IN | Class::ANY));
        prop_assert_eq!(answered.sole_question().unwrap(), question);
        prop_assert!(!readable || asked.opt().is_some() == answered.opt().is_some());
    }
    Ok(rcode.to_string())
}

#[test]
fn queries_that_are_nearly_right_are_judged_and_answered_by_the_rules() {
    let responder = example();
    let outcomes = RefCell::new(BTreeMap::<String, usize>::new());
    let mut runner = TestRunner::new(Config { cases: CASES, ..Config::default() });
    let run = runner.run(&(message(), any::<u64>()), |(message, seed)| {
        let mut random = Rng::with_seed(seed);
        for copy in 0..COPIES {
            let mut query = message.clone();
            if copy > 0 {
                damage(&mut query, &mut random);
            }
            for transport in [UDP, Transport::Tcp] {
                let outcome = judge(&responder, &query, transport)
                    .map_err(|error| TestCaseError::fail(format!("{error}: {query:02x?}")))?;
                *outcomes.borrow_mut().entry(outcome).or_default() += 1;
            }
        }
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
    let outcomes = outcomes.into_inner();
    println!("{} queries: {outcomes:?}", outcomes.values().sum::<usize>());
    assert_eq!(outcomes.values().sum::<usize>(), CASES as usize * COPIES * 2);
    // None of the ways out is a rare one.
    for way in
        ["NOERROR", "NXDOMAIN", "FORMERR", "NOTIMP", "REFUSED", "BADVERS", "Short", "Response"]
    {
        assert!(outcomes.get(way).is_some_and(|&count| count > 200), "{way}: {outcomes:?}");
    }
}
