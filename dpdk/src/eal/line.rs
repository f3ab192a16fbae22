//! The command line that [`EalOptions`] stand for.

use std::ffi::CString;

use super::log::Level;
use super::options::{EalOptions, Iova, Memory};
use super::pci;
use crate::error::{DpdkError, Result};

impl EalOptions {
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
        pci::arguments(&self.pci, &self.pci_devices, line)
    }
}

/// A command line that grows.
#[derive(Default)]
pub(super) struct Line(Vec<CString>);

impl Line {
    pub(super) fn flag(&mut self, flag: &'static str) -> Result<()> {
        self.0.push(text(flag, flag)?);
        Ok(())
    }

    pub(super) fn option(&mut self, option: &'static str, value: impl Into<Vec<u8>>) -> Result<()> {
        self.flag(option)?;
        self.0.push(text(option, value)?);
        Ok(())
    }
}

#[cfg(test)]
impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|part| part.to_string_lossy()).collect();
        f.write_str(&parts.join(" "))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eal::Pci;

    fn line(options: &EalOptions) -> String {
        Line(options.arguments(&[0, 1]).unwrap()).to_string()
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
            (
                new().pci(Pci::Allow(vec!["03:00.0,a=b".to_owned()])),
                "pci = 03:00.0,a=b: an address only",
            ),
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
}
