//! [`XdpOptions`]: how the queues of an interface are opened.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bypass_core::backend::socket::Share;
use bypass_core::{Error, Result};

use super::queue::has_queue;
use super::{CopyMode, Hook, Interface, Want, XdpQueue};
use crate::port::XdpPort;
use crate::program::{Filter, Hints, Program, XskMap};
use crate::ring::MAX_SIZE;
use crate::umem::{Umem, UmemOptions};

/// How queues of an interface are opened.
///
/// ```no_run
/// use bypass_xdp::program::Filter;
/// use bypass_xdp::{CopyMode, Receive, Want, XdpOptions};
///
/// let mut options = XdpOptions::new("eth1");
/// options.receive = Receive::Filter(Filter::new().udp([4000]));
/// options.mode = Want::Require(CopyMode::ZeroCopy);
/// let port = options.open()?;
/// # Ok::<(), bypass_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct XdpOptions {
    /// The interface's name, in the calling thread's network namespace.
    pub interface: String,
    /// The queue that [`open`](Self::open) opens.
    pub queue: u32,
    /// What is received, and through which program.
    pub receive: Receive,
    /// Take all IP packets even of an interface that a default route leads through.
    pub force: bool,
    /// Where the program of [`Receive::Filter`] runs.
    pub hook: Want<Hook>,
    /// Whether the device is asked for what it knows of each frame, which is then in its
    /// [`RxMeta`](bypass_core::RxMeta); by the program of [`Receive::Filter`].
    pub hints: Hints,
    /// Whether the device reads and writes the umem itself.
    pub mode: Want<CopyMode>,
    /// Frames may be longer than a chunk and are chains of segments then (`XDP_USE_SG`, Linux 6.6).
    pub multi_buffer: bool,
    /// The packet memory of each queue.
    pub umem: UmemOptions,
    /// Entries in the rings.
    pub rings: RingSizes,
    /// Poll the device from the application's calls in place of interrupts.
    pub busy_poll: Option<NapiBusyPoll>,
    /// Frames that one system call sends in copy mode, from 32 to the size of the TX ring
    /// (`XDP_MAX_TX_SKB_BUDGET`, Linux 6.17). Unless set it is 128, or the size of a smaller ring; 32 on
    /// older kernels, and where the ring has fewer places than that.
    pub tx_budget: Option<u32>,
    /// Bytes that may be in flight in copy mode (`SO_SNDBUF`); enough for a full TX ring unless set.
    pub send_buffer: Option<usize>,
    /// How long to try again while the queue is still taken: the kernel frees it some time after a
    /// socket was closed (16 ms on veth, longer on network cards).
    pub bind_timeout: Duration,
}

/// What a port receives, and who redirects it to the port.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Receive {
    /// What the filter names, by the program of this crate, which is attached for as long as a port
    /// lives. All ports of the process that ask for the same at one interface share it: for exactly the
    /// same [`hook`](XdpOptions::hook), [`hints`](XdpOptions::hints), [`force`](XdpOptions::force) and
    /// [`multi_buffer`](XdpOptions::multi_buffer) (to prefer is not to require), and for the filter that is
    /// in force there, which [`Program::set_filter`] may have changed for all of them.
    Filter(Filter),
    /// What a program takes that is attached already.
    Program(Arc<Program>),
    /// What another program redirects into its map of sockets.
    Map(Arc<XskMap>),
    /// Nothing: the port only sends. No program is attached.
    Nothing,
}

/// Entries in the rings of a socket: powers of two up to 2³⁰; a kernel may have memory for less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Frames received and not yet taken.
    pub rx: u32,
    /// Frames to be sent.
    pub tx: u32,
    /// Chunks to receive into, at least `rx_reserve` of the umem.
    pub fill: u32,
    /// Chunks that were sent, at least as many as `tx`: or else sending would stop.
    pub completion: u32,
}

impl Default for RingSizes {
    fn default() -> Self {
        Self { rx: 2048, tx: 2048, fill: 2048, completion: 2048 }
    }
}

/// Polling the device from the application's calls (`SO_PREFER_BUSY_POLL`, Linux 5.11).
///
/// It needs CAP_NET_ADMIN, a device with NAPI (a veth pair has none to poll, and ignores it), and
/// `napi_defer_hard_irqs` and `gro_flush_timeout` of the device set, so that its interrupts stay off:
/// see `Documentation/networking/napi.rst` of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NapiBusyPoll {
    /// Microseconds that a call may poll (`SO_BUSY_POLL`), from 1 to 2³¹ - 1.
    pub micros: u32,
    /// Packets that a poll takes (`SO_BUSY_POLL_BUDGET`), from 1 to 65535.
    pub budget: u32,
}

