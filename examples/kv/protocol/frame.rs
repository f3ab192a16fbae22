//! The header of eight bytes in front of every datagram (`doc/protocol.txt`, "UDP protocol").
//!
//! Two things are other than with memcached, which a test shows. A request may take several datagrams; memcached
//! takes no notice of such. And all requests of a message are answered by one message, whose number of datagrams
//! tells a client when it has everything; memcached answers each by a message of its own, with the same number,
//! and a `get` of several items by one for each item.

/// Bytes of the header.
pub const HEADER: usize = 8;
/// Bytes of the longest datagram of an answer, header included: memcached's, which fit an Ethernet frame.
pub const MAX_DATAGRAM: usize = 1400;
/// Bytes of an answer in one datagram.
pub const MAX_PART: usize = MAX_DATAGRAM - HEADER;

/// Which part of which message a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Chosen by the client; the answer carries the same.
    pub request: u16,
    /// The number of this datagram in its message, from 0.
    pub sequence: u16,
    /// Datagrams of the message.
    pub total: u16,
}

impl Frame {
    /// Splits a datagram; `None` for what is shorter than a header.
    #[must_use]
    pub fn split(datagram: &[u8]) -> Option<(Self, &[u8])> {
        let (&[a, b, c, d, e, f, _, _], rest) = datagram.split_first_chunk::<HEADER>()?;
        let two = |high, low| u16::from_be_bytes([high, low]);
        Some((Self { request: two(a, b), sequence: two(c, d), total: two(e, f) }, rest))
    }

    /// Whether it is a whole message; what it says of its place then is not looked at, as by memcached.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.total == 1
    }

    /// The header; its last two bytes are reserved.
    #[must_use]
    pub fn bytes(self) -> [u8; HEADER] {
        let [a, b] = self.request.to_be_bytes();
        let [c, d] = self.sequence.to_be_bytes();
        let [e, f] = self.total.to_be_bytes();
        [a, b, c, d, e, f, 0, 0]
    }

    /// The datagrams that answer `request`: header and part of each. `None` for an answer that takes more
    /// of them than can be numbered.
    pub fn parts(request: u16, answer: &[u8]) -> Option<impl Iterator<Item = (Self, &[u8])>> {
        let total = u16::try_from(answer.len().div_ceil(MAX_PART)).ok()?;
        let parts = (0..total).zip(answer.chunks(MAX_PART));
        Some(parts.map(move |(sequence, part)| (Self { request, sequence, total }, part)))
    }
}
