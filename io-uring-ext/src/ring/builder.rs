//! [`RingBuilder`]: what a ring is to be, and [`Setup`]: what the kernel granted.

use std::io;
use std::time::Duration;

use io_uring::IoUring;

use super::Ring;
use super::disabled::{Built, DisabledRing, enable};
use super::key::MAX_OPERATIONS;
use crate::error::{Error, Result};
use crate::mode::{Local, Shared};
use crate::probe::Refusal;
use crate::sys::control::WaitRegion;
use crate::sys::setup;
use crate::sys::uring::Uring;

/// Sizes and features of a ring to be.
///
/// ```
/// use io_uring_ext::Ring;
///
/// let ring = Ring::builder().entries(64).completions(1024).operations(256).build_local()?;
/// assert_eq!(ring.setup().entries, 64);
/// # Ok::<(), io_uring_ext::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RingBuilder {
    entries: u32,
    completions: Option<u32>,
    operations: Option<u32>,
    sqpoll: Option<SqPoll>,
    iopoll: Option<IoPoll>,
    registered_wait: bool,
    shutdown: Duration,
}

/// How a ring finds out that a device is done (`IORING_SETUP_IOPOLL`).
///
/// The kernel asks the device, instead of waiting for its interrupt, when the ring is waited on. Only
/// reads, writes, nops and messages can go through such a ring, on files opened with `O_DIRECT` on a
/// device with queues to poll (for NVMe the module parameter `poll_queues`); others answer `EOPNOTSUPP`.
/// Nothing can be cancelled, no time limit or timeout runs, and nothing can be awaited through
/// [`Ring::poll_fd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoPoll {
    /// Asks all the time (Linux 5.1).
    Busy,
    /// Sleeps for half of the time that a request has taken on average, then asks
    /// (`IORING_SETUP_HYBRID_IOPOLL`, Linux 6.13).
    Hybrid,
}

/// A kernel thread that takes submissions without a system call (`IORING_SETUP_SQPOLL`, for
/// unprivileged users since Linux 5.13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SqPoll {
    /// How long the thread polls without work before it sleeps, in whole milliseconds; waking it
    /// then costs a system call. `None` leaves it to the kernel: one second.
    ///
    /// Zero is refused: to the kernel it means its default of one second (`io_sq_offload_create`
    /// in `io_uring/sqpoll.c`), not "never sleep" or "sleep at once".
    pub idle: Option<Duration>,
    /// The CPU that the thread is bound to (`IORING_SETUP_SQ_AFF`).
    pub cpu: Option<u32>,
}

/// What the kernel granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setup {
    /// Entries of the submission queue.
    pub entries: u32,
    /// Entries of the completion queue.
    pub completions: u32,
    /// Operations that can be in flight, or wait for their results to be taken.
    pub operations: u32,
    /// One thread submits (Linux 6.0): [`Local`] rings.
    pub single_issuer: bool,
    /// Completions are made only inside the owner's own calls (Linux 6.1): [`Local`] rings without
    /// SQPOLL.
    pub defer_taskrun: bool,
    /// The submission queue has no indirection (Linux 6.6); left out on older kernels.
    pub no_sqarray: bool,
    /// The polling kernel thread.
    pub sqpoll: Option<SqPoll>,
    /// The device is asked whether it is done.
    pub iopoll: Option<IoPoll>,
    /// Times to wait are read from memory that the ring knows (Linux 6.13).
    pub registered_wait: bool,
}

impl Default for RingBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl RingBuilder {
    /// 128 submissions, four times as many completions, as many operations as completions, no
    /// SQPOLL, five seconds to shut down.
    pub fn new() -> Self {
        Self {
            entries: 128,
            completions: None,
            operations: None,
            sqpoll: None,
            iopoll: None,
            registered_wait: false,
            shutdown: Duration::from_secs(5),
        }
    }

    /// Entries of the submission queue: how many operations one submission can take. The kernel
    /// rounds up to a power of two, at most 32768.
    #[must_use]
    pub fn entries(mut self, entries: u32) -> Self {
        self.entries = entries;
        self
    }

    /// Entries of the completion queue, rounded up to a power of two, at least as many as of the
    /// submission queue.
    ///
    /// A full queue loses nothing but ends multishot operations, so take at least the buffers of all
    /// buffer rings, plus two for each zero-copy send in flight, plus one for each other operation.
    #[must_use]
    pub fn completions(mut self, completions: u32) -> Self {
        self.completions = Some(completions);
        self
    }

