//! [`Parked`]: datagrams that wait for a neighbour's answer.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::MacAddr;
use crate::udp::config::Limits;

/// One queue for each neighbour whose answer is awaited.
#[derive(Debug)]
pub(super) struct Parked<F> {
    queues: Vec<Queue<F>>,
    max_queues: usize,
    max_in_queue: usize,
    /// Frames in all queues.
    len: usize,
    /// Something could have left, had there been room.
    ready: bool,
}

#[derive(Debug)]
struct Queue<F> {
    hop: IpAddr,
    /// Each with the time when it came.
    frames: VecDeque<(Duration, F)>,
}

/// Who decides what becomes of frames that wait, and takes them.
pub(super) trait Settle<F> {
    /// What to do with the queue of a neighbour.
    fn judge(&mut self, hop: IpAddr) -> Verdict;

    /// Whether one more frame can go out now.
    fn has_room(&mut self) -> bool;

    /// Sends a frame through its neighbour, whose station this is.
    fn release(&mut self, frame: F, station: MacAddr);

    /// Takes a frame that has waited in vain.
    fn give_up(&mut self, frame: F);
}

/// What to do with the queue of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its frames go out through this station.
    Release(MacAddr),
    /// They go on waiting, but not for ever.
    Wait,
    /// They are given up.
    Abandon,
}

