//! [`Recv`], [`RecvFrom`] and [`RecvMsg`].

use std::io;
use std::net::SocketAddr;

use io_uring::{opcode, squeue};

use super::flags::{POLL_FIRST, RecvFlags};
use super::message::Header;
use super::message_buf::{MessageBuf, close_rights};
use crate::buf::IoBufMut;
use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, Target};
use crate::ring::{Cqe, RingId};
use crate::sys::socket_address::AddressRoom;

/// Receives into a buffer, as `recv(2)` (Linux 5.6; `IORING_OP_RECV` in `io_uring_enter(2)`).
///
/// From a stream, fewer bytes than fit may come, unless [`RecvFlags::WAIT_ALL`] is set, and zero is
/// the end. Of a datagram, what does not fit is lost.
#[derive(Debug)]
pub struct Recv<B: IoBufMut> {
    fd: Target,
    buf: B,
    flags: RecvFlags,
    poll_first: bool,
}

impl<B: IoBufMut> Recv<B> {
    /// Receives up to the buffer's capacity (at most 4 GiB).
    pub fn new(fd: impl Into<Target>, buf: B) -> Self {
        Self { fd: fd.into(), buf, flags: RecvFlags::empty(), poll_first: false }
    }

    /// How to receive.
    #[must_use]
    pub fn flags(mut self, flags: RecvFlags) -> Self {
        self.flags = flags;
        self
    }

    /// Waits for data without trying first (`IORING_RECVSEND_POLL_FIRST`, Linux 5.19): cheaper where
    /// nothing is expected to be there yet.
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

/// A finished [`Recv`].
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct Received<B> {
    /// Bytes received; zero is the end of a stream.
    pub result: io::Result<usize>,
    /// The buffer; when the receive was successful, the bytes received are its contents.
    pub buf: B,
}

// SAFETY: the buffer is stable memory that the operation owns (`IoBufMut`), and so is the descriptor.
unsafe impl<B: IoBufMut> Prepare for Recv<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let len = u32::try_from(self.buf.capacity()).unwrap_or(u32::MAX);
        opcode::Recv::new(self.fd.number(), self.buf.stable_mut_ptr(), len)
            .flags(self.flags.to_raw())
            .ioprio(if self.poll_first { POLL_FIRST } else { 0 })
            .build()
    }
}

impl<B: IoBufMut> Operation for Recv<B> {
    type Output = Received<B>;

    fn complete(mut self, completions: Completions) -> Received<B> {
        let result = completions.result_or(0);
        if let Ok(received) = result {
            // SAFETY: without `MSG_TRUNC`, which is masked out, the result is what the kernel has
            // written to the start of the buffer, whose capacity it was told.
            unsafe { self.buf.set_init(received) };
        }
        Received { result, buf: self.buf }
    }
}

/// Receives into a buffer and says from where, as `recvfrom(2)` (Linux 5.3, as
/// `IORING_OP_RECVMSG`).
#[derive(Debug)]
pub struct RecvFrom<B: IoBufMut> {
    fd: Target,
    buf: B,
    from: AddressRoom,
    header: Header,
    piece: Piece,
    flags: RecvFlags,
}

#[derive(Debug)]
struct Piece(libc::iovec);

// SAFETY: the pointer is followed by the kernel only.
unsafe impl Send for Piece {}

impl<B: IoBufMut> RecvFrom<B> {
    /// Receives up to the buffer's capacity.
    pub fn new(fd: impl Into<Target>, buf: B) -> Self {
        let piece = Piece(libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });
        let (from, header) = (AddressRoom::new(), Header::empty());
        Self { fd: fd.into(), buf, from, header, piece, flags: RecvFlags::empty() }
    }

    /// How to receive.
    #[must_use]
    pub fn flags(mut self, flags: RecvFlags) -> Self {
        self.flags = flags;
        self
    }

    /// The buffer, from an operation that was not started.
    pub fn into_buf(self) -> B {
        self.buf
    }
}

/// A finished [`RecvFrom`].
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct ReceivedFrom<B> {
    /// Bytes received.
    pub result: io::Result<usize>,
    /// The sender, if it has an internet address and the receive was successful.
    pub from: Option<SocketAddr>,
    /// Whether the datagram did not fit the buffer (`MSG_TRUNC`).
    pub truncated: bool,
    /// The buffer; when the receive was successful, the bytes received are its contents.
    pub buf: B,
}

