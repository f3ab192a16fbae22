//! The kernel writes nothing to memory that has been released.
//!
//! Buffers here are parts of one arena that is never unmapped. When a buffer is released, its `Drop`
//! fills it with poison; later the arena is searched for anything else. What the kernel wrote after
//! the release would show. The last test does it wrong on purpose, with the bare `io-uring` crate, and
//! expects to see it: so the others can fail.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![allow(unsafe_code, reason = "a ring without protection")]

mod common;

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::arena::{Arena, Piece};
use common::file::direct_file;
use io_uring_ext::buf::IoBufMut;
use io_uring_ext::op::Read;
use io_uring_ext::{Fd, Pending, Ring, leaked_operations};

const PIECE: usize = 1 << 20;
const PIECES: usize = 32;

/// Waits until the kernel has long been done, and tells whether it wrote to the first `pieces`.
fn written_in_the_end(arena: &Arena, pieces: usize) -> bool {
    // There is no completion left to wait for: that is the point.
    for _ in 0..5 {
        if !(0..pieces).all(|n| arena.is_poison(n)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    !(0..pieces).all(|n| arena.is_poison(n))
}

fn arena() -> Arena {
    Arena::new(PIECES, PIECE)
}

type Reading = Pending<Read<Piece>, io_uring_ext::Local>;

fn start_reads(ring: &Ring, file: &Fd, arena: &Arena, submit: bool) -> Vec<Reading> {
    let read = |n| ring.push(Read::new(file, arena.piece(n), (n * PIECE) as u64)).unwrap();
    let reads = (0..PIECES).map(read).collect();
    if submit {
        ring.submit().unwrap();
    }
    reads
}

/// What becomes of the operations' handles before the ring is dropped.
const FATES: [fn(Vec<Reading>); 2] = [drop, |reads| reads.into_iter().for_each(Pending::detach)];

#[test]
fn nothing_is_written_after_a_ring_with_direct_reads_is_dropped() {
    let file = Fd::new(direct_file(PIECES * PIECE));
    for fate in FATES {
        for submit in [true, false] {
            let arena = arena();
            let ring = Ring::local().unwrap();
            fate(start_reads(&ring, &file, &arena, submit));
            drop(ring);
            assert_eq!(arena.released(), PIECES, "all memory is released");
            assert!(!written_in_the_end(&arena, PIECES));
        }
    }
}

#[test]
fn nothing_is_written_after_a_panic_unwinds_through_a_ring() {
    let file = Fd::new(direct_file(PIECES * PIECE));
    let arena = arena();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let ring = Ring::local().unwrap();
        let _reads = start_reads(&ring, &file, &arena, true);
        std::panic::resume_unwind(Box::new("in the middle"));
    }));
    assert!(unwound.is_err());
    assert_eq!(arena.released(), PIECES);
    assert!(!written_in_the_end(&arena, PIECES));
}

#[test]
fn nothing_is_written_when_the_shutdown_deadline_has_passed() {
    let file = Fd::new(direct_file(PIECES * PIECE));
    let arena = arena();
    let ring = Ring::builder().shutdown_deadline(Duration::ZERO).build_local().unwrap();
    drop(start_reads(&ring, &file, &arena, true));
    let before = leaked_operations();
    let leaked = ring.close();
    assert!(leaked > 0, "32 MiB are not read in no time");
    assert_eq!(leaked_operations() - before, leaked as u64);
    assert_eq!(arena.released(), PIECES - leaked, "what the kernel may still use is not released");
    let released = (0..PIECES).filter(|n| arena.is_poison(*n));
    assert_eq!(released.count(), PIECES - leaked, "released memory is still poison");
}

#[test]
fn a_deadline_beyond_the_clock_is_none() {
    let file = Fd::new(direct_file(PIECES * PIECE));
    let arena = arena();
    let ring = Ring::builder().shutdown_deadline(Duration::MAX).build_local().unwrap();
    let reads = start_reads(&ring, &file, &arena, true);
    assert_eq!(ring.close(), 0);
    drop(reads);
    assert_eq!(arena.released(), PIECES);
    assert!(!written_in_the_end(&arena, PIECES));
}

#[test]
fn forgetting_leaks_memory_and_releases_none() {
    let file = Fd::new(direct_file(PIECES * PIECE));
    for forget_the_ring in [true, false] {
        let arena = arena();
        let ring = Ring::local().unwrap();
        std::mem::forget(start_reads(&ring, &file, &arena, true));
        if forget_the_ring {
            std::mem::forget(ring)
        } else {
            drop(ring)
        }
        assert_eq!(arena.released(), 0);
    }
}

#[test]
fn nothing_is_written_after_a_ring_with_socket_reads_is_dropped() {
    for _ in 0..50 {
        let arena = arena();
        let (near, mut far) = UnixStream::pair().unwrap();
        let near = Fd::new(near);
        let ring = Ring::local().unwrap();
        let reads: Vec<Reading> =
            (0..4).map(|n| ring.push(Read::new(&near, arena.piece(n), 0)).unwrap()).collect();
        ring.submit().unwrap();
        // The data races with the drop.
        let writer = std::thread::spawn(move || {
            for _ in 0..4 {
                if far.write_all(&[0; 4096]).is_err() {
                    break;
                }
            }
        });
        drop((reads, ring, near));
        writer.join().unwrap();
        assert_eq!(arena.released(), 4);
        assert!((0..4).all(|n| arena.is_poison(n)));
    }
}

/// The same, without this crate: what the tests above would see if it did nothing.
#[test]
fn the_bare_ring_does_write_after_it_is_dropped() {
    let file = direct_file(PIECES * PIECE);
    for _ in 0..20 {
        let arena = arena();
        let mut ring = io_uring::IoUring::new(64).unwrap();
        let mut pieces: Vec<_> = (0..PIECES).map(|n| arena.piece(n)).collect();
        for (piece, n) in pieces.iter_mut().zip(0..) {
            let fd = io_uring::types::Fd(file.as_raw_fd());
            let read = io_uring::opcode::Read::new(fd, piece.stable_mut_ptr(), PIECE as u32)
                .offset(n * PIECE as u64)
                .build();
            // SAFETY: the arena is never unmapped, so the kernel writes to memory that is there.
            unsafe { ring.submission().push(&read) }.unwrap();
        }
        ring.submit().unwrap();
        drop(ring);
        drop(pieces); // "freed", while the kernel still reads into them
        if written_in_the_end(&arena, PIECES) {
            return;
        }
    }
    panic!("the kernel never wrote after the release, so the other tests show nothing");
}

#[test]
fn an_operation_holds_its_descriptor_until_its_end() {
    // Else its number could come to mean another file before the kernel looks at it.
    let ring = Ring::local().unwrap();
    let (reader, writer) = common::pipe();
    let mut writer = File::from(writer);
    let arena = arena();
    let read = ring.push(Read::new(&Fd::new(reader), arena.piece(0), 0)).unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(read.wait(common::SOON).unwrap().result.unwrap(), 1);
    common::until("the pipe to have no reader", || {
        writer.write_all(b"x").is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
    });
}