impl Default for NapiBusyPoll {
    /// 20 µs and 64 packets.
    fn default() -> Self {
        Self { micros: 20, budget: 64 }
    }
}

impl NapiBusyPoll {
    fn check(self) -> Result<()> {
        let Self { micros, budget } = self;
        if !(1..=i32::MAX.cast_unsigned()).contains(&micros) {
            let why = "the kernel polls for 1 to 2147483647 microseconds; leave it out not to poll";
            return Err(Error::config("busy_poll", micros, why));
        }
        if !(1..=u32::from(u16::MAX)).contains(&budget) {
            let why = "a poll takes 1 to 65535 packets; leave it out for 64";
            return Err(Error::config("busy_poll.budget", budget, why));
        }
        Ok(())
    }
}

/// The least that can be asked for as a [budget](XdpOptions::tx_budget).
const MIN_TX_BUDGET: u32 = 32;

/// What is asked for unless it is set: two bursts of 64, and not so much that a call takes long.
const TX_BUDGET: u32 = 128;

impl XdpOptions {
    /// Every frame of queue 0, in native mode and without copies where these are to be had.
    #[must_use]
    pub fn new(interface: impl Into<String>) -> Self {
        Self {
            interface: interface.into(),
            queue: 0,
            receive: Receive::Filter(Filter::everything()),
            force: false,
            hook: Want::Prefer(Hook::Native),
            hints: Hints::Off,
            mode: Want::Prefer(CopyMode::ZeroCopy),
            multi_buffer: false,
            umem: UmemOptions::default(),
            rings: RingSizes::default(),
            busy_poll: None,
            tx_budget: None,
            send_buffer: None,
            bind_timeout: Duration::from_secs(2),
        }
    }

    /// Opens [`queue`](Self::queue) with memory of its own.
    ///
    /// # Errors
    ///
    /// As [`queues`](Self::queues) and [`XdpQueue::open`].
    pub fn open(&self) -> Result<XdpPort> {
        self.single_queue()?.open()
    }

    /// [`queue`](Self::queue), to be opened on another thread or with memory that others use, too.
    ///
    /// Queues of one interface that ask for the same share one program, whichever thread of the process
    /// asks: see [`Receive::Filter`].
    ///
    /// # Errors
    ///
    /// As [`queues`](Self::queues).
    pub fn single_queue(&self) -> Result<XdpQueue> {
        let mut queues = XdpQueue::prepare(self, |link| {
            has_queue(link, self.queue)?;
            Ok(vec![self.queue])
        })?;
        queues.pop().ok_or_else(|| Error::config("queue", self.queue, "there is no such queue"))
    }

    /// All queues of the interface, each to be opened on the thread that will drive it. The program is
    /// attached once, and stays until the last queue and port are gone.
    ///
    /// ```no_run
    /// use bypass_core::{Burst, Endpoint, Interest, PacketIo};
    /// use bypass_xdp::XdpOptions;
    ///
    /// let queues = XdpOptions::new("eth1").queues()?;
    /// std::thread::scope(|scope| {
    ///     for queue in queues {
    ///         scope.spawn(move || -> bypass_core::Result<()> {
    ///             let mut port = queue.open()?;
    ///             let mut burst = Burst::with_capacity(64);
    ///             loop {
    ///                 port.wait(Interest::RX, None)?;
    ///                 port.recv(&mut burst)?;
    ///                 burst.clear();
    ///             }
    ///         });
    ///     }
    /// });
    /// # Ok::<(), bypass_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::MissingCapability`] without CAP_NET_RAW (sockets) or CAP_BPF and CAP_NET_ADMIN (the
    /// program), [`Error::NoSuchInterface`], [`Error::Config`] for settings that make no sense;
    /// [`Error::Backend`] with an [`XdpError`](crate::XdpError) or a
    /// [`ProgramError`](crate::program::ProgramError).
    pub fn queues(&self) -> Result<Vec<XdpQueue>> {
        self.part(Share::default())
    }

    fn part(&self, share: Share) -> Result<Vec<XdpQueue>> {
        share.check()?;
        XdpQueue::prepare(self, |link| {
            let queues: Vec<_> = share.of(link.queues).collect();
            if queues.is_empty() {
                let (name, have) = (&link.name, link.queues);
                let why = format!(
                    "{name} has {have} queues, too few for all to get one: `ethtool -L` makes more, \
                     or have fewer share"
                );
                return Err(Error::config("share", share, why));
            }
            Ok(queues)
        })
    }

