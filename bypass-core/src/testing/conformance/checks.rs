//! The checks that hold for packets and datagrams alike.

use std::time::{Duration, Instant};

use super::{Channel, Check, Open, Outcome, patience};
use crate::{Buffer, Burst, DropCause, Endpoint, Error, Interest, Ready};

/// When traffic that may still be under way counts as over.
const QUIET: Duration = Duration::from_millis(30);
/// A usual burst.
const BURST: usize = 32;
/// Run and sequence number, in front of the pattern.
const STAMP: usize = 16;

pub(super) fn all<C: Channel>() -> Vec<Check<C>> {
    macro_rules! checks {
        ($($name:ident),+ $(,)?) => { vec![$(Check { name: stringify!($name), run: $name::<C> }),+] };
    }
    checks![
        delivers_in_order_with_content,
        goes_both_ways,
        carries_every_length,
        reflects_what_it_received,
        refusal_keeps_what_is_not_taken,
        unsendable_stays_first,
        recv_leaves_a_full_burst_alone,
        idle_recv_does_not_block,
        alloc_respects_the_burst,
        fresh_buffers_have_the_stated_room,
        alloc_cannot_starve_recv,
        held_buffers_are_counted_and_come_back,
        a_sender_never_starves,
        counters_add_up,
        wait_times_out,
        wait_wakes_for_a_packet,
        wait_finds_room_to_send,
        the_descriptor_becomes_readable,
        buffers_outlive_their_endpoint,
        opens_again_after_every_teardown,
    ]
}

// ---------------------------------------------------------------------------------------------
// Tools
// ---------------------------------------------------------------------------------------------

pub(super) fn fail<T>(why: impl Into<String>) -> Result<T, String> {
    Err(why.into())
}

pub(super) fn told(error: Error) -> String {
    error.to_string()
}

/// The pattern that follows the stamp of packet `seq`.
fn pattern(seq: u64, i: usize) -> u8 {
    (seq.wrapping_mul(31).wrapping_add(i as u64 * 7) >> 1) as u8
}

/// The shortest packet that a check can fill.
fn least<C: Channel>() -> usize {
    C::HEADER.len() + STAMP
}

/// Fills `unit` with packet `seq`, `len` bytes long.
pub(super) fn write<C: Channel>(channel: &C, unit: &mut C::Unit, seq: u64, len: usize) -> Outcome {
    unit.set_len(len).map_err(|error| error.to_string())?;
    let (header, body) = unit.data_mut().split_at_mut(C::HEADER.len());
    header.copy_from_slice(C::HEADER);
    body[..8].copy_from_slice(&channel.run().to_be_bytes());
    body[8..STAMP].copy_from_slice(&seq.to_be_bytes());
    body[STAMP..].iter_mut().enumerate().for_each(|(i, byte)| *byte = pattern(seq, i));
    channel.address(unit);
    Ok(())
}

/// The number of a packet and its length, if it is one of this pair's; an error if it is damaged.
fn read<C: Channel>(channel: &C, unit: &C::Unit) -> Result<Option<(u64, usize)>, String> {
    let data: Vec<u8> = unit.segments().flatten().copied().collect();
    let Some(body) = data.strip_prefix(C::HEADER).filter(|body| body.len() >= STAMP) else {
        return Ok(None);
    };
    let (stamp, rest) = body.split_at(STAMP);
    if stamp[..8] != channel.run().to_be_bytes() {
        return Ok(None);
    }
    let seq = u64::from_be_bytes(stamp[8..].try_into().map_err(|_| "a stamp is 16 bytes")?);
    match rest.iter().enumerate().find(|&(i, &byte)| byte != pattern(seq, i)) {
        Some((i, _)) => fail(format!("packet {seq}: byte {i} behind the stamp is wrong")),
        None => Ok(Some((seq, data.len()))),
    }
}

/// Allocates and fills up to `n` packets, numbered from `first`.
fn prepare<C: Channel>(
    from: &mut C,
    burst: &mut Burst<C::Unit>,
    first: u64,
    n: usize,
    len: usize,
) -> Result<usize, String> {
    let old = burst.len();
    from.alloc(burst, n);
    for i in old..burst.len() {
        write(from, &mut burst[i], first + (i - old) as u64, len)?;
    }
    Ok(burst.len() - old)
}

