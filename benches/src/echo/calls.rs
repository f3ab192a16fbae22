//! How a server's system calls are counted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

/// Of this process.
static SYSTEM_CALLS: Counter =
    Counter { booked: AtomicU64::new(0), asked: AtomicBool::new(false), asking: Mutex::new(None) };

struct Counter {
    /// By servers that make their calls themselves.
    booked: AtomicU64,
    /// Whether the thread that serves is to answer, since only it can read its backend's count.
    asked: AtomicBool,
    asking: Mutex<Option<SyncSender<Option<u64>>>>,
}

/// Books `calls` more.
pub(super) fn count(calls: usize) {
    SYSTEM_CALLS.booked.fetch_add(calls as u64, Relaxed);
}

/// Called in every turn by the servers whose backend counts: reads `count` when it is asked for.
pub(super) fn answer(count: impl FnOnce() -> Option<u64>) {
    if SYSTEM_CALLS.asked.load(Relaxed)
        && let Ok(mut asking) = SYSTEM_CALLS.asking.lock()
        && let Some(asking) = asking.take()
    {
        SYSTEM_CALLS.asked.store(false, Relaxed);
        // Whoever asked may have given up.
        let _received = asking.send(count());
    }
}

/// The count so far, where there is one; `asks` if a server that has booked none has to be asked for it.
pub(super) fn so_far(asks: bool) -> Option<u64> {
    let booked = Some(SYSTEM_CALLS.booked.load(Relaxed)).filter(|calls| *calls > 0);
    if booked.is_some() || !asks {
        return booked;
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    *SYSTEM_CALLS.asking.lock().ok()? = Some(sender);
    SYSTEM_CALLS.asked.store(true, Relaxed);
    // A server sleeps for 100 ms at the most.
    receiver.recv_timeout(Duration::from_secs(1)).ok()?
}
