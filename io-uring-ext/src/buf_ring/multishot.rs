//! The operation behind a receiver: one submission, many completions.

use io_uring::{cqueue, opcode, squeue};

use super::{BufSource, MessageLayout, Registered};
use crate::mode::Mode;
use crate::op::sealed::Prepare;
use crate::op::{Header, Target};
use crate::ring::{Cqe, RingId};

/// What is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// `recv` with `IORING_RECV_MULTISHOT` (Linux 6.0).
    Data,
    /// `recvmsg` with `IORING_RECV_MULTISHOT` (Linux 6.0).
    Messages(MessageLayout),
    /// `recv` with `IORING_RECVSEND_BUNDLE` too (Linux 6.10).
    Bundles,
    /// `IORING_OP_READ_MULTISHOT` (Linux 6.7).
    Reads,
}

impl How {
    pub(super) fn layout(self) -> Option<MessageLayout> {
        match self {
            Self::Messages(layout) => Some(layout),
            _ => None,
        }
    }
}

pub(crate) struct RecvMulti<S: BufSource, M: Mode> {
    fd: Target,
    ring: M::Ptr<Registered<S, M>>,
    how: How,
    /// For `recvmsg`: how much room to leave for address and control data.
    header: libc::msghdr,
}

impl<S: BufSource, M: Mode> RecvMulti<S, M> {
    pub(super) fn new(fd: Target, ring: M::Ptr<Registered<S, M>>, how: How) -> Self {
        let header = how.layout().map_or(Header::empty().0, MessageLayout::header);
        Self { fd, ring, how, header }
    }
}

// SAFETY: the header, whose pointers are null, is part of the operation, which does not move after
// this. The buffers belong to the registered ring that the operation owns a handle of.
unsafe impl<S: BufSource, M: Mode> Prepare for RecvMulti<S, M> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        /// No offset: a stream's own position.
        const POSITION: u64 = u64::MAX;

        let (fd, group) = (self.fd.number(), self.ring.group);
        match self.how {
            How::Data => opcode::RecvMulti::new(fd, group).build(),
            How::Messages(_) => opcode::RecvMsgMulti::new(fd, &raw const self.header, group)
                .flags(self.fd.close_on_exec() as u32)
                .build(),
            How::Bundles => opcode::RecvMultiBundle::new(fd, group).build(),
            How::Reads => opcode::ReadMulti::new(fd, 0, group).offset(POSITION).build(),
        }
    }

    fn discard(&mut self, cqe: Cqe) {
        self.ring.discard(cqe, self.how);
    }
}

impl<S: BufSource, M: Mode> Registered<S, M> {
    /// Gives the buffers of a completion that nobody will take back to the kernel, and closes the
    /// descriptors that came in its control data.
    pub(super) fn discard(&self, cqe: Cqe, how: How) {
        let Some(first) = cqueue::buffer_select(cqe.flags) else { return };
        let len = usize::try_from(cqe.result).unwrap_or(0);
        let bytes = if how == How::Bundles { len } else { 0 };
        self.with(|slots| {
            if let Some(layout) = how.layout() {
                slots.close_rights(first, layout, len);
            }
            slots.put_back(first, bytes);
        });
    }
}
