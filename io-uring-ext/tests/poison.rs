//! The kernel writes nothing to memory that has been released.
//!
//! Buffers here are parts of one arena that is never unmapped. When a buffer is released, its `Drop`
//! fills it with poison; later the arena is searched for anything else. What the kernel wrote after
//! the release would show. The last test does it wrong on purpose, with the bare `io-uring` crate, and
//! expects to see it: so the others can fail.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![allow(
    unsafe_code,
    reason = "a buffer type that outlives its release, and a ring without protection"
)]

mod common;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{count, counter};
use io_uring_ext::buf::{IoBuf, IoBufMut};
use io_uring_ext::op::Read;
use io_uring_ext::{Fd, Pending, Ring, leaked_operations};

const POISON: u8 = 0xa5;
const PIECE: usize = 1 << 20;
const PIECES: usize = 32;

/// Memory that stays mapped whatever is released, so that looking at it is always allowed.
struct Arena {
    base: *mut u8,
    released: Arc<AtomicUsize>,
}

impl Arena {
    fn new() -> Self {
        let map = memmap2::MmapMut::map_anon(PIECE * PIECES).unwrap();
        let base = Box::leak(Box::new(map)).as_mut_ptr();
        Self { base, released: counter() }
    }

    fn piece(&self, n: usize) -> Piece {
        assert!(n < PIECES);
        let address = self.base.wrapping_add(n * PIECE);
        Piece { address, released: Arc::clone(&self.released) }
    }

    /// Bytes that are not poison any more, among the first `pieces`.
    fn written(&self, pieces: usize) -> usize {
        // SAFETY: the mapping is never unmapped. The kernel may write meanwhile, which is what is
        // looked for; bytes are read one by one and volatile.
        let byte = |n| unsafe { self.base.wrapping_add(n).read_volatile() };
        (0..pieces * PIECE).filter(|n| byte(*n) != POISON).count()
    }

    /// Waits until the kernel has long been done, and counts what it wrote.
    fn written_in_the_end(&self, pieces: usize) -> usize {
        // There is no completion left to wait for: that is the point. Two equal counts apart in time
        // end the wait when something was written, and the fixed number of rounds when nothing is.
        let mut last = self.written(pieces);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.written(pieces);
            if now > 0 && now == last {
                break;
            }
            last = now;
        }
        last
    }
}

struct Piece {
    address: *mut u8,
    released: Arc<AtomicUsize>,
}

// SAFETY: the arena is never unmapped, and each piece is handed out once per test round.
unsafe impl IoBuf for Piece {
    fn stable_ptr(&self) -> *const u8 {
        self.address
    }
    fn init_len(&self) -> usize {
        PIECE
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Piece {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.address
    }
    fn capacity(&self) -> usize {
        PIECE
    }
    unsafe fn set_init(&mut self, _len: usize) {}
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: the piece is inside the arena, which is never unmapped.
        unsafe { self.address.write_bytes(POISON, PIECE) };
        self.released.fetch_add(1, Ordering::SeqCst);
    }
}

/// A file of zeros, opened past the page cache, and removed from its directory.
fn direct_file() -> File {
    let path = std::env::temp_dir().join(format!(
        "io-uring-ext-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let mut file = File::create(&path).unwrap();
    for _ in 0..PIECES {
        file.write_all(&vec![0; PIECE]).unwrap();
    }
    file.sync_all().unwrap();
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    std::fs::remove_file(&path).unwrap();
    direct.unwrap()
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
    let file = Fd::new(direct_file());
    for fate in FATES {
        for submit in [true, false] {
            let arena = Arena::new();
            let ring = Ring::local().unwrap();
            fate(start_reads(&ring, &file, &arena, submit));
            drop(ring);
            assert_eq!(count(&arena.released), PIECES, "all memory is released");
            assert_eq!(arena.written_in_the_end(PIECES), 0);
        }
    }
}

#[test]
fn nothing_is_written_after_a_panic_unwinds_through_a_ring() {
    let file = Fd::new(direct_file());
    let arena = Arena::new();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let ring = Ring::local().unwrap();
        let _reads = start_reads(&ring, &file, &arena, true);
        std::panic::resume_unwind(Box::new("in the middle"));
    }));
    assert!(unwound.is_err());
    assert_eq!(count(&arena.released), PIECES);
    assert_eq!(arena.written_in_the_end(PIECES), 0);
}

