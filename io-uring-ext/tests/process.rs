//! Waiting for threads (futexes) and for processes.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{SOON, errno, lacks, run, until};
use io_uring_ext::op::{ChildEnd, FutexWait, FutexWaitV, FutexWake, WaitId};
use io_uring_ext::{Fd, Ring, WaitError};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

fn word(value: u32) -> Arc<AtomicU32> {
    Arc::new(AtomicU32::new(value))
}

#[test]
fn a_futex_wakes_who_waits() {
    if lacks("IORING_OP_FUTEX_WAIT") {
        return;
    }
    let ring = Ring::local().unwrap();
    let futex = word(7);
    assert_eq!(errno(run(&ring, FutexWait::new(&futex, 8))), libc::EAGAIN, "it is not 8");
    assert_eq!(run(&ring, FutexWake::new(&futex, 9)).unwrap(), 0, "nobody waits");

    let waits: Vec<_> = (0..3).map(|_| ring.push(FutexWait::new(&futex, 7)).unwrap()).collect();
    ring.submit().unwrap();
    assert_eq!(run(&ring, FutexWake::new(&futex, 2)).unwrap(), 2);
    until("two to be done", || {
        ring.submit().unwrap();
        waits.iter().filter(|wait| wait.is_done()).count() == 2
    });
    let (done, waiting): (Vec<_>, Vec<_>) = waits.into_iter().partition(|wait| wait.is_done());
    assert_eq!((done.len(), waiting.len()), (2, 1));
    for wait in done {
        wait.wait(SOON).unwrap().unwrap();
    }
    for wait in waiting {
        wait.cancel().unwrap();
        assert_eq!(errno(wait.wait(SOON).unwrap()), libc::ECANCELED);
    }
}

#[test]
fn a_futex_joins_a_ring_and_a_thread() {
    if lacks("IORING_OP_FUTEX_WAIT") {
        return;
    }
    let ring = Ring::local().unwrap();
    let futex = word(0);
    // A thread wakes the ring. It does so again and again, because it cannot see when the ring waits.
    let waker = std::thread::spawn({
        let futex = Arc::clone(&futex);
        move || {
            let ring = Ring::local().unwrap();
            futex.store(1, Ordering::Release);
            until("somebody to be woken", || run(&ring, FutexWake::new(&futex, 1)).unwrap() == 1);
        }
    });
    while futex.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    run(&ring, FutexWait::new(&futex, 1)).unwrap();
    waker.join().unwrap();
}

#[test]
fn one_of_several_futexes_wakes() {
    if lacks("IORING_OP_FUTEX_WAITV") {
        return;
    }
    let ring = Ring::local().unwrap();
    let words = [word(0), word(1), word(2)];
    let all = || words.iter().zip(0..);
    let wait = ring.push(FutexWaitV::new(all())).unwrap();
    ring.submit().unwrap();
    assert!(!wait.is_done());
    assert_eq!(run(&ring, FutexWake::new(&words[2], 1)).unwrap(), 1);
    assert_eq!(wait.wait(SOON).unwrap().unwrap(), 2);

    words[1].store(9, Ordering::Relaxed);
    assert_eq!(errno(run(&ring, FutexWaitV::new(all()))), libc::EAGAIN);
    assert_eq!(errno(run(&ring, FutexWaitV::new([]))), libc::EINVAL);
    let many = std::iter::repeat_n((&words[0], 0), FutexWaitV::MAX_WORDS + 1);
    assert_eq!(errno(run(&ring, FutexWaitV::new(many))), libc::EINVAL);
}

#[test]
fn a_word_outlives_whoever_made_it() {
    if lacks("IORING_OP_FUTEX_WAIT") {
        return;
    }
    let ring = Ring::local().unwrap();
    let futex = word(0);
    let waits = [
        ring.push(FutexWait::new(&futex, 0)).unwrap(),
        ring.push(FutexWait::new(&futex, 0)).unwrap(),
    ];
    ring.submit().unwrap();
    let weak = Arc::downgrade(&futex);
    drop(futex);
    assert_eq!(weak.strong_count(), 2, "the operations own it");
    drop(waits);
    until("the word to be freed", || {
        ring.submit().unwrap();
        weak.strong_count() == 0
    });
}

#[test]
fn children_are_reaped_with_how_they_ended() {
    if lacks("IORING_OP_WAITID") {
        return;
    }
    let ring = Ring::local().unwrap();
    let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    let seen = run(&ring, WaitId::process(child.id()).leave()).unwrap();
    assert_eq!((seen.process, seen.end), (child.id(), ChildEnd::Exited(3)));
    assert_eq!(run(&ring, WaitId::process(child.id())).unwrap(), seen, "it was left there");
    assert_eq!(errno(run(&ring, WaitId::process(child.id()))), libc::ECHILD, "it is gone");
    assert_eq!(errno(child.wait()), libc::ECHILD);
}

#[test]
fn a_child_is_awaited_by_its_descriptor() {
    if lacks("IORING_OP_WAITID") {
        return;
    }
    let ring = Ring::local().unwrap();
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    let pidfd = Fd::new(pidfd);
    let wait = ring.push(WaitId::pidfd(&pidfd)).unwrap();
    let wait = match wait.wait(Some(Duration::from_millis(5))).unwrap_err() {
        WaitError::TimedOut(wait) => wait,
        other => panic!("{other:?}"),
    };
    pidfd_send_signal(&pidfd, Signal::TERM).unwrap();
    let exit = wait.wait(SOON).unwrap().unwrap();
    assert_eq!((exit.process, exit.end), (id, ChildEnd::Killed(libc::SIGTERM)));
    assert_eq!(exit.user, rustix::process::getuid().as_raw());
    assert_eq!(errno(child.wait()), libc::ECHILD, "reaped already");
    let no_process = Fd::new(common::pipe().0);
    assert_eq!(errno(run(&ring, WaitId::pidfd(&no_process))), libc::EBADF);
}

#[test]
fn as_many_as_there_are_can_be_woken() {
    if lacks("IORING_OP_FUTEX_WAIT") {
        return;
    }
    let ring = Ring::local().unwrap();
    let futex = word(0);
    let waits: Vec<_> = (0..3).map(|_| ring.push(FutexWait::new(&futex, 0)).unwrap()).collect();
    ring.submit().unwrap();
    assert_eq!(run(&ring, FutexWake::new(&futex, u32::MAX)).unwrap(), 3);
    for wait in waits {
        wait.wait(SOON).unwrap().unwrap();
    }
}
