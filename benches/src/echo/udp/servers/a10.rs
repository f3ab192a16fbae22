//! a10: many futures on one socket, polled by one executor that also polls the ring.

use std::convert::Infallible;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use ::a10::{AsyncFd, Ring};
use anyhow::{Result, bail};
use futures_util::stream::{FuturesUnordered, Stream as _};

use super::TASKS;

pub(crate) fn serve(socket: UdpSocket) -> Result<Infallible> {
    let mut ring =
        Ring::config().single_issuer().defer_task_run().with_submission_queue_size(1024).build()?;
    let socket = AsyncFd::new(socket.into(), ring.sq());
    let mut tasks = pin!((0..TASKS).map(|_| echo(&socket)).collect::<FuturesUnordered<_>>());
    let mut context = Context::from_waker(Waker::noop());
    loop {
        // Polls each future whose operation completed; `FuturesUnordered` keeps that list.
        if let Poll::Ready(ended) = tasks.as_mut().poll_next(&mut context) {
            match ended {
                Some(result) => return result,
                None => bail!("there are no tasks"),
            }
        }
        ring.poll(None)?;
    }
}

async fn echo(socket: &AsyncFd) -> Result<Infallible> {
    use ::a10::Extract as _;
    let mut buffer = Vec::with_capacity(2048);
    loop {
        let (filled, from, _flags) = socket.recv_from::<_, SocketAddr>(buffer).await?;
        let (same, _sent) = socket.send_to(filled, from).extract().await?;
        buffer = same;
        buffer.clear();
    }
}
