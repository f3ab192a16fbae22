//! How many buffers a pool has, which keep it alive together.
//!
//! # What the unsafe code here relies on
//!
//! Buffers count in their pool, not each with an `Rc`: many of them are counted with one addition.
//! As long as the count is above 0, the pool owns an `Rc` of itself ([`hold`], [`let_go`]), so the
//! pointer in a counted buffer is valid.

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

use super::{Kind, Shared};

/// Counts `n` more buffers of a pool.
#[inline]
pub(super) fn hold<K: Kind>(pool: &Rc<Shared<K>>, n: usize) {
    if count(&pool.buffers, n) == 0 && n > 0 {
        // The pool's `Rc` of itself.
        let _until_it_is_let_go = Rc::into_raw(Rc::clone(pool));
    }
}

/// Adds `n` to a count, and returns what it was. It must not begin anew, however many were forgotten: at its
/// end it stays, and the pool with it.
#[inline]
pub(super) fn count(buffers: &Cell<usize>, n: usize) -> usize {
    buffers.replace(buffers.get().saturating_add(n))
}

/// Counts `n` buffers of a pool less; with the last of them the pool may go.
///
/// # Safety
///
/// They must have been counted, and must not be used any more.
pub(super) unsafe fn let_go<K: Kind>(pool: NonNull<Shared<K>>, n: usize) {
    // SAFETY: the caller's buffers are counted, so the pool is there.
    let buffers = unsafe { &pool.as_ref().buffers };
    if buffers.get() == usize::MAX {
        return;
    }
    let left = buffers.get() - n;
    buffers.set(left);
    if left == 0 && n > 0 {
        // SAFETY: it is the pool's `Rc` of itself, which `hold` has made when the count left 0.
        drop(unsafe { Rc::from_raw(pool.as_ptr()) });
    }
}

/// What [`let_go`] may end the pool by: it comes from the `Rc`, not from a reference to what is inside.
pub(super) fn pointer<K: Kind>(pool: &Rc<Shared<K>>) -> NonNull<Shared<K>> {
    // SAFETY: an `Rc` is never null.
    unsafe { NonNull::new_unchecked(Rc::as_ptr(pool).cast_mut()) }
}
