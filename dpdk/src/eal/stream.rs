//! The stream that DPDK writes its messages to, which ends in a [`Sink`].
//!
//! Relied on: DPDK formats a message, writes it to its stream and flushes, all on one thread
//! (`rte_vlog`, `rte_log.c`); the C library hands what is flushed to the stream's `write` function
//! (fopencookie(3)), which passes it on with the message's level. The stream is never closed.

use std::cell::{Cell, RefCell};
use std::ffi::c_char;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use bypass_dpdk_sys as sys;

use super::log::{Level, Record, Sink};
use crate::error::{DpdkError, Result};

static STREAM: Mutex<Stream> = Mutex::new(Stream { open: false, sink: None });

struct Stream {
    open: bool,
    sink: Option<Sink>,
}

thread_local! {
    /// The errors that this thread met, while it collects them.
    static COLLECTED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    /// Whether this thread is in the sink: what DPDK is made to say there is dropped.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Makes DPDK write to `sink`, or to standard error.
pub(super) fn open(sink: Option<Sink>) -> Result<()> {
    let mut stream = STREAM.lock().unwrap_or_else(PoisonError::into_inner);
    stream.sink = sink;
    if stream.open {
        return Ok(());
    }
    // SAFETY: `take` keeps the contract of such a function.
    match unsafe { sys::bypass_log_to(Some(take)) } {
        0 => stream.open = true,
        code => return Err(DpdkError::refused("give DPDK a stream for its messages", code)),
    }
    Ok(())
}

/// Runs `call`, and returns with its result what DPDK logged as errors on this thread meanwhile.
pub(crate) fn collect<T>(call: impl FnOnce() -> T) -> (T, Vec<String>) {
    let before = COLLECTED.replace(Some(Vec::new()));
    let result = call();
    (result, COLLECTED.replace(before).unwrap_or_default())
}

/// Takes what DPDK flushes: whole lines, nearly always one.
unsafe extern "C" fn take(level: u32, text: *const c_char, len: usize) {
    // SAFETY: the C library passes that many bytes, which nobody changes during the call.
    let text = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    if !INSIDE.replace(true) {
        // Into C no panic may go; what panicked has said so itself.
        let _lost = catch_unwind(AssertUnwindSafe(|| deliver(Level::from_number(level), text)));
        INSIDE.set(false);
    }
}

fn deliver(level: Level, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let sink = STREAM.lock().unwrap_or_else(PoisonError::into_inner).sink.clone();
    for message in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        if level <= Level::Error {
            COLLECTED.with_borrow_mut(|collected| {
                collected.iter_mut().for_each(|collected| collected.push(message.to_owned()));
            });
        }
        match &sink {
            Some(sink) => sink.take(&Record { level, message }),
            None => {
                // There is nobody left to tell.
                let _lost = writeln!(std::io::stderr(), "{message}");
            }
        }
    }
}