    /// Operations that can be in flight at once, including those whose results nobody has taken.
    #[must_use]
    pub fn operations(mut self, operations: u32) -> Self {
        self.operations = Some(operations);
        self
    }

    /// Lets a kernel thread poll for submissions.
    #[must_use]
    pub fn sqpoll(mut self, sqpoll: SqPoll) -> Self {
        self.sqpoll = Some(sqpoll);
        self
    }

    /// Asks the device whether it is done. For a [`Local`] ring only.
    #[must_use]
    pub fn iopoll(mut self, iopoll: IoPoll) -> Self {
        self.iopoll = Some(iopoll);
        self
    }

    /// Keeps the times to wait in memory that the kernel knows and reads without copying
    /// (`IORING_REGISTER_MEM_REGION`, `IORING_ENTER_EXT_ARG_REG`, Linux 6.13). For a [`Local`] ring only.
    #[must_use]
    pub fn registered_wait(mut self) -> Self {
        self.registered_wait = true;
        self
    }

    /// How long dropping the ring waits for the kernel to end what is in flight. Past it, memory
    /// that the kernel may still use is leaked and counted. A time beyond what the clock can tell is
    /// no limit.
    #[must_use]
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown = deadline;
        self
    }

    /// A ring for this thread alone. Needs Linux 6.1.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] says who refuses the ring: the kernel's age, its settings, a seccomp filter
    /// or a limit.
    pub fn build_local(&self) -> Result<Ring<Local>> {
        self.build(false)?.wrap()
    }

    /// A ring for this or another thread alone, to be decided by [`DisabledRing::enable`]. Needs
    /// Linux 6.1.
    ///
    /// # Errors
    ///
    /// As [`build_local`](Self::build_local).
    pub fn build_disabled(&self) -> Result<DisabledRing> {
        self.build(true).map(DisabledRing)
    }

    /// A ring that threads share. Needs Linux 5.19.
    ///
    /// # Errors
    ///
    /// As [`build_local`](Self::build_local).
    pub fn build_shared(&self) -> Result<Ring<Shared>> {
        self.check()?;
        if self.iopoll.is_some() || self.registered_wait {
            return Err(Error::config(
                "a shared ring",
                if self.iopoll.is_some() { "polling its device" } else { "with registered waits" },
                "take a local ring: whoever waits on a shared one polls its descriptor",
            ));
        }
        let setup = self.asked(false);
        let (ring, setup) = self.open(setup, false)?;
        Built { uring: uring(ring)?, setup, shutdown: self.shutdown }.wrap()
    }

    fn build(&self, disabled: bool) -> Result<Built> {
        self.check()?;
        // The memory for waits is registered while nobody can wait.
        let (ring, setup) = self.open(self.asked(true), disabled || self.registered_wait)?;
        let mut uring = uring(ring)?;
        if self.registered_wait {
            let region = WaitRegion::register(uring.fd()).map_err(|error| Error::Refused {
                what: "registered waits",
                refusal: Refusal::of_register(error, (6, 13)),
            })?;
            uring.set_wait_region(region);
            if !disabled {
                enable(&uring)?;
            }
        }
        Ok(Built { uring, setup, shutdown: self.shutdown })
    }

    fn check(&self) -> Result<()> {
        let completions = self.completions.unwrap_or(self.entries.saturating_mul(4));
        let operations = self.operations.unwrap_or(completions);
        check_sizes(self.entries, completions)?;
        if !(1..=MAX_OPERATIONS).contains(&operations) {
            return Err(Error::config("operations", operations, "take 1 to 16777216"));
        }
        match self.sqpoll.and_then(|sqpoll| sqpoll.idle) {
            Some(idle) if !(1..=u128::from(u32::MAX)).contains(&idle.as_millis()) => {
                Err(Error::config(
                    "SQPOLL idle time",
                    format!("{idle:?}"),
                    "take a millisecond or more; zero would mean one second to the kernel",
                ))
            }
            _ => Ok(()),
        }
    }

    fn asked(&self, local: bool) -> Setup {
        let completions = self.completions.unwrap_or(self.entries.saturating_mul(4));
        Setup {
            entries: self.entries,
            completions,
            operations: self.operations.unwrap_or(completions),
            single_issuer: local,
            // The polling thread makes the completions, so nothing can be deferred to the owner.
            defer_taskrun: local && self.sqpoll.is_none(),
            no_sqarray: true,
            sqpoll: self.sqpoll,
            iopoll: self.iopoll,
            registered_wait: self.registered_wait,
        }
    }

    /// Opens the ring, without `NO_SQARRAY` on kernels that do not have it.
    fn open(&self, mut setup: Setup, disabled: bool) -> Result<(IoUring, Setup)> {
        let mut opened = self.io_uring(&setup, disabled);
        if matches!(&opened, Err(error) if error.raw_os_error() == Some(libc::EINVAL)) {
            setup.no_sqarray = false;
            opened = self.io_uring(&setup, disabled);
        }
        let what = if setup.single_issuer { "a ring for one thread" } else { "a shared ring" };
        let ring = opened.map_err(|error| {
            let needed = if setup.iopoll == Some(IoPoll::Hybrid) {
                (6, 13)
            } else if setup.defer_taskrun {
                (6, 1)
            } else if setup.single_issuer {
                (6, 0)
            } else {
                (5, 19)
            };
            Error::Refused { what, refusal: Refusal::of_setup(error, needed) }
        })?;
        setup.entries = ring.params().sq_entries();
        setup.completions = ring.params().cq_entries();
        Ok((ring, setup))
    }

    fn io_uring(&self, setup: &Setup, disabled: bool) -> io::Result<IoUring> {
        if setup.iopoll == Some(IoPoll::Hybrid) {
            return self.hybrid(setup, disabled);
        }
        let mut builder = IoUring::builder();
        builder.setup_cqsize(setup.completions).setup_submit_all().dontfork();
        if setup.single_issuer {
            builder.setup_single_issuer();
        }
        if setup.defer_taskrun {
            builder.setup_defer_taskrun().setup_taskrun_flag();
        }
        if setup.no_sqarray {
            builder.setup_no_sqarray();
        }
        if disabled {
            builder.setup_r_disabled();
        }
        if let Some(sqpoll) = setup.sqpoll {
            builder.setup_sqpoll(sqpoll.idle.map_or(0, |idle| idle.as_millis() as u32));
            if let Some(cpu) = sqpoll.cpu {
                builder.setup_sqpoll_cpu(cpu);
            }
        }
        if setup.iopoll.is_some() {
            builder.setup_iopoll();
        }
        builder.build(setup.entries)
    }

    /// A ring with a flag that the builder of the `io-uring` crate does not know.
    fn hybrid(&self, setup: &Setup, disabled: bool) -> io::Result<IoUring> {
        use rustix::io_uring::IoringSetupFlags as Flags;
        /// `IORING_SETUP_HYBRID_IOPOLL`.
        const HYBRID_IOPOLL: u32 = 1 << 17;

        let mut flags = Flags::CQSIZE | Flags::SUBMIT_ALL | Flags::IOPOLL;
        flags.set(Flags::SINGLE_ISSUER, setup.single_issuer);
        flags.set(Flags::DEFER_TASKRUN | Flags::TASKRUN_FLAG, setup.defer_taskrun);
        flags.set(Flags::NO_SQARRAY, setup.no_sqarray);
        flags.set(Flags::R_DISABLED, disabled);
        flags.set(Flags::SQPOLL, setup.sqpoll.is_some());
        let mut parameters = setup::parameters(flags.bits() | HYBRID_IOPOLL, setup.completions);
        if let Some(SqPoll { idle, cpu }) = setup.sqpoll {
            parameters.sq_thread_idle = idle.map_or(0, |idle| idle.as_millis() as u32);
            if let Some(cpu) = cpu {
                parameters.flags |= Flags::SQ_AFF;
                parameters.sq_thread_cpu = cpu;
            }
        }
        setup::open(setup.entries, parameters)
    }
}

fn uring(ring: IoUring) -> Result<Uring> {
    Uring::new(ring).map_err(|error| Error::os("madvise(MADV_WIPEONFORK)", error))
}

pub(super) fn check_sizes(entries: u32, completions: u32) -> Result<()> {
    if !(1..=32768).contains(&entries) {
        return Err(Error::config("entries", entries, "take 1 to 32768"));
    }
    if !(entries..=65536).contains(&completions) {
        return Err(Error::config(
            "completions",
            completions,
            "take as many as entries, up to 65536",
        ));
    }
    Ok(())
}
