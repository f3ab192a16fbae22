//! The checks that hold for packets alone: frames that are shown and filled where they lie.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use super::checks::tools::*;
use super::{Channel, Check, Open, Outcome, Packets, patience};
use crate::{PacketIo, Verdict};

pub(super) fn all<P: PacketIo>() -> Vec<Check<Packets<P>>> {
    macro_rules! checks {
        ($($name:ident),+ $(,)?) => { vec![$(Check { name: stringify!($name), run: $name::<P> }),+] };
    }
    checks![
        visiting_shows_every_frame_and_sends_what_it_is_told_to,
        a_visitor_that_panics_loses_no_memory,
        generated_frames_arrive,
    ]
}

/// Far more than there is memory for: every other frame goes back, and none is shown twice.
fn visiting_shows_every_frame_and_sends_what_it_is_told_to<P: PacketIo>(
    open: Open<'_, Packets<P>>,
) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let (total, run) = (b.endpoint().stats().frames.map_or(1024, |census| census.total), b.run());
    let n = (3 * total).clamp(1000, 20_000);
    let (mut out, mut waiting, mut inbox) = (burst_of(BURST), burst_of(BURST), burst_of(BURST));
    let (mut made, mut shown, mut back) = (0, Vec::new(), Vec::new());
    let mut deadline = Instant::now() + patience();
    while (shown.len() as u64) < n || (back.len() as u64) < n / 2 {
        let before = shown.len() + back.len();
        if out.is_empty() && made < n {
            let want = BURST.min((n - made) as usize);
            made += prepare(&mut a, &mut out, made, want, 60)? as u64;
        }
        if !out.is_empty() {
            a.send(&mut out).map_err(told)?;
        }
        a.endpoint().flush().map_err(told)?;
        let mut wrong = None;
        let look = |data: &mut [u8], _: &_| match read_bytes::<Packets<P>>(run, data) {
            Ok(Some(packet)) => {
                shown.push(packet);
                if packet.0.is_multiple_of(2) { Verdict::Send } else { Verdict::Drop }
            }
            Ok(None) => Verdict::Drop,
            Err(why) => {
                wrong = Some(why);
                Verdict::Drop
            }
        };
        b.endpoint().visit(&mut waiting, look).map_err(told)?;
        if let Some(why) = wrong {
            return Err(why);
        }
        take(&mut a, &mut inbox, &mut back)?;
        if shown.len() + back.len() > before {
            deadline = Instant::now() + patience();
        } else if Instant::now() > deadline {
            let (shown, back) = (shown.len(), back.len());
            return fail(format!("{made} packets made, {shown} shown, {back} came back"));
        }
    }
    in_order(&shown, n as usize)?;
    let halves: Vec<_> = back.iter().map(|&(seq, len)| (seq / 2, len)).collect();
    in_order(&halves, n as usize / 2)?;
    if back.iter().any(|&(seq, len)| (seq % 2, len) != (0, 60)) {
        return fail("other packets came back than were to be sent");
    }
    census(&mut a, "sender")?;
    census(&mut b, "visitor")
}

/// A visitor that panics drops what it sees, and the port goes on.
fn a_visitor_that_panics_loses_no_memory<P: PacketIo>(open: Open<'_, Packets<P>>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    for round in 0..20 {
        let (mut burst, mut waiting) = (burst_of(1), burst_of(BURST));
        prepare(&mut a, &mut burst, round, 1, 60)?;
        send_all(&mut a, &mut burst)?;
        let deadline = Instant::now() + patience();
        loop {
            let visit = AssertUnwindSafe(|| {
                b.endpoint().visit(&mut waiting, |_, _| resume_unwind(Box::new("the visitor")))
            });
            if catch_unwind(visit).is_err() {
                break;
            }
            if Instant::now() > deadline {
                return fail(format!("round {round}: nothing was shown"));
            }
        }
        if !waiting.is_empty() {
            return fail(format!("{} frames wait that nobody wants to send", waiting.len()));
        }
    }
    match b.endpoint().stats().frames {
        Some(census) if census.held != 0 => return fail(format!("all was dropped: {census:?}")),
        _ => census(&mut b, "after the panics")?,
    }
    in_order(&exchange(&mut a, &mut b, 1000, |_| 60)?, 1000)
}

fn generated_frames_arrive<P: PacketIo>(open: Open<'_, Packets<P>>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let (n, run) = (2000, a.run());
    let (mut made, mut seen) = (0, Vec::new());
    let (mut waiting, mut inbox) = (burst_of(BURST), burst_of(BURST));
    let mut deadline = Instant::now() + patience();
    while seen.len() < n {
        let (want, before) = (BURST.min(n - made as usize), seen.len());
        let fill = |data: &mut [u8]| {
            write_bytes::<Packets<P>>(run, data, made);
            made += 1;
        };
        a.endpoint().generate(&mut waiting, want, 75, fill).map_err(told)?;
        a.endpoint().flush().map_err(told)?;
        take(&mut b, &mut inbox, &mut seen)?;
        if seen.len() > before {
            deadline = Instant::now() + patience();
        } else if Instant::now() > deadline {
            return fail(format!("{made} packets made, {} arrived", seen.len()));
        }
    }
    in_order(&seen, n)?;
    if seen.iter().any(|&(_, len)| len != 75) {
        return fail("packets of another length arrived");
    }
    settle(&mut a)?;
    let stats = a.endpoint().stats();
    let bytes = if a.endpoint().caps().counts_bytes { 75 * n as u64 } else { 0 };
    if (stats.tx_packets, stats.tx_bytes) != (n as u64, bytes) {
        return fail(format!("{n} packets of 75 bytes were generated, the counters say {stats:?}"));
    }
    census(&mut a, "generator")
}
