//! a10: a future per connection, polled by one executor that also polls the ring.

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use ::a10::net::NoAddress;
use ::a10::{AsyncFd, Extract as _, Ring};
use anyhow::Result;
use futures_util::stream::{FuturesUnordered, Stream as _};

use super::BUFFER;

pub(super) fn serve(listener: TcpListener) -> Result<Infallible> {
    let mut ring =
        Ring::config().single_issuer().defer_task_run().with_submission_queue_size(1024).build()?;
    let listener = AsyncFd::new(listener.into(), ring.sq());
    let mut connections = pin!(FuturesUnordered::new());
    let mut incoming = pin!(listener.accept::<NoAddress>());
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(accepted) = incoming.as_mut().poll(&mut context) {
            let (connection, _) = accepted?;
            connections.push(echo(connection));
            incoming.set(listener.accept::<NoAddress>());
            continue;
        }
        // Polls each future whose operation completed; `FuturesUnordered` keeps that list. One that
        // is done has lost its connection.
        while let Poll::Ready(Some(())) = connections.as_mut().poll_next(&mut context) {}
        ring.poll(None)?;
    }
}

async fn echo(connection: AsyncFd) {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        match connection.recv(buffer).await {
            Ok(filled) if !filled.is_empty() => buffer = filled,
            _ => break,
        }
        match connection.send_all(buffer).extract().await {
            Ok(same) => buffer = same,
            Err(_) => break,
        }
        buffer.clear();
    }
}
