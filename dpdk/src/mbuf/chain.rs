//! Packets of several segments.

use std::fmt;
use std::marker::PhantomData;

use super::{Mbuf, Raw};

impl Mbuf {
    /// How many segments it has.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        usize::from(self.raw().nb_segs())
    }

    /// Each segment's data in order, to change.
    pub fn segments_mut(&mut self) -> SegmentsMut<'_> {
        SegmentsMut { next: Some(self.raw()), packet: PhantomData }
    }

    /// Puts another packet's segments behind its own.
    ///
    /// # Errors
    ///
    /// Gives the other back when there would be more than 65 535 segments, or 4 GiB.
    pub fn chain(&mut self, tail: Self) -> Result<(), TooManySegments> {
        let (head, behind) = (self.raw(), tail.raw());
        let segments = head.nb_segs().checked_add(behind.nb_segs());
        let len = head.pkt_len().checked_add(behind.pkt_len());
        let (Some(segments), Some(len)) = (segments, len) else {
            return Err(TooManySegments { tail });
        };
        let last = last(head);
        last.set_next(tail.into_raw().as_ptr());
        head.set_nb_segs(segments);
        head.set_pkt_len(len);
        // Only the first segment tells of the packet.
        behind.set_nb_segs(1);
        behind.set_pkt_len(u32::from(behind.data_len()));
        Ok(())
    }

    /// Cuts the chain behind its first segment, and returns the rest as a packet: one without offloads,
    /// of which nothing is known from receiving it. Both belong to the first segment.
    #[must_use]
    pub fn split_next(&mut self) -> Option<Self> {
        let head = self.raw();
        let rest = head.next_segment()?;
        rest.set_nb_segs(head.nb_segs().saturating_sub(1).max(1));
        rest.set_pkt_len(head.pkt_len().saturating_sub(u32::from(head.data_len())));
        // Drivers leave in there what an earlier packet had. None of it says where the data lies: an
        // `Mbuf` has it in its segments.
        rest.set_ol_flags(rest.ol_flags() & Raw::ELSEWHERE);
        head.set_next(std::ptr::null_mut());
        head.set_nb_segs(1);
        head.set_pkt_len(u32::from(head.data_len()));
        let rest = std::ptr::NonNull::new(rest.as_ptr())?;
        // SAFETY: the rest of the chain was ours, nothing points to it any more, and its first segment
        // now tells of the whole.
        Some(unsafe { Self::from_raw(rest) })
    }
}

fn last(head: Raw) -> Raw {
    head.chain().last().unwrap_or(head)
}

/// Each segment's data in order, to change.
pub struct SegmentsMut<'a> {
    next: Option<Raw>,
    packet: PhantomData<&'a mut Mbuf>,
}

impl<'a> Iterator for SegmentsMut<'a> {
    type Item = &'a mut [u8];

    fn next(&mut self) -> Option<&'a mut [u8]> {
        let segment = self.next?;
        self.next = segment.next_segment();
        // SAFETY: the packet is borrowed exclusively for `'a`, nobody else can see its segments, and each
        // of them is shown once.
        Some(unsafe { segment.data_mut() })
    }
}

impl fmt::Debug for SegmentsMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentsMut").finish_non_exhaustive()
    }
}

/// A chain would be longer than an mbuf can say.
#[derive(Debug, thiserror::Error)]
#[error("a packet has at most 65535 segments and 4 GiB; send this one in pieces")]
pub struct TooManySegments {
    /// The packet that was to go behind the other.
    pub tail: Mbuf,
}