    /// All queues of the interface, opened for the calling thread over one [`Umem`], so that frames of
    /// the one can be sent by the other: for [`Queues`](bypass_core::Queues). Each keeps `rx_reserve`
    /// chunks posted, so the memory grows by as many for every queue beyond the first.
    ///
    /// # Errors
    ///
    /// As [`queues`](Self::queues), [`Umem::new`] and [`XdpQueue::open_on`].
    pub fn open_all(&self) -> Result<Vec<XdpPort>> {
        self.open_part(Share::default())
    }

    /// A part of the queues, for one of several threads, opened as by [`open_all`](Self::open_all). All
    /// parts together are all queues.
    ///
    /// # Errors
    ///
    /// As [`open_all`](Self::open_all); [`Error::Config`] for a part without a queue, where there are more
    /// parts than queues.
    pub fn open_part(&self, share: Share) -> Result<Vec<XdpPort>> {
        let queues = self.part(share)?;
        let mut memory = self.umem.clone();
        let others = u32::try_from(queues.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let pool = &mut memory.pool;
        pool.chunks = pool.chunks.saturating_add(pool.rx_reserve.saturating_mul(others));
        let umem = Umem::new(&memory)?;
        queues.into_iter().map(|queue| queue.open_on(&umem)).collect()
    }

    /// [`queue`](Self::queue) over a socket that a privileged process has made and passed on
    /// (`SCM_RIGHTS`, inheritance). The socket must be fresh; it may be of another network namespace,
    /// which is then the `interface`'s.
    ///
    /// Together with [`Receive::Map`] or [`Receive::Nothing`] this needs no capability (Linux 5.19, or
    /// `kernel.unprivileged_bpf_disabled` = 0) beyond a limit of locked memory that the umem fits in.
    ///
    /// ```no_run
    /// use std::os::fd::OwnedFd;
    /// use std::sync::Arc;
    ///
    /// use bypass_xdp::program::XskMap;
    /// use bypass_xdp::{Interface, Receive, XdpOptions, XdpPort};
    ///
    /// fn open(socket: OwnedFd, map: OwnedFd) -> bypass_core::Result<XdpPort> {
    ///     let mut options = XdpOptions::new("eth1");
    ///     options.receive = Receive::Map(Arc::new(XskMap::from_fd(map)?));
    ///     options.adopt(socket, Interface::find("eth1")?)?.open()
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`queues`](Self::queues); [`Error::Config`] when the descriptor is no AF_XDP socket's.
    pub fn adopt(&self, socket: OwnedFd, interface: Interface) -> Result<XdpQueue> {
        XdpQueue::adopt(self, socket, interface)
    }

    /// The budget to ask the kernel for.
    pub(super) fn budget(&self) -> u32 {
        self.tx_budget.unwrap_or(TX_BUDGET.min(self.rings.tx))
    }

    pub(super) fn check(&self) -> Result<()> {
        let RingSizes { rx, tx, fill, completion } = self.rings;
        for (setting, size) in [
            ("rings.rx", rx),
            ("rings.tx", tx),
            ("rings.fill", fill),
            ("rings.completion", completion),
        ] {
            if size > MAX_SIZE {
                let why = format!("rings have at most {MAX_SIZE} entries");
                return Err(Error::config(setting, size, why));
            }
            if !size.is_power_of_two() {
                let next = size.next_power_of_two();
                let why = format!("rings have a power of two of entries; {next} is the next");
                return Err(Error::config(setting, size, why));
            }
        }
        if completion < tx {
            let why = format!("with fewer places than `rings.tx` ({tx}) sending would stop");
            return Err(Error::config("rings.completion", completion, why));
        }
        if fill < self.umem.pool.rx_reserve {
            let why = "as many chunks as `rx_reserve` of the umem are posted there: raise the one or \
                       lower the other";
            return Err(Error::config("rings.fill", fill, why));
        }
        if let Some(polling) = self.busy_poll {
            polling.check()?;
        }
        match self.tx_budget {
            Some(budget) if !(MIN_TX_BUDGET..=tx).contains(&budget) => {
                let why = format!("a call sends from 32 frames up to `rings.tx` ({tx})");
                Err(Error::config("tx_budget", budget, why))
            }
            _ => Ok(()),
        }
    }
}
