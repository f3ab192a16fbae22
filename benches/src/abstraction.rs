//! What the seam costs: the same application over the memory backend called directly, generic over
//! [`PacketIo`], through `Box<dyn PacketIo>`, and with the backend chosen at run time by URI.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bypass_core::backend::memory::{self, MemoryFrame, MemoryPort};
use bypass_core::{Buffer, Burst, Endpoint, PacketIo, swap_addresses};
use bypass_io::any::{AnyPort, open_port};

use crate::micro::{self, Case, INSTRUCTIONS, NANOSECONDS, Work};
use crate::paired::Plan;
use crate::report::Report;
use crate::scenario::Options;

const FRAME: [u8; 60] = [0x5a; 60];

pub(crate) const CASES: &[Case] = &[
    Case { name: "direct, burst 32", prepare: || work::<32, _>(linked()?, direct) },
    Case { name: "generic, burst 32", prepare: || work::<32, _>(linked()?, generic) },
    Case { name: "boxed, burst 32", prepare: || work::<32, _>(boxed()?, generic) },
    Case { name: "by URI, burst 32", prepare: || work::<32, _>(by_uri()?, generic) },
    Case { name: "direct, burst 1", prepare: || work::<1, _>(linked()?, direct) },
    Case { name: "generic, burst 1", prepare: || work::<1, _>(linked()?, generic) },
    Case { name: "boxed, burst 1", prepare: || work::<1, _>(boxed()?, generic) },
    Case { name: "by URI, burst 1", prepare: || work::<1, _>(by_uri()?, generic) },
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
        let metrics = [INSTRUCTIONS, NANOSECONDS];
        report.rows.extend(metrics.into_iter().flat_map(|metric| runs.rows(&plan, metric)));
        report.facts.extend(runs.facts(&plan, &metrics));
    }
    report.notes.push(
        "A packet is a 60 B frame sent from one end of a memory link, received and reflected in \
         place by the other, and received and dropped by the first. Targets: generic +1 % \
         instructions, boxed +5 %, both in bursts of 32. By URI means `bypass_io::any`, where every \
         frame is an enum over the backends and a burst is moved frame by frame."
            .to_owned(),
    );
    Ok(report)
}

fn linked() -> Result<(MemoryPort, MemoryPort)> {
    let (a, b) = memory::link(&memory::LinkOptions::default())?;
    Ok((a.open()?, b.open()?))
}

fn boxed() -> Result<(Boxed, Boxed)> {
    let (a, b) = linked()?;
    Ok((Box::new(a), Box::new(b)))
}

fn by_uri() -> Result<(AnyPort, AnyPort)> {
    // A name of its own for each pair; opened twice it gives the two ends.
    static PAIRS: AtomicU64 = AtomicU64::new(0);
    let uri = format!("memory:pair{}", PAIRS.fetch_add(1, Ordering::Relaxed));
    Ok((open_port(&uri)?, open_port(&uri)?))
}

/// What an application does with two linked ports, a burst and the number of packets.
type Application<P> =
    fn(&mut P, &mut P, &mut Burst<<P as PacketIo>::Frame>, usize) -> bypass_core::Result<usize>;

/// Two linked ports that `application` moves bursts of `N` between.
fn work<const N: usize, P: PacketIo + 'static>(
    (mut a, mut b): (P, P),
    application: Application<P>,
) -> Result<Work> {
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
