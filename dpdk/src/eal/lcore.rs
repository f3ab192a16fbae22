//! Lcores: DPDK's own threads, one pinned to each core that it was given.
//!
//! Relied on: `rte_eal_remote_launch` refuses an lcore that is busy, and otherwise calls the function
//! once, on that lcore's thread, with the argument; it is called by one thread at a time.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use bypass_dpdk_sys as sys;

use super::Eal;
use crate::error::{DpdkError, Result};

/// An lcore and where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lcore {
    /// DPDK's number for it.
    pub id: u32,
    /// The core that it is pinned to.
    pub core: u32,
    /// The NUMA node of that core.
    pub numa_node: u32,
    /// Whether it is the main lcore: the thread that started the environment.
    pub main: bool,
}

impl Eal {
    /// The lcores, in the order of their numbers. Registered threads of your own are not among them.
    #[must_use]
    pub fn lcores(&self) -> Vec<Lcore> {
        // SAFETY: has no preconditions.
        let main = unsafe { sys::rte_get_main_lcore() };
        let role = sys::ROLE_RTE;
        (0..sys::RTE_MAX_LCORE)
            // SAFETY: the number is below the limit.
            .filter(|&id| unsafe { sys::rte_lcore_has_role(id, role) } == 1)
            .map(|id| Lcore {
                id,
                // SAFETY: the number is below the limit.
                core: unsafe { sys::rte_lcore_to_cpu_id(id.cast_signed()) }.unsigned_abs(),
                // SAFETY: the number is below the limit.
                numa_node: unsafe { sys::rte_lcore_to_socket_id(id) },
                main: id == main,
            })
            .collect()
    }

    /// Calls `work` on an lcore other than the main one. It runs there to its end, whatever becomes of
    /// the returned task.
    ///
    /// ```standalone_crate
    /// use bypass_dpdk::EalOptions;
    /// use bypass_core::worker::available_cores;
    ///
    /// let eal = EalOptions::new().cores(available_cores()?).start()?;
    /// let workers: Vec<_> = eal.lcores().into_iter().filter(|lcore| !lcore.main).collect();
    /// let tasks: Result<Vec<_>, _> =
    ///     workers.iter().map(|lcore| eal.launch(lcore.id, || 6 * 7)).collect();
    /// for task in tasks? {
    ///     assert_eq!(task.join()?, 42);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DpdkError::Config`] for a number that is not a worker lcore's; [`DpdkError::Refused`] while the
    /// lcore is busy.
    pub fn launch<T, F>(&self, lcore: u32, work: F) -> Result<LcoreTask<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.lcores().iter().find(|known| known.id == lcore) {
            Some(known) if !known.main => {}
            Some(_) => {
                let why =
                    "it is the main lcore: the thread that started DPDK, which you have already";
                return Err(DpdkError::config("lcore", lcore, why));
            }
            None => {
                let why = "there is no such lcore; `EalOptions::cores` makes them";
                return Err(DpdkError::config("lcore", lcore, why));
            }
        }
        let (sender, outcome) = sync_channel(1);
        let eal = self.clone();
        let work: Work = Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(&*panic));
            // Before the result: whoever has that may count on the handle being gone.
            drop(eal);
            // Nobody waits for it if this fails.
            let _unwanted = sender.send(result);
        });
        let argument: *mut Work = Box::into_raw(Box::new(work));
        let one_at_a_time = self.launching();
        // SAFETY: the lcore exists and is not the main one; `run` takes such an argument, once.
        let code = unsafe { sys::rte_eal_remote_launch(Some(run), argument.cast(), lcore) };
        // Before what may drop the closure, and with it anything.
        drop(one_at_a_time);
        if code != 0 {
            // SAFETY: the function was not called, so the box is still this one's.
            drop(unsafe { Box::from_raw(argument) });
            return Err(DpdkError::refused(format!("call a function on lcore {lcore}"), code)
                .with_remedy("wait for what runs there (`LcoreTask::join`)"));
        }
        Ok(LcoreTask { lcore, outcome })
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// Runs on the lcore.
unsafe extern "C" fn run(argument: *mut c_void) -> c_int {
    // SAFETY: `launch` made it from such a box and passes it to one call.
    let work = unsafe { Box::from_raw(argument.cast::<Work>()) };
    // The function's own panic is its outcome. This is for what is dropped around it, such as an outcome
    // that nobody waits for: into C no panic may go.
    let _lost = catch_unwind(AssertUnwindSafe(work));
    0
}

/// What runs on an lcore, or has run there. Dropping it ends nothing.
pub struct LcoreTask<T> {
    lcore: u32,
    outcome: Receiver<Result<T, String>>,
}

impl<T> LcoreTask<T> {
    /// The lcore.
    #[must_use]
    pub fn lcore(&self) -> u32 {
        self.lcore
    }

    /// Waits for the end and returns what the function returned.
    ///
    /// # Errors
    ///
    /// [`DpdkError::LcorePanicked`] when it panicked.
    pub fn join(self) -> Result<T> {
        let lost = || Err("it ended without a result".to_owned());
        self.outcome.recv().unwrap_or_else(|_| lost()).map_err(panicked(self.lcore))
    }

    /// What the function returned, if it has ended; the task otherwise.
    ///
    /// # Errors
    ///
    /// The task while it runs.
    pub fn try_join(self) -> Result<Result<T>, Self> {
        match self.outcome.try_recv() {
            Ok(outcome) => Ok(outcome.map_err(panicked(self.lcore))),
            Err(TryRecvError::Empty) => Err(self),
            Err(TryRecvError::Disconnected) => {
                Ok(Err(panicked(self.lcore)("it ended without a result".to_owned())))
            }
        }
    }
}

fn panicked(lcore: u32) -> impl FnOnce(String) -> DpdkError {
    move |message| DpdkError::LcorePanicked { lcore, message }
}

impl<T> fmt::Debug for LcoreTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LcoreTask").field("lcore", &self.lcore).finish_non_exhaustive()
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
