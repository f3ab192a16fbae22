//! The readers: each keeps as many reads under way as the job says, until its time is over.

mod fio;
mod ours;
mod threads;

#[cfg(feature = "peers")]
mod compio;
#[cfg(feature = "peers")]
mod glommio;
#[cfg(feature = "peers")]
mod tokio;

use anyhow::{Context as _, Result};

use super::Job;
use crate::child::{self, Clock, Outcome, Tally};

/// A contestant.
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    /// Whether it is compared with all the others.
    pub(crate) ours: bool,
    pub(super) measure: fn(Job) -> Result<Outcome>,
}

/// A reader of this program, on a thread of its own.
macro_rules! here {
    ($read:path) => {
        |job| on_a_thread(job, $read)
    };
}

pub(crate) const READERS: &[Reader] = &[
    Reader { name: "io_uring", ours: true, measure: here!(ours::registered) },
    Reader { name: "io_uring, nothing registered", ours: false, measure: here!(ours::plain) },
    Reader { name: "io_uring, SQPOLL", ours: false, measure: here!(ours::polled) },
    Reader { name: "fio", ours: false, measure: fio::one_by_one },
    Reader { name: "fio, batches", ours: false, measure: fio::in_batches },
    Reader { name: "pread threads", ours: false, measure: here!(threads::read) },
    #[cfg(feature = "peers")]
    Reader { name: "tokio::fs", ours: false, measure: here!(tokio::file) },
    #[cfg(feature = "peers")]
    Reader { name: "tokio spawn_blocking", ours: false, measure: here!(tokio::blocking) },
    #[cfg(feature = "peers")]
    Reader { name: "glommio", ours: false, measure: here!(glommio::read) },
    #[cfg(feature = "peers")]
    Reader { name: "compio", ours: false, measure: here!(compio::read) },
];

pub(crate) fn find(name: &str) -> Result<&'static Reader> {
    let reader = READERS.iter().find(|reader| reader.name == name);
    reader.with_context(|| format!("there is no reader `{name}`"))
}

fn on_a_thread(job: Job, read: fn(&Job, Clock) -> Result<Tally>) -> Result<Outcome> {
    let window = job.window;
    child::measure(window, move |clock| read(&job, clock))
}
