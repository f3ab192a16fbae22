//! One thread per core, each with a backend queue of its own.
//!
//! ```
//! use bypass_core::worker::{Workers, available_cores};
//!
//! let cores = available_cores()?;
//! let workers = Workers::spawn(&cores[..1], |worker| {
//!     // Open the queue `worker.index()` here, on the thread that drives it.
//!     let mut turns = 0u64;
//!     loop {
//!         turns += 1; // receive, work, send
//!         if worker.stopping() {
//!             return Ok(turns);
//!         }
//!     }
//! })?;
//! workers.stop();
//! assert!(workers.join()?.iter().all(|&turns| turns > 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::telemetry::{Board, Meter};
use crate::{Error, Result};

/// The cores that the calling thread may run on.
///
/// # Errors
///
/// When the kernel refuses to tell.
pub fn available_cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None)
        .map_err(|error| Error::os("ask which cores this thread may run on", error))?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Pins the calling thread to one core. Threads that it starts later are pinned there too, until
/// they are pinned elsewhere.
///
/// # Errors
///
/// [`Error::Config`] for a core that is not there, or that the process's cpuset excludes.
pub fn pin_to(core: usize) -> Result<()> {
    let refused = || {
        let why = "there is no such core, or this process may not use it (cpuset(7)); \
                   `nproc` and `taskset -p $$` tell";
        Error::config("core", core, why)
    };
    if core >= CpuSet::MAX_CPU {
        return Err(refused());
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| match error {
        Errno::INVAL => refused(),
        error => Error::os(format!("pin a thread to core {core}"), error),
    })
}

/// Tries to pin a thread to each of `cores`.
fn check(cores: &[usize]) -> Result<()> {
    if let Some(i) = (1..cores.len()).find(|&i| cores[..i].contains(&cores[i])) {
        return Err(Error::config("cores", cores[i], "each core has one worker; name it once"));
    }
    let trial = || cores.iter().try_for_each(|&core| pin_to(core));
    // A thread of its own, so that the caller stays where it is.
    std::thread::scope(|scope| scope.spawn(trial).join())
        .unwrap_or_else(|_| Err(Error::os("try to pin a thread", Errno::IO)))
}

/// Tells every worker, and whoever else holds it, that it is time to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A signal that nobody has given yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal that Ctrl-C (`SIGINT`) and `SIGTERM` give; a second one ends the process at once.
    ///
    /// # Errors
    ///
    /// When the handlers cannot be installed.
    pub fn on_signals() -> Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::flag::{register, register_conditional_shutdown};
        let stop = Self::new();
        for signal in [SIGINT, SIGTERM] {
            register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop.0))
                .and_then(|_| register(signal, Arc::clone(&stop.0)))
                .map_err(|error| Error::os(format!("handle signal {signal}"), error))?;
        }
        Ok(stop)
    }

    /// Gives the signal.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the signal was given.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a worker knows of itself.
#[derive(Debug)]
pub struct Worker {
    index: usize,
    core: usize,
    stop: Stop,
}

impl Worker {
    /// Its number, from 0: the queue that it should open.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The core that it is pinned to.
    #[must_use]
    pub fn core(&self) -> usize {
        self.core
    }

    /// Whether it is time to end. Look at it once a burst, and never sleep without a limit.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.stopping()
    }

    /// Tells all workers to end.
    pub fn stop_all(&self) {
        self.stop.stop();
    }

    /// Begins to measure this worker, on a board where others can see it, under its number and core.
    ///
    /// # Errors
    ///
    /// As [`Board::meter`]: when it has a meter there already.
    pub fn meter(&self, board: &Board) -> Result<Meter> {
        board.meter(self.index.to_string(), Some(self.core))
    }
}

/// Threads pinned to cores, one each.
///
/// When one ends, well, with an error or by a panic, the others are told to stop: half a service is not
/// silently left running. Dropping the handle stops and joins them.
#[derive(Debug)]
pub struct Workers<T> {
    stop: Stop,
    running: Vec<Running<T>>,
}

#[derive(Debug)]
struct Running<T> {
    core: usize,
    thread: Option<JoinHandle<Result<T>>>,
}

impl<T: Send + 'static> Workers<T> {
    /// Starts one worker on each of `cores`. Each calls `work` on its own thread, which opens its
    /// queue there and runs until [`Worker::stopping`].
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a core that is not there or named twice; [`Error::Os`] when no thread
    /// can be started. Nothing is left running then.
    pub fn spawn<F>(cores: &[usize], work: F) -> Result<Self>
    where
        F: Fn(&Worker) -> Result<T> + Send + Sync + 'static,
    {
        Self::spawn_until(&Stop::new(), cores, work)
    }

    /// As [`spawn`](Self::spawn), with a signal that somebody else may give too.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn spawn_until<F>(stop: &Stop, cores: &[usize], work: F) -> Result<Self>
    where
        F: Fn(&Worker) -> Result<T> + Send + Sync + 'static,
    {
        check(cores)?;
        let work = Arc::new(work);
        let mut workers = Self { stop: stop.clone(), running: Vec::with_capacity(cores.len()) };
        for (index, &core) in cores.iter().enumerate() {
            let worker = Worker { index, core, stop: stop.clone() };
            let work = Arc::clone(&work);
            let thread = std::thread::Builder::new()
                .name(format!("worker-{core}"))
                .spawn(move || {
                    // However it ends, early or late, the others end with it.
                    let _others = StopOnDrop(worker.stop.clone());
                    pin_to(core)?;
                    work(&worker)
                })
                .map_err(|error| Error::os(format!("start a worker on core {core}"), error))?;
            workers.running.push(Running { core, thread: Some(thread) });
        }
        Ok(workers)
    }

    /// Tells all workers to end; [`join`](Self::join) waits for them.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// Waits for all workers and returns what they returned, in the order of the cores.
    ///
    /// # Errors
    ///
    /// The first failure or panic, with its core; the others have been waited for.
    pub fn join(mut self) -> Result<Vec<T>, WorkerError> {
        let outcomes: Vec<_> = self.running.iter_mut().filter_map(Running::join).collect();
        outcomes.into_iter().collect()
    }
}

impl<T> Running<T> {
    #[cfg(test)]
    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn join(&mut self) -> Option<Result<T, WorkerError>> {
        let core = self.core;
        Some(match self.thread.take()?.join() {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(WorkerError::Failed { core, source }),
            Err(panic) => Err(WorkerError::Panicked { core, message: message(&*panic) }),
        })
    }
}

impl<T> Drop for Workers<T> {
    fn drop(&mut self) {
        self.stop.stop();
        for running in &mut self.running {
            // Whoever wants to know how it ended calls `join`.
            let _outcome = running.join();
        }
    }
}

struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// How a worker ended that did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// It returned an error.
    #[error("the worker on core {core} failed: {source}")]
    Failed {
        /// Its core.
        core: usize,
        /// Its error.
        source: Error,
    },
    /// It panicked.
    #[error("the worker on core {core} panicked: {message}")]
    Panicked {
        /// Its core.
        core: usize,
        /// What the panic said.
        message: String,
    },
}

fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests;