/// Packets received, in order: number and length.
fn take<C: Channel>(
    at: &mut C,
    burst: &mut Burst<C::Unit>,
    seen: &mut Vec<(u64, usize)>,
) -> Result<usize, String> {
    at.recv(burst).map_err(told)?;
    let mut n = 0;
    for unit in burst.iter() {
        if let Some(packet) = read(at, unit)? {
            seen.push(packet);
            n += 1;
        }
    }
    burst.clear();
    Ok(n)
}

/// Sends packets `0..n`, of lengths that `len` gives, and returns what arrived.
fn exchange<C: Channel>(
    from: &mut C,
    to: &mut C,
    n: usize,
    len: impl Fn(u64) -> usize,
) -> Result<Vec<(u64, usize)>, String> {
    let (mut out, mut inbox) = (Burst::with_capacity(BURST), Burst::with_capacity(BURST));
    let mut seen = Vec::with_capacity(n);
    let (mut made, mut deadline) = (0, Instant::now() + patience());
    while seen.len() < n {
        if out.is_empty() && made < n as u64 {
            let want = BURST.min(n - made as usize);
            from.alloc(&mut out, want);
            for unit in out.iter_mut() {
                write(from, unit, made, len(made))?;
                made += 1;
            }
        }
        let sent = if out.is_empty() { 0 } else { from.send(&mut out).map_err(told)? };
        from.endpoint().flush().map_err(told)?;
        let got = take(to, &mut inbox, &mut seen)?;
        if sent + got > 0 {
            deadline = Instant::now() + patience();
        } else if Instant::now() > deadline {
            let (made, got, stats) = (made, seen.len(), to.endpoint().stats());
            return fail(format!("stalled: {made} packets made, {got} of {n} arrived; {stats:?}"));
        }
    }
    Ok(seen)
}

/// Receives until nothing has come for a while.
fn drain<C: Channel>(at: &mut C) -> Result<usize, String> {
    let (mut burst, mut seen) = (Burst::with_capacity(BURST), Vec::new());
    let mut deadline = Instant::now() + patience();
    loop {
        if take(at, &mut burst, &mut seen)? > 0 {
            deadline = Instant::now() + patience();
        } else if !at.endpoint().wait(Interest::RX, Some(QUIET)).map_err(told)?.contains(Ready::RX)
        {
            return Ok(seen.len());
        } else if Instant::now() > deadline {
            return fail("it keeps waking for packets that are not there");
        }
    }
}

/// Waits until the sender has nothing in flight.
fn settle<C: Channel>(at: &mut C) -> Outcome {
    let deadline = Instant::now() + patience();
    loop {
        at.endpoint().flush().map_err(told)?;
        match at.endpoint().stats().tx_in_flight {
            0 => return Ok(()),
            n if Instant::now() > deadline => return fail(format!("{n} packets stay in flight")),
            _ => {}
        }
    }
}

fn in_order(seen: &[(u64, usize)], n: usize) -> Outcome {
    if !seen.iter().map(|&(seq, _)| seq).eq(0..n as u64) {
        let wrong = seen.iter().zip(0..).find(|((seq, _), want)| seq != want);
        return fail(format!(
            "{} packets of {n} arrived, first out of order: {wrong:?}",
            seen.len()
        ));
    }
    Ok(())
}

fn census<C: Channel>(at: &mut C, when: &str) -> Outcome {
    match at.endpoint().stats().frames {
        Some(census) if !census.adds_up() => fail(format!("{when}: {census:?} does not add up")),
        _ => Ok(()),
    }
}

// ---------------------------------------------------------------------------------------------
// Delivery
// ---------------------------------------------------------------------------------------------

fn delivers_in_order_with_content<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let seen = exchange(&mut a, &mut b, 1000, |seq| least::<C>() + seq as usize % 64)?;
    in_order(&seen, 1000)
}

fn goes_both_ways<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    in_order(&exchange(&mut a, &mut b, 100, |_| least::<C>())?, 100)?;
    in_order(&exchange(&mut b, &mut a, 100, |_| least::<C>() + 1)?, 100)
}