#[test]
fn nothing_is_written_when_the_shutdown_deadline_has_passed() {
    let file = Fd::new(direct_file());
    let arena = Arena::new();
    let ring = Ring::builder().shutdown_deadline(Duration::ZERO).build_local().unwrap();
    drop(start_reads(&ring, &file, &arena, true));
    let before = leaked_operations();
    let leaked = ring.close();
    assert!(leaked > 0, "32 MiB are not read in no time");
    assert_eq!(leaked_operations() - before, leaked as u64);
    assert_eq!(
        count(&arena.released),
        PIECES - leaked,
        "what the kernel may still use is not released"
    );
    let released = (0..PIECES).filter(|n| {
        // SAFETY: inside the arena, which is never unmapped.
        unsafe { arena.base.wrapping_add(n * PIECE).read_volatile() == POISON }
    });
    assert_eq!(released.count(), PIECES - leaked, "released memory is still poison");
}

#[test]
fn a_deadline_beyond_the_clock_is_none() {
    let file = Fd::new(direct_file());
    let arena = Arena::new();
    let ring = Ring::builder().shutdown_deadline(Duration::MAX).build_local().unwrap();
    let reads = start_reads(&ring, &file, &arena, true);
    assert_eq!(ring.close(), 0);
    drop(reads);
    assert_eq!(count(&arena.released), PIECES);
    let written = arena.written(PIECES);
    assert_eq!(arena.written_in_the_end(PIECES), written);
}

#[test]
fn forgetting_leaks_memory_and_releases_none() {
    let file = Fd::new(direct_file());
    for forget_the_ring in [true, false] {
        let arena = Arena::new();
        let ring = Ring::local().unwrap();
        std::mem::forget(start_reads(&ring, &file, &arena, true));
        if forget_the_ring {
            std::mem::forget(ring)
        } else {
            drop(ring)
        }
        assert_eq!(count(&arena.released), 0);
    }
}

#[test]
fn nothing_is_written_after_a_ring_with_socket_reads_is_dropped() {
    for _ in 0..50 {
        let arena = Arena::new();
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
        assert_eq!(count(&arena.released), 4);
        assert_eq!(arena.written(4), 0);
    }
}

/// The same, without this crate: what the tests above would see if it did nothing.
#[test]
fn the_bare_ring_does_write_after_it_is_dropped() {
    let file = direct_file();
    for _ in 0..20 {
        let arena = Arena::new();
        let mut ring = io_uring::IoUring::new(64).unwrap();
        let pieces: Vec<_> = (0..PIECES).map(|n| arena.piece(n)).collect();
        for (piece, n) in pieces.iter().zip(0..) {
            let fd = io_uring::types::Fd(file.as_raw_fd());
            let read = io_uring::opcode::Read::new(fd, piece.address, PIECE as u32)
                .offset(n * PIECE as u64)
                .build();
            // SAFETY: the arena is never unmapped, so the kernel writes to memory that is there.
            unsafe { ring.submission().push(&read) }.unwrap();
        }
        ring.submit().unwrap();
        drop(ring);
        drop(pieces); // "freed", while the kernel still reads into them
        if arena.written_in_the_end(PIECES) > 0 {
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
    let arena = Arena::new();
    let read = ring.push(Read::new(&Fd::new(reader), arena.piece(0), 0)).unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(read.wait(common::SOON).unwrap().result.unwrap(), 1);
    common::until("the pipe to have no reader", || {
        writer.write_all(b"x").is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
    });
}
