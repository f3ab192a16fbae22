//! [`Parked`]: datagrams that wait for a neighbour's answer.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

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

/// What to do with the queue of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its frames go out.
    Release,
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

    /// Does as `judge` says with every queue. `release` takes a frame or gives it back when there is
    /// no room now. Answers how many were given up.
    pub(super) fn settle<T: Copy>(
        &mut self,
        now: Duration,
        timeout: Duration,
        mut judge: impl FnMut(IpAddr) -> (Verdict, T),
        mut release: impl FnMut(F, T) -> Result<(), F>,
    ) -> usize {
        let (mut given_up, mut released) = (0, 0);
        let mut ready = false;
        self.queues.retain_mut(|queue| {
            let (verdict, how) = judge(queue.hop);
            let before = queue.frames.len();
            match verdict {
                Verdict::Abandon => queue.frames.clear(),
                Verdict::Wait => {
                    while queue
                        .frames
                        .front()
                        .is_some_and(|(since, _)| since.saturating_add(timeout) <= now)
                    {
                        queue.frames.pop_front();
                    }
                }
                Verdict::Release => {
                    while let Some((since, frame)) = queue.frames.pop_front() {
                        if let Err(frame) = release(frame, how) {
                            queue.frames.push_front((since, frame));
                            ready = true;
                            break;
                        }
                    }
                }
            }
            let gone = before - queue.frames.len();
            if verdict == Verdict::Release {
                released += gone;
            } else {
                given_up += gone;
            }
            !queue.frames.is_empty()
        });
        self.ready = ready;
        self.len -= given_up + released;
        given_up
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
        let mut out = Vec::new();
        let judge = |of| if of == hop(1) { (Verdict::Wait, 0) } else { (Verdict::Release, 7) };
        let given_up = parked.settle(at(5), at(5), judge, |frame, how| {
            if out.is_empty() {
                out.push((frame, how));
                Ok(())
            } else {
                Err(frame)
            }
        });
        assert_eq!((given_up, &out[..], parked.len()), (1, &[(20, 7)][..], 2));
        assert_eq!(parked.deadline(at(5)), Some(Duration::ZERO), "21 could leave");
        let judge = |of| if of == hop(1) { (Verdict::Abandon, 0) } else { (Verdict::Release, 7) };
        let given_up = parked.settle(at(5), at(5), judge, |frame, how| {
            out.push((frame, how));
            Ok(())
        });
        assert_eq!((given_up, &out[1..]), (1, &[(21, 7)][..]));
        assert!(parked.is_empty() && !parked.awaits(hop(1)));
        assert_eq!(parked.deadline(at(5)), None);
    }
}
