//! What is refused stays, what is held is counted, nobody starves.

use std::time::{Duration, Instant};

use super::super::{Channel, Open, Outcome, patience};
use super::tools::*;
use crate::{Buffer, Endpoint, Error};

/// Sends without receiving until the queue refuses or 4 096 packets are under way: at every step
/// what was not taken is still there, in order; afterwards every packet is accounted for.
pub(super) fn refusal_keeps_what_is_not_taken<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let mut burst = burst_of(BURST);
    let (mut made, mut taken, mut refusals) = (0, 0, 0);
    while taken < 4096 && refusals < 3 {
        made += prepare(&mut a, &mut burst, made, BURST, least::<C>())? as u64;
        if burst.is_empty() {
            break;
        }
        let before = burst.len();
        let n = a.send(&mut burst).map_err(told)?;
        taken += n as u64;
        refusals += usize::from(n < before);
        if burst.len() != before - n {
            let left = burst.len();
            return fail(format!("{n} of {before} were taken, {left} are left"));
        }
        for (unit, want) in burst.iter().zip(taken..) {
            if read(&a, unit)?.map(|(seq, _)| seq) != Some(want) {
                return fail(format!("packet {want} was refused and is not in its place"));
            }
        }
        census(&mut a, "after a send")?;
    }
    // The cable is full, or the receiver's queue: now every packet arrives or is counted.
    burst.clear();
    let arrived = drain_while_settling(&mut a, &mut b)?;
    account(&mut a, &mut b, taken, arrived)
}

pub(super) fn unsendable_stays_first<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let mut burst = burst_of(4);
    prepare(&mut a, &mut burst, 0, 2, least::<C>())?;
    let Some(first) = burst.first_mut() else { return fail("nothing to allocate") };
    let most = a.endpoint().caps().max_len;
    if first.set_len(most + 1).is_err() {
        // No buffer of this backend can be too long; an empty frame cannot be sent either.
        if C::HEADER.is_empty() {
            return Ok(());
        }
        first.set_len(0).map_err(|error| error.to_string())?;
    }
    let mark = first.total_len();
    match a.send(&mut burst) {
        Err(Error::Frame { .. }) => {}
        other => return fail(format!("sending {mark} bytes, {most} allowed: {other:?}")),
    }
    if burst.len() != 2 || burst[0].total_len() != mark {
        return fail("the packet that cannot be sent is not the first of the burst any more");
    }
    // Once it is out of the way, the one behind it goes.
    burst.pop_front();
    a.send(&mut burst).map_err(told)?;
    a.endpoint().flush().map_err(told)?;
    let (mut seen, deadline) = (Vec::new(), Instant::now() + patience());
    while seen.is_empty() && Instant::now() < deadline {
        take(&mut b, &mut burst_of(4), &mut seen)?;
    }
    if seen == [(1, least::<C>())] { Ok(()) } else { fail(format!("received {seen:?}")) }
}

pub(super) fn recv_leaves_a_full_burst_alone<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let (mut burst, mut full) = (burst_of(4), burst_of(1));
    prepare(&mut a, &mut burst, 0, 2, least::<C>())?;
    let deadline = Instant::now() + patience();
    while !burst.is_empty() || full.is_empty() {
        // The cable may hold less than both packets: receive the first while sending.
        if !burst.is_empty() {
            a.send(&mut burst).map_err(told)?;
        }
        a.endpoint().flush().map_err(told)?;
        if full.is_empty() {
            b.recv(&mut full).map_err(told)?;
        }
        if Instant::now() > deadline {
            return fail("nothing arrived");
        }
    }
    let n = b.recv(&mut full).map_err(told)?;
    if n != 0 || full.len() != 1 {
        return fail(format!("{n} packets were received into a burst with no room"));
    }
    let first = read(&b, &full[0])?;
    full.clear();
    let (mut seen, deadline) = (Vec::new(), Instant::now() + patience());
    while seen.is_empty() && Instant::now() < deadline {
        take(&mut b, &mut full, &mut seen)?;
    }
    match (first, seen.as_slice()) {
        (Some((0, _)), [(1, _)]) => Ok(()),
        other => fail(format!("of the packets 0 and 1 came {other:?}")),
    }
}

pub(super) fn idle_recv_does_not_block<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (_a, mut b) = open().map_err(told)?;
    let (mut burst, begin) = (burst_of(BURST), Instant::now());
    for _ in 0..100 {
        take(&mut b, &mut burst, &mut Vec::new())?;
    }
    let took = begin.elapsed();
    if took < Duration::from_secs(2) { Ok(()) } else { fail(format!("100 idle calls: {took:?}")) }
}

