//! The scenarios by name, and what the command line says about a run.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

#[cfg(feature = "xdp")]
use crate::dns;
#[cfg(all(feature = "dpdk", feature = "peers"))]
use crate::dpdk;
use crate::environment::Environment;
#[cfg(feature = "xdp")]
use crate::kv;
#[cfg(feature = "xdp")]
use crate::market;
use crate::micro::Case;
use crate::report::Report;
#[cfg(feature = "peers")]
use crate::xdp;
use crate::{abstraction, echo, log, storage, udp_stack, wire};

/// A benchmark that can be run by name.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Options) -> Result<Report>,
    /// The cases of a scenario that runs in memory.
    pub(crate) cases: &'static [Case],
    /// Becomes a contestant, by name and job, where contestants measure themselves.
    pub(crate) measure: Option<fn(&str, &str) -> Result<()>>,
    /// Starts a contestant for a generator elsewhere, where the scenario can use a network card.
    pub(crate) serve: Option<wire::Start>,
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "echo",
        about: "UDP echo over loopback: round trips per CPU second, latency at a common rate",
        run: echo::run_udp,
        cases: &[],
        measure: None,
        serve: Some(echo::start_udp),
    },
    Scenario {
        name: "echo_tcp",
        about: "TCP echo over loopback, 64 connections: the same beside the runtimes",
        run: echo::run_tcp,
        cases: &[],
        measure: None,
        serve: Some(echo::start_tcp),
    },
    Scenario {
        name: "abstraction",
        about: "instructions per packet of code over the seam beside code for one backend",
        run: abstraction::run,
        cases: abstraction::CASES,
        measure: None,
        serve: None,
    },
    Scenario {
        name: "udp_stack",
        about: "ns and instructions per datagram through UDP over layer 2, beside the floor",
        run: udp_stack::run,
        cases: udp_stack::CASES,
        measure: None,
        serve: None,
    },
    Scenario {
        name: "storage",
        about: "random reads of 4 KiB with O_DIRECT at depths 1, 32 and 64, beside fio and runtimes",
        run: storage::run,
        cases: &[],
        measure: Some(storage::measure),
        serve: None,
    },
    Scenario {
        name: "log",
        about: "a log with group commit: records per second and time to commit, beside tokio and a thread",
        run: log::run,
        cases: &[],
        measure: Some(log::measure),
        serve: None,
    },
    #[cfg(feature = "xdp")]
    Scenario {
        name: "dns",
        about: "authoritative DNS on AF_XDP, io_uring and sockets: queries per second, beside nsd and knot",
        run: dns::run,
        cases: &[],
        measure: Some(dns::measure),
        serve: Some(dns::start),
    },
    #[cfg(feature = "peers")]
    Scenario {
        name: "xdp",
        about: "AF_XDP on a veth pair: cycles per frame, rates, round trips, beside crates and C",
        run: xdp::run,
        cases: &[],
        measure: Some(xdp::measure),
        serve: Some(xdp::start),
    },
    #[cfg(all(feature = "dpdk", feature = "peers"))]
    Scenario {
        name: "dpdk",
        about: "DPDK: packets per second on virtual devices, shared and static, beside C and testpmd",
        run: dpdk::run,
        cases: &[],
        measure: Some(dpdk::measure),
        serve: Some(xdp::start),
    },
    #[cfg(feature = "xdp")]
    Scenario {
        name: "kv",
        about: "the key-value store: requests per second without a loss, latency, beside tokio and memcached",
        run: kv::run,
        cases: &[],
        measure: Some(kv::measure),
        serve: Some(kv::start),
    },
    #[cfg(feature = "xdp")]
    Scenario {
        name: "market",
        about: "market data: messages per second without a loss, latency, decoding, beside recvmmsg and itchy",
        run: market::run,
        cases: market::CASES,
        measure: Some(market::measure),
        serve: Some(market::start),
    },
];

/// The scenario of that name.
pub(crate) fn find(name: &str) -> Result<&'static Scenario> {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    scenario.with_context(|| format!("there is no scenario `{name}`"))
}

pub(crate) const USAGE: &str = "\
usage: cargo xtask bench <scenario> [--json FILE] [--plot FOLDER] [--quick] [--sweep] [--rounds N] [--only A,B]
                         [--dir DIR]
       cargo xtask bench <scenario> --nic INTERFACE|PCI-ADDRESS [--force]
       cargo xtask bench <scenario> --client INTERFACE --server ADDRESS [--force] ...
       cargo xtask bench plot FILE FOLDER
";

/// What the command line asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) scenario: String,
    /// Where to write the report as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Where to draw the report.
    pub(crate) plot: Option<PathBuf>,
    /// Short runs that show that everything works and prove nothing.
    pub(crate) quick: bool,
    /// Whether scenarios that offer load also offer it around and beyond each one's highest rate, as
    /// their pictures need it.
    pub(crate) sweep: bool,
    /// The contestants to run, by name; empty for all.
    pub(crate) only: Vec<String>,
    /// Where files that are read and written lie, and with them the device that is measured.
    pub(crate) dir: Option<PathBuf>,
    /// Pairs that count.
    pub(crate) rounds: usize,
    /// The interface that the servers are put on, by name or PCI address, for a generator elsewhere.
    pub(crate) nic: Option<String>,
    /// The interface that the generator uses, and the address of the servers elsewhere.
    pub(crate) client: Option<(String, Ipv4Addr)>,
    /// Whether an interface is used even if a default route leads through it.
    pub(crate) force: bool,
    /// The addresses of a generator here and servers elsewhere.
    pub(crate) ends: Option<wire::Ends>,
}

