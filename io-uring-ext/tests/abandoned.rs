//! Descriptors that the kernel opens for nobody are closed, and those that it was to close are.
//!
//! One test, because it counts the descriptors of the process.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::fs;

use common::{directory, errno, run, until};
use io_uring_ext::op::{Close, Open, OpenOptions, Operation, PathAt, Pipe};
use io_uring_ext::probe::Probe;
use io_uring_ext::{Fd, Local, OwnedBy, Pending, Ring, SqPoll};

/// Open descriptors of this process.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Starts operations, abandons them in every way, and finds every descriptor closed.
fn none_is_left<T: Operation + OwnedBy<Local>>(operation: impl Fn() -> T) {
    type Fate<T> = fn(&Ring, Pending<T, Local>);
    let fates: [Fate<T>; 4] = [
        |_, pending| drop(pending),
        |_, pending| pending.detach(),
        |ring, pending| {
            ring.submit().unwrap();
            drop(pending);
        },
        |ring, pending| {
            until("the result", || {
                ring.submit().unwrap();
                pending.is_done()
            });
            drop(pending);
        },
    ];
    let sqpoll = Ring::builder().sqpoll(SqPoll { idle: None, cpu: None });
    for builder in [Ring::builder(), sqpoll] {
        let before = descriptors();
        let ring = builder.build_local().unwrap();
        let with_ring = descriptors();
        for fate in fates {
            for _ in 0..20 {
                fate(&ring, ring.push(operation()).unwrap());
            }
            until("everything to end", || {
                ring.submit().unwrap();
                ring.in_flight() == 0
            });
            assert_eq!(descriptors(), with_ring);
        }
        // Results that nobody has taken when the ring is gone.
        let pending: Vec<_> = (0..20).map(|_| ring.push(operation()).unwrap()).collect();
        drop(ring);
        drop(pending);
        assert_eq!(descriptors(), before);
    }
}

#[test]
fn no_descriptor_is_left_behind() {
    let dir = directory();
    let path = dir.path().join("file");
    fs::write(&path, "contents").unwrap();
    let open = || Open::new(PathAt::new(&path).unwrap(), OpenOptions::read_only());
    none_is_left(open);
    none_is_left(|| Close::new(fs::File::open(&path).unwrap()));
    match Probe::run().get("IORING_OP_PIPE") {
        Ok(()) => none_is_left(Pipe::new),
        Err(refusal) => bypass_core::testing::needs::skip_because(&format!("pipe: {refusal}")),
    }

    let before = descriptors();
    let ring = Ring::local().unwrap();

    // A close that was refused a place has closed nothing; dropped, it closes.
    let full = Ring::builder().operations(1).build_local().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let _place = full.push(io_uring_ext::op::Nop::new()).unwrap();
    let refused = full.push(Close::new(reader)).unwrap_err();
    assert!(std::io::Write::write(&mut writer, b"x").is_ok());
    drop(refused);
    assert_eq!(errno(std::io::Write::write(&mut writer, b"x")), libc::EPIPE);

    drop(writer);

    // What it closes, and when it can be had.
    let (reader, mut writer) = std::io::pipe().unwrap();
    let reader = Fd::new(reader);
    let shared = reader.clone();
    let reader = reader.try_into_owned().unwrap_err();
    drop(shared);
    run(&ring, Close::new(reader.try_into_owned().unwrap())).unwrap();
    assert_eq!(errno(std::io::Write::write(&mut writer, b"x")), libc::EPIPE);
    drop((writer, ring, full, _place));
    assert_eq!(descriptors(), before);
}
