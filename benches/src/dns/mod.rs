//! DNS: the example's server on several backends, beside other servers, over a veth pair.

mod clients;
#[path = "../../../examples/dns/responder/mod.rs"]
#[allow(dead_code, reason = "the program counts and prints what a benchmark has no need of")]
mod responder;
mod rig;
mod server;
#[cfg(feature = "peers")]
mod tokio_server;
#[path = "../../../examples/dns/udp.rs"]
#[allow(dead_code, reason = "as above")]
mod udp;

use std::time::Duration;

use anyhow::{Result, ensure};
use bypass_core::worker::pin_to;

use crate::open_loop::{self, Point, Search, Source as _};
use crate::paired::{self, Plan, Sample};
use crate::report::Report;
use crate::scenario::Options;
use clients::Client;
use rig::Rig;
use server::{CONTESTANTS, Contestant, Server};

pub(crate) use server::{COMMAND, serve};

/// The highest rate at which every query is answered.
const WITHOUT_LOSS: &str = "queries per second, none lost";
/// When more are asked than can be answered.
const IN_A_FLOOD: &str = "answers per second in a flood";
/// By dnsperf, which waits for answers.
const DNSPERF: &str = "dnsperf, queries per second";
const DNSPERF_LOST: &str = "dnsperf, lost %";
/// Server CPU time per query at the common rate; lower is better.
const CPU: &str = "CPU µs per query at the common rate";

const P50: &str = "p50 µs at the common rate";
const P99: &str = "p99 µs at the common rate";

/// What is compared as ratios.
const COMPARED: [&str; 6] = [WITHOUT_LOSS, IN_A_FLOOD, DNSPERF, CPU, P50, P99];
const SHOWN: [&str; 7] = [WITHOUT_LOSS, IN_A_FLOOD, DNSPERF, DNSPERF_LOST, CPU, P50, P99];

/// Queries per second that every server answers.
const RATE: f64 = 30_000.0;
/// The most that is tried.
const CEILING: f64 = 4e6;
/// What the client is kept on.
const CLIENT_CORE: usize = 1;

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new(options.environment());
    let wanted = |ours: bool| {
        let contestants = CONTESTANTS.iter().filter(move |contestant| {
            contestant.is_ours() == ours && options.wants(contestant.name)
        });
        contestants.map(|contestant| contestant.name).collect()
    };
    let plan = Plan {
        scenario: "dns",
        subjects: wanted(true),
        peers: wanted(false),
        rounds: options.rounds,
    };
    ensure!(!(plan.subjects.is_empty() && plan.peers.is_empty()), "there is no such server");
    let duration = Duration::from_millis(if options.quick { 100 } else { 500 });
    pin_to(CLIENT_CORE)?;
    let runs = paired::run(&plan, |name| measure(Contestant::find(name)?, duration))?;
    report.rows.extend(COMPARED.iter().flat_map(|metric| runs.rows(&plan, metric)));
    report.facts.extend(runs.facts(&plan, &SHOWN));
    report.curves.extend(open_loop::curves(
        &plan,
        ("queries", RATE),
        options.sweeps(),
        |name| runs.median(name, WITHOUT_LOSS),
        |name, highest| sweep(Contestant::find(name)?, highest, duration),
    )?);
    report.notes.push(format!(
        "A zone of {} names; nine of ten queries are for one of them, the others for names that are \
         not there. Server on core 0, queries from core 1 over AF_XDP on a veth pair in copy mode \
         ({duration:?} at each rate; the highest by search), then by dnsperf over sockets. On a veth \
         pair the kernel's work of receiving is done by the core that sends: for the servers on \
         sockets that is core 1, and no part of their CPU time; how many queries core 1 can make \
         bounds all figures. CPU time and latency at {RATE}/s.",
        rig::NAMES,
    ));
    Ok(report)
}

/// One run of one server in a fresh process and a network of its own.
fn measure(contestant: &Contestant, duration: Duration) -> Result<Sample> {
    let rig = Rig::new()?;
    let server = Server::start(contestant, &rig)?;
    let mut sample = Sample::new();
    {
        let mut client = Client::open(&rig, contestant.address())?;
        client.verify()?;
        client.offer(RATE, duration / 5)?;
        let before = server.cpu_ns()?;
        let common = client.offer(RATE, duration)?;
        let cpu_ns = server.cpu_ns()? - before;
        // On a machine with other things to do a server may not have had its turn; no figure then.
        if common.answered > 0 {
            sample.insert(CPU, cpu_ns as f64 / 1000.0 / common.answered as f64);
        }
        let flood = client.offer(f64::INFINITY, duration)?;
        sample.insert(IN_A_FLOOD, flood.answered as f64 / flood.seconds);
        let search = Search { from: RATE, ceiling: CEILING, duration, allowed_loss: 0.0 };
        sample.extend(search.highest(&mut client)?.map(|highest| (WITHOUT_LOSS, highest)));
        for (metric, quantile) in [(P50, 0.5), (P99, 0.99)] {
            sample.extend(common.micros(quantile).map(|micros| (metric, micros)));
        }
    }
    if let Some(dnsperf) = clients::dnsperf(&rig, contestant.address(), duration)? {
        sample.extend([(DNSPERF, dnsperf.rate), (DNSPERF_LOST, dnsperf.lost_percent)]);
    }
    Ok(sample)
}

/// What becomes of load around `highest`, again in a fresh process and network.
fn sweep(contestant: &Contestant, highest: f64, duration: Duration) -> Result<Vec<Point>> {
    let rig = Rig::new()?;
    let _server = Server::start(contestant, &rig)?;
    let mut client = Client::open(&rig, contestant.address())?;
    client.verify()?;
    open_loop::sweep(&mut client, RATE, highest, duration)
}
