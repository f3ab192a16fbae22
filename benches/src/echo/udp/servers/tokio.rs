//! tokio: one thread, readiness by epoll, one call per datagram in each direction.

use std::convert::Infallible;
use std::net::UdpSocket;

use anyhow::Result;

pub(crate) fn serve(socket: UdpSocket) -> Result<Infallible> {
    socket.set_nonblocking(true)?;
    let runtime = ::tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async move {
        let socket = ::tokio::net::UdpSocket::from_std(socket)?;
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await?;
            socket.send_to(&buffer[..length], from).await?;
        }
    })
}
