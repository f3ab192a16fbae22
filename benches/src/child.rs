//! A contestant in a process of its own, which does the work itself and measures itself.
//!
//! Servers, which need a client beside them, are in `echo`.

#[cfg(feature = "xdp")]
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use hdrhistogram::Histogram;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::allocations;
#[cfg(feature = "xdp")]
use crate::paired::Sample;

/// The hidden command of this program that becomes a contestant: scenario, name, job as JSON.
pub(crate) const COMMAND: &str = "measure-here";

/// When a run counts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Window {
    /// Goes before and does not count.
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

/// What a run measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Operations that ended inside the window.
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    /// CPU time of all threads, kernel included.
    pub(crate) cpu_seconds: f64,
    /// Context switches of all threads, whatever their cause.
    pub(crate) switches: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) allocations: Option<u64>,
    /// Per operation, where the contestant counts them.
    pub(crate) system_calls: Option<f64>,
}

impl Window {
    pub(crate) fn of(duration: Duration) -> Self {
        Self { warm_up: duration / 5, duration }
    }
}

/// The window as points in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    from: Instant,
    to: Instant,
}

/// What one thread saw.
#[derive(Debug)]
pub(crate) struct Recorder {
    clock: Clock,
    latency: Histogram<u64>,
}

impl Recorder {
    pub(crate) fn new(clock: Clock) -> Result<Self> {
        // 1 µs to 100 s with three digits.
        Ok(Self { clock, latency: Histogram::new_with_bounds(1000, 100_000_000_000, 3)? })
    }

    /// Books an operation, if it ended inside the window; returns whether the run goes on.
    pub(crate) fn record(&mut self, begun: Instant, ended: Instant) -> bool {
        if ended >= self.clock.from && ended < self.clock.to {
            self.latency.saturating_record((ended - begun).as_nanos() as u64);
        }
        ended < self.clock.to
    }

    /// Takes in what another thread saw.
    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.latency.add(&other.latency)?)
    }

    /// The end of a run that does not count its system calls.
    pub(crate) fn finish(self) -> Tally {
        Tally { latency: self.latency, system_calls: None }
    }

    /// The end of a run that made `calls` system calls for `operations` operations.
    pub(crate) fn finish_with(self, calls: u64, operations: u64) -> Tally {
        let system_calls = Some(calls as f64 / operations.max(1) as f64);
        Tally { latency: self.latency, system_calls }
    }
}

/// What all threads of a contestant saw.
#[derive(Debug)]
pub(crate) struct Tally {
    latency: Histogram<u64>,
    system_calls: Option<f64>,
}

/// Runs the contestant `name` of `scenario` in a process of its own, and returns what it answers.
pub(crate) fn run<O: DeserializeOwned>(
    scenario: &str,
    name: &str,
    job: &impl Serialize,
) -> Result<O> {
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    let output = Command::new(program)
        .args([COMMAND, scenario, name, &serde_json::to_string(job)?])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    ensure!(output.status.success(), "{name} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("{name} printed no outcome"))
}

/// Becomes a contestant: reads the job, has `work` do it, prints the outcome.
pub(crate) fn become_contestant<J: DeserializeOwned>(
    job: &str,
    measure: impl FnOnce(J) -> Result<Outcome>,
) -> Result<()> {
    answer(&measure(serde_json::from_str(job)?)?)
}

/// Tells the process that has started this one.
pub(crate) fn answer(outcome: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(outcome)?);
    Ok(())
}

