//! `cargo xtask`: everything in this repository that is more than one cargo command.
//!
//! | module | what it does |
//! |---|---|
//! | [`setup`] | the table of system packages, and their installation |
//! | [`mod@test`] | every test in every layer, with one closing line |
//! | [`ahead`] | does what can be done before it is needed, while tests run |
//! | [`compiler`] | gives the compiler flags for some of what cargo builds |
//! | [`examples`] | runs the examples for real and judges what they print |
//! | [`fuzz`] | runs the fuzzer on what comes from the network |
//! | [`checks`] | formatting, lints, documentation, sets of features |
//! | [`selection`] | which packages and features can be built here |
//! | [`watch`] | follows a run of `cargo test`, suite by suite |
//! | [`libtest`] | reads what `cargo test` prints |
//! | [`skips`] | the tests that found that they cannot run here |
//! | [`unprivileged`] | runs a built test binary as the user `nobody` |
//! | [`tally`] | counts, and the closing line |
//! | [`bpf`] | builds the BPF programs, and checks that they are what their sources make |
//! | [`cargo`] | where the workspace is, and how cargo is called |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its user"
)]

mod ahead;
mod bpf;
mod cargo;
mod checks;
mod compiler;
mod examples;
mod fuzz;
mod libtest;
mod selection;
mod setup;
mod skips;
mod tally;
mod test;
mod unprivileged;
mod watch;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <command>

  setup                  install the system packages that the tests use
  test [FILTER]          setup, then every test in every layer; FILTER picks tests by name
       [--with-checks]   the checks of `ci` as well, in the same count
  bench [SCENARIO]       run a benchmark; without a name, list them
       [--json FILE]     write everything as JSON
       [--quick]         fewer and shorter runs: shows that it works, proves nothing
       [--rounds N]      pairs that count
       [--only A,B]      these contestants only
       [--dir DIR]       where files lie, and with them the device that is measured
  fuzz [TARGET]          feed dns, kv, market and udp what a fuzzer makes up, led by coverage
       [--seconds N]     each; 60
  bpf                    build the BPF programs; needs clang and llvm
      [--check]          only check that the object is what its source makes
  ci [STEP...]           the named steps, or all of them: fmt clippy doc features
                         override bpf test";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        ["setup"] => setup::run(),
        ["test", rest @ ..] => test::run(rest),
        ["bench", rest @ ..] => cargo::bench(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["bpf", rest @ ..] => bpf::run(rest),
        ["ci", steps @ ..] => checks::run(steps),
        [unprivileged::COMMAND, stage, program, rest @ ..] => {
            unprivileged::exec(stage, program, rest)
        }
        [compiler, rest @ ..] if compiler::is_compiler(compiler) => compiler::exec(compiler, rest),
        [] | ["help" | "-h" | "--help", ..] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        [other, ..] => bail!("there is no command `{other}` with these arguments\n\n{USAGE}"),
    }
}