fn carries_every_length<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let room = {
        let mut burst = Burst::with_capacity(1);
        a.alloc(&mut burst, 1);
        burst.first().map_or(0, |unit| unit.tailroom())
    };
    let most = a.endpoint().caps().max_len.min(b.endpoint().caps().max_len).min(room);
    let least = least::<C>();
    // Every length at both ends of the range, and steps of a prime between them.
    let mut lengths: Vec<usize> = (least..(least + 64).min(most)).collect();
    lengths.extend((least + 64..most).step_by(37));
    lengths.extend(most.saturating_sub(8).max(least)..=most);
    let seen = exchange(&mut a, &mut b, lengths.len(), |seq| lengths[seq as usize])?;
    in_order(&seen, lengths.len())?;
    match seen.iter().zip(&lengths).find(|((_, got), want)| got != *want) {
        Some(((_, got), want)) => fail(format!("{want} bytes were sent, {got} arrived")),
        None => Ok(()),
    }
}

fn reflects_what_it_received<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let (mut burst, mut back) = (Burst::with_capacity(BURST), Burst::with_capacity(BURST));
    let mut seen = Vec::new();
    prepare(&mut a, &mut burst, 0, BURST, 100)?;
    let deadline = Instant::now() + patience();
    while seen.len() < BURST {
        a.send(&mut burst).map_err(told)?;
        a.endpoint().flush().map_err(told)?;
        b.recv(&mut back).map_err(told)?;
        back.iter_mut().for_each(|unit| b.address(unit));
        if !back.is_empty() {
            b.send(&mut back).map_err(told)?;
            b.endpoint().flush().map_err(told)?;
        }
        take(&mut a, &mut burst_of(BURST), &mut seen)?;
        if Instant::now() > deadline {
            return fail(format!("{} of {BURST} packets came back", seen.len()));
        }
    }
    in_order(&seen, BURST)
}

fn burst_of<B: Buffer>(n: usize) -> Burst<B> {
    Burst::with_capacity(n)
}

// ---------------------------------------------------------------------------------------------
// Refusal and back-pressure
// ---------------------------------------------------------------------------------------------

/// Sends without receiving until the queue refuses or 4 096 packets are under way: at every step
/// what was not taken is still there, in order; afterwards every packet is accounted for.
fn refusal_keeps_what_is_not_taken<C: Channel>(open: Open<'_, C>) -> Outcome {
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

/// Receives until the sender has nothing in flight and nothing more comes.
fn drain_while_settling<C: Channel>(a: &mut C, b: &mut C) -> Result<u64, String> {
    let mut arrived = drain(b)?;
    settle(a)?;
    arrived += drain(b)?;
    Ok(arrived as u64)
}

/// Sends a few packets more, so that a backend which learns of drops with the next packet has
/// learned, and compares: everything taken arrived or is counted as dropped, at one of the ends.
fn account<C: Channel>(a: &mut C, b: &mut C, taken: u64, arrived: u64) -> Outcome {
    let last = exchange(a, b, 2, |_| least::<C>())?.len() as u64;
    settle(a)?;
    let (sent, received) = (a.endpoint().stats(), b.endpoint().stats());
    let lost = sent.drops.total() + received.drops.total();
    if taken + last != arrived + last + lost {
        let (out, into) = (sent.drops, received.drops);
        return fail(format!(
            "{taken} packets were taken, {arrived} arrived, {lost} are counted as dropped: \
             at the sender {out:?}, at the receiver {into:?}"
        ));
    }
    census(a, "at the end, sender")?;
    census(b, "at the end, receiver")
}

fn unsendable_stays_first<C: Channel>(open: Open<'_, C>) -> Outcome {
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

fn recv_leaves_a_full_burst_alone<C: Channel>(open: Open<'_, C>) -> Outcome {
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

fn send_all<C: Channel>(from: &mut C, burst: &mut Burst<C::Unit>) -> Outcome {
    let deadline = Instant::now() + patience();
    while !burst.is_empty() {
        from.send(burst).map_err(told)?;
        from.endpoint().flush().map_err(told)?;
        if Instant::now() > deadline {
            return fail(format!("{} packets are refused for good", burst.len()));
        }
    }
    from.endpoint().flush().map_err(told)
}

fn idle_recv_does_not_block<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (_a, mut b) = open().map_err(told)?;
    let (mut burst, begin) = (burst_of(BURST), Instant::now());
    for _ in 0..100 {
        take(&mut b, &mut burst, &mut Vec::new())?;
    }
    let took = begin.elapsed();
    if took < Duration::from_secs(2) { Ok(()) } else { fail(format!("100 idle calls: {took:?}")) }
}

fn alloc_respects_the_burst<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, _b) = open().map_err(told)?;
    let mut burst = burst_of(5);
    let counts = (a.alloc(&mut burst, 3), a.alloc(&mut burst, 100), a.alloc(&mut burst, 1));
    if counts == (3, 2, 0) && burst.len() == 5 {
        return Ok(());
    }
    fail(format!("3, 100 and 1 asked for, room for 5: {counts:?}, {} in the burst", burst.len()))
}

