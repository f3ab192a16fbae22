//! Endpoints and buffers may be dropped in any order, and opened again.

use std::time::Instant;

use super::super::{Channel, Open, Outcome, patience};
use super::tools::*;
use crate::{Buffer, Endpoint};

pub(super) fn buffers_outlive_their_endpoint<C: Channel>(open: Open<'_, C>) -> Outcome {
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

pub(super) fn opens_again_after_every_teardown<C: Channel>(open: Open<'_, C>) -> Outcome {
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
