//! What is sent arrives: in order, whole, at every length, both ways.

use std::time::Instant;

use super::super::{Channel, Open, Outcome, patience};
use super::tools::*;
use crate::{Buffer, Burst, Endpoint};

pub(super) fn delivers_in_order_with_content<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let seen = exchange(&mut a, &mut b, 1000, |seq| least::<C>() + seq as usize % 64)?;
    in_order(&seen, 1000)
}

pub(super) fn goes_both_ways<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    in_order(&exchange(&mut a, &mut b, 100, |_| least::<C>())?, 100)?;
    in_order(&exchange(&mut b, &mut a, 100, |_| least::<C>() + 1)?, 100)
}

pub(super) fn carries_every_length<C: Channel>(open: Open<'_, C>) -> Outcome {
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

pub(super) fn reflects_what_it_received<C: Channel>(open: Open<'_, C>) -> Outcome {
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
