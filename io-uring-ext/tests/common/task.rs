//! Wakers that watch what is done with them.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

use io_uring_ext::{Mode, Ring};

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub struct Woken(AtomicUsize);

impl Woken {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once.
pub fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Polls until the future is ready, and sleeps in the ring meanwhile: the simplest driver there is.
/// Polls only when woken, so a wake that is lost is a test that fails.
pub fn drive<M: Mode, F: Future>(ring: &Ring<M>, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let woken = Woken::new();
    let waker = Waker::from(Arc::clone(&woken));
    let mut polled_at = None;
    let deadline = std::time::Instant::now() + super::SOON.unwrap();
    loop {
        assert!(std::time::Instant::now() < deadline, "nobody woke the task");
        let now = woken.times();
        if polled_at != Some(now) {
            polled_at = Some(now);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
        } else {
            ring.wait(1, super::SOON).unwrap();
        }
    }
}

/// What a waker is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Clone,
    Wake,
    Drop,
}

/// A waker of this thread that calls `hook` for everything that is done with it.
pub struct Hooked;

struct Inner {
    hook: Box<dyn Fn(Call)>,
    /// So that a hook may use wakers, and so call itself.
    busy: Cell<bool>,
}

impl Hooked {
    pub fn waker(hook: impl Fn(Call) + 'static) -> Waker {
        let inner = Rc::new(Inner { hook: Box::new(hook), busy: Cell::new(false) });
        // SAFETY: the functions keep the contract of `RawWaker`, except that they stay on one
        // thread, as the tests that use them do.
        unsafe { Waker::from_raw(raw(inner)) }
    }
}

fn raw(inner: Rc<Inner>) -> RawWaker {
    RawWaker::new(Rc::into_raw(inner).cast(), &VTABLE)
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// # Safety
///
/// `data` is of a waker that exists.
unsafe fn borrow(data: *const ()) -> std::mem::ManuallyDrop<Rc<Inner>> {
    // SAFETY: it came from `Rc::into_raw`, and the count stays as it was.
    std::mem::ManuallyDrop::new(unsafe { Rc::from_raw(data.cast()) })
}

fn call(inner: &Inner, what: Call) {
    if !inner.busy.replace(true) {
        struct Done<'a>(&'a Inner);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.busy.set(false);
            }
        }
        let _done = Done(inner);
        (inner.hook)(what);
    }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: called by the waker that owns `data`.
    let inner = unsafe { borrow(data) };
    call(&inner, Call::Clone);
    raw(Rc::clone(&inner))
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the waker that owns `data` is used up by this.
    let inner: Rc<Inner> = unsafe { Rc::from_raw(data.cast()) };
    call(&inner, Call::Wake);
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: called by the waker that owns `data`.
    let inner = unsafe { borrow(data) };
    call(&inner, Call::Wake);
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: the waker that owns `data` is used up by this.
    let inner: Rc<Inner> = unsafe { Rc::from_raw(data.cast()) };
    call(&inner, Call::Drop);
}
