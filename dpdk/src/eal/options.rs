//! [`EalOptions`]: how DPDK is started, as types instead of a command line.

use std::ffi::CString;
use std::path::PathBuf;

use super::log::{Level, Sink};
use crate::error::{DpdkError, Result};

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

/// Which devices on the PCI bus DPDK may take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pci {
    /// None; the bus is not even looked at (`--no-pci`).
    #[default]
    Off,
    /// All that are bound to a driver that DPDK can use, such as vfio-pci.
    All,
    /// These only, by address (`0000:03:00.0`), each with arguments for its driver after a comma.
    Allow(Vec<String>),
    /// All but these, by address.
    Block(Vec<String>),
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
    pub(super) iova: Iova,
    pub(super) channels: Option<u8>,
    pub(super) telemetry: bool,
    pub(super) capture: bool,
    pub(super) level: Option<Level>,
    pub(super) levels: Vec<(String, Level)>,
    pub(super) sink: Option<Sink>,
    extra: Vec<CString>,
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

    /// Lets `dpdk-dumpcap` and `dpdk-pdump` see the packets of every port (`rte_pdump_init`). They are
    /// processes of their own, so it takes [`Memory::Shared`].
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
    /// [`DpdkError::Config`] when it holds a zero byte.
    #[expect(unsafe_code, reason = "DPDK believes its command line")]
    pub unsafe fn argument(mut self, argument: impl Into<Vec<u8>>) -> Result<Self> {
        self.extra.push(text("argument", argument.into())?);
        Ok(self)
    }

    /// The command line, after everything was checked that DPDK would refuse with a page of usage.
    pub(super) fn arguments(&self, allowed: &[usize]) -> Result<Vec<CString>> {
        let mut line = Line(vec![text("program", "bypass-dpdk")?]);
        self.core_arguments(&mut line, allowed)?;
        self.memory_arguments(&mut line)?;
        self.device_arguments(&mut line)?;
        if !self.telemetry {
            line.flag("--no-telemetry")?;
        }
        let default = ("*".to_owned(), self.level.unwrap_or(Level::Notice));
        for (parts, level) in std::iter::once(&default).chain(&self.levels) {
            if parts.contains([',', ':']) || parts.is_empty() {
                let why = "a pattern such as `pmd.net.*`, without commas and colons";
                return Err(DpdkError::config("log_level_of", parts, why));
            }
            line.option("--log-level", format!("{parts}:{}", level.number()))?;
        }
        line.0.extend(self.extra.iter().cloned());
        Ok(line.0)
    }

    fn core_arguments(&self, line: &mut Line, allowed: &[usize]) -> Result<()> {
        if self.unpinned {
            if let Some(core) = self.cores.first().or(self.main_core.as_ref()) {
                let why = "what is `unpinned` has no core of its own: name none";
                return Err(DpdkError::config("cores", core, why));
            }
            return line.option("--lcores", format!("0@({})", list(allowed)));
        }
        let mut cores = self.cores.clone();
        if cores.is_empty() {
            cores.extend(self.main_core.as_ref().or(allowed.first()));
        }
        for (i, core) in cores.iter().enumerate() {
            if cores[..i].contains(core) {
                return Err(DpdkError::config(
                    "cores",
                    core,
                    "each core has one lcore; name it once",
                ));
            }
            if *core >= bypass_dpdk_sys::RTE_MAX_LCORE as usize {
                let most = bypass_dpdk_sys::RTE_MAX_LCORE - 1;
                let why = format!("this DPDK was built for cores up to {most}");
                return Err(DpdkError::config("cores", core, why));
            }
            if !allowed.contains(core) {
                let why = "there is no such core, or this thread may not use it (cpuset(7)); `taskset -p \
                           $$` tells";
                return Err(DpdkError::config("cores", core, why));
            }
        }
        let main = self.main_core.or(cores.first().copied());
        if let Some(main) = main.filter(|main| !cores.contains(main)) {
            return Err(DpdkError::config("main_core", main, "it is not one of the `cores`"));
        }
        line.option("-l", list(&cores))?;
        main.map_or(Ok(()), |main| line.option("--main-lcore", main.to_string()))
    }

    fn memory_arguments(&self, line: &mut Line) -> Result<()> {
        if self.limit_mib.is_some() && !self.per_node_mib.is_empty() {
            let why = "either a sum (`memory_limit`) or one by node (`memory_per_node`)";
            return Err(DpdkError::config("memory_per_node", list(&self.per_node_mib), why));
        }
        if self.limit_mib == Some(0) {
            return Err(DpdkError::config("memory_limit", 0, "nothing fits into no memory"));
        }
        if self.capture && self.memory != Memory::Shared {
            let why = "the program that captures is another process; take `Memory::Shared`";
            return Err(DpdkError::config("packet_capture", true, why));
        }
        let ordinary = self.memory == Memory::Ordinary;
        if ordinary && !self.per_node_mib.is_empty() {
            let why =
                "ordinary memory lies where the kernel puts it; take huge pages, or `memory_limit`";
            return Err(DpdkError::config("memory_per_node", list(&self.per_node_mib), why));
        }
        if let Some(folder) = &self.huge_folder
            && self.memory != Memory::Shared
        {
            let why = "a mount is used with `Memory::Shared` only";
            return Err(DpdkError::config("huge_folder", folder.display(), why));
        }
        match self.memory {
            // `--in-memory` would do, but versions before 25.03 refuse it together with `--no-huge`.
            Memory::Ordinary => {
                line.flag("--no-huge")?;
                line.flag("--no-shconf")?;
            }
            Memory::InMemory => {
                line.flag("--in-memory")?;
                // A peer of `net_virtio_user` maps every piece, and takes eight of them.
                line.flag("--single-file-segments")?;
            }
            Memory::Shared => {}
        }
        if let Some(mib) = self.limit_mib {
            line.option("-m", mib.to_string())?;
        }
        if !self.per_node_mib.is_empty() {
            line.option("--socket-mem", list(&self.per_node_mib))?;
        }
        if let Some(folder) = &self.huge_folder {
            let folder = folder.to_str().ok_or_else(|| {
                DpdkError::config("huge_folder", folder.display(), "the path is not UTF-8")
            })?;
            line.option("--huge-dir", folder)?;
        }
        let own = || format!("bypass-{}", std::process::id());
        let prefix = match (&self.file_prefix, self.memory) {
            (Some(prefix), _) => Some(prefix.clone()),
            (None, Memory::Shared) => None,
            (None, Memory::Ordinary | Memory::InMemory) => Some(own()),
        };
        if let Some(prefix) = prefix {
            if prefix.is_empty() || prefix.contains(['/', '%']) || prefix.starts_with('.') {
                let why = "a part of a file's name: not empty, no `/`, no `%`, no dot in front";
                return Err(DpdkError::config("file_prefix", prefix, why));
            }
            line.option("--file-prefix", prefix)?;
        }
        match (self.iova, ordinary) {
            (Iova::Physical, true) => {
                let why = "ordinary pages have no physical addresses that stay; take huge pages";
                return Err(DpdkError::config("iova", "Physical", why));
            }
            (Iova::Physical, false) => line.option("--iova-mode", "pa")?,
            (Iova::Virtual, _) | (Iova::Auto, true) => line.option("--iova-mode", "va")?,
            (Iova::Auto, false) => {}
        }
        if let Some(channels) = self.channels {
            if channels == 0 {
                return Err(DpdkError::config("memory_channels", 0, "at least one"));
            }
            line.option("-n", channels.to_string())?;
        }
        Ok(())
    }

    fn device_arguments(&self, line: &mut Line) -> Result<()> {
        // They are plugged in once the environment runs: what `--vdev` asks for may fail unnoticed.
        for (i, (name, arguments)) in self.vdevs.iter().enumerate() {
            crate::driver::check(name, arguments)?;
            if self.vdevs[..i].iter().any(|(other, _)| other == name) {
                let why =
                    "a device of this name was asked for already: choose another number at its end";
                return Err(DpdkError::config("vdev", name, why));
            }
        }
        let (option, addresses): (_, &[String]) = match &self.pci {
            Pci::Off => return line.flag("--no-pci"),
            Pci::All => return Ok(()),
            Pci::Allow(addresses) => ("-a", addresses),
            Pci::Block(addresses) => ("-b", addresses),
        };
        if addresses.is_empty() {
            let why = "name at least one device, or take `Pci::Off` or `Pci::All`";
            return Err(DpdkError::config("pci", "[]", why));
        }
        for address in addresses {
            if !is_pci_address(address.split(',').next().unwrap_or_default()) {
                let why = "an address looks like 0000:03:00.0; `lspci -D` lists those there are";
                return Err(DpdkError::config("pci", address, why));
            }
            line.option(option, address.as_str())?;
        }
        Ok(())
    }
}

