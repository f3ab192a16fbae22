//! Making, sending, receiving and comparing the packets of a check.

use std::time::{Duration, Instant};

use super::super::{Channel, Outcome, patience};
use crate::{Buffer, Burst, Endpoint, Error, Interest, Ready};

/// When traffic that may still be under way counts as over.
const QUIET: Duration = Duration::from_millis(30);
/// A usual burst.
pub(in crate::testing::conformance) const BURST: usize = 32;
/// Run and sequence number, in front of the pattern.
const STAMP: usize = 16;

pub(in crate::testing::conformance) fn fail<T>(why: impl Into<String>) -> Result<T, String> {
    Err(why.into())
}

pub(in crate::testing::conformance) fn told(error: Error) -> String {
    error.to_string()
}

/// The pattern that follows the stamp of packet `seq`.
pub(in crate::testing::conformance) fn pattern(seq: u64, i: usize) -> u8 {
    (seq.wrapping_mul(31).wrapping_add(i as u64 * 7) >> 1) as u8
}

/// The shortest packet that a check can fill.
pub(in crate::testing::conformance) fn least<C: Channel>() -> usize {
    C::HEADER.len() + STAMP
}

/// Fills `unit` with packet `seq`, `len` bytes long.
pub(in crate::testing::conformance) fn write<C: Channel>(
    channel: &C,
    unit: &mut C::Unit,
    seq: u64,
    len: usize,
) -> Outcome {
    unit.set_len(len).map_err(|error| error.to_string())?;
    write_bytes::<C>(channel.run(), unit.data_mut(), seq);
    channel.address(unit);
    Ok(())
}

/// The same, of the bytes of a packet.
pub(in crate::testing::conformance) fn write_bytes<C: Channel>(
    run: u64,
    data: &mut [u8],
    seq: u64,
) {
    let (header, body) = data.split_at_mut(C::HEADER.len());
    header.copy_from_slice(C::HEADER);
    body[..8].copy_from_slice(&run.to_be_bytes());
    body[8..STAMP].copy_from_slice(&seq.to_be_bytes());
    body[STAMP..].iter_mut().enumerate().for_each(|(i, byte)| *byte = pattern(seq, i));
}

/// The number of a packet and its length, if it is one of this pair's; an error if it is damaged.
pub(in crate::testing::conformance) fn read<C: Channel>(
    channel: &C,
    unit: &C::Unit,
) -> Result<Option<(u64, usize)>, String> {
    let data: Vec<u8> = unit.segments().flatten().copied().collect();
    read_bytes::<C>(channel.run(), &data)
}

/// The same, of the bytes of a packet.
pub(in crate::testing::conformance) fn read_bytes<C: Channel>(
    run: u64,
    data: &[u8],
) -> Result<Option<(u64, usize)>, String> {
    let Some(body) = data.strip_prefix(C::HEADER).filter(|body| body.len() >= STAMP) else {
        return Ok(None);
    };
    let (stamp, rest) = body.split_at(STAMP);
    if stamp[..8] != run.to_be_bytes() {
        return Ok(None);
    }
    let seq = u64::from_be_bytes(stamp[8..].try_into().map_err(|_| "a stamp is 16 bytes")?);
    match rest.iter().enumerate().find(|&(i, &byte)| byte != pattern(seq, i)) {
        Some((i, _)) => fail(format!("packet {seq}: byte {i} behind the stamp is wrong")),
        None => Ok(Some((seq, data.len()))),
    }
}

/// Allocates and fills up to `n` packets, numbered from `first`.
pub(in crate::testing::conformance) fn prepare<C: Channel>(
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
pub(in crate::testing::conformance) fn take<C: Channel>(
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
pub(in crate::testing::conformance) fn exchange<C: Channel>(
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
pub(in crate::testing::conformance) fn drain<C: Channel>(at: &mut C) -> Result<usize, String> {
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
pub(in crate::testing::conformance) fn settle<C: Channel>(at: &mut C) -> Outcome {
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

pub(in crate::testing::conformance) fn in_order(seen: &[(u64, usize)], n: usize) -> Outcome {
    if !seen.iter().map(|&(seq, _)| seq).eq(0..n as u64) {
        let wrong = seen.iter().zip(0..).find(|((seq, _), want)| seq != want);
        return fail(format!(
            "{} packets of {n} arrived, first out of order: {wrong:?}",
            seen.len()
        ));
    }
    Ok(())
}

pub(in crate::testing::conformance) fn census<C: Channel>(at: &mut C, when: &str) -> Outcome {
    match at.endpoint().stats().frames {
        Some(census) if !census.adds_up() => fail(format!("{when}: {census:?} does not add up")),
        _ => Ok(()),
    }
}

pub(in crate::testing::conformance) fn burst_of<B: Buffer>(n: usize) -> Burst<B> {
    Burst::with_capacity(n)
}

/// Receives until the sender has nothing in flight and nothing more comes.
pub(in crate::testing::conformance) fn drain_while_settling<C: Channel>(
    a: &mut C,
    b: &mut C,
) -> Result<u64, String> {
    let mut arrived = drain(b)?;
    settle(a)?;
    arrived += drain(b)?;
    Ok(arrived as u64)
}

/// Sends a few packets more, so that a backend which learns of drops with the next packet has
/// learned, and compares: everything taken arrived or is counted as dropped, at one of the ends.
pub(in crate::testing::conformance) fn account<C: Channel>(
    a: &mut C,
    b: &mut C,
    taken: u64,
    arrived: u64,
) -> Outcome {
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

pub(in crate::testing::conformance) fn send_all<C: Channel>(
    from: &mut C,
    burst: &mut Burst<C::Unit>,
) -> Outcome {
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