pub(super) fn alloc_respects_the_burst<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, _b) = open().map_err(told)?;
    let mut burst = burst_of(5);
    let counts = (a.alloc(&mut burst, 3), a.alloc(&mut burst, 100), a.alloc(&mut burst, 1));
    if counts == (3, 2, 0) && burst.len() == 5 {
        return Ok(());
    }
    fail(format!("3, 100 and 1 asked for, room for 5: {counts:?}, {} in the burst", burst.len()))
}

pub(super) fn fresh_buffers_have_the_stated_room<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let stated = a.endpoint().caps().headroom;
    let mut burst = burst_of(1);
    prepare(&mut a, &mut burst, 7, 1, least::<C>() + 10)?;
    let Some(unit) = burst.first_mut() else { return fail("nothing to allocate") };
    if unit.headroom() < stated {
        return fail(format!("headroom {} of the stated {stated}", unit.headroom()));
    }
    // Through the headroom and back: the bytes stay where they are.
    let whole = unit.data().to_vec();
    unit.trim_front(5).map_err(|error| error.to_string())?;
    unit.prepend(5).map_err(|error| error.to_string())?.copy_from_slice(&whole[..5]);
    let beyond = unit.headroom() + 1;
    if unit.prepend(beyond).is_ok() || unit.set_len(usize::MAX).is_ok() || unit.data() != whole {
        return fail("room was given that is not there, or data was changed");
    }
    send_all(&mut a, &mut burst)?;
    let (mut seen, deadline) = (Vec::new(), Instant::now() + patience());
    while seen.is_empty() && Instant::now() < deadline {
        take(&mut b, &mut burst_of(4), &mut seen)?;
    }
    if seen == [(7, least::<C>() + 10)] { Ok(()) } else { fail(format!("received {seen:?}")) }
}

pub(super) fn alloc_cannot_starve_recv<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let mut hoard = Vec::new();
    loop {
        let mut burst = burst_of(BURST);
        let n = b.alloc(&mut burst, BURST);
        hoard.push(burst);
        if n < BURST {
            break;
        }
        if hoard.len() > 1 << 16 {
            return fail("allocation never ends");
        }
    }
    census(&mut b, "with all allocated")?;
    in_order(&exchange(&mut a, &mut b, 100, |_| least::<C>())?, 100)?;
    drop(hoard);
    let mut burst = burst_of(1);
    if b.alloc(&mut burst, 1) == 1 { Ok(()) } else { fail("nothing came back to the pool") }
}

pub(super) fn held_buffers_are_counted_and_come_back<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let total = b.endpoint().stats().frames.map_or(1024, |census| census.total);
    let (mut held, mut out) = (Vec::new(), burst_of(BURST));
    let (mut taken, mut arrived) = (0, 0);
    for _ in 0..2 * total.div_ceil(BURST as u64) {
        if out.is_empty() {
            prepare(&mut a, &mut out, taken, BURST, least::<C>())?;
        }
        if !out.is_empty() {
            taken += a.send(&mut out).map_err(told)? as u64;
            a.endpoint().flush().map_err(told)?;
        }
        let mut burst = burst_of(BURST);
        b.recv(&mut burst).map_err(told)?;
        for unit in burst.iter() {
            arrived += u64::from(read(&b, unit)?.is_some());
        }
        held.push(burst);
        census(&mut b, "while the receiver holds all")?;
    }
    out.clear();
    if let Some(census) = b.endpoint().stats().frames
        && census.held < arrived
    {
        return fail(format!("{arrived} packets are held, the census says {census:?}"));
    }
    held.clear();
    arrived += drain_while_settling(&mut a, &mut b)?;
    account(&mut a, &mut b, taken, arrived)?;
    match b.endpoint().stats().frames {
        Some(census) if census.held != 0 => fail(format!("all was given back: {census:?}")),
        _ => Ok(()),
    }
}

/// Sends far more than any pool holds, without ever calling `recv` on the sender or `send` on the
/// receiver: what has left must come back to the pool by `send`, `flush` and `recv` alone.
pub(super) fn a_sender_never_starves<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let total = a.endpoint().stats().frames.map_or(1024, |census| census.total) as usize;
    let n = (4 * total).clamp(1000, 20_000);
    in_order(&exchange(&mut a, &mut b, n, |_| least::<C>())?, n)
}
