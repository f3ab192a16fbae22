//! Ending operations early, and times.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::time::{Duration, Instant, SystemTime};

use common::{SOON, lacks, pipe};
use io_uring_ext::fixed::FileTable;
use io_uring_ext::op::{Cancel, Clock, Read, Timeout, TimeoutEnd, When};
use io_uring_ext::{Error, Fd, Local, Pending, Ring, Target};

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

type Reading = Pending<Read<Vec<u8>>, Local>;

fn reads(ring: &Ring, target: impl Into<Target>, n: usize) -> Vec<Reading> {
    let target = target.into();
    (0..n).map(|_| ring.push(Read::new(&target, vec![0; 8], 0)).unwrap()).collect()
}

fn cancelled(reads: Vec<Reading>) -> bool {
    reads.into_iter().all(|read| {
        let errno = read.wait(SOON).unwrap().result.unwrap_err().raw_os_error();
        errno == Some(libc::ECANCELED)
    })
}

#[test]
fn what_works_on_one_descriptor_is_cancelled_and_nothing_else() {
    let ring = Ring::local().unwrap();
    let ((one, _writer), (other, _other_writer)) = (pipe(), pipe());
    let (one, other) = (Fd::new(one), Fd::new(other));
    let table = FileTable::new(&ring, 2).unwrap();
    let slot = table.install(&one).unwrap();

    let (on_one, on_other) = (reads(&ring, &one, 5), reads(&ring, &other, 5));
    ring.submit().unwrap();
    let found = ring.push(Cancel::target(&one)).unwrap().wait(SOON).unwrap();
    assert_eq!(found.unwrap(), 5);
    assert!(cancelled(on_one));
    assert!(on_other.iter().all(|read| !read.is_done()));
    assert_eq!(ring.push(Cancel::target(&one)).unwrap().wait(SOON).unwrap().unwrap(), 0);

    // A fixed file is the same file by another name, which the kernel tells apart only by number.
    let on_slot = reads(&ring, &slot, 3);
    ring.submit().unwrap();
    ring.cancel_target(&slot).unwrap();
    assert!(cancelled(on_slot));
    assert!(on_other.iter().all(|read| !read.is_done()));
    ring.cancel_target(&other).unwrap();
    assert!(cancelled(on_other));

    let foreign = Ring::local().unwrap().cancel_target(&slot).unwrap_err();
    assert!(matches!(foreign, Error::ForeignRing));
}

#[test]
fn a_cancel_waits_for_room_and_for_a_place() {
    let ring = Ring::builder().entries(2).operations(8).build_local().unwrap();
    let (reader, _writer) = pipe();
    let reader = Fd::new(reader);
    let mut on_reader = reads(&ring, &reader, 8);
    ring.submit().unwrap();
    // No place is left, so it cannot even be told to the kernel.
    ring.cancel_target(&reader).unwrap();
    assert!(on_reader.iter().all(|read| !read.is_done()));
    let first = on_reader.remove(0);
    first.cancel().unwrap();
    first.wait(SOON).unwrap().result.unwrap_err();
    // Now there is one.
    assert!(cancelled(on_reader));
}

#[test]
fn cancelling_can_wait_for_the_end() {
    if lacks("IORING_REGISTER_SYNC_CANCEL") {
        return;
    }
    let ring = Ring::local().unwrap();
    ring.cancel_now(None, SOON).unwrap(); // nothing is there
    let ((one, _writer), (other, _other_writer)) = (pipe(), pipe());
    let (one, other) = (Fd::new(one), Fd::new(other));
    let (on_one, on_other) = (reads(&ring, &one, 4), reads(&ring, &other, 4));
    ring.cancel_now(Some(&Target::from(&one)), SOON).unwrap();
    assert!(on_one.iter().all(Pending::is_done), "their results are there");
    assert!(on_other.iter().all(|read| !read.is_done()));
    ring.cancel_now(None, None).unwrap();
    assert!(on_other.iter().all(Pending::is_done));
    assert!(cancelled(on_one) && cancelled(on_other));
}
