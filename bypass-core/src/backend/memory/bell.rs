//! [`Bell`]: wakes the other end of a link, and costs nothing while that end is awake.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use self::sync::{AtomicBool, Ordering, fence};
use crate::{Error, Result};

/// The model checker puts its own atomics here.
mod sync {
    #[cfg(all(test, model))]
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering, fence};
    #[cfg(not(all(test, model)))]
    pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
}

/// Who has to be woken at one end, and no lock: whoever goes to sleep says so and then looks for
/// packets once more; whoever has put packets on the cable looks afterwards whether somebody
/// sleeps. With a full fence between the two steps on both sides, at least one sees the other.
#[derive(Debug)]
struct Alarm {
    /// The end sleeps in `wait`, or is about to: ring once.
    armed: AtomicBool,
    /// Somebody polls the descriptor from outside: ring always.
    watched: AtomicBool,
}

impl Alarm {
    fn new() -> Self {
        Self { armed: AtomicBool::new(false), watched: AtomicBool::new(false) }
    }

    /// The sleeper's first step. The second is to look for packets.
    fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The same as `arm` for one who watches from now on. Answers whether it is the first time.
    fn watch(&self) -> bool {
        let first = !self.watched.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        first
    }

    /// The second step of whoever has put packets on the cable: whether to wake the sleeper, and
    /// whether the watcher.
    fn rings(&self) -> (bool, bool) {
        fence(Ordering::SeqCst);
        let armed = self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::Relaxed);
        (armed, self.watched.load(Ordering::Relaxed))
    }
}

/// One end's sleeping places. They are two, so that a `wait` cannot take away the ring that an
/// event loop on the descriptor is to hear.
#[derive(Debug)]
struct Side {
    alarm: Alarm,
    sleeper: OwnedFd,
    watcher: OwnedFd,
}

/// Rings at the other end, and hears it ring here.
#[derive(Debug)]
pub(super) struct Bell {
    here: Arc<Side>,
    there: Arc<Side>,
}

/// The bells of the two ends.
pub(super) fn bells() -> Result<(Bell, Bell)> {
    let event = || {
        eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|error| Error::os("make an eventfd for a memory link", error))
    };
    let side = || -> Result<_> {
        Ok(Arc::new(Side { alarm: Alarm::new(), sleeper: event()?, watcher: event()? }))
    };
    let (a, b) = (side()?, side()?);
    let bell =
        |here: &Arc<Side>, there: &Arc<Side>| Bell { here: here.clone(), there: there.clone() };
    Ok((bell(&a, &b), bell(&b, &a)))
}

impl Bell {
    /// Wakes the other end if it sleeps. Returns the number of system calls made.
    pub(super) fn ring(&self) -> u64 {
        let (armed, watched) = self.there.alarm.rings();
        if armed {
            signal(&self.there.sleeper);
        }
        if watched {
            signal(&self.there.watcher);
        }
        u64::from(armed) + u64::from(watched)
    }

    /// Asks to be woken by the next ring; look for packets once more before sleeping.
    pub(super) fn arm(&self) {
        self.here.alarm.arm();
    }

    /// Sleeps until the bell rings (true), the time is over or a signal comes (false).
    pub(super) fn sleep(&self, timeout: Option<Duration>) -> Result<bool> {
        // A time beyond what the kernel counts is as good as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut fds = [PollFd::new(&self.here.sleeper, PollFlags::IN)];
        let rang = match poll(&mut fds, timeout.as_ref()) {
            Ok(n) => n > 0,
            Err(Errno::INTR) => false,
            Err(error) => return Err(Error::os("wait on a memory link", error)),
        };
        // Whoever slept until its time was over stays armed: at most one ring too many.
        if rang {
            silence(&self.here.sleeper);
        }
        Ok(rang)
    }

