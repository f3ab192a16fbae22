//! AF_XDP on a veth pair, in copy mode: ours beside other crates and a loop in C.

#[expect(unsafe_code, reason = "programs are loaded and run with libbpf's calls")]
mod bpf;
mod cost;
#[expect(unsafe_code, reason = "reads the time stamp counter")]
mod cycles;
pub(crate) mod echo;
mod lanes;
mod over_wire;
mod ping;
mod rates;
mod rig;
mod source;

pub(crate) use over_wire::start;

use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::child::{self, Window};
use crate::open_loop::{self, BY_SOURCE, Highest};
use crate::paired::{self, Plan, Runs, Sample};
use crate::report::Report;
use crate::scenario::Options;
use over_wire::Over;
use rates::Work;

const NAME: &str = "xdp";

const RECEIVE: &str = "rx+fill, cycles per frame";
const RECEIVE_LEAST: &str = "rx+fill, least";
const SEND: &str = "tx+completion, cycles per frame";
const SEND_LEAST: &str = "tx+completion, least";
const RATE: &str = "frames per second";
const OFFERED: &str = "offered per second";
const CALLS: &str = "system calls per frame";
const P50: &str = "p50 µs";
const P99: &str = "p99 µs";
const WITHOUT_LOSS: &str = "echoes per second, none lost";
const WITH_SOME_LOSS: &str = "0.5 % lost";

/// Rates by what is done, under the names that the kernel's `xdpsock` has for it.
const RATES: [(Work, &str); 3] =
    [(Work::Drop, "xdp, rxdrop"), (Work::Send, "xdp, txonly"), (Work::Forward, "xdp, l2fwd")];

/// What a contestant is to do, in a process of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Job {
    Cost(cost::Job),
    Rate(rates::Job),
    Ping(ping::Job),
    Echo(echo::Job),
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new(options.environment());
    let servers = [&[echo::AF_XDP][..], &[echo::SOCKET, echo::IO_URING]];
    if options.ends.is_some() {
        echo_of(options, &mut report, (NAME, "xdp, UDP echo"), servers)?;
        report.notes.push(format!(
            "{ECHO_OVER_WIRE} Cycles, rates and round trips of frames are left out: they are made by test runs of \
             an XDP program, on one machine. On a card the kernel's `xdpsock` is beside them: `xdpsock -i <interface> \
             -r` (rxdrop), `-t` (txonly) and `-l` (l2fwd).",
        ));
        return Ok(report);
    }
    report.environment.network = Some("veth pair, AF_XDP in copy mode".to_owned());
    cost(options, &mut report)?;
    rates(options, &mut report)?;
    ping(options, &mut report)?;
    echo_of(options, &mut report, (NAME, "xdp, UDP echo"), servers)?;
    report.notes.push(format!(
        "Frames of {} B, up to {} at a time, on a veth pair in copy mode. Cycles are those of the time \
         stamp counter, around calls that find a full burst; median and least of them. What is \
         received is made by live-frame test runs of an XDP program on core 0, which is also where the \
         kernel copies it; the contestant has core 1. What is sent counts when it has arrived. Round \
         trips: both ends spin. Echo: UDP payload of {} B, the server spins on core 1; the highest \
         rate by search.",
        rig::LEN,
        lanes::BURST,
        echo::PAYLOAD,
    ));
    Ok(report)
}

/// Becomes the contestant `name`.
pub(crate) fn measure(name: &str, job: &str) -> Result<()> {
    match serde_json::from_str(job)? {
        Job::Cost(job) => child::answer(&cost::measure(name, job)?),
        Job::Rate(job) => child::answer(&rates::measure(name, job)?),
        Job::Ping(job) => child::answer(&ping::measure(name, job)?),
        Job::Echo(job) => child::answer(&echo::measure(name, &job)?),
    }
}

/// Ours against the other crates.
fn plan(options: &Options, scenario: &'static str) -> Plan {
    Plan {
        scenario,
        subjects: wanted(options, lanes::OURS),
        peers: wanted(options, lanes::PEERS),
        rounds: options.rounds,
    }
}

