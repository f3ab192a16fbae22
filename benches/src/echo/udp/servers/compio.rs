//! compio: a multishot receive into its buffer pool, one send per datagram.

use std::convert::Infallible;
use std::net::UdpSocket;
use std::rc::Rc;

use anyhow::{Context as _, Result};

use super::TASKS;

pub(crate) fn serve(socket: UdpSocket) -> Result<Infallible> {
    let runtime = ::compio::runtime::Runtime::new()?;
    runtime.block_on(async move {
        let socket = Rc::new(::compio::net::UdpSocket::from_std(socket)?);
        let tasks: Vec<_> =
            (0..TASKS).map(|_| ::compio::runtime::spawn(echo(Rc::clone(&socket)))).collect();
        tasks
            .into_iter()
            .next()
            .context("there are no tasks")?
            .await
            .map_err(|_| anyhow::anyhow!("a task panicked"))?
    })
}

async fn echo(socket: Rc<::compio::net::UdpSocket>) -> Result<Infallible> {
    use ::compio::buf::{BufResult, IntoInner as _, IoBuf as _};
    let mut buffer = Vec::with_capacity(2048);
    loop {
        let BufResult(received, filled) = socket.recv_from(buffer).await;
        let (length, from) = received?;
        let BufResult(sent, same) = socket.send_to(filled.slice(..length), from).await;
        sent?;
        buffer = same.into_inner();
    }
}
