//! Flags of sends and receives.
//!
//! Only flags that change how much the kernel reads or writes, or when, in ways that the operations
//! account for. Others are masked out where the entry is made: `MSG_TRUNC` reports bytes that were
//! never written, `MSG_ZEROCOPY` reads the buffer after the completion.

use bitflags::bitflags;

bitflags! {
    /// How to send (`send(2)`). `MSG_NOSIGNAL` is always set.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SendFlags: i32 {
        /// More data follows: TCP holds a partial segment back (`MSG_MORE`).
        const MORE = libc::MSG_MORE;
        /// Fail with `EAGAIN` rather than wait for room (`MSG_DONTWAIT`).
        const DONT_WAIT = libc::MSG_DONTWAIT;
        /// On a stream, complete only when all has been sent, or cannot be (`MSG_WAITALL`,
        /// Linux 5.19).
        const WAIT_ALL = libc::MSG_WAITALL;
        /// End of a record, where the protocol has records (`MSG_EOR`).
        const END_OF_RECORD = libc::MSG_EOR;
        /// Out-of-band data (`MSG_OOB`).
        const OUT_OF_BAND = libc::MSG_OOB;
        /// Send to directly connected hosts only (`MSG_DONTROUTE`).
        const DONT_ROUTE = libc::MSG_DONTROUTE;
        /// The neighbour is known to answer (`MSG_CONFIRM`).
        const CONFIRM = libc::MSG_CONFIRM;
    }
}

bitflags! {
    /// How to receive (`recv(2)`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct RecvFlags: i32 {
        /// Leave what is received in the socket (`MSG_PEEK`).
        const PEEK = libc::MSG_PEEK;
        /// Fail with `EAGAIN` rather than wait for data (`MSG_DONTWAIT`).
        const DONT_WAIT = libc::MSG_DONTWAIT;
        /// On a stream, complete only when the buffer is full or the stream ends (`MSG_WAITALL`,
        /// Linux 5.19).
        const WAIT_ALL = libc::MSG_WAITALL;
        /// Out-of-band data (`MSG_OOB`).
        const OUT_OF_BAND = libc::MSG_OOB;
    }
}

impl SendFlags {
    /// The bits for the entry: none that this type does not name.
    pub(super) fn to_raw(self) -> i32 {
        (self & Self::all()).bits() | libc::MSG_NOSIGNAL
    }
}

impl RecvFlags {
    /// The bits for the entry: none that this type does not name.
    pub(super) fn to_raw(self) -> i32 {
        (self & Self::all()).bits()
    }
}

/// `IORING_RECVSEND_POLL_FIRST` (Linux 5.19): wait for readiness before the first try, which is
/// expected to fail.
pub(super) const POLL_FIRST: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_are_not_named_do_not_reach_the_kernel() {
        let sneaked = RecvFlags::from_bits_retain(libc::MSG_TRUNC | libc::MSG_PEEK);
        assert_eq!(sneaked.to_raw(), libc::MSG_PEEK);
        let sneaked = SendFlags::from_bits_retain(libc::MSG_ZEROCOPY | libc::MSG_MORE);
        assert_eq!(sneaked.to_raw(), libc::MSG_MORE | libc::MSG_NOSIGNAL);
    }
}