impl<F> Parked<F> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            queues: Vec::with_capacity(limits.parked_neighbours),
            max_queues: limits.parked_neighbours,
            max_in_queue: limits.parked_per_neighbour,
            len: 0,
            ready: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many frames can wait at most.
    pub(super) fn capacity(&self) -> usize {
        self.max_queues.saturating_mul(self.max_in_queue)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether something waits for this neighbour.
    pub(super) fn awaits(&self, hop: IpAddr) -> bool {
        self.queues.iter().any(|queue| queue.hop == hop)
    }

    /// Lets a frame wait. Gives back the one for which there is no place: the oldest of its queue,
    /// or itself when there are too many queues.
    pub(super) fn park(&mut self, hop: IpAddr, frame: F, now: Duration) -> Option<F> {
        let found = self.queues.iter().position(|queue| queue.hop == hop);
        let queue = match found {
            Some(i) => &mut self.queues[i],
            None if self.queues.len() >= self.max_queues || self.max_in_queue == 0 => {
                return Some(frame);
            }
            None => {
                let frames = VecDeque::with_capacity(self.max_in_queue);
                self.queues.push_mut(Queue { hop, frames })
            }
        };
        let oldest = if queue.frames.len() >= self.max_in_queue {
            queue.frames.pop_front().map(|(_, frame)| frame)
        } else {
            None
        };
        queue.frames.push_back((now, frame));
        self.len += usize::from(oldest.is_none());
        oldest
    }

    /// When [`settle`](Self::settle) has something to do at the latest.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Duration> {
        if self.ready {
            return Some(Duration::ZERO);
        }
        let oldest = self.queues.iter().filter_map(|queue| queue.frames.front());
        oldest.map(|(since, _)| since.saturating_add(timeout)).min()
    }

    /// Has `settler` judge every queue, and hands it the frames that go.
    pub(super) fn settle(
        &mut self,
        now: Duration,
        timeout: Duration,
        settler: &mut impl Settle<F>,
    ) {
        // Frames are counted one by one, and until all is done it is not done: `settler` may panic.
        self.ready = true;
        let (len, mut held_up) = (&mut self.len, false);
        self.queues.retain_mut(|queue| {
            let verdict = settler.judge(queue.hop);
            while let Some((since, _)) = queue.frames.front() {
                match verdict {
                    Verdict::Release(_) if !settler.has_room() => {
                        held_up = true;
                        break;
                    }
                    Verdict::Wait if now < since.saturating_add(timeout) => break,
                    _ => {}
                }
                let Some((_, frame)) = queue.frames.pop_front() else { break };
                *len -= 1;
                match verdict {
                    Verdict::Release(station) => settler.release(frame, station),
                    Verdict::Wait | Verdict::Abandon => settler.give_up(frame),
                }
            }
            !queue.frames.is_empty()
        });
        self.ready = held_up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn parked() -> Parked<u32> {
        let limits = Limits { parked_neighbours: 2, parked_per_neighbour: 2, ..Limits::default() };
        Parked::new(&limits)
    }

    const RELEASE: Verdict = Verdict::Release(MacAddr([7; 6]));

    #[derive(Default)]
    struct Settler {
        /// For hops 1 and 2; who has none panics.
        verdicts: Vec<Verdict>,
        room: usize,
        released: Vec<u32>,
        given_up: Vec<u32>,
    }

    impl Settle<u32> for Settler {
        fn judge(&mut self, of: IpAddr) -> Verdict {
            self.verdicts[usize::from(of != hop(1))]
        }

        fn has_room(&mut self) -> bool {
            self.room > 0
        }

        fn release(&mut self, frame: u32, station: MacAddr) {
            assert_eq!(station, MacAddr([7; 6]));
            self.room -= 1;
            self.released.push(frame);
        }

        fn give_up(&mut self, frame: u32) {
            self.given_up.push(frame);
        }
    }

    #[test]
    fn a_panic_of_the_judge_leaves_the_number_right() {
        let mut parked = parked();
        for (hop, frame) in [(hop(1), 10), (hop(2), 20), (hop(2), 21)] {
            parked.park(hop, frame, at(0));
        }
        let mut settler = Settler { verdicts: vec![RELEASE], room: 9, ..Settler::default() };
        let settle = || parked.settle(at(1), at(5), &mut settler);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(settle)).is_err());
        assert_eq!((&settler.released[..], parked.len()), (&[10][..], 2));
        assert_eq!(parked.deadline(at(5)), Some(Duration::ZERO), "the others are to be judged yet");
        settler.verdicts.push(RELEASE);
        parked.settle(at(1), at(5), &mut settler);
        assert_eq!((&settler.released[..], parked.len()), (&[10, 20, 21][..], 0));
    }

    #[test]
    fn limits_give_back_what_does_not_fit() {
        let mut parked = parked();
        assert_eq!(parked.park(hop(1), 10, at(0)), None);
        assert_eq!(parked.park(hop(1), 11, at(0)), None);
        assert_eq!(parked.park(hop(1), 12, at(0)), Some(10), "the oldest");
        assert_eq!(parked.park(hop(2), 20, at(0)), None);
        assert_eq!(parked.park(hop(3), 30, at(0)), Some(30), "a neighbour too many");
        assert_eq!(parked.len(), 3);
        let mut none = Parked::new(&Limits { parked_per_neighbour: 0, ..Limits::default() });
        assert_eq!(none.park(hop(1), 10, at(0)), Some(10));
        assert!(none.is_empty() && !none.awaits(hop(1)));
    }

    #[test]
    fn each_queue_is_settled_as_judged() {
        let mut parked = parked();
        for (hop, frame, time) in
            [(hop(1), 10, 0), (hop(1), 11, 4), (hop(2), 20, 0), (hop(2), 21, 0)]
        {
            parked.park(hop, frame, at(time));
        }
        assert_eq!(parked.deadline(at(5)), Some(at(5)));
        let mut settler =
            Settler { verdicts: vec![Verdict::Wait, RELEASE], room: 1, ..Settler::default() };
        parked.settle(at(5), at(5), &mut settler);
        assert_eq!((&settler.given_up[..], &settler.released[..]), (&[10][..], &[20][..]));
        assert_eq!(parked.len(), 2);
        assert_eq!(parked.deadline(at(5)), Some(Duration::ZERO), "21 could leave");
        let mut settler = Settler { verdicts: vec![Verdict::Abandon, RELEASE], room: 9, ..settler };
        parked.settle(at(5), at(5), &mut settler);
        assert_eq!((&settler.given_up[1..], &settler.released[1..]), (&[11][..], &[21][..]));
        assert!(parked.is_empty() && !parked.awaits(hop(1)));
        assert_eq!(parked.deadline(at(5)), None);
    }
}
