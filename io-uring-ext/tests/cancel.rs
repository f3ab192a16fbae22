//! Ending operations early, and times.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::time::{Duration, Instant, SystemTime};

use common::SOON;
use io_uring_ext::Ring;
use io_uring_ext::op::{Clock, Timeout, TimeoutEnd, When};

const NEVER: Duration = Duration::from_secs(1000);

/// What the clock says, counted from where it counts from.
fn now(clock: Clock) -> Duration {
    let id = match clock {
        Clock::Boottime => rustix::time::ClockId::Boottime,
        Clock::Realtime => rustix::time::ClockId::Realtime,
        _ => rustix::time::ClockId::Monotonic,
    };
    rustix::time::clock_gettime(id).try_into().unwrap()
}

#[test]
fn every_clock_tells_when_a_timeout_expires() {
    let ring = Ring::local().unwrap();
    let wait = Duration::from_millis(20);
    for clock in [Clock::Monotonic, Clock::Boottime, Clock::Realtime] {
        for absolute in [true, false] {
            let when = if absolute {
                When::at(clock, now(clock) + wait)
            } else {
                When::after_on(clock, wait)
            };
            let began = Instant::now();
            let timeout = ring.push(Timeout::new(when)).unwrap();
            assert!(matches!(timeout.wait(SOON).unwrap(), TimeoutEnd::Expired), "{clock:?}");
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(19), "{clock:?} {absolute}: {took:?}");
        }
        // The past is now, and far from it is far.
        let past = ring.push(Timeout::new(When::at(clock, Duration::from_secs(1)))).unwrap();
        assert!(matches!(past.wait(SOON).unwrap(), TimeoutEnd::Expired));
        let future = ring.push(Timeout::new(When::at(clock, now(clock) + NEVER))).unwrap();
        assert!(future.wait(Some(wait)).is_err());
    }
    let soon = SystemTime::now() + wait;
    let timeout = ring.push(Timeout::new(soon)).unwrap();
    assert!(matches!(timeout.wait(SOON).unwrap(), TimeoutEnd::Expired));
    assert!(SystemTime::now() >= soon);
    let before_1970 = SystemTime::UNIX_EPOCH - NEVER;
    let past = ring.push(Timeout::new(before_1970)).unwrap();
    assert!(matches!(past.wait(SOON).unwrap(), TimeoutEnd::Expired));
}

#[test]
fn the_longest_time_is_never() {
    let ring = Ring::local().unwrap();
    for clock in [Clock::Monotonic, Clock::Boottime, Clock::Realtime] {
        for time in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1 << 63)] {
            for when in [When::after_on(clock, time), When::at(clock, time)] {
                let timeout = ring.push(Timeout::new(when)).unwrap();
                ring.submit().unwrap();
                assert!(!timeout.is_done(), "{when:?}");
                timeout.cancel().unwrap();
                assert!(matches!(timeout.wait(SOON).unwrap(), TimeoutEnd::Cancelled), "{when:?}");
            }
        }
    }
}

#[test]
fn a_running_timeout_is_changed_and_removed() {
    let ring = Ring::local().unwrap();
    let timeout = ring.push(Timeout::after(NEVER)).unwrap();
    // Later still, then sooner.
    timeout.update(NEVER * 2).unwrap().wait(SOON).unwrap().unwrap();
    assert!(!timeout.is_done());
    timeout.update(Duration::from_millis(1)).unwrap().wait(SOON).unwrap().unwrap();
    assert!(matches!(timeout.wait(SOON).unwrap(), TimeoutEnd::Expired));

    let timeout = ring.push(Timeout::after(NEVER)).unwrap();
    let soon = When::at(Clock::Monotonic, now(Clock::Monotonic) + Duration::from_millis(5));
    timeout.update(soon).unwrap().wait(SOON).unwrap().unwrap();
    assert!(matches!(timeout.wait(SOON).unwrap(), TimeoutEnd::Expired));

    let timeout = ring.push(Timeout::after(NEVER)).unwrap();
    timeout.remove().unwrap().wait(SOON).unwrap().unwrap();
    // It is over: nothing is left to change or to remove.
    let late = timeout.update(NEVER).unwrap().wait(SOON).unwrap();
    assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let late = timeout.remove().unwrap().wait(SOON).unwrap();
    assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert!(matches!(timeout.wait(SOON).unwrap(), TimeoutEnd::Cancelled));
}
