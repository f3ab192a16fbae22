//! The table of system packages, and their installation; and a package of Python's.

use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use super::cargo::{root, shown};

/// A Debian package that some test or benchmark uses.
struct Package {
    name: &'static str,
    /// What proves that it is there: a command on the search path, or a file (an absolute path).
    proof: &'static str,
    /// What it is used for.
    used_for: &'static str,
    /// Who needs it; what needs none of these packages is not in this table.
    layer: Layer,
}

/// The layer that is skipped, with this reason, where the package is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// Building a backend that binds a C library.
    Build,
    /// Real traffic in network namespaces, with third-party programs on the other end.
    Traffic,
    /// Instruction counts and peers.
    Benchmarks,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Build => "build",
            Self::Traffic => "traffic tests",
            Self::Benchmarks => "benchmarks",
        })
    }
}

const PACKAGES: &[Package] = &[
    Package {
        name: "pkg-config",
        proof: "pkg-config",
        used_for: "finding the C library of a backend that has one",
        layer: Layer::Build,
    },
    Package {
        name: "libelf-dev",
        proof: "/usr/include/libelf.h",
        used_for: "AF_XDP: loading the XDP program",
        layer: Layer::Build,
    },
    Package {
        name: "zlib1g-dev",
        proof: "/usr/include/zlib.h",
        used_for: "AF_XDP: loading the XDP program",
        layer: Layer::Build,
    },
    Package {
        name: "clang",
        proof: "clang",
        used_for: "AF_XDP: building the XDP program anew, feature `libxdp`; DPDK: its bindings",
        layer: Layer::Build,
    },
    Package {
        name: "llvm",
        proof: "llvm-strip",
        used_for: "AF_XDP: building the XDP program anew",
        layer: Layer::Build,
    },
    Package {
        name: "m4",
        proof: "m4",
        used_for: "AF_XDP, feature `libxdp`: its dispatcher",
        layer: Layer::Build,
    },
    Package {
        name: "libdpdk-dev",
        proof: "/usr/include/dpdk/rte_eal.h",
        used_for: "DPDK: its headers, libraries and drivers",
        layer: Layer::Build,
    },
    Package {
        name: "iproute2",
        proof: "ip",
        used_for: "namespaces, veth pairs, bridges, neighbour tables",
        layer: Layer::Traffic,
    },
    Package {
        name: "ethtool",
        proof: "ethtool",
        used_for: "AF_XDP: checksums on a veth pair, which the kernel would leave out",
        layer: Layer::Traffic,
    },
    Package {
        name: "iputils-ping",
        proof: "ping",
        used_for: "ICMP against the user-space stack",
        layer: Layer::Traffic,
    },
    Package {
        name: "iputils-arping",
        proof: "arping",
        used_for: "ARP against the user-space stack",
        layer: Layer::Traffic,
    },
    Package {
        name: "tcpdump",
        proof: "tcpdump",
        used_for: "seeing what is on the wire",
        layer: Layer::Traffic,
    },
    Package {
        name: "tshark",
        proof: "tshark",
        used_for: "judging the checksums on the wire",
        layer: Layer::Traffic,
    },
    Package {
        name: "socat",
        proof: "socat",
        used_for: "a UDP client and server of other hands",
        layer: Layer::Traffic,
    },
    Package {
        name: "bind9-dnsutils",
        proof: "dig",
        used_for: "a DNS client of other hands",
        layer: Layer::Traffic,
    },
    Package {
        name: "knot-dnsutils",
        proof: "kdig",
        used_for: "a DNS client of other hands",
        layer: Layer::Traffic,
    },
    Package {
        name: "ldnsutils",
        proof: "drill",
        used_for: "a DNS client of other hands",
        layer: Layer::Traffic,
    },
    Package {
        name: "dpdk-dev",
        proof: "dpdk-pdump",
        used_for: "DPDK: capturing packets, and a program of other hands to measure beside",
        layer: Layer::Traffic,
    },
    Package {
        name: "nsd",
        proof: "nsd",
        used_for: "a DNS server of other hands, which must give the same answers",
        layer: Layer::Traffic,
    },
    Package {
        name: "knot",
        proof: "knotd",
        used_for: "a DNS server of other hands, which must give the same answers",
        layer: Layer::Traffic,
    },
    Package {
        name: "memcached",
        proof: "memcached",
        used_for: "a key-value store of other hands, to compare with",
        layer: Layer::Traffic,
    },
    Package {
        name: "libmemcached-tools",
        proof: "memcslap",
        used_for: "clients of key-value stores of other hands",
        layer: Layer::Traffic,
    },
    Package {
        name: "python3-pymemcache",
        proof: "/usr/lib/python3/dist-packages/pymemcache",
        used_for: "another client of key-value stores of other hands",
        layer: Layer::Traffic,
    },
    Package {
        name: "python3-venv",
        proof: "/usr/share/doc/python3-venv",
        used_for: "an environment for packages of Python's",
        layer: Layer::Traffic,
    },
    Package {
        name: "python3-prometheus-client",
        proof: "/usr/lib/python3/dist-packages/prometheus_client",
        used_for: "a reader of telemetry of other hands",
        layer: Layer::Traffic,
    },
    Package {
        name: "tmux",
        proof: "tmux",
        used_for: "a terminal for the example `monitor`",
        layer: Layer::Traffic,
    },
    Package {
        name: "fio",
        proof: "fio",
        used_for: "random reads of other hands",
        layer: Layer::Benchmarks,
    },
    Package {
        name: "dnsperf",
        proof: "dnsperf",
        used_for: "DNS queries of other hands",
        layer: Layer::Benchmarks,
    },
    Package {
        name: "sockperf",
        proof: "sockperf",
        used_for: "an echo server of other hands",
        layer: Layer::Benchmarks,
    },
    Package {
        name: "libxdp-dev",
        proof: "/usr/include/xdp/xsk.h",
        used_for: "AF_XDP: the loop in C",
        layer: Layer::Benchmarks,
    },
    Package {
        name: "valgrind",
        proof: "valgrind",
        used_for: "instructions per packet",
        layer: Layer::Benchmarks,
    },
];

