//! [`SendZc`] and [`SendMsgZc`]: sends that lend their memory to the network stack.
//!
//! Two things happen, in this order: the send is done (the result is known), and the memory is free
//! again (the notification). Between the two the buffer is lent; [`Pending::sent`] gives the result
//! early, and the buffer comes back from [`Pending::wait`] or [`Pending::try_take`] only after the
//! notification. A send that fails may post a notification too, or none; both are taken in.

use std::io;
use std::net::SocketAddr;

use io_uring::{opcode, squeue};

use super::flags::SendFlags;
use super::message::Message;
use super::send::{Send, SendMsg, Sent};
use crate::buf::IoBuf;
use crate::mode::Mode;
use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, Target};
use crate::ring::{Cqe, Pending, RingId};

/// Bytes from which zero-copy pays for itself: below, pinning the pages and the second completion
/// cost more than the copy.
pub const ZC_THRESHOLD: usize = 8 * 1024;

/// `IORING_SEND_ZC_REPORT_USAGE`: the notification says whether the kernel copied (Linux 6.2).
const REPORT_USAGE: u16 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED`.
const COPIED: u32 = 1 << 31;

/// Sends a buffer without copying it, where the socket and the device can (Linux 6.0, with the
/// "was copied" flag 6.2).
///
/// Sockets that cannot do it at all (AF_PACKET, Unix) answer `EOPNOTSUPP`. Loopback and devices
/// without scatter-gather copy after all; [`ZcSent::copied`] says so.
#[derive(Debug)]
pub struct SendZc<B: IoBuf>(Send<B>);

impl<B: IoBuf> SendZc<B> {
    /// Sends the buffer's contents on a connected socket.
    pub fn new(fd: impl Into<Target>, buf: B) -> Self {
        Self(Send::new(fd, buf))
    }

    /// Sends the buffer's contents to an address.
    pub fn to(fd: impl Into<Target>, buf: B, to: SocketAddr) -> Self {
        Self(Send::to(fd, buf, to))
    }
}

/// A finished [`SendZc`].
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct ZcSent<B> {
    /// Bytes sent.
    pub result: io::Result<usize>,
    /// Whether the kernel copied the data after all. `None` when the send failed before it lent the
    /// memory.
    pub copied: Option<bool>,
    /// The buffer, no longer lent.
    pub buf: B,
}

// SAFETY: as for `Send`; the terminal completion is the notification, until which the network stack
// reads the buffer.
unsafe impl<B: IoBuf> Prepare for SendZc<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.0.fd)
    }

    fn entry(&mut self, ring: RingId) -> squeue::Entry {
        let Send { fd, buf, to, flags, .. } = &self.0;
        let len = u32::try_from(buf.init_len()).unwrap_or(u32::MAX);
        opcode::SendZc::new(fd.number(), buf.stable_ptr(), len)
            .flags(*flags)
            .zc_flags(REPORT_USAGE)
            .buf_index(buf.registered(ring))
            .dest_addr(to.as_ptr())
            .dest_addr_len(to.len())
            .build()
    }
}

impl<B: IoBuf> Operation for SendZc<B> {
    type Output = ZcSent<B>;

    fn complete(self, completions: Completions) -> ZcSent<B> {
        ZcSent { result: completions.result_or(0), copied: copied(completions), buf: self.0.buf }
    }
}

/// Sends a buffer the way that its size makes cheaper: copied below a threshold, lent from it on
/// (Linux 6.0). The buffer comes back the same way, and [`ZcSent::copied`] says what happened.
///
/// Sockets that can only copy refuse what is above the threshold, as they do [`SendZc`]: the choice is
/// by size alone, never a silent fallback.
#[derive(Debug)]
pub struct SendAuto<B: IoBuf> {
    send: SendZc<B>,
    threshold: usize,
}

impl<B: IoBuf> SendAuto<B> {
    /// Sends the buffer's contents on a connected socket; from [`ZC_THRESHOLD`] bytes on without
    /// copying them.
    pub fn new(fd: impl Into<Target>, buf: B) -> Self {
        Self { send: SendZc::new(fd, buf), threshold: ZC_THRESHOLD }
    }

    /// As [`new`](Self::new), to an address.
    pub fn to(fd: impl Into<Target>, buf: B, to: SocketAddr) -> Self {
        Self { send: SendZc::to(fd, buf, to), threshold: ZC_THRESHOLD }
    }

    /// Bytes from which it does not copy.
    #[must_use]
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// How to send.
    #[must_use]
    pub fn flags(mut self, flags: SendFlags) -> Self {
        self.send.0 = self.send.0.flags(flags);
        self
    }

    fn lends(&self) -> bool {
        self.send.0.buf.init_len() >= self.threshold
    }
}

// SAFETY: as for `Send` and `SendZc`, one of which this is; which, does not change while the kernel
// has it, because the buffer does not.
unsafe impl<B: IoBuf> Prepare for SendAuto<B> {
    fn target(&self) -> Option<&Target> {
        self.send.target()
    }

    fn entry(&mut self, ring: RingId) -> squeue::Entry {
        if self.lends() { self.send.entry(ring) } else { self.send.0.entry(ring) }
    }
}

impl<B: IoBuf> Operation for SendAuto<B> {
    type Output = ZcSent<B>;

    fn complete(self, completions: Completions) -> ZcSent<B> {
        if self.lends() {
            return self.send.complete(completions);
        }
        let Sent { result, buf } = self.send.0.complete(completions);
        ZcSent { copied: result.is_ok().then_some(true), result, buf }
    }
}

/// Sends a [`Message`] without copying its buffers, where the socket and the device can (Linux 6.1,
/// with the "was copied" flag 6.2).
#[derive(Debug)]
pub struct SendMsgZc<B: IoBuf>(SendMsg<B>);

impl<B: IoBuf> SendMsgZc<B> {
    /// Sends the message.
    pub fn new(fd: impl Into<Target>, message: Box<Message<B>>) -> Self {
        Self(SendMsg::new(fd, message))
    }
}

/// A finished [`SendMsgZc`].
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct ZcSentMsg<B: IoBuf> {
    /// Bytes sent.
    pub result: io::Result<usize>,
    /// Whether the kernel copied the data after all. `None` when the send failed before it lent the
    /// memory.
    pub copied: Option<bool>,
    /// The message, no longer lent.
    pub message: Box<Message<B>>,
}

// SAFETY: as for `SendMsg`; the terminal completion is the notification.
unsafe impl<B: IoBuf> Prepare for SendMsgZc<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.0.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let SendMsg { fd, message, flags } = &mut self.0;
        opcode::SendMsgZc::new(fd.number(), message.prepare())
            .flags(*flags as u32)
            .ioprio(REPORT_USAGE)
            .build()
    }
}

impl<B: IoBuf> Operation for SendMsgZc<B> {
    type Output = ZcSentMsg<B>;

    fn complete(self, completions: Completions) -> ZcSentMsg<B> {
        ZcSentMsg {
            result: completions.result_or(0),
            copied: copied(completions),
            message: self.0.message,
        }
    }
}

fn copied(completions: Completions) -> Option<bool> {
    let notification = completions.notification()?;
    io_uring::cqueue::notif(notification.flags).then_some(notification.result as u32 & COPIED != 0)
}

impl<B: IoBuf, M: Mode> Pending<SendZc<B>, M> {
    /// The send's result, as soon as it is known; the buffer may still be lent.
    pub fn sent(&self) -> Option<io::Result<usize>> {
        self.first_result().map(Cqe::to_result)
    }
}

impl<B: IoBuf, M: Mode> Pending<SendMsgZc<B>, M> {
    /// The send's result, as soon as it is known; the message may still be lent.
    pub fn sent(&self) -> Option<io::Result<usize>> {
        self.first_result().map(Cqe::to_result)
    }
}
