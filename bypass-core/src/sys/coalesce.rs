//! [`Coalescer`]: which datagrams of a queue leave together as one message (UDP GSO).

use crate::Transmit;

/// The most segments of one message that every kernel with UDP GSO takes (`UDP_MAX_SEGMENTS` in
/// `include/linux/udp.h`; newer ones take 128).
const MAX_SEGMENTS: usize = 64;

/// The most payload that one IPv4 packet carries, which a train is until the device cuts it.
const MAX_BYTES: usize = 65_535 - 20 - 8;

/// A segment of this size fits every IPv4 link (RFC 791: 576 bytes with headers); if it is refused,
/// the reason cannot be the MTU.
const ALWAYS_FITS: usize = 576 - 60 - 8;

/// Plans messages: consecutive datagrams of equal length (the last may be shorter) to the same
/// destination, with the same source and congestion mark, leave as one message with `UDP_SEGMENT`
/// and one `iovec` for each (Linux 4.18+, `udp(7)`). Nothing is copied, and the receiver sees the
/// same datagrams as if each had been sent alone.
///
/// Planning is pure: the same queue gives the same plan, until the planner [learns](Self::learn)
/// that a device cannot do it.
///
/// ```
/// use bypass_core::Transmit;
/// use bypass_core::sys::Coalescer;
///
/// let to = Transmit::to(([192, 0, 2, 1], 9).into());
/// let train = Coalescer::new(true).next([(100, to), (100, to), (7, to), (100, to)]);
/// let train = train.ok_or("an empty queue")?;
/// assert_eq!((train.datagrams, train.bytes, train.segment_size), (3, 207, Some(100)));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coalescer {
    /// The longest datagram that may be part of a train; 0 switches planning off.
    max_segment: usize,
}

/// What leaves as one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Train {
    /// How many datagrams of the queue it takes, from the front; at least 1.
    pub datagrams: usize,
    /// Their bytes together.
    pub bytes: usize,
    /// The value for `UDP_SEGMENT`; `None` for a single datagram as it is.
    pub segment_size: Option<u16>,
    /// Where all of them go: what the first of them asks for.
    pub transmit: Transmit,
}

impl Train {
    /// How many datagrams the network will see; more than [`datagrams`](Self::datagrams) where the
    /// application made a train itself ([`Transmit::segment_size`]).
    #[must_use]
    pub fn packets(&self) -> u64 {
        segments(self.bytes, self.segment_size)
    }
}

/// How many datagrams a train of `bytes` bytes is; 1 when it is none.
#[must_use]
pub fn segments(bytes: usize, segment_size: Option<u16>) -> u64 {
    match segment_size {
        Some(size @ 1..) => bytes.div_ceil(usize::from(size)).max(1) as u64,
        _ => 1,
    }
}

impl Coalescer {
    /// A planner that joins datagrams, or one that leaves each alone.
    #[must_use]
    pub const fn new(on: bool) -> Self {
        Self { max_segment: if on { MAX_BYTES } else { 0 } }
    }

    /// Whether it still joins datagrams.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.max_segment > 0
    }

    /// The longest datagram, in bytes, that it makes part of a train.
    #[must_use]
    pub const fn max_segment(&self) -> usize {
        self.max_segment
    }

    /// The next message of a queue, given as the length in bytes and the destination of each
    /// datagram; `None` when the queue is empty.
    // A plan is large; inlined it is built where it is used instead of being copied there.
    #[inline(always)]
    pub fn next(&self, queue: impl IntoIterator<Item = (usize, Transmit)>) -> Option<Train> {
        let mut queue = queue.into_iter();
        let (first, transmit) = queue.next()?;
        let mut train =
            Train { datagrams: 1, bytes: first, segment_size: transmit.segment_size, transmit };
        // A train that the application made goes as it is, and an empty datagram has no bytes that
        // could mark its place in a train.
        if transmit.segment_size.is_some() || first == 0 || first > self.max_segment {
            return Some(train);
        }
        for (len, other) in queue.take(MAX_SEGMENTS - 1) {
            let fits = (1..=first).contains(&len) && train.bytes + len <= MAX_BYTES;
            if !fits || !same_flow(&transmit, &other) {
                break;
            }
            train.datagrams += 1;
            train.bytes += len;
            if len < first {
                break;
            }
        }
        if train.datagrams > 1 {
            train.segment_size = Some(first as u16);
        }
        Some(train)
    }

    /// Tells the planner that a train with segments of `segment_size` bytes was refused with
    /// `errno`, *and* that its datagrams could then be sent one by one: plans without what does not
    /// work here from now on. Answers whether `errno` had to do with trains at all.
    ///
    /// The kernel gives `EIO` where the device cannot do the checksums, and `EINVAL` (newer kernels
    /// `EMSGSIZE`) where a segment is longer than the MTU (`udp_send_skb` in `net/ipv4/udp.c`).
    pub fn learn(&mut self, errno: i32, segment_size: u16) -> bool {
        let segment_size = usize::from(segment_size);
        self.max_segment = match errno {
            libc::EINVAL | libc::EMSGSIZE if segment_size > ALWAYS_FITS => {
                self.max_segment.min(segment_size - 1)
            }
            libc::EIO | libc::EINVAL | libc::EMSGSIZE => 0,
            _ => return false,
        };
        true
    }

    /// Whether a refusal with `errno` may be due to the message being a train, so that sending its
    /// datagrams one by one is worth a try.
    #[must_use]
    pub const fn may_refuse_trains(errno: i32) -> bool {
        matches!(errno, libc::EIO | libc::EINVAL | libc::EMSGSIZE)
    }
}

