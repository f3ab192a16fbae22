//! [`TrainPlanner`]: coalescing that copes with devices which refuse trains.

use super::{Coalescer, Train};
use crate::Transmit;

/// A [`Coalescer`] for a real socket: a train that is refused is taken apart, and if its datagrams
/// can be sent alone, trains of that kind are not tried again.
///
/// ```
/// use bypass_core::Transmit;
/// use bypass_core::sys::TrainPlanner;
///
/// let to = Transmit::to(([192, 0, 2, 1], 9).into());
/// let queue = [(1400, to); 3];
/// let mut planner = TrainPlanner::new(true);
/// let train = planner.next(0, queue).ok_or("an empty queue")?;
/// assert_eq!(train.datagrams, 3);
///
/// // The device cannot do it: the same datagrams, one by one.
/// assert!(planner.take_apart(&train, libc::EIO));
/// let alone = planner.next(0, queue).ok_or("an empty queue")?;
/// assert_eq!(alone.datagrams, 1);
/// assert!(planner.sent(&alone), "that worked, so it was the train");
/// assert_eq!(planner.fallback(), Some("coalescing: off, the device refuses trains".into()));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainPlanner {
    coalescer: Coalescer,
    asked: bool,
    /// So many datagrams from the front of the queue go alone.
    alone: usize,
    /// With which error a train of them was refused, and its segment size.
    suspect: Option<(i32, u16)>,
    refused: u64,
}

impl TrainPlanner {
    /// A planner that joins datagrams, or one that leaves each alone.
    #[must_use]
    pub const fn new(on: bool) -> Self {
        Self { coalescer: Coalescer::new(on), asked: on, alone: 0, suspect: None, refused: 0 }
    }

    /// The next message of `queue`, in front of which `planned` datagrams are planned but not yet
    /// sent; `None` when it is empty.
    #[inline(always)]
    pub fn next(
        &self,
        planned: usize,
        queue: impl IntoIterator<Item = (usize, Transmit)>,
    ) -> Option<Train> {
        if planned < self.alone {
            Coalescer::new(false).next(queue)
        } else {
            self.coalescer.next(queue)
        }
    }

    /// The kernel refused `train`, the first of the queue, with `errno`. Answers whether it may
    /// take its datagrams one by one: then plan anew.
    pub fn take_apart(&mut self, train: &Train, errno: i32) -> bool {
        let apart = train.datagrams > 1 && Coalescer::may_refuse_trains(errno);
        if apart {
            self.alone = train.datagrams;
            self.suspect = train.segment_size.map(|size| (errno, size));
            self.refused += 1;
        }
        apart
    }

    /// The kernel took `train`, the first of the queue. Answers whether [`fallback`](Self::fallback)
    /// says something new because of that.
    pub fn sent(&mut self, train: &Train) -> bool {
        if self.alone == 0 {
            return false;
        }
        self.alone = self.alone.saturating_sub(train.datagrams);
        self.suspect.take().is_some_and(|(errno, size)| self.coalescer.learn(errno, size))
    }

    /// The kernel refused the first of the queue, alone: the train was not the reason.
    pub fn failed(&mut self) {
        self.alone = 0;
        self.suspect = None;
    }

    /// How many trains were refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// What was asked for and is not done, for [`Caps::fallbacks`](crate::Caps::fallbacks).
    #[must_use]
    pub fn fallback(&self) -> Option<String> {
        match self.coalescer.max_segment() {
            _ if !self.asked || self.coalescer == Coalescer::new(true) => None,
            0 => Some("coalescing: off, the device refuses trains".to_owned()),
            most => Some(format!(
                "coalescing: up to {most} bytes a datagram, trains of longer ones are refused (MTU)"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Transmit = Transmit {
        destination: Some(std::net::SocketAddr::V4(std::net::SocketAddrV4::new(
            std::net::Ipv4Addr::LOCALHOST,
            9,
        ))),
        source: None,
        ecn: crate::Ecn::NotCapable,
        segment_size: None,
        next_hop: None,
    };

    #[test]
    fn a_train_that_fails_for_another_reason_teaches_nothing() {
        let mut planner = TrainPlanner::new(true);
        let queue = [(100, TO); 4];
        let train = planner.next(0, queue).unwrap();
        assert!(!planner.take_apart(&train, libc::EAGAIN));
        assert!(planner.take_apart(&train, libc::EINVAL));
        assert_eq!(planner.next(0, queue).unwrap().datagrams, 1);
        assert_eq!(planner.next(3, queue).unwrap().datagrams, 1);
        assert_eq!(planner.next(4, queue).unwrap().datagrams, 4, "behind the refused train");
        planner.failed();
        assert_eq!(planner.next(0, queue).unwrap().datagrams, 4);
        assert_eq!((planner.refused(), planner.fallback()), (1, None));
    }

    #[test]
    fn a_train_longer_than_the_mtu_allows_lowers_the_limit_once() {
        let mut planner = TrainPlanner::new(true);
        let queue = [(1500, TO); 4];
        let train = planner.next(0, queue).unwrap();
        assert!(planner.take_apart(&train, libc::EMSGSIZE));
        let learned = (0..4).map(|_| planner.sent(&planner.next(0, queue).unwrap()));
        assert_eq!(learned.filter(|learned| *learned).count(), 1);
        assert_eq!(planner.next(0, queue).unwrap().datagrams, 1);
        assert_eq!(planner.next(0, [(1499, TO); 4]).unwrap().datagrams, 4);
        assert!(planner.fallback().unwrap().contains("1499 bytes"));
    }
}
