//! Ours: one echo, written once over [`DatagramIo`], on each backend and with each way of waiting.

use std::convert::Infallible;
use std::net::UdpSocket;

use anyhow::Result;
use bypass_core::backend::socket::UdpOptions;
use bypass_core::{Block, Burst, BusyPoll, Datagram as _, DatagramIo, Interest, WaitStrategy};
use io_uring_ext::packet::{UringOptions, UringSocket};

use crate::echo::calls;

pub(crate) fn socket(socket: UdpSocket) -> Result<Infallible> {
    echo(open_socket(socket)?, Block::default())
}

pub(crate) fn socket_spinning(socket: UdpSocket) -> Result<Infallible> {
    echo(open_socket(socket)?, BusyPoll)
}

pub(crate) fn io_uring(socket: UdpSocket) -> Result<Infallible> {
    echo(open_io_uring(socket)?, Block::default())
}

pub(crate) fn io_uring_spinning(socket: UdpSocket) -> Result<Infallible> {
    echo(open_io_uring(socket)?, BusyPoll)
}

fn open_socket(socket: UdpSocket) -> Result<impl DatagramIo> {
    Ok(UdpOptions::new(socket.local_addr()?).adopt(socket)?)
}

fn open_io_uring(socket: UdpSocket) -> Result<impl DatagramIo> {
    let options = UdpOptions::new(socket.local_addr()?);
    Ok(UringSocket::adopt(socket, &options, &UringOptions::new())?)
}

fn echo<D: DatagramIo>(mut port: D, mut wait: impl WaitStrategy) -> Result<Infallible> {
    let mut burst = Burst::with_capacity(64);
    loop {
        // What was refused is still in front.
        let refused = burst.len();
        let received = port.recv(&mut burst)?;
        burst[refused..].iter_mut().for_each(|datagram| datagram.reply());
        let sent = if burst.is_empty() { 0 } else { port.send(&mut burst)? };
        port.flush()?;
        let interest = if burst.is_empty() { Interest::RX } else { Interest::all() };
        wait.after(received + sent, &mut port, interest)?;
        calls::answer(|| port.stats().syscalls);
    }
}
