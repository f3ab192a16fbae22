//! The checks that only datagram endpoints have to pass.

use std::time::Instant;

use super::checks::tools::{fail, told, write};
use super::{Channel, Check, Datagrams, Outcome, patience};
use crate::{Buffer, Burst, Datagram, DatagramIo, Ecn, Error, FrameError, Transmit};

type Open<'a, D> = super::Open<'a, Datagrams<D>>;

pub(super) fn all<D: DatagramIo>() -> Vec<Check<Datagrams<D>>> {
    macro_rules! checks {
        ($($name:ident),+ $(,)?) => { vec![$(Check { name: stringify!($name), run: $name::<D> }),+] };
    }
    checks![
        tells_who_sent_and_to_whom,
        replies_reach_the_sender,
        carries_the_congestion_mark,
        carries_an_empty_datagram,
        refuses_without_a_destination,
    ]
}

/// Sends one datagram of 40 bytes and returns it as it was received.
fn deliver<D: DatagramIo>(
    a: &mut Datagrams<D>,
    b: &mut Datagrams<D>,
    change: impl FnOnce(&mut D::Datagram),
) -> Result<Burst<D::Datagram>, String> {
    let (mut burst, mut got) = (Burst::with_capacity(1), Burst::with_capacity(4));
    if a.alloc(&mut burst, 1) != 1 {
        return fail("nothing to allocate");
    }
    write(a, &mut burst[0], 1, 40)?;
    change(&mut burst[0]);
    let deadline = Instant::now() + patience();
    while got.is_empty() {
        if !burst.is_empty() {
            a.send(&mut burst).map_err(told)?;
        }
        a.endpoint().flush().map_err(told)?;
        b.recv(&mut got).map_err(told)?;
        if Instant::now() > deadline {
            return fail("nothing arrived");
        }
    }
    Ok(got)
}

fn tells_who_sent_and_to_whom<D: DatagramIo>(open: Open<'_, D>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let got = deliver(&mut a, &mut b, |_| {})?;
    let meta = got[0].recv_meta();
    let want = (Some(b.peer()), Some(a.peer().ip()));
    if (meta.remote, meta.local) == want {
        return Ok(());
    }
    fail(format!("remote and local should be {want:?}: {meta:?}"))
}

fn replies_reach_the_sender<D: DatagramIo>(open: Open<'_, D>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let mut got = deliver(&mut a, &mut b, |_| {})?;
    got[0].reply();
    got[0].data_mut()[39] = 0x77;
    let deadline = Instant::now() + patience();
    let mut back = Burst::with_capacity(4);
    while back.is_empty() {
        if !got.is_empty() {
            b.send(&mut got).map_err(told)?;
        }
        b.endpoint().flush().map_err(told)?;
        a.recv(&mut back).map_err(told)?;
        if Instant::now() > deadline {
            return fail("the reply did not come back");
        }
    }
    let (len, last) = (back[0].data().len(), back[0].data().last().copied());
    if (len, last) == (40, Some(0x77)) { Ok(()) } else { fail(format!("{len} bytes, {last:?}")) }
}

fn carries_the_congestion_mark<D: DatagramIo>(open: Open<'_, D>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    for ecn in [Ecn::Ect0, Ecn::Congestion, Ecn::NotCapable, Ecn::Ect1] {
        let destination = a.peer();
        let got = deliver(&mut a, &mut b, |datagram| {
            datagram.set_transmit(Transmit { ecn, ..Transmit::to(destination) });
        })?;
        let found = got[0].recv_meta().ecn;
        if found != ecn {
            return fail(format!("{ecn:?} was sent, {found:?} arrived"));
        }
    }
    Ok(())
}

fn carries_an_empty_datagram<D: DatagramIo>(open: Open<'_, D>) -> Outcome {
    let (mut a, mut b) = open().map_err(told)?;
    let mut cut = Ok(());
    let got = deliver(&mut a, &mut b, |datagram| cut = datagram.set_len(0))?;
    cut.map_err(|error| error.to_string())?;
    match got[0].data().len() {
        0 => Ok(()),
        n => fail(format!("nothing was sent and {n} bytes arrived")),
    }
}

fn refuses_without_a_destination<D: DatagramIo>(open: Open<'_, D>) -> Outcome {
    let (mut a, _b) = open().map_err(told)?;
    let mut burst = Burst::with_capacity(1);
    a.alloc(&mut burst, 1);
    match a.send(&mut burst) {
        Err(Error::Frame { cause: FrameError::NoDestination, .. }) if burst.len() == 1 => Ok(()),
        other => fail(format!("sending it gave {other:?}, {} left in the burst", burst.len())),
    }
}