// SAFETY: the header leads to the address room and the piece, which are parts of the operation, which
// does not move after this, and to the buffer, which is stable memory that it owns.
unsafe impl<B: IoBufMut> Prepare for RecvFrom<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        self.piece.0.iov_base = self.buf.stable_mut_ptr().cast();
        self.piece.0.iov_len = self.buf.capacity();
        let header = &mut self.header.0;
        header.msg_name = self.from.address_ptr().cast();
        header.msg_namelen = AddressRoom::SIZE;
        header.msg_iov = &raw mut self.piece.0;
        header.msg_iovlen = 1;
        opcode::RecvMsg::new(self.fd.number(), &raw mut *header)
            .flags(self.flags.to_raw() as u32)
            .build()
    }
}

impl<B: IoBufMut> Operation for RecvFrom<B> {
    type Output = ReceivedFrom<B>;

    fn complete(mut self, completions: Completions) -> ReceivedFrom<B> {
        let result = completions.result_or(0);
        let (mut from, mut truncated) = (None, false);
        if let Ok(received) = result {
            // SAFETY: without `MSG_TRUNC` among the flags given, the result is what the kernel has
            // written to the start of the buffer, whose capacity it was told.
            unsafe { self.buf.set_init(received) };
            self.from.set_len(self.header.0.msg_namelen);
            from = self.from.get();
            truncated = self.header.0.msg_flags & libc::MSG_TRUNC != 0;
        }
        ReceivedFrom { result, from, truncated, buf: self.buf }
    }
}

/// Receives into a [`MessageBuf`]: several buffers, address, control data, as `recvmsg(2)` (Linux
/// 5.3). This is also how to receive a stream into several buffers at once.
#[derive(Debug)]
pub struct RecvMsg<B: IoBufMut> {
    fd: Target,
    message: Box<MessageBuf<B>>,
    flags: RecvFlags,
    poll_first: bool,
}

impl<B: IoBufMut> RecvMsg<B> {
    /// Receives up to what the buffers hold together.
    pub fn new(fd: impl Into<Target>, message: Box<MessageBuf<B>>) -> Self {
        Self { fd: fd.into(), message, flags: RecvFlags::empty(), poll_first: false }
    }

    /// How to receive.
    #[must_use]
    pub fn flags(mut self, flags: RecvFlags) -> Self {
        self.flags = flags;
        self
    }

    /// Waits for data without trying first (`IORING_RECVSEND_POLL_FIRST`, Linux 5.19).
    #[must_use]
    pub fn poll_first(mut self) -> Self {
        self.poll_first = true;
        self
    }

    /// The message, from an operation that was not started.
    pub fn into_message(self) -> Box<MessageBuf<B>> {
        self.message
    }
}

/// A finished [`RecvMsg`].
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct ReceivedMsg<B: IoBufMut> {
    /// Bytes received, over all buffers.
    pub result: io::Result<usize>,
    /// The message; when the receive was successful, its buffers hold what came, in order.
    pub message: Box<MessageBuf<B>>,
}

// SAFETY: the message is a heap block of the operation and points only into itself and into stable
// buffers that it owns; the operation owns the descriptor.
unsafe impl<B: IoBufMut> Prepare for RecvMsg<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        // Without room for control data no descriptors come, and nothing has to be looked up.
        let close = if self.message.has_control_room() { self.fd.close_on_exec() } else { 0 };
        opcode::RecvMsg::new(self.fd.number(), self.message.prepare())
            .flags((self.flags.to_raw() | close) as u32)
            .ioprio(if self.poll_first { POLL_FIRST } else { 0 })
            .build()
    }

    fn discard(&mut self, cqe: Cqe) {
        if cqe.result >= 0 {
            // SAFETY: after success they are those of the message received, and nobody takes it.
            unsafe { close_rights(self.message.control()) };
        }
    }
}

impl<B: IoBufMut> Operation for RecvMsg<B> {
    type Output = ReceivedMsg<B>;

    fn complete(mut self, completions: Completions) -> ReceivedMsg<B> {
        let result = completions.result_or(0);
        match result {
            // SAFETY: without `MSG_TRUNC` among the flags given, the result is what the kernel has
            // written to the message that `entry` prepared, from its first buffer on.
            Ok(received) => unsafe { self.message.received(received) },
            Err(_) => self.message.failed(),
        }
        ReceivedMsg { result, message: self.message }
    }
}
