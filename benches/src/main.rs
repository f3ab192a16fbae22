//! The benchmarks of the bypass-io family, beside their peers; `cargo xtask bench` runs them.
//!
//! | module | what it does |
//! |---|---|
//! | [`scenario`] | the scenarios by name, the command line |
//! | [`paired`] | the method: interleaved rounds, paired ratios, null runs |
//! | [`report`] | tables and JSON |
//! | [`echo`] | UDP echo: servers in processes of their own, one traffic generator |
//! | [`mmsg`] | `recvmmsg` and `sendmmsg` by hand: baseline and generator |
//! | [`allocations`] | an allocator that counts |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its user"
)]

#[expect(unsafe_code, reason = "a global allocator is unsafe to implement")]
mod allocations;
mod echo;
#[expect(unsafe_code, reason = "the kernel is given pointers by hand")]
mod mmsg;
mod paired;
mod report;
mod scenario;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use scenario::{Options, SCENARIOS};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    if let [command, name] = arguments
        && command == echo::COMMAND
    {
        return echo::serve(name);
    }
    let Some(options) = Options::read(arguments)? else {
        println!(
            "usage: cargo xtask bench <scenario> [--json FILE] [--quick] [--rounds N] [--only NAME,NAME]\n"
        );
        for scenario in SCENARIOS {
            println!("  {:12} {}", scenario.name, scenario.about);
        }
        return Ok(());
    };
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == options.scenario);
    let scenario =
        scenario.with_context(|| format!("there is no scenario `{}`", options.scenario))?;
    let report = (scenario.run)(&options)?;
    report.print();
    if let Some(file) = &options.json {
        report.write_json(file)?;
    }
    Ok(())
}