/// A reader of ITCH of other hands; nothing that it depends on is needed for reading.
const MEATPY: &str = "meatpy==0.5.0";

/// `cargo xtask setup`: installs what is missing; without the right to, says what and how.
pub(crate) fn run() -> Result<ExitCode> {
    let missing = ensure()?;
    Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Installs what is missing and returns how many packages still are.
pub(crate) fn ensure() -> Result<usize> {
    let missing = ensure_packages()?;
    // Without it one test is skipped, which is a failure under `CI=true`, as with any package.
    if let Err(error) = ensure_meatpy() {
        println!("setup: {MEATPY} is not there: {error:#}");
    }
    Ok(missing)
}

/// Installs what is read by Python, in an environment of its own.
fn ensure_meatpy() -> Result<()> {
    let folder = root().join("target/python");
    // Written last, so that half an environment does not pass for a whole one.
    let complete = folder.join("complete");
    if fs::read_to_string(&complete).is_ok_and(|installed| installed == MEATPY) {
        return Ok(());
    }
    println!("setup: python3 -m venv {}, with {MEATPY}", folder.display());
    // The system's: the first on the path may be another one.
    execute(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--no-deps", MEATPY];
    execute(Command::new(folder.join("bin/python")).args(pip))?;
    execute(Command::new(folder.join("bin/python")).args(["-c", "import meatpy.itch50"]))?;
    fs::write(complete, MEATPY).context("cannot write into target/python")
}

fn execute(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed:\n{}", shown(command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Installs what is missing of the system's packages.
fn ensure_packages() -> Result<usize> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|package| !package.is_there()).collect();
    if missing.is_empty() {
        println!("setup: all {} system packages are there", PACKAGES.len());
        return Ok(0);
    }
    println!("setup: missing system packages:");
    for Package { name, used_for, layer, .. } in &missing {
        println!("  {name:16} {layer:14} {used_for}");
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if let Some(hindrance) = hindrance() {
        println!(
            "setup: {hindrance}; install them with:\n  apt-get update && apt-get install -y {}",
            names.join(" ")
        );
        return Ok(missing.len());
    }
    apt_get(&["update"])?;
    apt_get(&[&["install", "-y", "--no-install-recommends"], names.as_slice()].concat())?;
    for package in missing {
        if !package.is_there() {
            bail!("package {} is installed, but there is no `{}`", package.name, package.proof);
        }
    }
    Ok(0)
}

/// Whether this process is root; `/proc/self` belongs to the effective user.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Why nothing can be installed here, if so.
fn hindrance() -> Option<&'static str> {
    if on_path("apt-get").is_none() {
        Some("there is no apt-get here")
    } else if !is_root() {
        Some("only root may install packages")
    } else {
        None
    }
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    // Packages such as tshark ask whether others than root may capture; nobody is there to answer.
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
        .args(["-q", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120"])
        .args(arguments);
    println!("setup: apt-get {}", arguments.join(" "));
    let output = command.output().context("cannot run apt-get")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("apt-get {} failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

impl Package {
    fn is_there(&self) -> bool {
        if self.proof.starts_with('/') {
            Path::new(self.proof).exists()
        } else {
            on_path(self.proof).is_some()
        }
    }
}

/// Where a command lies; the administration folders count, even where the search path leaves them
/// out.
fn on_path(command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administration = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(administration)
        .map(|folder| folder.join(command))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_names_each_package_and_proof_once() {
        let names: HashSet<_> = PACKAGES.iter().map(|package| package.name).collect();
        let proofs: HashSet<_> = PACKAGES.iter().map(|package| package.proof).collect();
        assert_eq!(names.len(), PACKAGES.len());
        assert_eq!(proofs.len(), PACKAGES.len());
    }

    #[test]
    fn a_command_is_found_and_nonsense_is_not() {
        assert!(on_path("sh").is_some());
        assert!(on_path("no-such-command-anywhere").is_none());
    }
}
