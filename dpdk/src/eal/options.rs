//! [`EalOptions`]: how DPDK is started, as types instead of a command line.

use std::ffi::CString;
use std::path::PathBuf;

use super::log::{Level, Sink};
use super::pci::Pci;
use super::text;
use crate::error::Result;

/// Where packet memory comes from.
///
/// | | needs | other processes may share it | speed |
/// |---|---|---|---|
/// | [`Ordinary`](Self::Ordinary) | nothing | no | for virtual devices and tests |
/// | [`InMemory`](Self::InMemory) | reserved huge pages | no | full |
/// | [`Shared`](Self::Shared) | reserved huge pages and a hugetlbfs mount that the process may write | yes | full |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Memory {
    /// Ordinary pages (`--no-huge`). Real devices want huge pages: ordinary ones have no physical
    /// addresses that stay.
    #[default]
    Ordinary,
    /// Huge pages without a file (`--in-memory`): nothing is left behind, whatever happens.
    ///
    /// The pages of one size at one node are one piece of memory with one descriptor, up to 32 GiB of them
    /// (`--single-file-segments`): the peer of a `net_virtio_user` maps no more than 8 pieces, where each page
    /// would be one of its own. It gets all of DPDK's memory, not only packets.
    InMemory,
    /// Huge pages in files under a hugetlbfs mount, which secondary processes can map.
    Shared,
}

/// What devices are told where packets lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Iova {
    /// What the devices that are there need.
    #[default]
    Auto,
    /// Virtual addresses; needs an IOMMU, or no real device.
    Virtual,
    /// Physical addresses; needs CAP_SYS_ADMIN to look them up.
    Physical,
}

/// How DPDK is started. The defaults need no privileges: two processes with them do not see each other,
/// and no device of the machine is touched.
///
/// ```standalone_crate
/// use bypass_dpdk::{EalOptions, Vdev};
///
/// let eal = EalOptions::new().cores([0]).start()?;
/// let device = Vdev::plug(&eal, "net_null0", "")?;
/// assert_eq!(device.name(), "net_null0");
/// # Ok::<(), bypass_dpdk::DpdkError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing starts before `start`"]
pub struct EalOptions {
    pub(super) cores: Vec<usize>,
    pub(super) main_core: Option<usize>,
    pub(super) unpinned: bool,
    pub(super) memory: Memory,
    pub(super) limit_mib: Option<u32>,
    pub(super) per_node_mib: Vec<u32>,
    pub(super) huge_folder: Option<PathBuf>,
    pub(super) file_prefix: Option<String>,
    pub(super) vdevs: Vec<(String, String)>,
    pub(super) pci: Pci,
    pub(super) pci_devices: Vec<(String, String)>,
    pub(super) iova: Iova,
    pub(super) channels: Option<u8>,
    pub(super) telemetry: bool,
    pub(super) capture: bool,
    pub(super) level: Option<Level>,
    pub(super) levels: Vec<(String, Level)>,
    pub(super) sink: Option<Sink>,
    pub(super) extra: Vec<CString>,
}

