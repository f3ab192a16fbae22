//! What to do when there is nothing to do: spin, sleep, or spin and then sleep.

use std::time::{Duration, Instant};

use crate::{Endpoint, Interest, Result};

/// How long [`Block`] and [`Adaptive`] sleep at the most, so that a loop sees its stop signal.
const LIMIT: Duration = Duration::from_millis(100);

/// How a loop passes the time between bursts.
///
/// ```
/// use bypass_core::{Adaptive, Burst, Interest, PacketIo, Result, WaitStrategy};
///
/// fn run<P: PacketIo>(port: &mut P, mut wait: impl WaitStrategy) -> Result<()> {
///     let mut burst = Burst::with_capacity(32);
///     loop {
///         let n = port.recv(&mut burst)?;
///         # if n == 0 { return Ok(()) }
///         // ... work on the burst ...
///         burst.clear();
///         wait.after(n, port, Interest::RX)?;
///     }
/// }
/// ```
pub trait WaitStrategy {
    /// Called after each turn of the loop with the number of packets that it moved; returns when
    /// it is time for the next turn.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::wait`].
    fn after(
        &mut self,
        packets: usize,
        endpoint: &mut dyn Endpoint,
        interest: Interest,
    ) -> Result<()>;
}

/// Never sleeps: the lowest latency, for a whole core of CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusyPoll;

impl WaitStrategy for BusyPoll {
    fn after(&mut self, packets: usize, _: &mut dyn Endpoint, _: Interest) -> Result<()> {
        if packets == 0 {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

/// Sleeps whenever there is nothing: the least CPU time, at the price of a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The longest sleep.
    pub limit: Duration,
}

impl Default for Block {
    /// Sleeps at most 100 ms at a time.
    fn default() -> Self {
        Self { limit: LIMIT }
    }
}

impl WaitStrategy for Block {
    fn after(
        &mut self,
        packets: usize,
        endpoint: &mut dyn Endpoint,
        interest: Interest,
    ) -> Result<()> {
        if packets == 0 {
            endpoint.wait(interest, Some(self.limit))?;
        }
        Ok(())
    }
}

/// Spins for a while, then sleeps: low latency under load, little CPU time when idle.
///
/// Every turn that moves packets begins the while anew. It is a time and not a number of turns, because an empty
/// turn takes 30 ns on one backend and 300 on another.
///
/// ```
/// use std::time::Duration;
/// use bypass_core::Adaptive;
///
/// let mut thrifty = Adaptive::new(Duration::ZERO);
/// assert!(thrifty.is_time_to_sleep(0), "there was nothing to do");
/// let mut eager = Adaptive::new(Duration::MAX);
/// assert!(!eager.is_time_to_sleep(0), "there may be something soon");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// How long nothing has to come before it sleeps.
    pub spin: Duration,
    /// The longest sleep.
    pub limit: Duration,
    idle_since: Option<Instant>,
}

impl Adaptive {
    /// Sleeps when nothing has come for `spin`, at most 100 ms at a time.
    #[must_use]
    pub const fn new(spin: Duration) -> Self {
        Self { spin, limit: LIMIT, idle_since: None }
    }

    /// Takes note of a turn that moved so many packets, and says whether to sleep now, for loops that wait for
    /// more than an endpoint. Whoever was told so begins to spin anew.
    #[must_use]
    pub fn is_time_to_sleep(&mut self, packets: usize) -> bool {
        if packets > 0 {
            self.idle_since = None;
            return false;
        }
        let now = Instant::now();
        let idle = now.duration_since(*self.idle_since.get_or_insert(now));
        if idle < self.spin {
            std::hint::spin_loop();
            return false;
        }
        self.idle_since = None;
        true
    }
}

impl Default for Adaptive {
    /// Spins for 5 µs, about what it costs to sleep and to be woken: whatever comes when, no more than twice the
    /// CPU time is spent that somebody would spend who knew it beforehand. More buys latency.
    fn default() -> Self {
        Self::new(Duration::from_micros(5))
    }
}

impl WaitStrategy for Adaptive {
    fn after(
        &mut self,
        packets: usize,
        endpoint: &mut dyn Endpoint,
        interest: Interest,
    ) -> Result<()> {
        if self.is_time_to_sleep(packets) {
            endpoint.wait(interest, Some(self.limit))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Caps, Ready, Stats};

    /// Counts the sleeps that it is asked for.
    struct Sleeper(Caps, Vec<Duration>);

    impl Endpoint for Sleeper {
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }

        fn wait(&mut self, _: Interest, timeout: Option<Duration>) -> Result<Ready> {
            self.1.extend(timeout);
            Ok(Ready::empty())
        }

        fn caps(&self) -> &Caps {
            &self.0
        }

        fn stats(&self) -> Stats {
            Stats::default()
        }
    }

    fn sleeps(strategy: &mut dyn WaitStrategy, turns: &[usize]) -> usize {
        let mut sleeper = Sleeper(Caps::new("test", 0, 0), Vec::new());
        for &packets in turns {
            strategy.after(packets, &mut sleeper, Interest::RX).unwrap();
        }
        assert!(sleeper.1.iter().all(|&limit| limit == LIMIT), "no sleep is without a limit");
        sleeper.1.len()
    }

    #[test]
    fn each_strategy_sleeps_when_it_should() {
        assert_eq!(sleeps(&mut BusyPoll, &[0, 0, 0, 5, 0]), 0);
        assert_eq!(sleeps(&mut Block::default(), &[0, 3, 0, 5, 0]), 3);
        assert_eq!(sleeps(&mut Adaptive::new(Duration::ZERO), &[0, 1, 0]), 2);
        assert_eq!(sleeps(&mut Adaptive::new(Duration::MAX), &[0, 0, 9, 0]), 0);
    }

    #[test]
    fn it_spins_for_as_long_as_it_was_told_to() {
        let spin = Duration::from_millis(2);
        let mut wait = Adaptive::new(spin);
        // After packets, and after a sleep, the time begins anew.
        for packets in [1, 0] {
            let begin = Instant::now();
            let _first = wait.is_time_to_sleep(packets);
            while !wait.is_time_to_sleep(0) {}
            assert!(begin.elapsed() >= spin, "no sleep before that");
        }
    }
}
