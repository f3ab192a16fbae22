//! The operation behind a receiver: one submission, many completions.

use io_uring::{cqueue, opcode, squeue};

use super::{BufSource, Registered};
use crate::mode::Mode;
use crate::op::Target;
use crate::op::sealed::Prepare;
use crate::ring::{Cqe, RingId};

/// `recv` or `recvmsg` with `IORING_RECV_MULTISHOT` (Linux 6.0).
pub(crate) struct RecvMulti<S: BufSource, M: Mode> {
    pub(super) fd: Target,
    pub(super) ring: M::Ptr<Registered<S, M>>,
    /// For `recvmsg`: how much room to leave for address and control data.
    pub(super) header: Option<libc::msghdr>,
}

// SAFETY: the header, whose pointers are null, is part of the operation, which does not move after
// this. The buffers belong to the registered ring that the operation owns a handle of.
unsafe impl<S: BufSource, M: Mode> Prepare for RecvMulti<S, M> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let (fd, group) = (self.fd.number(), self.ring.group);
        match &self.header {
            None => opcode::RecvMulti::new(fd, group).build(),
            Some(header) => opcode::RecvMsgMulti::new(fd, header, group).build(),
        }
    }

    fn discard(&mut self, cqe: Cqe) {
        if let Some(id) = cqueue::buffer_select(cqe.flags) {
            self.ring.with(|slots| slots.put_back(id));
        }
    }
}