/// A command line that grows.
struct Line(Vec<CString>);

impl Line {
    fn flag(&mut self, flag: &'static str) -> Result<()> {
        self.0.push(text(flag, flag)?);
        Ok(())
    }

    fn option(&mut self, option: &'static str, value: impl Into<Vec<u8>>) -> Result<()> {
        self.flag(option)?;
        self.0.push(text(option, value)?);
        Ok(())
    }
}

/// Text for C.
pub(crate) fn text(setting: &'static str, text: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(text).map_err(|error| {
        let shown = String::from_utf8_lossy(&error.into_vec()).escape_debug().to_string();
        DpdkError::config(setting, shown, "it holds a zero byte")
    })
}

fn list<T: ToString>(numbers: &[T]) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

/// `03:00.0` or `0000:03:00.0`.
fn is_pci_address(address: &str) -> bool {
    let hex = |part: &str, digits: std::ops::RangeInclusive<usize>| {
        digits.contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    let Some((slot, function)) = address.rsplit_once('.') else { return false };
    let mut parts = slot.rsplit(':');
    let device = parts.next().is_some_and(|device| hex(device, 1..=2));
    let bus = parts.next().is_some_and(|bus| hex(bus, 1..=2));
    let domain = parts.next().is_none_or(|domain| hex(domain, 1..=8));
    device && bus && domain && parts.next().is_none() && hex(function, 1..=1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(options: &EalOptions) -> String {
        let arguments = options.arguments(&[0, 1]).unwrap();
        arguments.iter().map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    fn refusal(options: &EalOptions) -> String {
        options.arguments(&[0, 1]).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_touch_nothing_of_the_machine() {
        let line = line(&EalOptions::new());
        for part in
            ["-l 0 ", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "--iova-mode va"]
        {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert!(line.contains(&format!("--file-prefix bypass-{}", std::process::id())), "{line}");
        assert!(!line.contains("--in-memory"), "refused together with --no-huge: {line}");
    }

    #[test]
    fn huge_pages_come_with_or_without_files() {
        let in_memory = line(&EalOptions::new().memory(Memory::InMemory).memory_per_node([64, 0]));
        assert!(in_memory.contains("--in-memory --single-file-segments"), "{in_memory}");
        assert!(in_memory.contains("--socket-mem 64,0"), "{in_memory}");
        assert!(!in_memory.contains("--no-huge"), "{in_memory}");
        let shared = line(&EalOptions::new().memory(Memory::Shared).huge_folder("/mnt/huge"));
        assert!(shared.contains("--huge-dir /mnt/huge"), "{shared}");
        assert!(!shared.contains("--file-prefix"), "others must find it: {shared}");
    }

    #[test]
    fn combinations_that_dpdk_refuses_are_refused_with_the_setting() {
        let new = EalOptions::new;
        for (options, setting) in [
            (new().cores([0, 0]), "cores = 0"),
            (new().cores([7]), "cores = 7"),
            (new().cores([1_000_000]), "cores = 1000000"),
            (new().cores([0]).main_core(1), "main_core = 1"),
            (new().unpinned().cores([1]), "cores = 1"),
            (new().memory_limit(0), "memory_limit = 0"),
            (new().memory_per_node([1]), "memory_per_node = 1"),
            (
                new().memory(Memory::InMemory).memory_limit(1).memory_per_node([1]),
                "memory_per_node = 1",
            ),
            (new().huge_folder("/mnt"), "huge_folder = /mnt"),
            (new().packet_capture(true), "packet_capture = true"),
            (new().iova(Iova::Physical), "iova = Physical"),
            (new().file_prefix("a/b"), "file_prefix = a/b"),
            (new().file_prefix("a\0b"), "--file-prefix = a\\0b"),
            (new().memory_channels(0), "memory_channels = 0"),
            (new().pci(Pci::Allow(Vec::new())), "pci = []"),
            (new().pci(Pci::Block(vec!["eth0".to_owned()])), "pci = eth0"),
            (new().vdev("net_null0", "").vdev("net_null0", ""), "vdev = net_null0"),
            (new().vdev("eth0", ""), "vdev = eth0"),
            (new().vdev("net_bonding0", "mode=1"), "vdev = net_bonding0: it drives other"),
            (new().vdev("eth_bond0", "mode=1"), "vdev = eth_bond0: it drives other"),
            (new().vdev("net_softnic0", ""), "vdev = net_softnic0: nobody has looked"),
            (new().vdev("net_ring0", "internal=0x1"), "vdev arguments = internal=0x1: the driver"),
            (new().log_level_of("a:b", Level::Debug), "log_level_of = a:b"),
        ] {
            let text = refusal(&options);
            assert!(text.starts_with(setting), "{setting:?} does not begin {text:?}");
        }
    }

    #[test]
    fn pci_addresses_are_known_by_their_form() {
        for good in ["03:00.0", "0000:03:00.0", "10000:00:1f.7"] {
            assert!(is_pci_address(good), "{good}");
        }
        for bad in ["", "3", "03:00", "xx:00.0", "0000:03:00.00", "0:0:0:0.0"] {
            assert!(!is_pci_address(bad), "{bad}");
        }
    }
}
