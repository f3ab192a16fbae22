//! The counters add up.

use super::super::{Channel, Open, Outcome};
use super::tools::*;
use crate::{DropCause, Endpoint};

pub(super) fn counters_add_up<C: Channel>(open: Open<'_, C>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let (n, len) = (500, least::<C>() + 20);
    exchange(&mut a, &mut b, n, |_| len)?;
    settle(&mut a)?;
    let (sent, received) = (a.endpoint().stats(), b.endpoint().stats());
    let (n, all) = (n as u64, (n * len) as u64);
    let counted = |counts_bytes| if counts_bytes { all } else { 0 };
    if (sent.tx_packets, sent.tx_bytes) != (n, counted(a.endpoint().caps().counts_bytes)) {
        let (packets, bytes) = (sent.tx_packets, sent.tx_bytes);
        return fail(format!("sent {n} packets, the counter says {packets}, {bytes} bytes"));
    }
    if (received.rx_packets, received.rx_bytes) != (n, counted(b.endpoint().caps().counts_bytes)) {
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
