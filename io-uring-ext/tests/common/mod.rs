//! What the tests share.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(unsafe_code, reason = "a buffer type and wakers of the tests' own")]

pub mod arena;
pub mod file;
pub mod fixed;
pub mod stream;
pub mod task;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bypass_core::testing::needs::skip_because;
use io_uring_ext::Ring;
use io_uring_ext::buf::{IoBuf, IoBufMut};
use io_uring_ext::op::Operation;
use io_uring_ext::probe::Probe;

/// Long enough for anything that happens at all.
pub const SOON: Option<Duration> = Some(Duration::from_secs(10));

/// A heap buffer that counts when it is freed.
#[derive(Debug)]
pub struct Tracked {
    bytes: Vec<u8>,
    freed: Arc<AtomicUsize>,
}

impl Tracked {
    pub fn new(size: usize, freed: &Arc<AtomicUsize>) -> Self {
        Self { bytes: vec![0; size], freed: Arc::clone(freed) }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.freed.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: a vector's heap block does not move with the vector.
unsafe impl IoBuf for Tracked {
    fn stable_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }
    fn init_len(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: the block belongs to the vector alone; all of it is initialised.
unsafe impl IoBufMut for Tracked {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        self.bytes.len()
    }
    unsafe fn set_init(&mut self, _len: usize) {}
}

pub fn counter() -> Arc<AtomicUsize> {
    Arc::new(AtomicUsize::new(0))
}

pub fn count(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::SeqCst)
}

/// A pipe: read end, write end.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}

/// Calls `done` until it is true; fails the test if that takes unreasonably long.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// A directory on the file system where the project is built, or, where that cannot be written to, where
/// temporary files are.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_| tempfile::tempdir()).unwrap()
}

/// The `errno` of a result that is an error.
pub fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// Runs an operation to its end.
pub fn run<T>(ring: &Ring, operation: T) -> T::Output
where
    T: Operation,
{
    ring.push(operation).unwrap().wait(SOON).unwrap()
}

/// Whether this kernel lacks what the test is about; says so.
pub fn lacks(capability: &str) -> bool {
    let probe = Probe::run();
    let Err(refusal) = probe.get(capability) else { return false };
    skip_because(&format!("{capability}: {refusal}"));
    true
}

/// The bytes of a vector from `from` on, `len` of them.
#[derive(Debug)]
pub struct Part {
    pub bytes: Vec<u8>,
    pub from: usize,
    pub len: usize,
}

impl Part {
    fn check(&self) {
        assert!(self.from + self.len <= self.bytes.len());
    }
}

// SAFETY: a vector's heap block does not move with the vector; `check` keeps the part inside it.
unsafe impl IoBuf for Part {
    fn stable_ptr(&self) -> *const u8 {
        self.check();
        self.bytes[self.from..].as_ptr()
    }
    fn init_len(&self) -> usize {
        self.check();
        self.len
    }
}

// SAFETY: the block belongs to the vector alone; all of it is initialised.
unsafe impl IoBufMut for Part {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.check();
        self.bytes[self.from..].as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        self.check();
        self.len
    }
    unsafe fn set_init(&mut self, _len: usize) {}
}
