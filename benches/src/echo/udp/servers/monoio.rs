//! monoio: many tasks on one socket, so that one submission carries many operations.

use std::convert::Infallible;
use std::net::UdpSocket;
use std::rc::Rc;

use anyhow::{Context as _, Result};

use super::TASKS;

pub(crate) fn serve(socket: UdpSocket) -> Result<Infallible> {
    let mut runtime =
        ::monoio::RuntimeBuilder::<::monoio::IoUringDriver>::new().with_entries(1024).build()?;
    runtime.block_on(async move {
        let socket = Rc::new(::monoio::net::udp::UdpSocket::from_std(socket)?);
        let tasks: Vec<_> = (0..TASKS).map(|_| ::monoio::spawn(echo(Rc::clone(&socket)))).collect();
        // None of them ends but by an error.
        tasks.into_iter().next().context("there are no tasks")?.await
    })
}

async fn echo(socket: Rc<::monoio::net::udp::UdpSocket>) -> Result<Infallible> {
    let mut buffer = vec![0; 2048];
    loop {
        let (received, filled) = socket.recv_from(buffer).await;
        let (length, from) = received?;
        buffer = filled;
        buffer.truncate(length);
        let (sent, same) = socket.send_to(buffer, from).await;
        sent?;
        buffer = same;
        buffer.resize(2048, 0);
    }
}
