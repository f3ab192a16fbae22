//! DPDK's environment: memory, lcores, devices, messages. A process has one.

#[allow(unsafe_code, reason = "calls DPDK")]
mod lcore;
mod line;
mod log;
mod options;
mod pci;
#[allow(unsafe_code, reason = "calls DPDK")]
mod raw;
#[allow(unsafe_code, reason = "is called by DPDK")]
pub(crate) mod stream;
#[allow(unsafe_code, reason = "calls DPDK")]
mod thread;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use lcore::{Lcore, LcoreTask};
pub(crate) use line::text;
pub use log::{Level, Record, Sink};

pub use options::{EalOptions, Iova, Memory};
pub use pci::Pci;
pub use thread::ThreadRegistration;

use crate::error::{DpdkError, Errno, Result};
use crate::vdev::Plugged;

/// A handle to DPDK's environment.
///
/// Everything that uses the environment holds one: pools, ports, devices, registered threads, running
/// lcores. It stays up when the last handle is dropped, and [`current`](Self::current) gives another;
/// [`cleanup`](Self::cleanup) ends it, once and for all.
///
/// ```standalone_crate
/// use bypass_dpdk::{Eal, EalOptions};
///
/// let eal = EalOptions::new().start()?;
/// let other = Eal::current().ok_or("it is running")?;
/// // Refused as long as there is another handle.
/// assert!(eal.cleanup().unwrap_err().to_string().contains("1 handles"));
/// other.cleanup()?;
/// assert!(Eal::current().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Eal(Arc<Environment>);

/// What there is one of while the environment runs.
struct Environment {
    /// One closure at a time is handed to lcores: DPDK's own hand-over is for one thread. Nor does a
    /// thread come to be an lcore while this is held.
    launching: Mutex<()>,
    /// The virtual devices, by name: DPDK itself takes a second one of a name for the first.
    devices: Mutex<HashMap<String, Device>>,
    /// The ports that are open, by number.
    open_ports: Mutex<BTreeSet<u16>>,
    /// Other processes may come and capture packets.
    capture: bool,
    /// A folder that is this environment's alone, and goes with it.
    own_folder: Option<PathBuf>,
}

/// A virtual device.
pub(crate) struct Device {
    pub(crate) life: Life,
    /// Bytes in each of the packets that it makes up, whatever an mbuf has room for.
    pub(crate) makes: usize,
}

/// How long a virtual device stays.
#[derive(Debug)]
pub(crate) enum Life {
    /// Until the environment ends.
    Fixed,
    /// Until nobody holds it.
    Plugged(Weak<Plugged>),
}

/// The process's environment.
static STATE: Mutex<State> = Mutex::new(State::Fresh);

