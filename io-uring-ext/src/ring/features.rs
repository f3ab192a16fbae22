//! What a ring can be told to do better, where the kernel has it: each call answers
//! [`Error::Refused`] with the reason where it does not.

use std::io;
use std::time::Duration;

use io_uring::types::Napi;

use super::Ring;
use crate::error::{Error, Result};
use crate::mode::{Local, Mode};
use crate::op::Clock;
use crate::probe::Refusal;
use crate::sys::control;

/// How long the kernel polls network devices for a ring before it sleeps; see
/// [`Ring::busy_poll_network`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NapiBusyPoll {
    /// For how long, in whole microseconds; zero turns it off.
    pub time: Duration,
    /// Has the device's own interrupts wait meanwhile (`SO_PREFER_BUSY_POLL` in `socket(7)`).
    pub prefer: bool,
}

/// How many worker threads a ring may have; see [`Ring::limit_workers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerLimits {
    /// For work that ends: files on disk. Zero leaves it as it is.
    pub bounded: u32,
    /// For work that may never end: sockets, pipes. Zero leaves it as it is.
    pub unbounded: u32,
}

impl<M: Mode> Ring<M> {
    /// Has the kernel poll the network devices that the ring's sockets receive from, before it sleeps in a
    /// wait (`IORING_REGISTER_NAPI`, Linux 6.9). Returns what was set before. Devices without a NAPI
    /// identity, veth and loopback among them, have nothing to poll.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a part of a microsecond, which would be none, and for more than 2³² - 1;
    /// [`Error::Refused`] by kernels that are older, or built without `CONFIG_NET_RX_BUSY_POLL`.
    pub fn busy_poll_network(&self, poll: NapiBusyPoll) -> Result<NapiBusyPoll> {
        let micros = u32::try_from(poll.time.as_micros()).ok();
        let micros =
            micros.filter(|micros| *micros > 0 || poll.time.is_zero()).ok_or_else(|| {
                let why = "the kernel polls for 1 to 4294967295 microseconds, or not at all";
                Error::config("the time to poll the network", format!("{:?}", poll.time), why)
            })?;
        let mut napi = Napi::new().set_busy_poll_timeout(micros).set_prefer_busy_poll(poll.prefer);
        self.register("NAPI busy polling", (6, 9), |state| {
            let submitter = state.uring.submitter();
            if poll.time.is_zero() {
                submitter.unregister_napi(&mut napi)
            } else {
                submitter.register_napi(&mut napi)
            }
        })?;
        Ok(NapiBusyPoll {
            time: Duration::from_micros(napi.busy_poll_timeout().into()),
            prefer: napi.prefer_busy_poll(),
        })
    }

    /// Limits the worker threads to which the kernel hands what would block, of the calling thread
    /// (`IORING_REGISTER_IOWQ_MAX_WORKERS`, Linux 5.15). Returns the limits before.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] by older kernels.
    pub fn limit_workers(&self, limits: WorkerLimits) -> Result<WorkerLimits> {
        let mut counts = [limits.bounded, limits.unbounded];
        self.register("a limit of workers", (5, 15), |state| {
            state.uring.submitter().register_iowq_max_workers(&mut counts)
        })?;
        Ok(WorkerLimits { bounded: counts[0], unbounded: counts[1] })
    }

    /// Binds the worker threads to these CPUs (`IORING_REGISTER_IOWQ_AFF`, Linux 5.14); with none, to
    /// those of the thread that they work for.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a CPU that there is not; [`Error::Refused`] by older kernels, and with `EINVAL`
    /// for CPUs that are not the process's.
    pub fn bind_workers(&self, cpus: &[usize]) -> Result<()> {
        let configured = control::configured_cpus();
        if let Some(cpu) = cpus.iter().find(|cpu| **cpu >= configured) {
            // The kernel would leave such bits out of the mask.
            return Err(Error::config(
                "a CPU for workers",
                cpu,
                "the machine has none of this number",
            ));
        }
        let mut mask = vec![0; cpus.iter().max().map_or(0, |last| last / 64 + 1)];
        for cpu in cpus {
            mask[cpu / 64] |= 1_u64 << (cpu % 64);
        }
        let mask = (!mask.is_empty()).then_some(&mut mask[..]);
        self.register("CPUs for workers", (5, 14), |state| {
            control::set_worker_cpus(state.uring.fd(), mask)
        })
    }

