//! Market data on a cable: how many messages a second a receiver takes without losing one, how late, beside a
//! bare `recvmmsg` loop; and how long a message takes to decode, beside the crate `itchy`.
//!
//! The receivers are the modules of the example `market_data`: MoldUDP64 packets in order, ITCH messages, order
//! books. Only what moves the packets differs.

#[path = "../../../examples/market_data/book.rs"]
#[allow(dead_code, unreachable_pub, reason = "the example shows more than a benchmark has need of")]
mod book;
#[path = "../../../examples/market_data/day/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "as above")]
mod day;
mod decode;
#[path = "../../../examples/market_data/itch/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "as above")]
mod itch;
#[path = "../../../examples/market_data/mold.rs"]
#[allow(dead_code, unreachable_pub, reason = "as above")]
mod mold;
mod over_wire;
mod receivers;
#[path = "../../../examples/market_data/sequence.rs"]
#[allow(dead_code, unreachable_pub, reason = "as above")]
mod sequence;
mod source;

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bypass_core::worker::pin_to;
use serde::{Deserialize, Serialize};

use crate::cable::{self, CLIENT_CORE, Cable, SERVER_CORE};
use crate::child;
use crate::generator;
use crate::open_loop::{self, BY_SOURCE, Search};
use crate::paired::{self, Plan, Sample};
use crate::report::Report;
use crate::scenario::Options;
use crate::wire::Ends;
use over_wire::OverWire;
use receivers::RECEIVERS;
use source::{Feed, Source};

pub(crate) use decode::CASES;
pub(crate) use over_wire::start;

const NAME: &str = "market";

/// Found by search; higher is better.
const MOST: &str = "messages per second without a loss";
const P50: &str = "p50 µs at the common rate";
const P99: &str = "p99 µs at the common rate";
const P50_HALF: &str = "p50 µs at half of its most";
const P99_HALF: &str = "p99 µs at half of its most";

const COMPARED: [&str; 3] = [MOST, P50, P99];
const SHOWN: [&str; 6] = [MOST, BY_SOURCE, P50, P99, P50_HALF, P99_HALF];

/// Messages in a packet, by scenario.
const WORKLOADS: [(&str, u64); 2] = [("market, 1 a packet", 1), ("market, 8 a packet", 8)];
/// Packets a second at which all are compared.
const COMMON_RATE: f64 = 50_000.0;
/// Packets a second: the most that is tried.
const CEILING: f64 = 8e6;
/// Lost before anybody searches: some frames wait for the neighbour's address.
const WARM_UP: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Job {
    /// Messages in a packet.
    messages: u64,
    /// Of each stretch at one rate.
    duration: Duration,
    /// Where the receiver is on another machine.
    ends: Option<Ends>,
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new(options.environment());
    let duration = Duration::from_millis(if options.quick { 150 } else { 500 });
    let wanted = |ours| {
        let receivers = RECEIVERS.iter().filter(move |receiver| receiver.ours == ours);
        receivers.map(|receiver| receiver.name).filter(|name| options.wants(name)).collect()
    };
    let mut lengths = Vec::new();
    // Over a wire a short run shows that it works, and that is all.
    let workloads = if options.quick && options.ends.is_some() { 1 } else { WORKLOADS.len() };
    for (scenario, messages) in WORKLOADS[..workloads].iter().copied() {
        lengths.push(format!("{:.0} B", Feed::new(messages).mean_length()));
        let plan =
            Plan { scenario, subjects: wanted(true), peers: wanted(false), rounds: options.rounds };
        let job = Job { messages, duration, ends: options.ends };
        let runs = paired::run(&plan, |name| child::sample(NAME, name, &job, &SHOWN))?;
        report.rows.extend(COMPARED.iter().flat_map(|metric| runs.rows(&plan, metric)));
        report.facts.extend(runs.facts(&plan, &SHOWN));
    }
    if options.ends.is_some() {
        report.notes.push(format!(
            "Receivers spin on core 0 of their machine; the source sends over AF_XDP, {} of payload a packet on \
             average. The most is found by search, {duration:?} at each rate. Nothing is said about latency: the \
             machines' clocks differ.",
            lengths.join(" and "),
        ));
        return Ok(report);
    }
    decode::run(options, &mut report)?;
    report.notes.push(format!(
        "Receivers spin on core 0, the source is on core 1. {} Packets have 1 and 8 messages, {} of payload on \
         average. {} The most is found by search, {duration:?} at each rate; the common rate is \
         {COMMON_RATE} packets a second.",
        generator::ABOUT,
        lengths.join(" and "),
        cable::ABOUT,
    ));
    Ok(report)
}

/// Measures the receiver `name`, in a process and a network of its own.
pub(crate) fn measure(name: &str, job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)?;
    if let Some(ends) = job.ends {
        let mut source = OverWire::open(ends, name, &job)?;
        pin_to(CLIENT_CORE)?;
        return child::answer(&measure_with(&mut source, &job)?);
    }
    let receiver = find(name)?;
    let cable = Cable::lay()?;
    let feed = Feed::new(job.messages);
    let control = receivers::Control::default();
    let (ready, is_ready) = mpsc::channel();
    let (host, feed, control) = (&cable.host, &feed, &control);
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            pin_to(SERVER_CORE)?;
            (receiver.run)(host.here, feed, control, ready)
        });
        let sample = scope.spawn(move || {
            let Ok(to) = is_ready.recv() else { return Ok(None) };
            host.enter()?;
            pin_to(CLIENT_CORE)?;
            let mut source = Source::open(host, to, feed, control)?;
            measure_with(&mut source, &job).map(Some)
        });
        let sample = sample.join().map_err(|_| anyhow!("the source panicked"))?;
        control.stop();
        taking.join().map_err(|_| anyhow!("the receiver panicked"))??;
        let sample = sample?.context("the receiver did not start")?;
        child::answer(&sample)
    })
}

/// The receiver of that name.
fn find(name: &str) -> Result<&'static receivers::Receiver> {
    let receiver = RECEIVERS.iter().find(|receiver| receiver.name == name);
    receiver.with_context(|| format!("there is no receiver `{name}`"))
}

fn measure_with(source: &mut dyn open_loop::Source, job: &Job) -> Result<Sample> {
    let per_packet = job.messages as f64;
    let common = COMMON_RATE * per_packet;
    source.offer(common, WARM_UP)?;
    let search = Search {
        from: common,
        ceiling: CEILING * per_packet,
        duration: job.duration,
        allowed_loss: 0.0,
    };
    let found = search.highest(source)?.context("some messages are lost at any rate")?;
    let most = found.rate;
    let at_common = source.offer(common, job.duration)?;
    let at_half = source.offer(most / 2.0, job.duration)?;
    ensure!(at_common.answered > 0 && at_half.answered > 0, "nothing is received");
    let latency = [
        (P50, at_common.micros(0.5)),
        (P99, at_common.micros(0.99)),
        (P50_HALF, at_half.micros(0.5)),
        (P99_HALF, at_half.micros(0.99)),
    ];
    let latency = latency.into_iter().filter_map(|(metric, micros)| Some((metric, micros?)));
    Ok([(MOST, most), found.by_source()].into_iter().chain(latency).collect())
}
