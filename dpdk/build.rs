//! Sets the cfgs of the DPDK version that `bypass-dpdk-sys` found.

use bypass_build_support::{DPDK_RELEASES, print_cfgs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_DPDK_VERSION");
    match std::env::var("DEP_DPDK_VERSION") {
        Ok(version) => print_cfgs("dpdk", &version, DPDK_RELEASES),
        Err(error) => println!("cargo::error=bypass-dpdk-sys does not tell its version: {error}"),
    }
}