    /// Measures the ring's waits by this clock (`IORING_REGISTER_CLOCK`, Linux 6.12): the monotonic one, or
    /// [`Boottime`](Clock::Boottime), by which a wait ends in time though the machine was suspended.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] by older kernels, and for another clock.
    pub fn measure_waits_by(&self, clock: Clock) -> Result<()> {
        let id = match clock {
            Clock::Monotonic => libc::CLOCK_MONOTONIC,
            Clock::Boottime => libc::CLOCK_BOOTTIME,
            Clock::Realtime => libc::CLOCK_REALTIME,
        };
        self.register("another clock for waits", (6, 12), |state| {
            control::set_clock(state.uring.fd(), id)
        })
    }

    fn register<R>(
        &self,
        what: &'static str,
        since: (u32, u32),
        call: impl FnOnce(&mut super::state::State) -> io::Result<R>,
    ) -> Result<R> {
        let answer = self
            .inner
            .with(|state| if state.is_closed() { Err(Error::Closed) } else { Ok(call(state)) })??;
        answer.map_err(|error| Error::Refused { what, refusal: Refusal::of_register(error, since) })
    }
}

impl Ring<Local> {
    /// Has the ring's own calls find it without a look into the table of descriptors
    /// (`IORING_REGISTER_RING_FDS`, Linux 5.18). A thread can have 16 such rings.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] by older kernels, and with `EBUSY` for a seventeenth ring.
    pub fn register_fd(&self) -> Result<()> {
        self.register("a registered ring descriptor", (5, 18), |state| state.uring.register_fd())
    }

    /// Submits, and sleeps as [`wait`](Self::wait) does for `want` completions; after `min` one is enough, and after
    /// `timeout` none (`IORING_FEAT_MIN_TIMEOUT`, Linux 6.12). Returns how many came.
    ///
    /// This takes completions in batches when there are many, without holding up few.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] by older kernels; as [`submit`](Self::submit).
    pub fn wait_batch(
        &self,
        want: usize,
        min: Duration,
        timeout: Option<Duration>,
    ) -> Result<usize> {
        self.inner.with(|state| {
            if !state.uring.parameters().is_feature_min_timeout() {
                let refusal = Refusal::missing((6, 12));
                return Err(Error::Refused { what: "a minimum wait", refusal });
            }
            state.wait_batch(want, timeout, min)
        })?
    }

    /// Gives the submission and completion queues other sizes (`IORING_REGISTER_RESIZE_RINGS`, Linux 6.13),
    /// each rounded up to a power of two. What is in flight goes on; [`setup`](Self::setup) keeps telling
    /// what the ring was made with. In a forked child the new queues stay mapped, of no use to it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for sizes that no ring can have; [`Error::Refused`] by older kernels and for rings
    /// with SQPOLL, and with `EOVERFLOW` when what waits in the completion queue does not fit, with
    /// `EBUSY` when the kernel, short of memory, takes nothing from the submission queue. Should
    /// mapping the new queues fail, the ring is closed and what was in flight leaked.
    pub fn resize(&self, entries: u32, completions: u32) -> Result<()> {
        super::builder::check_sizes(entries, completions)?;
        let setup = self.setup();
        if !setup.defer_taskrun || !setup.no_sqarray {
            let refusal = if setup.no_sqarray {
                Refusal::Other { errno: io::Error::from_raw_os_error(libc::EINVAL) }
            } else {
                Refusal::missing((6, 13))
            };
            return Err(Error::Refused { what: "queues of another size", refusal });
        }
        self.inner.with(|state| state.resize(entries, completions))?
    }
}
