//! Submitting, completing, cancelling, waiting.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use common::{SOON, Tracked, count, counter, pipe, until};
use io_uring_ext::op::{Nop, Read, Timeout, TimeoutEnd};
use io_uring_ext::{Error, Fd, Local, Mode, OwnedBy, Pending, Ring, SqPoll, StartError, WaitError};
use rustix::event::{PollFd, PollFlags, Timespec};

fn readable(fd: &impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&now)).unwrap() > 0
}

#[test]
fn the_modes_have_the_setups_that_they_promise() {
    let local = Ring::local().unwrap();
    assert!(local.setup().single_issuer && local.setup().defer_taskrun);
    let shared = Ring::shared().unwrap();
    assert!(!shared.setup().single_issuer && !shared.setup().defer_taskrun);
    let sized = Ring::builder().entries(5).completions(100).operations(7).build_local().unwrap();
    let setup = sized.setup();
    assert_eq!((setup.entries, setup.completions, setup.operations), (8, 128, 7));
}

#[test]
fn contradictory_settings_are_refused_by_name() {
    for (builder, name) in [
        (Ring::builder().entries(0), "entries"),
        (Ring::builder().entries(40_000), "entries"),
        (Ring::builder().entries(64).completions(32), "completions"),
        (Ring::builder().operations(0), "operations"),
        (Ring::builder().sqpoll(SqPoll { idle: Some(Duration::ZERO), cpu: None }), "idle"),
    ] {
        let error = builder.build_local().unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn more_operations_than_the_submission_queue_holds() {
    let ring = Ring::builder().entries(4).completions(64).build_local().unwrap();
    let nops: Vec<_> = (0..64).map(|_| ring.push(Nop::new()).unwrap()).collect();
    for nop in nops {
        nop.wait(SOON).unwrap().unwrap();
    }
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn an_operation_without_a_place_comes_back() {
    let ring = Ring::builder().operations(1).build_local().unwrap();
    let (reader, _writer) = pipe();
    let reader = Fd::new(reader);
    let first = ring.push(Read::new(&reader, vec![0; 8], 0)).unwrap();
    let freed = counter();
    let refused = ring.push(Read::new(&reader, Tracked::new(8, &freed), 0)).unwrap_err();
    assert!(matches!(refused.why, StartError::TooMany { capacity: 1 }));
    assert_eq!(count(&freed), 0);
    drop(first);
    until("the place to become free", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    let second = ring.push(refused.operation).unwrap();
    drop(second);
}

#[test]
fn a_read_gets_its_data_and_its_buffer_back() {
    let ring = Ring::local().unwrap();
    let (reader, writer) = pipe();
    let read = ring.push(Read::new(&Fd::new(reader), Vec::with_capacity(64), 0)).unwrap();
    ring.submit().unwrap();
    assert!(!read.is_done());
    let read = match read.wait(Some(Duration::from_millis(5))).unwrap_err() {
        WaitError::TimedOut(read) => read,
        other => panic!("{other:?}"),
    };
    std::fs::File::from(writer).write_all(b"data").unwrap();
    let done = read.wait(SOON).unwrap();
    assert_eq!(done.result.unwrap(), 4);
    assert_eq!(done.buf, b"data");
}

#[test]
fn timeouts_expire_and_are_cancelled() {
    let ring = Ring::local().unwrap();
    let short = ring.push(Timeout::after(Duration::from_millis(1))).unwrap();
    assert!(matches!(short.wait(SOON).unwrap(), TimeoutEnd::Expired));
    let long = ring.push(Timeout::after(Duration::from_secs(1000))).unwrap();
    ring.submit().unwrap();
    long.cancel().unwrap();
    assert!(matches!(long.wait(SOON).unwrap(), TimeoutEnd::Cancelled));
}

/// Reads from a pipe into which nobody writes.
fn hanging_reads(ring: &Ring, reader: &Fd, n: usize) -> Vec<Pending<Read<Vec<u8>>, Local>> {
    let reads = (0..n).map(|_| ring.push(Read::new(reader, vec![0; 8], 0)).unwrap()).collect();
    ring.submit().unwrap();
    reads
}

#[test]
fn cancels_wait_for_room_in_the_submission_queue() {
    let ring = Ring::builder().entries(4).completions(256).operations(64).build_local().unwrap();
    let (reader, _writer) = pipe();
    let reads = hanging_reads(&ring, &Fd::new(reader), 64);
    assert_eq!(ring.in_flight(), 64);
    for read in &reads {
        read.cancel().unwrap();
        read.cancel().unwrap(); // twice is once
    }
    assert_eq!(ring.counters().waiting_cancels, 64, "the queue holds four");
    for read in reads {
        let done = read.wait(SOON).unwrap();
        assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    }
    let counters = ring.counters();
    assert_eq!((counters.cancels, counters.waiting_cancels, counters.stale), (64, 0, 0));
}

#[test]
fn cancelling_everything_reaches_everything() {
    let ring = Ring::local().unwrap();
    let (reader, _writer) = pipe();
    let reads = hanging_reads(&ring, &Fd::new(reader), 10);
    let timeout = ring.push(Timeout::after(Duration::from_secs(1000))).unwrap();
    ring.submit().unwrap();
    ring.cancel_all().unwrap();
    for read in reads {
        let done = read.wait(SOON).unwrap();
        assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    }
    assert!(matches!(timeout.wait(SOON).unwrap(), TimeoutEnd::Cancelled));
}

#[test]
fn dropped_operations_are_cancelled_and_freed_once() {
    let ring = Ring::builder().operations(8).build_local().unwrap();
    let (reader, _writer) = pipe();
    let reader = Fd::new(reader);
    let freed = counter();
    for round in 1..=100 {
        let read = ring.push(Read::new(&reader, Tracked::new(8, &freed), 0)).unwrap();
        if round % 2 == 0 {
            ring.submit().unwrap();
        }
        drop(read);
        until("the read to be freed", || {
            ring.submit().unwrap();
            count(&freed) == round
        });
    }
    assert_eq!(ring.counters().stale, 0);
}

#[test]
fn detached_operations_run_to_their_end() {
    let ring = Ring::local().unwrap();
    let (reader, writer) = pipe();
    let freed = counter();
    ring.push(Read::new(&Fd::new(reader), Tracked::new(8, &freed), 0)).unwrap().detach();
    ring.submit().unwrap();
    assert_eq!((count(&freed), ring.in_flight()), (0, 1));
    std::fs::File::from(writer).write_all(b"x").unwrap();
    until("the read to end", || {
        ring.submit().unwrap();
        count(&freed) == 1
    });
    assert_eq!(ring.counters().cancels, 0);
}

#[test]
fn results_outlive_the_ring() {
    let ring = Ring::local().unwrap();
    let (reader, _writer) = pipe();
    let reads = hanging_reads(&ring, &Fd::new(reader), 3);
    drop(ring);
    for read in reads {
        let done = read.wait(SOON).unwrap();
        assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        assert_eq!(done.buf.len(), 8);
    }
}

#[test]
fn waiting_for_completions_is_limited_in_time() {
    let ring = Ring::local().unwrap();
    assert_eq!(ring.wait(1, Some(Duration::from_millis(2))).unwrap(), 0);
    let _nop = ring.push(Nop::new()).unwrap();
    assert_eq!(ring.wait(1, SOON).unwrap(), 1);
}

#[test]
fn a_full_completion_queue_loses_nothing() {
    let ring = Ring::builder().entries(8).completions(8).operations(64).build_local().unwrap();
    let (reader, writer) = pipe();
    let reads = hanging_reads(&ring, &Fd::new(reader), 40);
    let mut writer = std::fs::File::from(writer);
    for _ in 0..40 {
        writer.write_all(b"8 bytes.").unwrap();
    }
    for read in reads {
        assert_eq!(read.wait(SOON).unwrap().result.unwrap(), 8);
    }
}

#[test]
fn idle_calls_make_no_system_calls() {
    let ring = Ring::local().unwrap();
    ring.push(Nop::new()).unwrap().wait(SOON).unwrap().unwrap();
    let before = ring.counters().enters;
    for _ in 0..1000 {
        ring.submit().unwrap();
    }
    assert_eq!(ring.counters().enters, before);
}

#[test]
fn a_local_ring_is_polled_through_an_eventfd() {
    let ring = Ring::local().unwrap();
    let (reader, writer) = pipe();
    let mut writer = std::fs::File::from(writer);
    let reader = Fd::new(reader);
    let poll_fd = ring.poll_fd().unwrap();
    ring.acknowledge().unwrap();
    for _ in 0..3 {
        let read = ring.push(Read::new(&reader, vec![0; 8], 0)).unwrap();
        ring.submit().unwrap();
        assert!(!readable(&poll_fd), "nothing has come");
        writer.write_all(b"x").unwrap();
        assert!(readable(&poll_fd), "a completion waits to be made");
        ring.acknowledge().unwrap();
        assert!(read.try_take().is_ok());
        assert!(!readable(&poll_fd), "acknowledged");
    }
}

#[test]
fn completions_from_before_the_poll_descriptor_was_asked_for_make_it_readable() {
    let ring = Ring::local().unwrap();
    let _nop = ring.push(Nop::new()).unwrap();
    ring.submit().unwrap();
    assert!(readable(&ring.poll_fd().unwrap()));
}

#[test]
fn a_shared_ring_is_polled_through_its_own_descriptor() {
    let ring = Ring::shared().unwrap();
    let (reader, writer) = pipe();
    let read = ring.push(Read::new(&Fd::new(reader), vec![0; 8], 0)).unwrap();
    ring.submit().unwrap();
    assert!(!readable(&ring.poll_fd().unwrap()));
    std::fs::File::from(writer).write_all(b"x").unwrap();
    until("the ring to be readable", || readable(&ring.poll_fd().unwrap()));
    ring.submit().unwrap();
    assert!(read.is_done());
}

#[test]
fn a_disabled_ring_belongs_to_the_thread_that_enables_it() {
    let ring = Ring::builder().build_disabled().unwrap();
    std::thread::spawn(move || {
        let ring = ring.enable().unwrap();
        ring.push(Nop::new()).unwrap().wait(SOON).unwrap().unwrap();
        // Registering is bound to the owner too.
        ring.poll_fd().unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn sqpoll_takes_submissions_awake_and_asleep() {
    let sqpoll = SqPoll { idle: Some(Duration::from_millis(1)), cpu: Some(0) };
    let ring = Ring::builder().sqpoll(sqpoll).build_local().unwrap();
    assert_eq!(ring.setup().sqpoll, Some(sqpoll));
    for _ in 0..20 {
        let nop = ring.push(Nop::new()).unwrap();
        nop.wait(SOON).unwrap().unwrap();
    }
    // The thread falls asleep after a millisecond; then a submission has to wake it.
    let sleeper = ring.push(Timeout::after(Duration::from_millis(50))).unwrap();
    assert!(matches!(sleeper.wait(SOON).unwrap(), TimeoutEnd::Expired));
    ring.push(Nop::new()).unwrap().wait(SOON).unwrap().unwrap();
}

#[test]
fn threads_share_a_ring_and_each_gets_its_own() {
    let ring = Ring::shared().unwrap();
    // The kernel may cancel what a thread has submitted, also for others, when the thread exits.
    let end = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let (ring, end) = (&ring, &end);
            scope.spawn(move || {
                let (reader, writer) = pipe();
                let (reader, mut writer) = (Fd::new(reader), std::fs::File::from(writer));
                for round in 0..200_u8 {
                    let read = ring.push(Read::new(&reader, Vec::with_capacity(2), 0)).unwrap();
                    ring.submit().unwrap();
                    // Sometimes the data is there before the wait, sometimes it comes during it.
                    if round % 2 == 0 {
                        writer.write_all(&[thread, round]).unwrap();
                        assert_eq!(read.wait(SOON).unwrap().buf, [thread, round]);
                    } else {
                        std::thread::scope(|inner| {
                            inner.spawn(|| writer.write_all(&[thread, round]).unwrap());
                            assert_eq!(read.wait(SOON).unwrap().buf, [thread, round]);
                        });
                    }
                }
                end.wait();
            });
        }
    });
    assert_eq!((ring.in_flight(), ring.counters().stale), (0, 0));
}

#[test]
fn the_longest_time_to_wait_is_taken() {
    for timeout in [Duration::MAX, Duration::from_secs(i64::MAX as u64)] {
        let ring = Ring::local().unwrap();
        let timer = ring.push(Timeout::after(Duration::from_millis(20))).unwrap();
        assert_eq!(ring.wait(1, Some(timeout)).unwrap(), 1);
        assert!(matches!(timer.wait(Some(timeout)).unwrap(), TimeoutEnd::Expired));
    }
}

#[test]
fn waiting_for_one_operation_is_one_system_call() {
    let ring = Ring::local().unwrap();
    let zero = Fd::new(std::fs::File::open("/dev/zero").unwrap());
    for _ in 0..3 {
        let before = ring.counters().enters;
        let read = ring.push(Read::new(&zero, vec![1; 8], 0)).unwrap();
        assert_eq!(read.wait(SOON).unwrap().buf, [0; 8]);
        assert_eq!(ring.counters().enters - before, 1);
    }
}

#[test]
fn a_wait_counts_what_came_since_the_last_one() {
    fn check<M: Mode>(ring: &Ring<M>)
    where
        Nop: OwnedBy<M>,
    {
        for want in [3, 0] {
            let nops: Vec<_> = (0..3).map(|_| ring.push(Nop::new()).unwrap()).collect();
            while !nops.iter().all(Pending::is_done) {
                ring.submit().unwrap();
            }
            assert_eq!(ring.wait(want, SOON).unwrap(), 3, "no sleep for what has been taken");
            assert_eq!(ring.wait(0, None).unwrap(), 0, "counted once");
        }
    }
    check(&Ring::local().unwrap());
    check(&Ring::shared().unwrap());
}