fn fresh_buffers_have_the_stated_room<C: Channel>(open: Open<'_, C>) -> Outcome {
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

fn alloc_cannot_starve_recv<C: Channel>(open: Open<'_, C>) -> Outcome {
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

fn held_buffers_are_counted_and_come_back<C: Channel>(open: Open<'_, C>) -> Outcome {
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
fn a_sender_never_starves<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let total = a.endpoint().stats().frames.map_or(1024, |census| census.total) as usize;
    let n = (4 * total).clamp(1000, 20_000);
    in_order(&exchange(&mut a, &mut b, n, |_| least::<C>())?, n)
}

// ---------------------------------------------------------------------------------------------
// Counters
// ---------------------------------------------------------------------------------------------

fn counters_add_up<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let (n, len) = (500, least::<C>() + 20);
    exchange(&mut a, &mut b, n, |_| len)?;
    settle(&mut a)?;
    let (sent, received) = (a.endpoint().stats(), b.endpoint().stats());
    let (n, bytes) = (n as u64, (n * len) as u64);
    if (sent.tx_packets, sent.tx_bytes) != (n, bytes) {
        let (packets, bytes) = (sent.tx_packets, sent.tx_bytes);
        return fail(format!("sent {n} packets, the counter says {packets}, {bytes} bytes"));
    }
    if (received.rx_packets, received.rx_bytes) != (n, bytes) {
        let (packets, bytes) = (received.rx_packets, received.rx_bytes);
        return fail(format!("received {n} packets, the counter says {packets}, {bytes} bytes"));
    }
    if sent.drops.total() + received.drops.total() != 0 {
        return fail(format!("drops without a cause: {:?} {:?}", sent.drops, received.drops));
    }
    if sent.drops[DropCause::Injected] != 0 {
        return fail("faults were injected");
    }
    census(&mut a, "sender")?;
    census(&mut b, "receiver")
}

// ---------------------------------------------------------------------------------------------
// Waiting
// ---------------------------------------------------------------------------------------------

fn wait_times_out<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (_a, mut b) = open().map_err(told)?;
    drain(&mut b)?;
    let (limit, begin) = (Duration::from_millis(30), Instant::now());
    let ready = b.endpoint().wait(Interest::RX, Some(limit)).map_err(told)?;
    let took = begin.elapsed();
    if !ready.is_empty() {
        return fail(format!("nothing was sent, and it found {ready:?}"));
    }
    // The kernel may count the time in coarser steps than the clock does.
    if took + Duration::from_millis(2) < limit || took > patience() {
        return fail(format!("a limit of {limit:?} took {took:?}"));
    }
    let ready = b.endpoint().wait(Interest::RX, Some(Duration::ZERO)).map_err(told)?;
    if ready.is_empty() { Ok(()) } else { fail(format!("looked once and found {ready:?}")) }
}

fn wait_wakes_for_a_packet<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    for round in 0..20 {
        let mut burst = burst_of(1);
        prepare(&mut a, &mut burst, round, 1, least::<C>())?;
        send_all(&mut a, &mut burst)?;
        let ready = b.endpoint().wait(Interest::RX, Some(patience())).map_err(told)?;
        if !ready.contains(Ready::RX) {
            return fail(format!("round {round}: a packet was sent, and it found {ready:?}"));
        }
        let (mut seen, deadline) = (Vec::new(), Instant::now() + patience());
        while seen.is_empty() && Instant::now() < deadline {
            take(&mut b, &mut burst, &mut seen)?;
        }
        if seen.is_empty() {
            return fail(format!("round {round}: it woke for a packet that is not there"));
        }
    }
    Ok(())
}

