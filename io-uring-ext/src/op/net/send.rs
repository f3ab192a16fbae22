//! [`Send`] and [`SendMsg`].

use std::io;
use std::net::SocketAddr;

use io_uring::{opcode, squeue};

use super::flags::{POLL_FIRST, SendFlags};
use super::message::Message;
use crate::buf::IoBuf;
use crate::mode::{Mode, OwnedBy};
use crate::op::sealed::Prepare;
use crate::op::{Completions, DatagramFd, Operation, Target};
use crate::ring::{Ends, Pending, Ring, RingId, Started};
use crate::sys::socket_address::RawAddress;

/// Sends a buffer, as `send(2)` or `sendto(2)` (Linux 5.6; with an address 6.0).
#[derive(Debug)]
pub struct Send<B: IoBuf> {
    pub(super) fd: Target,
    pub(super) buf: B,
    pub(super) to: RawAddress,
    pub(super) flags: i32,
    poll_first: bool,
}

impl<B: IoBuf> Send<B> {
    /// Sends the buffer's contents (at most 4 GiB) on a connected socket.
    pub fn new(fd: impl Into<Target>, buf: B) -> Self {
        let flags = SendFlags::empty().to_raw();
        Self { fd: fd.into(), buf, to: RawAddress::NONE, flags, poll_first: false }
    }

    /// Sends the buffer's contents to an address.
    pub fn to(fd: impl Into<Target>, buf: B, to: SocketAddr) -> Self {
        Self { to: RawAddress::new(to), ..Self::new(fd, buf) }
    }

    /// How to send.
    #[must_use]
    pub fn flags(mut self, flags: SendFlags) -> Self {
        self.flags = flags.to_raw();
        self
    }

    /// Waits for room without trying first (`IORING_RECVSEND_POLL_FIRST`, Linux 5.19): cheaper where
    /// the socket's buffer is expected to be full.
    #[must_use]
    pub fn poll_first(mut self) -> Self {
        self.poll_first = true;
        self
    }

    /// The buffer, from an operation that was not started.
    pub fn into_buf(self) -> B {
        self.buf
    }
}

/// A finished [`Send`].
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct Sent<B> {
    /// Bytes sent.
    pub result: io::Result<usize>,
    /// The buffer.
    pub buf: B,
}

// SAFETY: the buffer is stable memory that the operation owns (`IoBuf`), the address is part of the
// operation, which does not move after this, and it owns the descriptor.
unsafe impl<B: IoBuf> Prepare for Send<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let len = u32::try_from(self.buf.init_len()).unwrap_or(u32::MAX);
        opcode::Send::new(self.fd.number(), self.buf.stable_ptr(), len)
            .flags(self.flags)
            .ioprio(if self.poll_first { POLL_FIRST } else { 0 })
            .dest_addr(self.to.as_ptr())
            .dest_addr_len(self.to.len())
            .build()
    }
}

impl<B: IoBuf> Operation for Send<B> {
    type Output = Sent<B>;

    fn complete(self, completions: Completions) -> Sent<B> {
        Sent { result: completions.result_or(self.buf.init_len()), buf: self.buf }
    }
}

/// Sends a [`Message`], as `sendmsg(2)` (Linux 5.3).
#[derive(Debug)]
pub struct SendMsg<B: IoBuf> {
    pub(super) fd: Target,
    pub(super) message: Box<Message<B>>,
    pub(super) flags: i32,
}

impl<B: IoBuf> SendMsg<B> {
    /// Sends the message.
    pub fn new(fd: impl Into<Target>, message: Box<Message<B>>) -> Self {
        Self { fd: fd.into(), message, flags: SendFlags::empty().to_raw() }
    }

    /// How to send.
    #[must_use]
    pub fn flags(mut self, flags: SendFlags) -> Self {
        self.flags = flags.to_raw();
        self
    }

    /// The message, from an operation that was not started.
    pub fn into_message(self) -> Box<Message<B>> {
        self.message
    }
}

/// A finished [`SendMsg`].
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct SentMsg<B: IoBuf> {
    /// Bytes sent.
    pub result: io::Result<usize>,
    /// The message, to be filled again.
    pub message: Box<Message<B>>,
}

// SAFETY: the message is a heap block of the operation and points only into itself and into stable
// buffers that it owns; the operation owns the descriptor.
unsafe impl<B: IoBuf> Prepare for SendMsg<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::SendMsg::new(self.fd.number(), self.message.prepare())
            .flags(self.flags as u32)
            .build()
    }
}

impl<B: IoBuf> Operation for SendMsg<B> {
    type Output = SentMsg<B>;

    fn complete(self, completions: Completions) -> SentMsg<B> {
        SentMsg { result: completions.result_or(self.message.total_len()), message: self.message }
    }
}

impl<M: Mode> Ring<M> {
    /// Queues a message that does not wait: when the socket's buffer is full its result is `EAGAIN`.
    /// It is done as soon as a [`submit`](Self::submit) has handed it to the kernel, without a
    /// completion where it went well (Linux 5.17). This is the cheapest way to send a datagram.
    ///
    /// Why the memory is free so early: with `MSG_DONTWAIT` io_uring neither arms a poll nor hands
    /// the send to a worker (`REQ_F_NOWAIT`, `io_sendmsg_prep` in `io_uring/net.c`), and a datagram
    /// socket has copied the data, or refused it, when its `sendmsg` returns. Under SQPOLL, where
    /// another thread consumes the entry, the completion is kept.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn push_datagram<B: IoBuf>(
        &self,
        socket: &DatagramFd,
        message: Box<Message<B>>,
    ) -> Started<SendMsg<B>, M>
    where
        SendMsg<B>: OwnedBy<M>,
    {
        let mut operation = SendMsg::new(socket.fd(), message);
        operation.flags |= libc::MSG_DONTWAIT;
        Pending::start(&self.inner, operation, Ends::InSubmission)
    }
}