    /// Called when there is nothing to receive: a watched descriptor stops being readable, unless
    /// `idle` says that something has come meanwhile. Returns the number of system calls made.
    pub(super) fn settle(&self, idle: impl FnOnce() -> bool) -> u64 {
        if !self.here.alarm.watched.load(Ordering::Relaxed) {
            return 0;
        }
        // A packet is on the cable before its ring: one whose ring ends here is seen now.
        silence(&self.here.watcher);
        if idle() {
            return 1;
        }
        signal(&self.here.watcher);
        2
    }

    /// The descriptor for an event loop; from now on every ring is written to it. What is on the
    /// cable already, as `pending` finds, makes it readable too.
    pub(super) fn watch(&self, pending: impl FnOnce() -> bool) -> BorrowedFd<'_> {
        if self.here.alarm.watch() || pending() {
            signal(&self.here.watcher);
        }
        self.here.watcher.as_fd()
    }
}

impl Drop for Bell {
    /// Whoever waits at the other end must hear that nothing more will come. The owner of the bell
    /// drops its ends of the cable first.
    fn drop(&mut self) {
        signal(&self.there.sleeper);
        signal(&self.there.watcher);
    }
}

fn signal(event: &OwnedFd) {
    // The counter can only be full of earlier rings, which wake just as well.
    let _already_ringing = rustix::io::write(event, &1u64.to_ne_bytes());
}

fn silence(event: &OwnedFd) {
    let _nothing_to_read = rustix::io::read(event, &mut [0; 8]);
}

/// Every interleaving of one end that sends and one that goes to sleep:
/// `RUSTFLAGS="--cfg model" cargo test -p bypass-core --lib model`.
#[cfg(all(test, model))]
mod model {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;

    /// The cable is a counter that is written and read with the ordering of the real one.
    struct Link {
        alarm: Alarm,
        packets: AtomicUsize,
        signals: AtomicUsize,
    }

    impl Link {
        fn new() -> Arc<Self> {
            let zero = || AtomicUsize::new(0);
            Arc::new(Self { alarm: Alarm::new(), packets: zero(), signals: zero() })
        }

        fn send(&self) {
            self.packets.store(self.packets.load(Ordering::Relaxed) + 1, Ordering::Release);
            let (armed, watched) = self.alarm.rings();
            if armed || watched {
                self.signals.fetch_add(1, Ordering::Release);
            }
        }
    }

    #[test]
    fn a_sleeper_sees_the_packet_or_is_woken() {
        loom::model(|| {
            let link = Link::new();
            let sender = Arc::clone(&link);
            let sender = thread::spawn(move || sender.send());
            link.alarm.arm();
            let sleeps = link.packets.load(Ordering::Acquire) == 0;
            sender.join().unwrap();
            assert!(!sleeps || link.signals.load(Ordering::Acquire) > 0, "it sleeps for good");
        });
    }

    /// Two sleeps: a ring that was taken away after the first cannot have been for a packet that the
    /// second misses.
    #[test]
    fn a_sleeper_that_was_woken_may_sleep_again() {
        loom::model(|| {
            let link = Link::new();
            let sender = Arc::clone(&link);
            let sender = thread::spawn(move || {
                sender.send();
                sender.send();
            });
            link.alarm.arm();
            let before = link.packets.load(Ordering::Acquire);
            link.signals.swap(0, Ordering::AcqRel);
            link.alarm.arm();
            let seen = link.packets.load(Ordering::Acquire);
            sender.join().unwrap();
            let woken = link.signals.load(Ordering::Acquire) > 0;
            assert!(before <= seen && (seen == 2 || woken), "it sleeps for good");
        });
    }

    #[test]
    fn a_watcher_sees_the_packet_or_is_signalled() {
        loom::model(|| {
            let link = Link::new();
            let sender = Arc::clone(&link);
            let sender = thread::spawn(move || sender.send());
            link.alarm.watch();
            let idle = link.packets.load(Ordering::Acquire) == 0;
            sender.join().unwrap();
            assert!(!idle || link.signals.load(Ordering::Acquire) > 0, "the loop hears nothing");
        });
    }
}