impl EalOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The cores that get an lcore each (`-l`); by default one, on the first core that the calling
    /// thread may run on. Threads of your own need none.
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores = cores.into_iter().collect();
        self
    }

    /// Which of the [cores](Self::cores) the calling thread becomes (`--main-lcore`); the first by
    /// default.
    pub fn main_core(mut self, core: usize) -> Self {
        self.main_core = Some(core);
        self
    }

    /// Makes one lcore, the calling thread, and leaves that thread on all cores that it may run on:
    /// nothing in the process changes its place, and threads that it starts are as free.
    pub fn unpinned(mut self) -> Self {
        self.unpinned = true;
        self
    }

    /// Where packet memory comes from.
    pub fn memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// How much memory to take, in MiB, on all NUMA nodes together (`-m`). Ordinary memory is taken at
    /// once and never grows, 64 MiB by default; huge pages are taken as pools need them.
    pub fn memory_limit(mut self, mib: u32) -> Self {
        self.limit_mib = Some(mib);
        self
    }

    /// Huge pages to take at start, in MiB by NUMA node (`--socket-mem`).
    pub fn memory_per_node(mut self, mib: impl IntoIterator<Item = u32>) -> Self {
        self.per_node_mib = mib.into_iter().collect();
        self
    }

    /// The hugetlbfs mount to use (`--huge-dir`); by default the first that fits.
    pub fn huge_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.huge_folder = Some(folder.into());
        self
    }

    /// What the names of all files begin with (`--file-prefix`): two processes with one prefix share
    /// memory, or collide. By default one of this process's own, and `rte` with [`Memory::Shared`].
    pub fn file_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.file_prefix = Some(prefix.into());
        self
    }

    /// Makes a virtual device at start (`--vdev`): its name, which begins with its driver's
    /// (`net_null0`), and its arguments (`size=64`). [`Vdev::plug`](crate::Vdev::plug) makes one later, and says
    /// which drivers and arguments are taken.
    pub fn vdev(mut self, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        self.vdevs.push((name.into(), arguments.into()));
        self
    }

    /// Which devices on the PCI bus may be taken; none by default.
    pub fn pci(mut self, pci: Pci) -> Self {
        self.pci = pci;
        self
    }

    /// Allows one more device on the PCI bus, by address (`0000:03:00.0`), with arguments for its driver
    /// (`dv_flow_en=1`; the drivers' pages in the DPDK guide list them). It goes with [`Pci::Allow`], and with
    /// [`Pci::Off`], beside which no other device is looked at.
    ///
    /// # Safety
    ///
    /// With these arguments the driver is sound, whatever is done with the device by the safe methods of this
    /// crate: it uses no memory but its own and that of the packets in its hands, and fills no packet beyond the
    /// room in its mbufs.
    #[expect(unsafe_code, reason = "drivers believe their arguments")]
    pub unsafe fn pci_device_unchecked(
        mut self,
        address: impl Into<String>,
        arguments: impl Into<String>,
    ) -> Self {
        self.pci_devices.push((address.into(), arguments.into()));
        self
    }

    /// What devices are told where packets lie.
    pub fn iova(mut self, iova: Iova) -> Self {
        self.iova = iova;
        self
    }

    /// Channels of the memory controller (`-n`), over which pools spread their objects.
    pub fn memory_channels(mut self, channels: u8) -> Self {
        self.channels = Some(channels);
        self
    }

    /// Opens the telemetry socket, which `dpdk-telemetry.py` asks.
    pub fn telemetry(mut self, open: bool) -> Self {
        self.telemetry = open;
        self
    }

    /// Lets `dpdk-pdump` and `dpdk-dumpcap` see the packets of every port (`rte_pdump_init`), when somebody starts
    /// them with the same [`file_prefix`](Self::file_prefix):
    /// `dpdk-pdump --file-prefix NAME -- --pdump 'port=0,queue=*,rx-dev=rx.pcap,tx-dev=tx.pcap'`.
    ///
    /// They are processes of their own, so it takes [`Memory::Shared`], and DPDK knows no threads then but its own
    /// ([`Eal::register_thread`](super::Eal::register_thread)).
    pub fn packet_capture(mut self, allow: bool) -> Self {
        self.capture = allow;
        self
    }

    /// What is logged at all; [`Level::Notice`] and above by default.
    pub fn log_level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// What is logged of the parts whose name matches a pattern such as `lib.eal` or `pmd.net.*`.
    pub fn log_level_of(mut self, parts: impl Into<String>, level: Level) -> Self {
        self.levels.push((parts.into(), level));
        self
    }

    /// Where messages go. By default: to `tracing` or `log` with the feature of that name, to DPDK's own
    /// places (standard output and syslog) without.
    pub fn log_to(mut self, sink: Sink) -> Self {
        self.sink = Some(sink);
        self
    }

    /// An argument that no method here stands for, such as `--legacy-mem`.
    ///
    /// # Safety
    ///
    /// The argument neither loads code nor lets other processes change this one's memory, unless these
    /// keep to the rules of this crate; and it does not take back what the methods here asked for.
    ///
    /// # Errors
    ///
    /// [`DpdkError::Config`](crate::DpdkError::Config) when it holds a zero byte.
    #[expect(unsafe_code, reason = "DPDK believes its command line")]
    pub unsafe fn argument(mut self, argument: impl Into<Vec<u8>>) -> Result<Self> {
        self.extra.push(text("argument", argument.into())?);
        Ok(self)
    }
}