fn wait_finds_room_to_send<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, _b) = open().map_err(told)?;
    let ready = a.endpoint().wait(Interest::TX, Some(patience())).map_err(told)?;
    if !ready.contains(Ready::TX) {
        return fail(format!("an empty queue has room, and it found {ready:?}"));
    }
    let both = a.endpoint().wait(Interest::RX | Interest::TX, Some(patience())).map_err(told)?;
    if both.contains(Ready::TX) { Ok(()) } else { fail(format!("for either, it found {both:?}")) }
}

fn the_descriptor_becomes_readable<C: Channel>(open: Open<'_, C>) -> Outcome {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let (mut a, mut b) = open().map_err(told)?;
    for round in 0..5 {
        let mut burst = burst_of(1);
        prepare(&mut a, &mut burst, round, 1, least::<C>())?;
        if b.endpoint().as_fd().is_none() {
            return Ok(());
        }
        send_all(&mut a, &mut burst)?;
        let limit = Timespec::try_from(patience()).map_err(|error| error.to_string())?;
        let readable = {
            let Some(fd) = b.endpoint().as_fd() else { return fail("its descriptor is gone") };
            poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&limit))
        };
        if readable != Ok(1) {
            return fail(format!("round {round}: a packet was sent, poll says {readable:?}"));
        }
        let (mut seen, deadline) = (Vec::new(), Instant::now() + patience());
        while seen.is_empty() && Instant::now() < deadline {
            take(&mut b, &mut burst, &mut seen)?;
        }
        if seen.is_empty() {
            return fail(format!("round {round}: readable, but no packet came"));
        }
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------
// Life and death
// ---------------------------------------------------------------------------------------------

fn buffers_outlive_their_endpoint<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let (mut sent, mut got, mut fresh) = (burst_of(8), burst_of(8), burst_of(8));
    prepare(&mut a, &mut sent, 0, 8, least::<C>() + 30)?;
    let deadline = Instant::now() + patience();
    while got.len() < 8 && Instant::now() < deadline {
        if !sent.is_empty() {
            a.send(&mut sent).map_err(told)?;
        }
        a.endpoint().flush().map_err(told)?;
        b.recv(&mut got).map_err(told)?;
    }
    prepare(&mut b, &mut fresh, 100, 8, least::<C>() + 30)?;
    drop(a);
    let run = b.run();
    let before: Vec<Vec<u8>> = got.iter().chain(fresh.iter()).map(|u| u.data().to_vec()).collect();
    drop(b);
    for (unit, before) in got.iter_mut().chain(fresh.iter_mut()).zip(&before) {
        if unit.data() != before {
            return fail(format!("data changed when the endpoint of run {run} was closed"));
        }
        unit.data_mut().fill(0xa5);
        if unit.data().iter().any(|&byte| byte != 0xa5) {
            return fail("memory of a closed endpoint does not keep what is written");
        }
    }
    if got.len() == 8 { Ok(()) } else { fail(format!("{} of 8 packets arrived", got.len())) }
}

fn opens_again_after_every_teardown<C: Channel>(open: Open<'_, C>) -> Outcome {
    for round in 0..12u64 {
        let (mut a, mut b) = open().map_err(|error| format!("round {round}: {error}"))?;
        let mut burst = burst_of(BURST);
        prepare(&mut a, &mut burst, 0, BURST, least::<C>())?;
        a.send(&mut burst).map_err(told)?;
        // Torn down in every order, with packets sent, held and under way.
        let mut got = burst_of(BURST);
        b.recv(&mut got).map_err(told)?;
        match round % 4 {
            0 => drop((a, b, burst, got)),
            1 => drop((got, burst, b, a)),
            2 => drop((burst, b, got, a)),
            _ => drop((b, got, a, burst)),
        }
    }
    let (mut a, mut b) = open().map_err(told)?;
    in_order(&exchange(&mut a, &mut b, 10, |_| least::<C>())?, 10)
}