impl Options {
    /// Reads what [`USAGE`] says;
    /// `None` without a scenario.
    pub(crate) fn read(arguments: &[String]) -> Result<Option<Self>> {
        let (mut scenario, mut json, mut dir, mut rounds, mut only) =
            (None, None, None, None, Vec::new());
        let (mut plot, mut quick, mut sweep) = (None, false, false);
        let (mut nic, mut client, mut server, mut force) = (None, None, None, false);
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--json" => {
                    json = Some(PathBuf::from(arguments.next().context("--json takes a file")?))
                }
                "--plot" => {
                    plot = Some(PathBuf::from(arguments.next().context("--plot takes a folder")?))
                }
                "--dir" => {
                    dir = Some(PathBuf::from(arguments.next().context("--dir takes a folder")?))
                }
                "--quick" => quick = true,
                "--sweep" => sweep = true,
                "--nic" => {
                    nic = Some(arguments.next().context("--nic takes an interface")?.clone())
                }
                "--client" => {
                    client = Some(arguments.next().context("--client takes an interface")?.clone())
                }
                "--server" => {
                    let address = arguments.next().context("--server takes an address")?;
                    let parsed = address.parse::<Ipv4Addr>();
                    server =
                        Some(parsed.with_context(|| format!("`{address}` is no IPv4 address"))?);
                }
                "--force" => force = true,
                "--rounds" => {
                    let number = arguments.next().context("--rounds takes a number")?;
                    rounds = Some(
                        number
                            .parse()
                            .with_context(|| format!("`{number}` is no number of rounds"))?,
                    );
                }
                "--only" => {
                    let names =
                        arguments.next().context("--only takes names with commas between them")?;
                    only.extend(names.split(',').map(str::to_owned));
                }
                flag if flag.starts_with('-') => bail!("there is no option `{flag}`"),
                name if scenario.is_none() => scenario = Some(name.to_owned()),
                name => bail!("one scenario at a time, `{name}` is a second one"),
            }
        }
        let rounds = rounds.unwrap_or(if quick { 2 } else { 9 });
        let sweep = sweep || plot.is_some();
        let client = match (client, server, &nic) {
            (None, None, _) => None,
            (Some(client), Some(server), None) => Some((client, server)),
            (Some(_), Some(_), Some(_)) => {
                bail!("--nic is for the machine of the servers, --client for the other one")
            }
            _ => {
                bail!("--client and --server belong together: an interface here, an address there")
            }
        };
        Ok(scenario.map(|scenario| Self {
            scenario,
            json,
            plot,
            dir,
            quick,
            sweep,
            only,
            rounds,
            nic,
            client,
            force,
            ends: None,
        }))
    }

    /// Whether the contestant takes part.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Sweeps of each contestant.
    pub(crate) fn sweeps(&self) -> usize {
        if !self.sweep {
            0
        } else if self.quick {
            1
        } else {
            3
        }
    }

    /// What the report says about the machine and the command.
    pub(crate) fn environment(&self) -> Environment {
        let quick = if self.quick { " --quick" } else { "" };
        let sweep = if self.sweep { " --sweep" } else { "" };
        let only = if self.only.is_empty() {
            String::new()
        } else {
            format!(" --only {}", self.only.join(","))
        };
        let ends = match &self.client {
            Some((client, server)) => format!(" --client {client} --server {server}"),
            None => String::new(),
        };
        Environment::read(format!(
            "cargo xtask bench {}{quick}{sweep}{only} --rounds {}{ends}",
            self.scenario, self.rounds
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Options>> {
        Options::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_is_read() {
        assert_eq!(read("").unwrap(), None);
        let options = read("echo --json out.json --quick").unwrap().unwrap();
        assert_eq!((options.scenario.as_str(), options.quick, options.rounds), ("echo", true, 2));
        assert_eq!(options.json, Some(PathBuf::from("out.json")));
        assert!(read("echo").unwrap().unwrap().rounds >= 7);
        let drawn = read("echo --plot pictures").unwrap().unwrap();
        assert_eq!((drawn.sweep, drawn.plot), (true, Some(PathBuf::from("pictures"))));
        assert!(!options.sweep && read("echo --sweep").unwrap().unwrap().sweep);
        let some = read("echo --only tokio,a10").unwrap().unwrap();
        assert_eq!(
            [some.wants("tokio"), some.wants("a10"), some.wants("monoio")],
            [true, true, false]
        );
        let far = read("echo --client eth1 --server 10.0.0.1").unwrap().unwrap();
        assert_eq!(far.client, Some(("eth1".to_owned(), Ipv4Addr::new(10, 0, 0, 1))));
        assert_eq!(read("echo --nic eth1").unwrap().unwrap().nic.as_deref(), Some("eth1"));
        for half in
            ["--client eth1", "--server 10.0.0.1", "--nic eth1 --client eth1 --server 10.0.0.1"]
        {
            assert!(read(&format!("echo {half}")).is_err(), "{half}");
        }
        for wrong in [
            "echo --json",
            "echo --plot",
            "storage --dir",
            "echo udp",
            "--fast",
            "echo --rounds many",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
