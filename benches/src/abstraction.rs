//! What the seam costs: the same application over the memory backend called directly, generic over
//! [`PacketIo`], and through `Box<dyn PacketIo>`.

use std::hint::black_box;
use std::time::Duration;

use anyhow::Result;
use bypass_core::backend::memory::{self, MemoryFrame, MemoryPort};
use bypass_core::{Buffer, Burst, Endpoint, PacketIo, swap_addresses};

use crate::micro::{self, Case, INSTRUCTIONS, NANOSECONDS, Work};
use crate::paired::Plan;
use crate::report::Report;
use crate::scenario::Options;

const FRAME: [u8; 60] = [0x5a; 60];

pub(crate) const CASES: &[Case] = &[
    Case { name: "direct, burst 32", prepare: || work::<32, _>(direct, |port| port) },
    Case {
        name: "generic, burst 32",
        prepare: || work::<32, _>(generic::<MemoryPort>, |port| port),
    },
    Case {
        name: "boxed, burst 32",
        prepare: || work::<32, _>(generic::<Boxed>, |port| Box::new(port) as Boxed),
    },
    Case { name: "direct, burst 1", prepare: || work::<1, _>(direct, |port| port) },
    Case { name: "generic, burst 1", prepare: || work::<1, _>(generic::<MemoryPort>, |port| port) },
    Case {
        name: "boxed, burst 1",
        prepare: || work::<1, _>(generic::<Boxed>, |port| Box::new(port) as Boxed),
    },
];

type Boxed = Box<dyn PacketIo<Frame = MemoryFrame>>;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let duration = Duration::from_millis(if options.quick { 5 } else { 100 });
    let mut report = Report::new(options.environment());
    for burst in ["burst 32", "burst 1"] {
        let of_burst = CASES.iter().map(|case| case.name).filter(|name| name.ends_with(burst));
        let (peers, subjects) = of_burst.partition(|name| name.starts_with("direct"));
        let plan = Plan { scenario: "abstraction", subjects, peers, rounds: options.rounds };
        let runs = micro::run(&plan, CASES, duration)?;
        report.rows.extend(
            [INSTRUCTIONS, NANOSECONDS].into_iter().flat_map(|metric| runs.rows(&plan, metric)),
        );
    }
    report.notes.push(
        "A packet is a 60 B frame sent from one end of a memory link, received and reflected in \
         place by the other, and received and dropped by the first. Targets: generic +1 % \
         instructions, boxed +5 %, both in bursts of 32."
            .to_owned(),
    );
    Ok(report)
}

/// Two linked ports, seen as `P`, that `application` moves bursts of `N` between.
fn work<const N: usize, P: PacketIo<Frame = MemoryFrame> + 'static>(
    application: fn(&mut P, &mut P, &mut Burst<MemoryFrame>, usize) -> bypass_core::Result<usize>,
    seen_as: fn(MemoryPort) -> P,
) -> Result<Work> {
    let (a, b) = memory::link(&memory::LinkOptions::default())?;
    let (mut a, mut b) = (seen_as(a.open()?), seen_as(b.open()?));
    let mut burst = Burst::with_capacity(N);
    Ok(Box::new(move |repeats| {
        let mut packets = 0;
        for _ in 0..repeats {
            packets += application(&mut a, &mut b, &mut burst, black_box(N))? as u64;
        }
        Ok(packets)
    }))
}

/// The application, written for the one backend.
#[inline(never)]
fn direct(
    a: &mut MemoryPort,
    b: &mut MemoryPort,
    burst: &mut Burst<MemoryFrame>,
    count: usize,
) -> bypass_core::Result<usize> {
    a.alloc(burst, count);
    for frame in burst.iter_mut() {
        // A new frame has room for the smallest Ethernet frame.
        if frame.fill(&FRAME).is_err() {
            return Ok(0);
        }
    }
    a.send(burst)?;
    a.flush()?;

    b.recv(burst)?;
    burst.iter_mut().for_each(swap_addresses);
    b.send(burst)?;
    b.flush()?;

    let returned = a.recv(burst)?;
    black_box(burst.first().map(Buffer::data));
    burst.clear();
    Ok(returned)
}

/// The same application, written once for every backend.
#[inline(never)]
fn generic<P: PacketIo>(
    a: &mut P,
    b: &mut P,
    burst: &mut Burst<P::Frame>,
    count: usize,
) -> bypass_core::Result<usize> {
    a.alloc(burst, count);
    for frame in burst.iter_mut() {
        if frame.fill(&FRAME).is_err() {
            return Ok(0);
        }
    }
    a.send(burst)?;
    a.flush()?;

    b.recv(burst)?;
    burst.iter_mut().for_each(swap_addresses);
    b.send(burst)?;
    b.flush()?;

    let returned = a.recv(burst)?;
    black_box(burst.first().map(Buffer::data));
    burst.clear();
    Ok(returned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_moves_all_of_its_packets() {
        for case in CASES {
            let burst = if case.name.ends_with("burst 1") { 1 } else { 32 };
            assert_eq!((case.prepare)().unwrap()(50).unwrap(), 50 * burst, "{}", case.name);
        }
    }
}
