//! DPDK: the library, and the devices that a driver of its kind holds.

use super::{Finding, Section, line, names};
use crate::dpdk::Eal;

/// Drivers that hand a device to user space (DPDK's Linux guide, "Linux Drivers").
const DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

pub(super) fn section() -> Section {
    let findings = vec![Finding::good("library", Eal::version()), drivers(), devices(), vfio()];
    super::section("dpdk", findings)
}

/// The drivers of network devices that the library loads when it starts: they lie beside it, in a folder of
/// their own (DPDK's Linux guide, "Shared Library Build").
fn drivers() -> Finding {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let library = maps.lines().find_map(|line| {
        let path = line.split_whitespace().nth(5)?;
        let (folder, file) = path.rsplit_once('/')?;
        file.starts_with("librte_eal.so").then_some(folder)
    });
    let Some(library) = library else {
        return Finding::good("drivers", "those that were linked into this program");
    };
    let folders = names(format!("{library}/dpdk")).into_iter().filter(|name| name.contains("pmds"));
    let mut drivers: Vec<String> = folders
        .flat_map(|folder| names(format!("{library}/dpdk/{folder}")))
        .filter_map(|file| Some(file.strip_prefix("librte_")?.split_once(".so")?.0.to_owned()))
        .filter(|driver| driver.starts_with("net_"))
        .collect();
    drivers.sort();
    drivers.dedup();
    if drivers.is_empty() {
        Finding::limited("drivers", format!("none beside {library}/librte_eal.so"))
            .with_remedy("apt-get install dpdk")
    } else {
        let detail = format!("{} of network devices: {}", drivers.len(), drivers.join(", "));
        Finding::good("drivers", detail)
    }
}

fn devices() -> Finding {
    let bound = DRIVERS.iter().flat_map(|driver| {
        let devices = names(format!("/sys/bus/pci/drivers/{driver}"));
        let devices = devices.into_iter().filter(|name| name.contains(':'));
        devices.map(move |device| format!("{device} ({driver})"))
    });
    let bound: Vec<_> = bound.collect();
    if bound.is_empty() {
        Finding::limited("devices", "none is bound: virtual devices only")
            .with_remedy("dpdk-devbind.py --bind=vfio-pci PCI-ADDRESS")
    } else {
        Finding::good("devices", bound.join(", "))
    }
}

/// `Documentation/driver-api/vfio.rst`.
fn vfio() -> Finding {
    let groups = names("/sys/kernel/iommu_groups").len();
    let unsafe_mode = line("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
    match (groups, unsafe_mode.as_deref()) {
        (0, Some("Y")) => Finding::limited("IOMMU", "none; VFIO works without, unprotected"),
        (0, _) => Finding::limited("IOMMU", "none: VFIO needs one")
            .with_remedy("boot with intel_iommu=on or amd_iommu=on"),
        (groups, _) => Finding::good("IOMMU", format!("{groups} groups")),
    }
}