enum State {
    Fresh,
    /// An attempt failed, and DPDK may take another.
    Failed,
    Running(Eal),
    Spent(&'static str),
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EalOptions {
    /// Starts the environment. The calling thread becomes its main lcore, and is pinned to that lcore's
    /// core.
    ///
    /// Drivers of NVIDIA's cards set environment variables as they are loaded, there being a card or not:
    /// `RDMAV_HUGEPAGES_SAFE` and two about cleaning up. They are set beforehand under the lock of
    /// [`std::env`](mod@std::env), so threads in Rust may read the environment and start programs meanwhile.
    /// A library in C that calls `getenv` at that moment on another thread may not, with a C library before
    /// glibc 2.41: start DPDK first.
    ///
    /// # Errors
    ///
    /// - [`DpdkError::Config`]: settings that make no sense together, or in this version of DPDK.
    /// - [`DpdkError::Init`]: DPDK did not start, with what it said. It may be tried again with other
    ///   settings, unless the next error says no. An attempt that fails once memory was set up is the last: DPDK
    ///   refuses the next ([`DpdkError::Spent`]) or, since 25.11, fails in it.
    /// - [`DpdkError::AlreadyStarted`], [`DpdkError::Spent`]: a process has one start.
    /// - [`DpdkError::Probe`]: DPDK runs now, and the named [`vdev`](Self::vdev) does not.
    /// - [`DpdkError::Refused`]: DPDK runs now, without [packet capture](Self::packet_capture).
    pub fn start(&self) -> Result<Eal> {
        let mut state = state();
        match &*state {
            State::Fresh | State::Failed => {}
            State::Running(_) => return Err(DpdkError::AlreadyStarted),
            State::Spent(why) => return Err(DpdkError::Spent { why }),
        }
        let arguments = self.arguments(&raw::allowed_cores()?)?;
        raw::check_huge_pages(self.memory)?;
        stream::open(self.sink.clone().or_else(Sink::by_feature))?;
        let (started, said) = stream::collect(|| raw::init(&arguments));
        let folder = raw::runtime_folder();
        if !self.telemetry && self.memory != Memory::Shared {
            // DPDK makes it whether or not it has something to put in.
            let _kept = std::fs::remove_dir(&folder);
        }
        match started {
            Ok(()) => {}
            Err(errno) if errno.raw() == libc::EALREADY => {
                let why = "an earlier attempt failed halfway";
                *state = State::Spent(why);
                return Err(DpdkError::Spent { why });
            }
            Err(errno) => {
                let is_second =
                    matches!(std::mem::replace(&mut *state, State::Failed), State::Failed);
                return Err(self.init_error(errno, said, is_second));
            }
        }
        let own_folder =
            (self.file_prefix.is_none() && self.memory != Memory::Shared).then_some(folder);
        let eal = Eal(Arc::new(Environment {
            launching: Mutex::default(),
            devices: Mutex::default(),
            open_ports: Mutex::default(),
            capture: self.capture,
            own_folder,
        }));
        *state = State::Running(eal.clone());
        drop(state);
        if self.capture {
            raw::allow_capture()?;
        }
        self.vdevs.iter().try_for_each(|(name, arguments)| eal.fixed_device(name, arguments))?;
        Ok(eal)
    }

    fn init_error(&self, errno: Errno, said: Vec<String>, is_second: bool) -> DpdkError {
        let mentions = |what: &str| said.iter().any(|line| line.contains(what));
        let remedy = if mentions("Is another primary process running") {
            "another process runs with this file prefix: end it, or choose another `file_prefix`"
        } else if is_second {
            // Since 25.11 it starts again after every failure, and cannot where memory was set up before.
            "an attempt before this one failed, and DPDK may keep what that has left behind: start another process"
        } else if mentions("runtime directory") || mentions("runtime config") {
            "DPDK keeps files in /var/run/dpdk, or in $XDG_RUNTIME_DIR; make the folder writable, or take \
             `Memory::Ordinary` or `Memory::InMemory`"
        } else if self.memory == Memory::Ordinary {
            "see the messages of DPDK; `EalOptions::log_level` brings more"
        } else {
            "are enough huge pages free (/proc/meminfo), and may the process lock memory (`ulimit -l`)? \
             `Memory::Ordinary` needs none"
        };
        DpdkError::Init { errno, said, remedy: Some(remedy.into()) }
    }
}

impl Eal {
    /// A handle to the environment, if it runs.
    #[must_use]
    pub fn current() -> Option<Self> {
        match &*state() {
            State::Running(eal) => Some(eal.clone()),
            State::Fresh | State::Failed | State::Spent(_) => None,
        }
    }

    /// Ends the environment and gives its memory back to the system. A process cannot start it again.
    ///
    /// Call it on the thread that started the environment, where that used pools with caches: what lies in
    /// its caches keeps their pools, and with them the environment, until that thread looks.
    ///
    /// # Errors
    ///
    /// [`DpdkError::InUse`] while there are other handles: it goes on then, and
    /// [`current`](Self::current) gives a handle in place of this one. [`DpdkError::Refused`] when DPDK
    /// could not let go of everything; it has ended all the same.
    pub fn cleanup(self) -> Result<()> {
        // Pools whose last packets have come home since anybody looked hold a handle no longer.
        crate::mempool::reap();
        let mut state = state();
        // This one and the one in `STATE`. Nobody can come by another meanwhile: the state is locked.
        let handles = Arc::strong_count(&self.0).saturating_sub(2);
        if handles > 0 {
            return Err(DpdkError::InUse { handles });
        }
        *state = State::Spent("it was cleaned up");
        let code = raw::cleanup();
        if let Some(folder) = &self.0.own_folder {
            // With the socket in it that nobody answers any more.
            let _gone = std::fs::remove_dir_all(folder);
        }
        match code {
            0 => Ok(()),
            code => Err(DpdkError::refused("clean up DPDK", code)),
        }
    }

    /// DPDK's version, such as `DPDK 22.11.11`.
    #[must_use]
    pub fn version() -> String {
        raw::version()
    }

    /// Where files of this environment lie; other processes find its sockets there.
    #[must_use]
    pub fn runtime_folder(&self) -> PathBuf {
        raw::runtime_folder()
    }

    /// Whether packet memory is in huge pages.
    #[must_use]
    pub fn has_huge_pages(&self) -> bool {
        raw::has_huge_pages()
    }

    /// The NUMA nodes that have an lcore or memory, by DPDK's numbers.
    #[must_use]
    pub fn numa_nodes(&self) -> Vec<u32> {
        raw::numa_nodes()
    }

    /// The NUMA node that the calling thread runs on; none where it may run on several.
    #[must_use]
    pub fn numa_node(&self) -> Option<u32> {
        raw::numa_node()
    }

    pub(crate) fn devices(&self) -> MutexGuard<'_, HashMap<String, Device>> {
        self.0.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_captured(&self) -> bool {
        self.0.capture
    }

    pub(crate) fn open_ports(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.0.open_ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn launching(&self) -> MutexGuard<'_, ()> {
        self.0.launching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Eal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handles = Arc::strong_count(&self.0).saturating_sub(1);
        f.debug_struct("Eal").field("handles", &handles).finish_non_exhaustive()
    }
}
