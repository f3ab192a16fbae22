//! `recvmmsg` and `sendmmsg` by hand: the baseline without which no figure says anything.

use std::convert::Infallible;
use std::net::UdpSocket;

use anyhow::Result;

use super::count_system_calls;
use crate::mmsg::Batch;

pub(crate) fn serve(socket: UdpSocket) -> Result<Infallible> {
    let mut batch = Batch::with_addresses(64);
    loop {
        let count = batch.receive(&socket, 64, libc::MSG_WAITFORONE)?;
        let calls = batch.send(&socket, count)?;
        count_system_calls(1 + calls);
    }
}
