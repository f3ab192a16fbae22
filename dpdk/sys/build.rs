//! Finds DPDK, makes the bindings from its headers, compiles the shims and links it.
//!
//! | variable | what it does |
//! |---|---|
//! | `PKG_CONFIG_PATH` | where another DPDK than the system's is found |
//! | `LIBCLANG_PATH` | where libclang lies, where it is not found by itself |
//! | `BYPASS_DPDK_DRIVERS` | feature `static`: the drivers to link, such as `net_ixgbe,net_tap` |

#[path = "build/bind.rs"]
mod bind;
#[path = "build/link.rs"]
mod link;

use std::env;
use std::error::Error;
use std::path::PathBuf;

use bypass_build_support::{DPDK, DPDK_RELEASES, print_cfgs};

/// The version that the stored bindings were made from; they serve documentation only.
const STORED: (&str, &str) = ("22.11", "stored/bindings.rs");

fn main() {
    for input in ["build.rs", "build", "c", STORED.1] {
        println!("cargo::rerun-if-changed={input}");
    }
    if let Err(error) = run() {
        println!("cargo::error={error}");
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
    println!("cargo::rerun-if-env-changed=DOCS_RS");
    if env::var_os("DOCS_RS").is_some() {
        // There is no DPDK where docs.rs builds, and nothing is linked.
        std::fs::copy(STORED.1, out.join("bindings.rs"))?;
        announce(STORED.0);
        return Ok(());
    }
    let dpdk = DPDK.find()?;
    announce(&dpdk.version);
    bind::make(&dpdk, &out)?;
    link::shims(&dpdk);
    link::dpdk(&dpdk)?;
    Ok(())
}

/// Tells this crate, and those that depend on it, which version it is.
fn announce(version: &str) {
    print_cfgs("dpdk", version, DPDK_RELEASES);
    println!("cargo::metadata=version={version}");
}