fn wanted(options: &Options, names: &[&'static str]) -> Vec<&'static str> {
    names.iter().copied().filter(|name| options.wants(name)).collect()
}

fn cost(options: &Options, report: &mut Report) -> Result<()> {
    let plan = plan(options, "xdp, user space");
    let job = Job::Cost(cost::Job { bursts: if options.quick { 2_000 } else { 20_000 } });
    let runs = rounds(&plan, |name| {
        let cost::Outcome { receive, send } = child::run(NAME, name, &job)?;
        Ok(Sample::from([
            (RECEIVE, receive.median),
            (RECEIVE_LEAST, receive.least),
            (SEND, send.median),
            (SEND_LEAST, send.least),
        ]))
    })?;
    let shown = [RECEIVE, RECEIVE_LEAST, SEND, SEND_LEAST];
    tell(report, &plan, &runs, &shown, &shown);
    Ok(())
}

fn rates(options: &Options, report: &mut Report) -> Result<()> {
    rates::compile()?;
    let duration = Duration::from_millis(if options.quick { 200 } else { 1_000 });
    for (work, scenario) in RATES {
        let mut plan = plan(options, scenario);
        plan.peers.extend(wanted(options, &[rates::IN_C]));
        let job = Job::Rate(rates::Job { work, window: Window::of(duration) });
        let runs = rounds(&plan, |name| {
            let outcome: rates::Outcome = child::run(NAME, name, &job)?;
            Ok(Sample::from([
                (RATE, outcome.frames as f64 / outcome.seconds),
                (OFFERED, outcome.offered as f64 / outcome.seconds),
                (CALLS, outcome.calls as f64 / outcome.frames as f64),
            ]))
        })?;
        tell(report, &plan, &runs, &[RATE], &[RATE, OFFERED, CALLS]);
    }
    Ok(())
}

fn ping(options: &Options, report: &mut Report) -> Result<()> {
    let plan = plan(options, "xdp, round trip");
    let round_trips = if options.quick { 5_000 } else { 50_000 };
    let job = Job::Ping(ping::Job { warm_up: round_trips / 5, round_trips });
    let runs = rounds(&plan, |name| {
        let ping::Outcome { p50_ns, p99_ns } = child::run(NAME, name, &job)?;
        Ok(Sample::from([(P50, p50_ns as f64 / 1000.0), (P99, p99_ns as f64 / 1000.0)]))
    })?;
    tell(report, &plan, &runs, &[P50, P99], &[P50, P99]);
    Ok(())
}

/// What is said about the echo over a wire.
pub(crate) const ECHO_OVER_WIRE: &str = "Servers spin on core 0 of their machine; datagrams are sent over AF_XDP, the highest rate by search.";

/// The same echo on several backends, of the scenario `of`: ours and others.
pub(crate) fn echo_of(
    options: &Options,
    report: &mut Report,
    (of, scenario): (&str, &'static str),
    [subjects, peers]: [&[&'static str]; 2],
) -> Result<()> {
    let plan = Plan {
        scenario,
        subjects: wanted(options, subjects),
        peers: wanted(options, peers),
        rounds: options.rounds,
    };
    let duration = Duration::from_millis(if options.quick { 50 } else { 300 });
    let over = options.ends.map(|ends| Over { scenario: of.to_owned(), ends });
    let job = |sweep| Job::Echo(echo::Job { duration, sweep, over: over.clone() });
    let runs = rounds(&plan, |name| match child::run(NAME, name, &job(None))? {
        echo::Outcome::Highest { without_loss, with_some_loss } => {
            let found = [(WITHOUT_LOSS, without_loss), (WITH_SOME_LOSS, with_some_loss)];
            let found = found.into_iter().filter_map(|(metric, found)| Some((metric, found?.rate)));
            Ok(found.chain(without_loss.map(Highest::by_source)).collect())
        }
        echo::Outcome::Sweep(_) => bail!("{name} swept unasked"),
    })?;
    let shown = [WITHOUT_LOSS, BY_SOURCE, WITH_SOME_LOSS];
    tell(report, &plan, &runs, &[WITHOUT_LOSS, WITH_SOME_LOSS], &shown);
    report.curves.extend(open_loop::curves(
        &plan,
        ("datagrams", echo::COMMON_RATE),
        options.sweeps(),
        |name| runs.median(name, WITHOUT_LOSS),
        |name, highest| match child::run(NAME, name, &job(Some(highest)))? {
            echo::Outcome::Sweep(points) => Ok(points),
            echo::Outcome::Highest { .. } => bail!("{name} was to sweep"),
        },
    )?);
    Ok(())
}

/// The rounds of a plan; none where the command line names none of its contestants.
fn rounds(plan: &Plan, measure: impl FnMut(&'static str) -> Result<Sample>) -> Result<Runs> {
    if plan.subjects.is_empty() && plan.peers.is_empty() {
        return Ok(Runs::default());
    }
    paired::run(plan, measure)
}

/// Books what is compared, and what is shown of every contestant.
fn tell(
    report: &mut Report,
    plan: &Plan,
    runs: &Runs,
    compared: &[&'static str],
    shown: &[&'static str],
) {
    report.rows.extend(compared.iter().flat_map(|metric| runs.rows(plan, metric)));
    report.facts.extend(runs.facts(plan, shown));
}
