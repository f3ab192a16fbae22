//! Random reads of 4 KiB past the page cache: how many, at what price, how late.

pub(crate) mod file;
mod readers;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::child::{self, Outcome, Window};
use crate::paired::{self, Plan, Sample};
use crate::report::Report;
use crate::scenario::Options;
use readers::READERS;

const NAME: &str = "storage";

/// Reads per second; higher is better.
const IOPS: &str = "reads per second";
/// CPU time of the whole process, kernel included, per read; lower is better.
const CPU: &str = "CPU µs per read";
const P50: &str = "p50 µs";
const P99: &str = "p99 µs";
const SWITCHES: &str = "context switches per 1000 reads";
const SYSTEM_CALLS: &str = "system calls per read";
const ALLOCATIONS: &str = "allocations per read";

/// What is compared as ratios.
const COMPARED: [&str; 5] = [IOPS, CPU, P50, P99, SWITCHES];
/// What is shown of every contestant.
const SHOWN: [&str; 7] = [IOPS, CPU, P50, P99, SWITCHES, SYSTEM_CALLS, ALLOCATIONS];

/// Reads under way, and the scenario's name at that depth.
const DEPTHS: [(usize, &str); 3] =
    [(1, "storage, depth 1"), (32, "storage, depth 32"), (64, "storage, depth 64")];

/// What a contestant is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    file: PathBuf,
    /// Blocks in the file.
    blocks: u64,
    /// Reads under way.
    depth: usize,
    seed: u64,
    window: Window,
}

impl Job {
    /// The blocks to read, the same for everyone; `stream` tells threads and tasks apart.
    fn choice(&self, stream: usize) -> impl FnMut() -> u64 + use<> {
        let mut random = fastrand::Rng::with_seed(self.seed + stream as u64);
        let blocks = self.blocks;
        move || random.u64(0..blocks)
    }
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new(options.environment());
    let (blocks, duration) = if options.quick {
        (1 << 16, Duration::from_millis(300))
    } else {
        (1 << 20, Duration::from_secs(2))
    };
    let file = file::prepare(&file::folder(options.dir.as_deref())?, "random-reads", blocks)?;
    let wanted = |ours| {
        let readers = READERS.iter().filter(move |reader| reader.ours == ours);
        readers.map(|reader| reader.name).filter(|name| options.wants(name)).collect()
    };
    for (depth, scenario) in DEPTHS {
        let job = Job { file: file.clone(), blocks, depth, seed: 1, window: Window::of(duration) };
        let plan =
            Plan { scenario, subjects: wanted(true), peers: wanted(false), rounds: options.rounds };
        let runs = paired::run(&plan, |name| sample(&child::run(NAME, name, &job)?))?;
        report.rows.extend(COMPARED.iter().flat_map(|metric| runs.rows(&plan, metric)));
        report.facts.extend(runs.facts(&plan, &SHOWN));
    }
    report.notes.push(format!(
        "Reads of {} B at random places of a file of {} MiB with O_DIRECT, as many under way as \
         the depth says, {duration:?} each after a warm-up. Every reader but fio looks at the \
         number in each block that it reads.",
        file::BLOCK,
        (blocks * file::BLOCK as u64) >> 20,
    ));
    Ok(report)
}

/// Becomes the contestant `name`.
pub(crate) fn measure(name: &str, job: &str) -> Result<()> {
    let reader = readers::find(name)?;
    child::become_contestant(job, |job: Job| (reader.measure)(job))
}

fn sample(outcome: &Outcome) -> Result<Sample> {
    ensure!(outcome.operations > 0, "nothing was read");
    let reads = outcome.operations as f64;
    let mut sample = Sample::from([
        (IOPS, reads / outcome.seconds),
        (CPU, 1e6 * outcome.cpu_seconds / reads),
        (P50, outcome.p50_ns as f64 / 1000.0),
        (P99, outcome.p99_ns as f64 / 1000.0),
        (SWITCHES, 1000.0 * outcome.switches as f64 / reads),
    ]);
    sample.extend(outcome.system_calls.map(|calls| (SYSTEM_CALLS, calls)));
    sample.extend(outcome.allocations.map(|count| (ALLOCATIONS, count as f64 / reads)));
    Ok(sample)
}
