//! The same answers from a task on tokio: a datagram at a time, which is how its sockets work.

use std::net::SocketAddr;

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::responder::Responder;
use super::responder::counts::Counts;
use super::responder::query::Transport;
use super::server::RECV_BUFFER;

pub(super) fn serve(
    responder: &Responder,
    address: SocketAddr,
    ready: impl FnOnce(),
) -> Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(RECV_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let socket = UdpSocket::from_std(socket.into())?;
        ready();
        let (mut buffer, mut counts) = (vec![0; 2048], Counts::default());
        loop {
            let (len, client) = socket.recv_from(&mut buffer).await?;
            let outcome = responder.reply(&buffer[..len], Transport::Udp { room: buffer.len() });
            counts.count(&outcome);
            let Ok(reply) = outcome else { continue };
            let response = &mut buffer[..reply.len()];
            reply.write(response);
            socket.send_to(response, client).await?;
        }
    })
}
