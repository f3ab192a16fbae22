//! Waiting ends when it should.

use std::time::{Duration, Instant};

use super::super::{Channel, Open, Outcome, patience};
use super::tools::*;
use crate::{Endpoint, Interest, Ready};

pub(super) fn wait_times_out<C: Channel>(open: Open<'_, C>) -> Outcome {
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

pub(super) fn wait_wakes_for_a_packet<C: Channel>(open: Open<'_, C>) -> Outcome {
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

pub(super) fn wait_finds_room_to_send<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, _b) = open().map_err(told)?;
    let ready = a.endpoint().wait(Interest::TX, Some(patience())).map_err(told)?;
    if !ready.contains(Ready::TX) {
        return fail(format!("an empty queue has room, and it found {ready:?}"));
    }
    let both = a.endpoint().wait(Interest::RX | Interest::TX, Some(patience())).map_err(told)?;
    if both.contains(Ready::TX) { Ok(()) } else { fail(format!("for either, it found {both:?}")) }
}

pub(super) fn the_descriptor_becomes_readable<C: Channel>(open: Open<'_, C>) -> Outcome {
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
