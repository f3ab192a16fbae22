//! Compiling the shims, and linking DPDK shared (all drivers, loaded at start) or static (those that
//! are named).

use std::env;
use std::error::Error;

use bypass_build_support::Found;

/// The parts of DPDK that the bindings name functions of, as they lean on each other.
const LIBRARIES: &[&str] = &[
    "rte_pdump",
    "rte_ethdev",
    "rte_meter",
    "rte_net",
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
    "rte_eal",
    "rte_log",
    "rte_argparse",
    "rte_telemetry",
    "rte_kvargs",
];

/// The drivers of a static build: pools, both buses, and the devices that need no hardware.
const DRIVERS: &[&str] = &[
    "bus_pci",
    "bus_vdev",
    "mempool_ring",
    "mempool_stack",
    "net_af_packet",
    "net_memif",
    "net_null",
    "net_ring",
    "net_tap",
    "net_vhost",
    "net_virtio",
];

/// Drivers that lean on other drivers.
const LEAN_ON: &[(&str, &[&str])] = &[
    ("net_iavf", &["common_iavf"]),
    ("net_ice", &["common_iavf"]),
    ("net_idpf", &["common_idpf"]),
    ("net_mlx5", &["common_mlx5", "bus_auxiliary"]),
    ("net_netvsc", &["bus_vmbus"]),
    ("net_sfc", &["common_sfc_efx"]),
];

/// Libraries of others that drivers need.
const SYSTEM: &[(&str, &[&str])] = &[
    ("net_af_xdp", &["xdp", "bpf", "elf", "z"]),
    ("net_mlx4", &["mlx4", "ibverbs"]),
    ("net_mlx5", &["mlx5", "ibverbs"]),
    ("net_pcap", &["pcap"]),
];

pub(crate) fn shims(dpdk: &Found) {
    let mut build = cc::Build::new();
    build.flags(&dpdk.c_flags).file("c/shims.c");
    // DPDK's headers are not written for every warning there is.
    build.warnings(false).flag_if_supported("-Wno-deprecated-declarations");
    build.compile("bypass_dpdk_shims");
}

pub(crate) fn dpdk(dpdk: &Found) -> Result<(), Box<dyn Error>> {
    let folder = pkg_config::get_variable("libdpdk", "libdir")?;
    println!("cargo::rustc-link-search=native={folder}");
    for folder in &dpdk.folders {
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    if env::var_os("CARGO_FEATURE_STATIC").is_some() {
        return static_with(&drivers(), &dpdk.libraries, &folder);
    }
    for library in &dpdk.libraries {
        // What is no part of DPDK is for its headers: Debian's take `strlcpy` from libbsd.
        if LIBRARIES.contains(&library.as_str()) || !library.starts_with("rte_") {
            println!("cargo::rustc-link-lib={library}");
        }
    }
    Ok(())
}

/// The drivers that every static build has, and those that `BYPASS_DPDK_DRIVERS` adds.
fn drivers() -> Vec<String> {
    println!("cargo::rerun-if-env-changed=BYPASS_DPDK_DRIVERS");
    let more = env::var("BYPASS_DPDK_DRIVERS").unwrap_or_default();
    let more = more.split([',', ' ']).filter(|driver| !driver.is_empty());
    let mut drivers: Vec<&str> = DRIVERS.iter().copied().chain(more).collect();
    for (driver, needed) in LEAN_ON {
        if drivers.contains(driver) {
            drivers.extend(*needed);
        }
    }
    drivers.sort_unstable();
    drivers.dedup();
    drivers.into_iter().map(str::to_owned).collect()
}

fn static_with(
    drivers: &[String],
    libraries: &[String],
    folder: &str,
) -> Result<(), Box<dyn Error>> {
    for driver in drivers {
        let archive = format!("{folder}/librte_{driver}.a");
        if !std::path::Path::new(&archive).is_file() {
            let why = "BYPASS_DPDK_DRIVERS takes names such as net_ixgbe,net_af_xdp";
            return Err(format!("driver `{driver}`: there is no {archive}; {why}").into());
        }
        // Whole: nothing refers to a driver, it announces itself when the program starts.
        println!("cargo::rustc-link-lib=static:+whole-archive,-bundle=rte_{driver}");
    }
    for library in libraries {
        if library.starts_with("rte_") {
            println!("cargo::rustc-link-lib=static:-bundle={library}");
        } else {
            println!("cargo::rustc-link-lib={library}");
        }
    }
    println!("cargo::rustc-link-lib=numa");
    for (driver, needed) in SYSTEM {
        if drivers.iter().any(|linked| linked == driver) {
            for library in *needed {
                println!("cargo::rustc-link-lib={library}");
            }
        }
    }
    Ok(())
}
