//! [`Local`] and [`Shared`]: who may use a ring, and what that costs.

use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

/// A ring used by the one thread that enabled it.
///
/// Kernel side: `IORING_SETUP_SINGLE_ISSUER` (Linux 6.0) and `IORING_SETUP_DEFER_TASKRUN` (Linux
/// 6.1). The kernel answers `EEXIST` to any other thread, so everything that belongs to such a ring
/// is `!Send`, and nothing in it is atomic or locked.
#[derive(Clone, Copy, Debug)]
pub enum Local {}

/// A ring that threads share: `Send` and `Sync`, with a lock around its state.
///
/// Kernel side: none of the single-issuer flags. Works from Linux 5.19.
///
/// The kernel works on an operation in the name of the thread that submitted it. Once that thread has
/// exited it may cancel the operation, as late as when there is something to do for it: the operation
/// then ends with `ECANCELED` though nobody asked. Receivers notice and arm themselves again
/// ([`Orphaned`](crate::buf_ring::EndReason::Orphaned)); other operations are the caller's to repeat.
#[derive(Clone, Copy, Debug)]
pub enum Shared {}

/// [`Local`] or [`Shared`].
pub trait Mode: sealed::Sealed + Debug + Sized + 'static {
    #[doc(hidden)]
    type Ptr<T>: Clone + Deref<Target = T> + From<T>;
    #[doc(hidden)]
    type Lock<T>: Lock<T>;
    #[doc(hidden)]
    const LOCAL: bool;

    /// What the pointer points to, if it is the last one.
    #[doc(hidden)]
    fn unwrap<T>(ptr: Self::Ptr<T>) -> Result<T, Self::Ptr<T>>;
}

/// What a ring of mode `M` may own: anything for [`Local`], what is `Send` for [`Shared`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be owned by a ring in `{M}` mode",
    note = "a ring owns what its operations use until the kernel is done with it, so it must be \
            `'static`; a `Shared` ring may free it on another thread, so there it must be `Send` too"
)]
pub trait OwnedBy<M: Mode>: 'static {}

impl<T: 'static> OwnedBy<Local> for T {}
impl<T: Send + 'static> OwnedBy<Shared> for T {}

impl Mode for Local {
    type Ptr<T> = Rc<T>;
    type Lock<T> = RefCell<T>;
    const LOCAL: bool = true;

    fn unwrap<T>(ptr: Rc<T>) -> Result<T, Rc<T>> {
        Rc::try_unwrap(ptr)
    }
}

impl Mode for Shared {
    type Ptr<T> = Arc<T>;
    type Lock<T> = Mutex<T>;
    const LOCAL: bool = false;

    fn unwrap<T>(ptr: Arc<T>) -> Result<T, Arc<T>> {
        Arc::try_unwrap(ptr)
    }
}

/// Exclusive access for the length of a closure.
#[doc(hidden)]
pub trait Lock<T>: From<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R;
}

impl<T> Lock<T> for RefCell<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.borrow_mut())
    }
}

impl<T> Lock<T> for Mutex<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // A panic of another thread while it held the lock came from a caller's buffer type; the ring's
        // own state is changed only after such calls, or back (`Placing`, `Sequence`), so it is whole.
        f(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Local {}
    impl Sealed for super::Shared {}
}