fn same_flow(a: &Transmit, b: &Transmit) -> bool {
    b.segment_size.is_none()
        && a.destination == b.destination
        && a.source == b.source
        && a.ecn == b.ecn
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Ecn;

    type Queue = Vec<(usize, Transmit)>;

    fn queue() -> impl Strategy<Value = Queue> {
        let len = prop_oneof![Just(0usize), Just(64), Just(1200), 1usize..9000, Just(65_507)];
        let transmit = (0u16..3, 0u8..2, 0u8..2, prop::option::weighted(0.1, 1u16..2000));
        let one = (len, transmit).prop_map(|(len, (port, source, ecn, segment_size))| {
            let transmit = Transmit {
                destination: (port > 0).then(|| ([192, 0, 2, 1], port).into()),
                source: (source > 0).then(|| [10, 0, 0, source].into()),
                ecn: Ecn::from_bits(ecn),
                segment_size,
                ..Transmit::default()
            };
            (len, transmit)
        });
        // Runs of the same datagram, as applications send them.
        prop::collection::vec((one, 1usize..80), 0..12).prop_map(|runs| {
            runs.into_iter().flat_map(|(d, n)| std::iter::repeat_n(d, n)).collect()
        })
    }

    fn plan(coalescer: &Coalescer, queue: &[(usize, Transmit)]) -> Vec<Train> {
        let mut rest = queue;
        let mut trains = Vec::new();
        while let Some(train) = coalescer.next(rest.iter().copied()) {
            rest = &rest[train.datagrams..];
            trains.push(train);
        }
        assert!(rest.is_empty());
        trains
    }

    /// The lengths in which a device cuts a train.
    fn cut(train: &Train) -> Vec<usize> {
        let size = usize::from(train.segment_size.unwrap());
        let full = train.bytes / size;
        let rest = train.bytes % size;
        std::iter::repeat_n(size, full).chain((rest > 0).then_some(rest)).collect()
    }

    proptest! {
        #[test]
        fn a_plan_sends_the_same_datagrams_in_order(queue in queue()) {
            let mut at = 0;
            for train in plan(&Coalescer::new(true), &queue) {
                let taken = &queue[at..at + train.datagrams];
                at += train.datagrams;
                prop_assert_eq!(train.bytes, taken.iter().map(|(len, _)| len).sum::<usize>());
                prop_assert_eq!(train.transmit, taken[0].1);
                if train.datagrams == 1 {
                    prop_assert_eq!(train.segment_size, taken[0].1.segment_size);
                    continue;
                }
                let lengths: Vec<_> = taken.iter().map(|(len, _)| *len).collect();
                prop_assert_eq!(cut(&train), lengths);
                prop_assert!(taken.iter().all(|(_, transmit)| *transmit == taken[0].1));
                prop_assert!(train.datagrams <= 64 && train.bytes <= 65_507);
                prop_assert_eq!(train.packets(), train.datagrams as u64);
            }
            prop_assert_eq!(at, queue.len());
        }

        #[test]
        fn a_train_ends_only_where_it_must(queue in queue()) {
            let trains = plan(&Coalescer::new(true), &queue);
            for pair in trains.windows(2) {
                let (train, next) = (&pair[0], &pair[1]);
                let first = train.segment_size.map_or(train.bytes, usize::from);
                let next_len = next.segment_size.map_or(next.bytes, usize::from);
                let full = train.datagrams == 64 || train.bytes + next_len > 65_507;
                let ended_short = train.bytes % first.max(1) != 0;
                let longer = next_len > first;
                let other = train.transmit != next.transmit;
                let made = train.transmit.segment_size.is_some();
                prop_assert!(full || ended_short || longer || other || made || first == 0 || next_len == 0);
            }
        }

        #[test]
        fn switched_off_every_datagram_goes_alone(queue in queue()) {
            let trains = plan(&Coalescer::new(false), &queue);
            prop_assert_eq!(trains.len(), queue.len());
            prop_assert!(trains.iter().zip(&queue).all(|(t, q)| t.segment_size == q.1.segment_size));
        }
    }

    #[test]
    fn a_train_made_by_the_application_counts_its_segments() {
        let mut transmit = Transmit::to(([127, 0, 0, 1], 9).into());
        transmit.segment_size = Some(1000);
        let train = Coalescer::new(true).next([(2500, transmit), (2500, transmit)]).unwrap();
        assert_eq!((train.datagrams, train.packets()), (1, 3));
    }

    #[test]
    fn it_learns_the_mtu_and_gives_up_without_checksums() {
        let to = Transmit::to(([127, 0, 0, 1], 9).into());
        let mut coalescer = Coalescer::new(true);
        assert!(!coalescer.learn(libc::EAGAIN, 1500));
        assert!(coalescer.learn(libc::EMSGSIZE, 1500));
        assert_eq!(coalescer.next([(1500, to); 3]).unwrap().datagrams, 1);
        assert_eq!(coalescer.next([(1499, to); 3]).unwrap().datagrams, 3);
        assert!(coalescer.learn(libc::EIO, 1200));
        assert!(!coalescer.is_on());
        let mut coalescer = Coalescer::new(true);
        assert!(coalescer.learn(libc::EINVAL, 100) && !coalescer.is_on(), "no link is so narrow");
    }
}
