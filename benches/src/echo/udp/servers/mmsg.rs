//! `recvmmsg` and `sendmmsg` by hand: the baseline without which no figure says anything.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::UdpSocket;

use anyhow::Result;

use crate::echo::calls;
use crate::mmsg::{Batch, Wait};

/// Sleeps while there is nothing to do.
pub(crate) fn serve(socket: UdpSocket) -> Result<Infallible> {
    let mut batch = Batch::with_addresses(64);
    loop {
        let count = batch.receive(&socket, 64, Wait::ForOne)?;
        let calls = batch.send(&socket, count)?;
        calls::count(1 + calls);
    }
}

/// Asks again and again.
pub(crate) fn spin(socket: UdpSocket) -> Result<Infallible> {
    let mut batch = Batch::with_addresses(64);
    loop {
        calls::count(1);
        match batch.receive(&socket, 64, Wait::No) {
            Ok(count) => calls::count(batch.send(&socket, count)?),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}
