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
use serde_json::{Value, json};

fn main() -> ExitCode {
    match Job::from_args(std::env::args().skip(1)).and_then(|job| job.run()) {
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
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut job = Self::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--require" => {
                    job.required
                        .push(args.next().ok_or("--require takes io_uring, xdp:eth0, ...")?);
                }
                "--try" => job.probe.try_sockets = true,
                "--force" => job.probe.force = true,
                "--json" => job.json = true,
                "--clean" => job.clean = true,
                "--yes" => job.yes = true,
                option if option.starts_with('-') => {
                    let known = "--try --force --require --json --clean --yes, and interfaces";
                    return Err(format!("there is no option {option}; known: {known}"));
                }
                interface => job.probe.interfaces.push(interface.to_owned()),
            }
        }
        Ok(job)
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
