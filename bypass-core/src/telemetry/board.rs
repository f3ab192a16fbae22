//! [`Board`]: what the workers of a program are doing, for others to see while they do it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::reading::Named;
use super::{Latency, Meter, Reading, Usage};
use crate::{Endpoint, Error, Occupancy, Result, Stats};

/// How long a reader waits for workers that are busy or asleep. The waiting strategies sleep for
/// 100 ms at the most.
const PATIENCE: Duration = Duration::from_millis(250);

/// Workers are asked no more often than this, however often the board is read.
const FRESH: Duration = Duration::from_millis(20);

/// What the workers of a program show of themselves; clones are the same board.
///
/// Each worker has a [`Meter`] on it and calls [`Meter::show`] in its loop. That is one relaxed load of a
/// number while nobody reads the board. When somebody does, the number changes, and each worker copies its
/// counters to the board in its next turn: no lock is waited for, and memory is allocated only the first
/// time. Who reads the board waits for that, not the workers.
///
/// ```
/// use bypass_core::backend::memory;
/// use bypass_core::telemetry::Board;
///
/// let board = Board::new();
/// let (end, _other) = memory::link(&memory::LinkOptions::default())?;
/// let mut port = end.open()?;
/// let mut meter = board.meter("0", None)?;
/// // ... receive, work, send ...
/// meter.show_now(&port); // in a loop: meter.show(&port)
/// assert_eq!(board.read()[0].backend, "memory");
/// # Ok::<(), bypass_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How often the workers have been asked.
    asked: AtomicU64,
    last: Mutex<Option<Instant>>,
    seats: Mutex<Vec<Arc<Seat>>>,
}

/// One worker's place.
#[derive(Debug)]
struct Seat {
    worker: String,
    core: Option<usize>,
    shown: Mutex<Shown>,
    fresh: Condvar,
    taken: Mutex<Taken>,
}

/// The times that readers have taken from what a worker has shown.
#[derive(Debug, Default)]
struct Taken {
    all: Latency,
    /// Empty: it takes the place of those that are taken, so that a worker never waits for a sum.
    spare: Latency,
}

/// What a worker has shown last.
#[derive(Debug, Default)]
struct Shown {
    /// The question that it was the answer to.
    answer: u64,
    at: Option<Instant>,
    ended: bool,
    backend: &'static str,
    elapsed: Duration,
    stats: Stats,
    usage: Usage,
    counters: Named<u64>,
    rings: Named<Occupancy>,
    /// Times that no reader has taken yet.
    recent: Latency,
}

impl Board {
    /// A board with nobody on it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to measure the calling thread, under the name of a worker and the core that it is pinned
    /// to. Dropping the meter leaves what it showed last on the board, until another takes its name.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a meter that is still there has that name.
    pub fn meter(&self, worker: impl Into<String>, core: Option<usize>) -> Result<Meter> {
        let worker = worker.into();
        let mut seats = locked(&self.0.seats);
        if let Some(at) = seats.iter().position(|seat| seat.worker == worker) {
            if !locked(&seats[at].shown).ended {
                let why = "another meter on this board has that name; each worker needs its own";
                return Err(Error::config("worker", worker, why));
            }
            seats.remove(at);
        }
        let seat = Arc::new(Seat {
            worker,
            core,
            shown: Mutex::default(),
            fresh: Condvar::new(),
            taken: Mutex::default(),
        });
        seats.push(Arc::clone(&seat));
        seats.sort_by(|a, b| (a.worker.len(), &a.worker).cmp(&(b.worker.len(), &b.worker)));
        Ok(Meter::on(Place { board: Arc::clone(&self.0), seat, answered: 0 }))
    }

    /// What each worker shows now, in the order of their names, numbers in theirs. Those that do not answer
    /// within 250 ms are there with what they showed last ([`Reading::age`]); those that have never shown
    /// anything are not.
    #[must_use]
    pub fn read(&self) -> Vec<Reading> {
        let question = self.ask();
        let deadline = Instant::now() + PATIENCE;
        let seats = locked(&self.0.seats).clone();
        seats.iter().filter_map(|seat| seat.read(question, deadline)).collect()
    }

    #[cfg(all(test, feature = "exporter"))]
    pub(super) fn ask_for_tests(&self) {
        self.ask();
    }

