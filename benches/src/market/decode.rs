//! Decoding alone: a day's messages one after the other, by the example and by the crate `itchy`.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::day::Day;
use super::itch::{Header, Message};
use super::mold::split;
use crate::micro::{self, Case, INSTRUCTIONS, NANOSECONDS, Work};
use crate::paired::Plan;
use crate::report::Report;
use crate::scenario::Options;

const MESSAGES: usize = 1000;
/// Types that itchy panics at.
const UNKNOWN_TO_ITCHY: &[u8] = b"hO";

/// A day as a file has it, but for what itchy cannot read.
fn day() -> Vec<u8> {
    let day = Day::generate(1, MESSAGES);
    let (mut bytes, mut rest) = (Vec::new(), day.bytes());
    while let Some((message, more)) = split(rest) {
        if message.first().is_some_and(|kind| !UNKNOWN_TO_ITCHY.contains(kind)) {
            bytes.extend_from_slice(&(message.len() as u16).to_be_bytes());
            bytes.extend_from_slice(message);
        }
        rest = more;
    }
    bytes
}

const OURS: &str = "decode, market_data";
const ITCHY: &str = "decode, itchy";

pub(crate) const CASES: &[Case] = &[
    Case { name: OURS, prepare: ours },
    #[cfg(feature = "peers")]
    Case { name: ITCHY, prepare: itchy },
];

pub(super) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let duration = Duration::from_millis(if options.quick { 5 } else { 100 });
    let plan = Plan {
        scenario: super::NAME,
        subjects: vec![OURS],
        peers: CASES.iter().map(|case| case.name).filter(|name| *name == ITCHY).collect(),
        rounds: options.rounds,
    };
    let runs = micro::run(&plan, CASES, duration)?;
    for metric in [INSTRUCTIONS, NANOSECONDS] {
        report.rows.extend(runs.rows(&plan, metric));
    }
    report.facts.extend(runs.facts(&plan, &[INSTRUCTIONS, NANOSECONDS]));
    report.notes.push(
        "Decode: every message of a day in memory, behind its length, and of those about orders and trades \
         the security, time, number, shares and price are added up; a packet is a message here."
            .to_owned(),
    );
    Ok(())
}

/// What a program reads in a message, so that it has to be there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Digest(u64);

impl Digest {
    fn add(&mut self, locate: u16, time: u64, values: [u64; 3]) {
        let sum = values.into_iter().fold(time + u64::from(locate), u64::wrapping_add);
        self.0 = self.0.wrapping_add(sum);
    }

    fn of(&mut self, message: Message<'_>) {
        let mut add =
            |header: &Header, values| self.add(header.locate.get(), header.nanos(), values);
        match message {
            Message::AddOrder(m) => {
                add(&m.header, [m.reference.get(), m.shares.get().into(), m.price.get().into()]);
            }
            Message::AddOrderAttributed(m) => {
                add(&m.header, [m.reference.get(), m.shares.get().into(), m.price.get().into()]);
            }
            Message::OrderExecuted(m) => {
                add(&m.header, [m.reference.get(), m.shares.get().into(), m.match_number.get()]);
            }
            Message::OrderCancel(m) => {
                add(&m.header, [m.reference.get(), m.shares.get().into(), 0])
            }
            Message::OrderDelete(m) => add(&m.header, [m.reference.get(), 0, 0]),
            Message::OrderReplace(m) => {
                add(&m.header, [m.reference.get(), m.shares.get().into(), m.price.get().into()]);
            }
            Message::Trade(m) => {
                add(&m.header, [m.match_number.get(), m.shares.get().into(), m.price.get().into()]);
            }
            other => drop(black_box(other)),
        }
    }
}

fn ours_over(bytes: &[u8]) -> Result<(u64, Digest)> {
    let (mut digest, mut count, mut rest) = (Digest::default(), 0, bytes);
    while let Some((message, more)) = split(rest) {
        let message = Message::read(message);
        ensure!(message.is_ok(), "a message that was made up is malformed");
        message.iter().for_each(|message| digest.of(*message));
        (count, rest) = (count + 1, more);
    }
    Ok((count, digest))
}

fn ours() -> Result<Work> {
    let day = day();
    Ok(Box::new(move |repeats| {
        let mut messages = 0;
        for _ in 0..repeats {
            let (count, digest) = ours_over(black_box(&day))?;
            black_box(digest);
            messages += count;
        }
        Ok(messages)
    }))
}

#[cfg(feature = "peers")]
impl Digest {
    fn of_itchy(&mut self, message: &itchy::Message) {
        use itchy::Body;
        let mut add = |values| self.add(message.stock_locate, message.timestamp, values);
        match &message.body {
            Body::AddOrder(m) => add([m.reference, m.shares.into(), m.price.raw().into()]),
            Body::OrderExecuted { reference, executed, match_number } => {
                add([*reference, (*executed).into(), *match_number]);
            }
            Body::OrderCancelled { reference, cancelled } => {
                add([*reference, (*cancelled).into(), 0])
            }
            Body::DeleteOrder { reference } => add([*reference, 0, 0]),
            Body::ReplaceOrder(m) => add([m.new_reference, m.shares.into(), m.price.raw().into()]),
            Body::NonCrossTrade(m) => add([m.match_number, m.shares.into(), m.price.raw().into()]),
            other => drop(black_box(other)),
        }
    }
}

#[cfg(feature = "peers")]
fn itchy_over(bytes: &[u8]) -> Result<(u64, Digest)> {
    let (mut digest, mut count) = (Digest::default(), 0);
    for message in itchy::MessageStream::from_reader(bytes) {
        digest.of_itchy(&message?);
        count += 1;
    }
    Ok((count, digest))
}

#[cfg(feature = "peers")]
fn itchy() -> Result<Work> {
    let day = day();
    // They read the same, or there is nothing to compare.
    ensure!(ours_over(&day)? == itchy_over(&day)?, "itchy reads something else");
    Ok(Box::new(move |repeats| {
        let mut messages = 0;
        for _ in 0..repeats {
            let (count, digest) = itchy_over(black_box(&day))?;
            black_box(digest);
            messages += count;
        }
        Ok(messages)
    }))
}
