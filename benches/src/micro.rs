//! Cases that run in memory: nanoseconds and instructions per packet.
//!
//! Instructions are counted by callgrind in a process of its own, as the difference between a long
//! and a short run, so that what happens once (start, pools, warm-up) cancels out. The count
//! repeats to the instruction on any machine, however noisy; the time does not, and is here for
//! proportion.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bypass_core::worker::pin_to;

use crate::paired::{self, Plan, Runs, Sample};

/// The hidden command of this program that runs a case a given number of times, for callgrind to
/// watch.
pub(crate) const COMMAND: &str = "repeat-case";

pub(crate) const INSTRUCTIONS: &str = "instructions per packet";
pub(crate) const NANOSECONDS: &str = "ns per packet";

/// Does its work the given number of times and returns how many packets that were.
pub(crate) type Work = Box<dyn FnMut(u64) -> Result<u64>>;

/// One way of doing something.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Sets up what the work needs and measures nothing.
    pub(crate) prepare: fn() -> Result<Work>,
}

/// How often the work is done in the short run that callgrind watches; the long run is three times
/// that.
const REPEATS: u64 = 300;

/// The core that the cases are timed on; the first has the machine's interrupts.
const CORE: usize = 1;

/// Runs the plan over `cases`, whose names are its contestants.
pub(crate) fn run(plan: &Plan, cases: &[Case], duration: Duration) -> Result<Runs> {
    pin_to(CORE)?;
    paired::run(plan, |name| {
        let case = find(cases, name)?;
        Ok(Sample::from([
            (INSTRUCTIONS, instructions(plan.scenario, name)?),
            (NANOSECONDS, nanoseconds(case, duration)?),
        ]))
    })
}

/// What callgrind watches.
pub(crate) fn repeat(cases: &[Case], name: &str, repeats: u64) -> Result<()> {
    let packets = (find(cases, name)?.prepare)()?(repeats)?;
    println!("{packets}");
    Ok(())
}

fn find<'a>(cases: &'a [Case], name: &str) -> Result<&'a Case> {
    cases
        .iter()
        .find(|case| case.name == name)
        .with_context(|| format!("there is no case `{name}`"))
}

fn nanoseconds(case: &Case, duration: Duration) -> Result<f64> {
    let mut work = (case.prepare)()?;
    let batch = |work: &mut Work| -> Result<(u64, Duration)> {
        let start = Instant::now();
        Ok((work(REPEATS)?, start.elapsed()))
    };
    batch(&mut work)?;
    let (mut packets, mut time) = (0, Duration::ZERO);
    while time < duration {
        let (more, took) = batch(&mut work)?;
        packets += more;
        time += took;
    }
    Ok(time.as_nanos() as f64 / packets as f64)
}

fn instructions(scenario: &str, case: &str) -> Result<f64> {
    let (short, long) = (watched(scenario, case, REPEATS)?, watched(scenario, case, 3 * REPEATS)?);
    ensure!(long.packets > short.packets, "case {case} moved no packets");
    Ok((long.instructions - short.instructions) as f64 / (long.packets - short.packets) as f64)
}

struct Watched {
    instructions: u64,
    packets: u64,
}

fn watched(scenario: &str, case: &str, repeats: u64) -> Result<Watched> {
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([COMMAND, scenario, case, &repeats.to_string()])
        .output()
        .context("cannot run valgrind; `cargo xtask setup` installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "case {case} failed under valgrind:\n{said}");
    Ok(Watched {
        instructions: collected(&said)
            .with_context(|| format!("callgrind counted nothing:\n{said}"))?,
        packets: String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .context("the case printed no count")?,
    })
}

/// `==12345== Collected : 6789`
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_what_callgrind_says() {
        let said = "==7== Callgrind\n==7== Events    : Ir\n==7== Collected : 1234567\n==7==\n";
        assert_eq!(collected(said), Some(1_234_567));
        assert_eq!(collected("==7== nothing"), None);
    }
}
