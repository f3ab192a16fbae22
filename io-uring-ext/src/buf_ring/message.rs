//! What a multishot `recvmsg` writes into a buffer.
//!
//! `struct io_uring_recvmsg_out` (four `u32`: lengths of address, control data and payload, and the
//! message's flags), then room for the address, room for control data, and the payload. See
//! `io_uring_prep_recvmsg_multishot(3)`.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use crate::buf::IoBuf;
use crate::op::Header;
use crate::sys::socket_address;

const HEADER: usize = 16;

/// How much room a message's address and control data get in front of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLayout {
    name: usize,
    control: usize,
}

impl MessageLayout {
    /// Room for `name` bytes of address (28 hold an IPv6 address) and `control` bytes of control
    /// data, both rounded up so that the control data is aligned to 8 bytes.
    pub const fn new(name: usize, control: usize) -> Self {
        Self { name: name.next_multiple_of(8), control: control.next_multiple_of(8) }
    }

    /// Where the payload begins in the buffer.
    pub const fn payload_at(&self) -> usize {
        HEADER + self.name + self.control
    }

    pub(super) fn has_control(self) -> bool {
        self.control > 0
    }

    pub(super) fn header(self) -> libc::msghdr {
        let mut header = Header::empty().0;
        header.msg_namelen = self.name as _;
        header.msg_controllen = self.control as _;
        header
    }

    /// The rooms for address and control data, which the kernel fills only as far as it has something
    /// to say and counts whole.
    pub(super) fn rooms(self) -> [Range<usize>; 2] {
        let control_at = HEADER + self.name;
        [HEADER..control_at, control_at..control_at + self.control]
    }

    /// Takes apart what the kernel has written, `buffer` being all of it.
    pub(crate) fn parse(self, buffer: &[u8]) -> Option<Parsed> {
        let field = |at: usize| -> Option<usize> {
            Some(u32::from_ne_bytes(*buffer.get(at..)?.first_chunk()?) as usize)
        };
        let payload_at = self.payload_at();
        let there = buffer.len().checked_sub(payload_at)?;
        let control_at = HEADER + self.name;
        Some(Parsed {
            name: HEADER..HEADER + field(0)?.min(self.name),
            control: control_at..control_at + field(4)?.min(self.control),
            payload: payload_at..payload_at + field(8)?.min(there),
            flags: field(12)? as i32,
        })
    }
}

/// Where the parts of a message are in its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) name: Range<usize>,
    pub(crate) control: Range<usize>,
    pub(crate) payload: Range<usize>,
    pub(crate) flags: i32,
}

/// A message that a [`MessageReceiver`](super::MessageReceiver) received, in its buffer.
pub struct ReceivedMessage<B> {
    buf: B,
    parsed: Parsed,
}

impl<B: IoBuf> ReceivedMessage<B> {
    pub(super) fn new(buf: B, layout: MessageLayout) -> Option<Self> {
        let parsed = layout.parse(buf.bytes())?;
        Some(Self { buf, parsed })
    }

    /// The data.
    pub fn payload(&self) -> &[u8] {
        &self.buf.bytes()[self.parsed.payload.clone()]
    }

    /// The sender, if it has an internet address.
    pub fn source(&self) -> Option<SocketAddr> {
        socket_address::parse(self.name())
    }

    /// The sender's address as the kernel wrote it.
    pub fn name(&self) -> &[u8] {
        &self.buf.bytes()[self.parsed.name.clone()]
    }

    /// The control data: `cmsghdr`s as `cmsg(3)` lays them out.
    pub fn control(&self) -> &[u8] {
        &self.buf.bytes()[self.parsed.control.clone()]
    }

    /// Whether the payload did not fit the buffer (`MSG_TRUNC`).
    pub fn is_truncated(&self) -> bool {
        self.parsed.flags & libc::MSG_TRUNC != 0
    }

    /// Whether the control data did not fit (`MSG_CTRUNC`).
    pub fn is_control_truncated(&self) -> bool {
        self.parsed.flags & libc::MSG_CTRUNC != 0
    }

    /// The whole buffer, header in front.
    pub fn into_buf(self) -> B {
        self.buf
    }
}

impl<B: IoBuf> fmt::Debug for ReceivedMessage<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedMessage")
            .field("source", &self.source())
            .field("payload", &self.payload().len())
            .field("control", &self.control().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the bytes say, the parts lie inside the buffer and inside their room.
        #[test]
        fn parts_stay_inside(
            name in 0..64_usize,
            control in 0..128_usize,
            buffer in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let layout = MessageLayout::new(name, control);
            match layout.parse(&buffer) {
                None => prop_assert!(buffer.len() < layout.payload_at()),
                Some(parsed) => {
                    prop_assert!(parsed.name.end <= HEADER + layout.name);
                    prop_assert!(parsed.control.end <= layout.payload_at());
                    prop_assert!(parsed.payload.end <= buffer.len());
                    prop_assert_eq!(parsed.payload.start, layout.payload_at());
                }
            }
        }
    }

    #[test]
    fn agrees_with_the_io_uring_crate() {
        let layout = MessageLayout::new(28, 40);
        let mut buffer = vec![0; layout.payload_at() + 9];
        for (at, value) in [(0, 16_u32), (4, 24), (8, 9), (12, 0)] {
            buffer[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        for (byte, n) in buffer[HEADER..].iter_mut().zip(0..) {
            *byte = n;
        }
        let theirs = io_uring::types::RecvMsgOut::parse(&buffer, &layout.header()).unwrap();
        let ours = layout.parse(&buffer).unwrap();
        assert_eq!(&buffer[ours.name], theirs.name_data());
        assert_eq!(&buffer[ours.control], theirs.control_data());
        assert_eq!(&buffer[ours.payload], theirs.payload_data());
    }
}
