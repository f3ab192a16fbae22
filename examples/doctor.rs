//! Says what this machine lets each backend do, what not, why, and what changes that.
//!
//! ```text
//! cargo run --release --example doctor                        # what can be seen without disturbing
//! cargo run --release --example doctor --features xdp -- --try eth1
//! cargo run --release --example doctor --features xdp -- --require xdp:eth1 --require io_uring
//! cargo run --release --example doctor --features xdp -- --clean
//! ```
//!
//! `--try` opens AF_XDP sockets on the interfaces for a moment, though not where a default route leads
//! through (`--force` does that, too). With `--require` the exit status says whether everything that is
//! required can be had. `--clean` takes XDP programs off that nobody holds, and asks before each
//! (`--yes` does not). `--json` prints the report for programs.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::process::ExitCode;

use bypass_io::probe::{self, Finding, ProbeOptions, Report};
use lexopt::Arg::{self, Long, Short};
use lexopt::ValueExt as _;
use serde_json::{Value, json};

const USAGE: &str = "\
usage: doctor [INTERFACE]... [--try [--force]] [--require WHAT]... [--json] [--clean [--yes]]

  WHAT is machine, io_uring, xdp:INTERFACE, dpdk, ...";

fn main() -> ExitCode {
    let job = match Job::from_args() {
        Ok(Some(job)) => job,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match job.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// What to do.
#[derive(Default)]
struct Job {
    probe: ProbeOptions,
    required: Vec<String>,
    json: bool,
    clean: bool,
    yes: bool,
}

impl Job {
    /// What the command line says; `None` when it asks for help.
    fn from_args() -> Result<Option<Self>, lexopt::Error> {
        let mut job = Self::default();
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("require") => job.required.push(args.value()?.string()?),
                Long("try") => job.probe.try_sockets = true,
                Long("force") => job.probe.force = true,
                Long("json") => job.json = true,
                Long("clean") => job.clean = true,
                Long("yes") => job.yes = true,
                Long("help") | Short('h') => return Ok(None),
                Arg::Value(interface) => job.probe.interfaces.push(interface.string()?),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(job))
    }

    /// Whether all that is required can be had.
    fn run(&self) -> Result<bool, String> {
        if self.clean {
            return clean::run(&self.probe.interfaces, self.yes).map(|()| true);
        }
        let report = probe::run(&self.probe);
        let required = self.required.iter().map(|name| (name, report.meets(name)));
        let unmet: Vec<_> = required
            .filter_map(|(name, met)| Some((name.clone(), met.err()?.to_string())))
            .collect();
        if self.json {
            println!("{:#}", as_json(&report, &unmet));
        } else {
            print!("{report}");
        }
        for (name, why) in &unmet {
            eprintln!("{name} cannot be had: {why}");
        }
        Ok(unmet.is_empty())
    }
}

fn as_json(report: &Report, unmet: &[(String, String)]) -> Value {
    let finding = |Finding { subject, verdict, detail, remedy, .. }: &Finding| {
        json!({
            "subject": subject, "verdict": verdict.to_string(), "detail": detail, "remedy": remedy,
        })
    };
    let sections = report.sections.iter().map(|section| {
        let findings: Vec<_> = section.findings.iter().map(finding).collect();
        json!({ "name": section.name, "findings": findings })
    });
    let unmet = unmet.iter().map(|(name, why)| json!({ "requirement": name, "why": why }));
    json!({
        "sections": sections.collect::<Vec<_>>(), "unmet": unmet.collect::<Vec<_>>(),
    })
}

/// Taking XDP programs off that were left behind.
#[cfg(feature = "xdp")]
mod clean {
    use std::io::{self, Write as _};

    use bypass_io::xdp::program::Owner;

    pub(super) fn run(interfaces: &[String], yes: bool) -> Result<(), String> {
        let all = || {
            let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
            let name = |line: &str| Some(line.split_once(':')?.0.trim().to_owned());
            table.lines().filter_map(name).collect()
        };
        let interfaces = if interfaces.is_empty() { all() } else { interfaces.to_vec() };
        for interface in interfaces {
            let Some(owner) = Owner::on(&interface).map_err(|error| error.to_string())? else {
                println!("{interface}: no XDP program");
                continue;
            };
            if !owner.is_abandoned() {
                println!("{interface}: {owner} has a holder; {}", owner.remedy(&interface));
            } else if yes || agreed(&format!("{interface}: take {owner} off?")) {
                owner.take_off(&interface).map_err(|error| error.to_string())?;
                println!("{interface}: {owner} is off");
            }
        }
        Ok(())
    }

    fn agreed(question: &str) -> bool {
        print!("{question} [y/N] ");
        let mut answer = String::new();
        io::stdout().flush().is_ok()
            && io::stdin().read_line(&mut answer).is_ok()
            && answer.trim().eq_ignore_ascii_case("y")
    }
}

#[cfg(not(feature = "xdp"))]
mod clean {
    pub(super) fn run(_interfaces: &[String], _yes: bool) -> Result<(), String> {
        Err("--clean needs the program to be built with --features xdp".to_owned())
    }
}
