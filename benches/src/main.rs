//! The benchmarks of the bypass-io family, beside their peers; `cargo xtask bench` runs them.
//!
//! | module | what it does |
//! |---|---|
//! | [`scenario`] | the scenarios by name, the command line |
//! | [`paired`] | the method: interleaved rounds, paired ratios, null runs |
//! | [`open_loop`] | the highest rate without a loss, and load around it |
//! | [`environment`] | the machine that figures are from |
//! | [`report`] | tables and JSON |
//! | [`plot`] | pictures of a report |
//! | [`cable`] | a veth pair whose ends receive on cores of their own |
//! | [`generator`] | load from inside the kernel, as a network card would bring it |
//! | [`child`] | a contestant in a process of its own that measures itself |
//! | [`echo`] | UDP and TCP echo: servers in processes of their own, one traffic generator |
//! | [`kv`] | the key-value store, beside tokio and memcached |
//! | [`market`] | market data: messages without a loss, decoding beside `itchy` |
//! | [`log`] | a log with group commit |
//! | [`dns`] | an authoritative DNS server on several backends |
//! | [`storage`] | random reads past the page cache |
//! | [`dpdk`] | DPDK on virtual devices, beside the same loops in C |
//! | [`xdp`] | AF_XDP on a veth pair |
//! | [`micro`] | cases that run in memory: nanoseconds and instructions per packet |
//! | [`abstraction`] | what the seam costs |
//! | [`udp_stack`] | what UDP over layer 2 costs |
//! | [`wire`], [`nic`] | servers on a network card, the generator on another machine |
//! | [`over_xdp`] | the load of such a generator |
//! | [`mmsg`] | `recvmmsg` and `sendmmsg` by hand: baseline and generator |
//! | [`allocations`] | an allocator that counts |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its user"
)]

mod abstraction;
#[expect(unsafe_code, reason = "a global allocator is unsafe to implement")]
mod allocations;
#[cfg(feature = "xdp")]
mod cable;
mod child;
#[cfg(feature = "xdp")]
mod dns;
#[cfg(all(feature = "dpdk", feature = "peers"))]
mod dpdk;
mod echo;
mod environment;
#[cfg(feature = "xdp")]
mod generator;
#[cfg(feature = "xdp")]
mod kv;
mod log;
#[cfg(feature = "xdp")]
mod market;
mod micro;
#[expect(unsafe_code, reason = "the kernel is given pointers by hand")]
mod mmsg;
mod nic;
mod open_loop;
#[cfg(feature = "xdp")]
mod over_xdp;
mod paired;
mod plot;
mod report;
mod scenario;
mod storage;
mod udp_stack;
mod wire;
#[cfg(feature = "peers")]
mod xdp;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use nic::Nic;
use report::Report;
use scenario::{Options, SCENARIOS, USAGE};

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
    // The commands that this program calls itself with.
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [echo::COMMAND, scenario, server, at] => return echo::serve(scenario, server, at),
        #[cfg(feature = "xdp")]
        [dns::COMMAND, server, zone, place] => return dns::serve(server, zone, place),
        [micro::COMMAND, scenario, case, repeats] => {
            return micro::repeat(scenario::find(scenario)?.cases, case, repeats.parse()?);
        }
        [plot::COMMAND, file, folder] => {
            return draw(&Report::read_json(Path::new(file))?, Path::new(folder));
        }
        [plot::COMMAND, ..] => bail!("`plot` takes the JSON file of a report, and a folder"),
        [child::COMMAND, scenario, name, job] => {
            let measure = scenario::find(scenario)?.measure;
            return measure.context("its contestants do not measure themselves")?(name, job);
        }
        _ => {}
    }
    let Some(mut options) = Options::read(arguments)? else {
        println!("{USAGE}");
        for scenario in SCENARIOS {
            println!("  {:12} {}", scenario.name, scenario.about);
        }
        return Ok(());
    };
    let scenario = scenario::find(&options.scenario)?;
    if let Some(nic) = &options.nic {
        return wire::serve(scenario, &Nic::find(nic, options.force)?, &options);
    }
    let between = wire::ends(scenario, &mut options)?;
    let mut report = (scenario.run)(&options)?;
    report.environment.network = between.or(report.environment.network);
    report.print();
    if let Some(file) = &options.json {
        report.write_json(file)?;
    }
    options.plot.as_ref().map_or(Ok(()), |folder| draw(&report, folder))
}

fn draw(report: &Report, folder: &Path) -> Result<()> {
    for file in plot::draw(report, folder)? {
        println!("{}", file.display());
    }
    Ok(())
}