    /// Asks the workers, unless that has just been done.
    fn ask(&self) -> u64 {
        let mut last = locked(&self.0.last);
        let now = Instant::now();
        if last.is_some_and(|last| now.duration_since(last) < FRESH) {
            return self.0.asked.load(Ordering::Relaxed);
        }
        *last = Some(now);
        self.0.asked.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Seat {
    fn read(&self, question: u64, deadline: Instant) -> Option<Reading> {
        let mut shown = locked(&self.shown);
        while shown.answer < question && !shown.ended {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            let woken = self.fresh.wait_timeout(shown, left);
            shown = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let at = shown.at?;
        let mut taken = locked(&self.taken);
        std::mem::swap(&mut shown.recent, &mut taken.spare);
        let mut reading = Reading {
            worker: self.worker.clone(),
            core: self.core,
            backend: shown.backend,
            running: !shown.ended,
            age: at.elapsed(),
            elapsed: shown.elapsed,
            stats: shown.stats,
            usage: shown.usage,
            counters: shown.counters.to_vec(),
            rings: shown.rings.to_vec(),
            latency: Latency::default(),
        };
        drop(shown);
        let Taken { all, spare } = &mut *taken;
        all.merge(spare);
        spare.clear();
        reading.latency = all.clone();
        Some(reading)
    }
}

/// Where a meter shows what it measures.
#[derive(Debug)]
pub(super) struct Place {
    board: Arc<Shared>,
    seat: Arc<Seat>,
    answered: u64,
}

impl Place {
    /// Whether somebody has asked since the last answer.
    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        self.board.asked.load(Ordering::Relaxed) != self.answered
    }

    /// Puts what the worker shows on the board; `latency` is empty afterwards. When a reader is there at
    /// this very moment nothing is done, unless it is the `last` word: the next turn will.
    pub(super) fn answer(
        &mut self,
        last: bool,
        endpoint: &dyn Endpoint,
        more: impl FnOnce(&mut Showing<'_>),
        (elapsed, usage): (Duration, Usage),
        latency: &mut Latency,
    ) {
        let asked = self.board.asked.load(Ordering::Relaxed);
        let mut shown = match self.seat.shown.try_lock() {
            Ok(shown) => shown,
            Err(TryLockError::Poisoned(shown)) => shown.into_inner(),
            Err(TryLockError::WouldBlock) if last => locked(&self.seat.shown),
            Err(TryLockError::WouldBlock) => return,
        };
        (shown.answer, shown.at) = (asked, Some(Instant::now()));
        (shown.elapsed, shown.usage) = (elapsed, usage);
        shown.backend = endpoint.caps().backend;
        shown.stats = endpoint.stats();
        let Shown { stats, counters, rings, recent, .. } = &mut *shown;
        let mut showing = Showing { stats, counters, rings };
        showing.counters.begin();
        showing.rings.begin();
        endpoint.visit_counters(&mut |name, value| showing.counters.put(name, value));
        endpoint.visit_rings(&mut |name, ring| showing.rings.put(name, ring));
        more(&mut showing);
        showing.counters.end();
        showing.rings.end();
        if recent.count() == 0 {
            std::mem::swap(recent, latency);
        } else {
            recent.merge(latency);
            latency.clear();
        }
        drop(shown);
        self.answered = asked;
        self.seat.fresh.notify_all();
    }

    /// Adds the times that have been shown to `latency`.
    pub(super) fn add_shown(&self, latency: &mut Latency) {
        let shown = locked(&self.seat.shown);
        latency.merge(&shown.recent);
        latency.merge(&locked(&self.seat.taken).all);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.seat.shown).ended = true;
        self.seat.fresh.notify_all();
    }
}

/// What a worker is about to show: its endpoint's counters, to which an application can add its own.
#[derive(Debug)]
pub struct Showing<'s> {
    /// The endpoint's; what the application asks the kernel for beside it may be added.
    pub stats: &'s mut Stats,
    counters: &'s mut Named<u64>,
    rings: &'s mut Named<Occupancy>,
}

impl Showing<'_> {
    /// Shows a counter of the application's, beside those of the backend.
    pub fn counter(&mut self, name: &str, value: u64) {
        self.counters.put(name, value);
    }

    /// Shows how full a ring or queue of the application's is.
    pub fn ring(&mut self, name: &str, ring: Occupancy) {
        self.rings.put(name, ring);
    }
}

/// A panic elsewhere leaves counters that are as good as before.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::memory::{LinkOptions, MemoryPort, link};

    fn port() -> MemoryPort {
        link(&LinkOptions::default()).unwrap().0.open().unwrap()
    }

    #[test]
    fn nothing_is_shown_until_somebody_asks() {
        let (board, port) = (Board::new(), port());
        let mut meter = board.meter("0", Some(1)).unwrap();
        meter.show(&port);
        meter.latency.record(500);
        board.ask();
        meter.show_with(&port, |showing| {
            showing.counter("mine", 4);
            *showing.stats.wakeups.get_or_insert_default() += 3;
        });
        meter.latency.record(700);
        meter.show_with(&port, |_| panic!("nobody has asked again"));
        // Within the time in which nobody is asked anew.
        let readings = board.read();
        let [reading] = &readings[..] else { panic!("{readings:?}") };
        assert_eq!((&*reading.worker, reading.core, reading.running), ("0", Some(1), true));
        assert!(reading.counters.contains(&("mine".to_owned(), 4)), "{:?}", reading.counters);
        assert_eq!(reading.stats.wakeups, Some(3));
        assert_eq!(reading.rings[0].0, "tx");
        // What was recorded after it was shown is seen the next time, and by the worker at once.
        assert_eq!(reading.latency.count(), 1);
        assert_eq!(meter.snapshot(port.stats()).latency.count, 2);
        meter.show_now(&port);
        assert_eq!(board.read()[0].latency.count(), 2);
        assert_eq!(meter.snapshot(port.stats()).latency.count, 2);
    }

    #[test]
    fn a_worker_that_does_not_answer_holds_nobody_up_for_long() {
        let (board, port) = (Board::new(), port());
        let mut meter = board.meter("stuck", None).unwrap();
        assert!(board.read().is_empty(), "it has never shown anything");
        meter.show_now(&port);
        // Asked anew, it does not answer.
        let reading = loop {
            let reading = board.read().remove(0);
            if reading.age >= PATIENCE {
                break reading;
            }
        };
        assert!(reading.running);
    }

    #[test]
    fn a_name_is_taken_as_long_as_its_meter_is_there() {
        let (board, port) = (Board::new(), port());
        let mut meter = board.meter("a", None).unwrap();
        let error = board.meter("a", Some(1)).unwrap_err().to_string();
        assert!(error.starts_with("worker = a: another meter"), "{error}");
        meter.latency.record(1);
        meter.show_now(&port);
        drop(meter);
        let reading = board.read().remove(0);
        assert_eq!((reading.running, reading.latency.count()), (false, 1));
        let mut again = board.meter("a", Some(1)).unwrap();
        again.show_now(&port);
        let readings = board.read();
        assert_eq!((readings.len(), readings[0].core, readings[0].running), (1, Some(1), true));
    }
}
