//! A log with group commit: how many records per second, and how long until one is on the disk.

mod group;
mod writers;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::child::{self, Outcome, Window};
use crate::paired::{self, Plan, Sample};
use crate::report::Report;
use crate::scenario::Options;
use crate::storage::file;
use group::RECORD;
use writers::WRITERS;

const NAME: &str = "log";

/// Records on the disk per second; higher is better.
const RATE: &str = "records per second";
/// From handing a record over to its acknowledgement.
const P50: &str = "commit p50 µs";
const P99: &str = "commit p99 µs";
/// CPU time of the whole process, kernel included, per commit of a group.
const CPU: &str = "CPU µs per commit";
const SWITCHES: &str = "context switches per commit";
const SYSTEM_CALLS: &str = "system calls per commit";
const ALLOCATIONS: &str = "allocations per commit";

/// What is compared as ratios.
const COMPARED: [&str; 5] = [RATE, P50, P99, CPU, SWITCHES];
/// What is shown of every contestant.
const SHOWN: [&str; 7] = [RATE, P50, P99, CPU, SWITCHES, SYSTEM_CALLS, ALLOCATIONS];

/// Clients with a record under way each, and the scenario's name with them.
const CLIENTS: [(usize, &str); 2] = [(1, "log, 1 client"), (64, "log, 64 clients")];

/// What a contestant is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    /// Written before, so that no commit has to make it longer.
    file: PathBuf,
    bytes: u64,
    clients: usize,
    window: Window,
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new(options.environment());
    let duration = Duration::from_millis(if options.quick { 300 } else { 2000 });
    let blocks = 1 << 14;
    let file = file::prepare(&file::folder(options.dir.as_deref())?, "log", blocks)?;
    let wanted = |ours| {
        let writers = WRITERS.iter().filter(move |writer| writer.ours == ours);
        writers.map(|writer| writer.name).filter(|name| options.wants(name)).collect()
    };
    for (clients, scenario) in CLIENTS {
        let bytes = blocks * file::BLOCK as u64;
        let job = Job { file: file.clone(), bytes, clients, window: Window::of(duration) };
        let plan =
            Plan { scenario, subjects: wanted(true), peers: wanted(false), rounds: options.rounds };
        let runs = paired::run(&plan, |name| sample(&child::run(NAME, name, &job)?, clients))?;
        report.rows.extend(COMPARED.iter().flat_map(|metric| runs.rows(&plan, metric)));
        report.facts.extend(runs.facts(&plan, &SHOWN));
    }
    // What was written there are no longer the blocks that others expect.
    std::fs::remove_file(&file)?;
    report.notes.push(format!(
        "Every client has one record of {RECORD} B under way and makes the next one when it is \
         acknowledged. All records that wait are one group: checksum, write with O_DIRECT to a file \
         that is there already, fdatasync, acknowledgement; one group at a time. {duration:?} each \
         after a warm-up.",
    ));
    Ok(report)
}

/// Becomes the contestant `name`.
pub(crate) fn measure(name: &str, job: &str) -> Result<()> {
    let writer = writers::find(name)?;
    child::become_contestant(job, |job: Job| {
        child::measure(job.window, move |clock| (writer.write)(&job, clock))
    })
}

fn sample(outcome: &Outcome, clients: usize) -> Result<Sample> {
    ensure!(outcome.operations > 0, "nothing was committed");
    let records = outcome.operations as f64;
    let commits = records / clients as f64;
    let mut sample = Sample::from([
        (RATE, records / outcome.seconds),
        (P50, outcome.p50_ns as f64 / 1000.0),
        (P99, outcome.p99_ns as f64 / 1000.0),
        (CPU, 1e6 * outcome.cpu_seconds / commits),
        (SWITCHES, outcome.switches as f64 / commits),
    ]);
    sample.extend(outcome.system_calls.map(|calls| (SYSTEM_CALLS, calls)));
    sample.extend(outcome.allocations.map(|count| (ALLOCATIONS, count as f64 / commits)));
    Ok(sample)
}