/// Runs the contestant `name` of `scenario` in a process of its own, and returns those of the figures that it
/// answers that are among `metrics`.
#[cfg(feature = "xdp")]
pub(crate) fn sample(
    scenario: &str,
    name: &str,
    job: &impl Serialize,
    metrics: &[&'static str],
) -> Result<Sample> {
    let answer: BTreeMap<String, f64> = run(scenario, name, job)?;
    Ok(metrics.iter().filter_map(|metric| Some((*metric, *answer.get(*metric)?))).collect())
}

/// Does `work` on a thread of its own, and reads the counters of this process where the window
/// begins and ends.
pub(crate) fn measure(
    window: Window,
    work: impl FnOnce(Clock) -> Result<Tally> + Send + 'static,
) -> Result<Outcome> {
    allocations::exempt_this_thread();
    let from = Instant::now() + window.warm_up;
    let clock = Clock { from, to: from + window.duration };
    let worker = thread::spawn(move || work(clock));
    let before = Snapshot::at(clock.from)?;
    let after = Snapshot::at(clock.to)?;
    let tally = worker.join().map_err(|_| anyhow!("the contestant panicked"))??;
    Ok(Outcome {
        operations: tally.latency.len(),
        seconds: (after.time - before.time).as_secs_f64(),
        cpu_seconds: after.cpu_seconds() - before.cpu_seconds(),
        switches: after.switches() - before.switches(),
        p50_ns: tally.latency.value_at_quantile(0.5),
        p99_ns: tally.latency.value_at_quantile(0.99),
        allocations: Some(after.allocations - before.allocations),
        system_calls: tally.system_calls,
    })
}

/// The counters of this process at a point in time.
struct Snapshot {
    time: Instant,
    usage: Usage,
    allocations: u64,
}

impl Snapshot {
    fn at(time: Instant) -> Result<Self> {
        thread::sleep(time.saturating_duration_since(Instant::now()));
        let usage = getrusage(UsageWho::RUSAGE_SELF).context("cannot read what was used")?;
        Ok(Self { time: Instant::now(), usage, allocations: allocations::so_far() })
    }

    fn cpu_seconds(&self) -> f64 {
        let used = self.usage.user_time() + self.usage.system_time();
        used.num_microseconds() as f64 / 1e6
    }

    fn switches(&self) -> u64 {
        let switches =
            self.usage.voluntary_context_switches() + self.usage.involuntary_context_switches();
        switches as u64
    }
}

/// What a process has had of the CPUs so far: nanoseconds of all its threads, kernel included (of a thread
/// that runs, as of the last clock tick), and how often one was put on a CPU.
pub(crate) fn schedule(process: u32) -> Result<(u64, u64)> {
    let (mut cpu_ns, mut switches) = (0, 0);
    let tasks = format!("/proc/{process}/task");
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot list {tasks}"))? {
        // Time on a CPU in nanoseconds, time waiting for one, number of times put on one.
        let schedule = fs::read_to_string(task?.path().join("schedstat"))?;
        let mut numbers = schedule.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(on_cpu)), Some(Ok(_waiting)), Some(Ok(times))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            bail!("this kernel keeps no schedule statistics: {schedule:?}");
        };
        cpu_ns += on_cpu;
        switches += times;
    }
    Ok((cpu_ns, switches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_inside_the_window_counts() {
        let from = Instant::now();
        let (ms, clock) =
            (Duration::from_millis(1), Clock { from, to: from + Duration::from_secs(1) });
        let mut recorder = Recorder::new(clock).unwrap();
        assert!(recorder.record(from - 2 * ms, from - ms), "the warm-up goes on");
        assert!(recorder.record(from - ms, from + ms));
        assert!(recorder.record(from, from + ms));
        assert!(!recorder.record(from, clock.to), "it is over");
        let tally = recorder.finish_with(1, 4);
        assert_eq!((tally.latency.len(), tally.system_calls), (2, Some(0.25)));
    }

    #[test]
    fn a_busy_thread_is_charged() {
        let window =
            Window { warm_up: Duration::from_millis(10), duration: Duration::from_millis(100) };
        let outcome = measure(window, |clock| {
            let mut recorder = Recorder::new(clock)?;
            let mut begun = Instant::now();
            loop {
                std::hint::black_box(Box::new(begun));
                let ended = Instant::now();
                if !recorder.record(begun, ended) {
                    return Ok(recorder.finish());
                }
                begun = ended;
            }
        });
        let outcome = outcome.unwrap();
        assert!(outcome.operations > 100 && outcome.cpu_seconds > 0.005, "{outcome:?}");
        assert!(outcome.allocations.unwrap() >= outcome.operations / 2, "{outcome:?}");
    }
}
