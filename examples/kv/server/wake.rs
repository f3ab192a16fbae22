//! [`Wakers`]: tasks of one thread that wait for the same thing.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

#[derive(Debug, Default)]
pub struct Wakers(RefCell<Vec<Waker>>);

impl Wakers {
    /// Waits until `ready` has something; it is asked again after each [`wake`](Self::wake).
    pub async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        poll_fn(|context| match ready() {
            Some(value) => Poll::Ready(value),
            None => {
                self.0.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Has all look again.
    pub fn wake(&self) {
        // A waker only queues its task, which is run later.
        self.0.borrow_mut().drain(..).for_each(Waker::wake);
    }
}
