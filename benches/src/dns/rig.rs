//! A zone, the questions about it, and two hosts with a cable between them.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::cable::Cable;

/// Names in the zone.
pub(super) const NAMES: usize = 10_000;
/// Different questions.
const QUESTIONS: usize = 4096;
pub(super) const ZONE: &str = "example.com";
/// Another address of the server's side, which the kernel does not have.
pub(super) const USER_SPACE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
pub(super) const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// A folder that goes with this, and what is asked.
pub(super) struct Questions {
    /// Of this run, with the zone and the settings of servers.
    pub(super) folder: PathBuf,
    /// Messages, without an OPT record.
    pub(super) queries: Vec<Vec<u8>>,
}

impl Questions {
    /// The same in every run.
    pub(super) fn write() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("bypass-bench-dns-{}", std::process::id()));
        fs::create_dir_all(&folder).context("cannot make a folder for the zone")?;
        let mut random = fastrand::Rng::with_seed(1);
        let names: Vec<String> = (0..QUESTIONS)
            .map(|i| {
                let name = random.usize(..NAMES);
                if i % 10 == 0 { format!("n{name}") } else { format!("h{name}") }
            })
            .collect();
        let questions = names.iter().fold(String::new(), |mut text, name| {
            // Writing to a string does not fail.
            let _written = writeln!(text, "{name}.{ZONE} A");
            text
        });
        fs::write(folder.join("queries"), questions)?;
        fs::write(folder.join("zone"), zone())?;
        Ok(Self { folder, queries: names.iter().map(|name| query(name)).collect() })
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

pub(super) struct Rig {
    pub(super) cable: Cable,
    pub(super) questions: Questions,
}

impl Rig {
    /// Moves the process there; no thread may have been started yet.
    pub(super) fn lay() -> Result<Self> {
        let cable = Cable::lay()?;
        Ok(Self { cable, questions: Questions::write()? })
    }
}

fn zone() -> String {
    let mut zone = "$TTL 3600\n@ SOA ns1 hostmaster 1 7200 3600 1209600 300\n@ NS ns1\n\
                    ns1 A 192.0.2.1\n"
        .to_owned();
    for name in 0..NAMES {
        // Writing to a string does not fail.
        let _written = writeln!(zone, "h{name} A 10.0.{}.{}", name >> 8 & 0xff, name & 0xff);
    }
    zone
}

/// A question for the address of a name in the zone.
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [name].into_iter().chain(ZONE.split('.')) {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}
