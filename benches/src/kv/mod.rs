//! The key-value store on a cable: how many requests a second without a loss, how late, at what price; beside
//! the same store behind tokio, and memcached.
//!
//! Server and client are the two hosts of a [`Cable`], each with a core. The client is a [`Generator`]; over a
//! wire it is an open loop over AF_XDP.

mod client;
mod requests;
mod server;
mod workload;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bypass_core::worker::pin_to;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cable::{self, CLIENT_CORE, Cable};
use crate::child;
use crate::generator::{self, Generator};
use crate::open_loop::{self, BY_SOURCE, Search, Source, Stretch};
use crate::over_xdp::OverXdp;
use crate::paired::{self, Plan, Sample};
use crate::report::Report;
use crate::scenario::Options;
use crate::wire::{Ends, Remote, Served};
use client::Client;
use server::{Counters, SERVERS, Server};
use workload::{WORKLOADS, Workload};

const NAME: &str = "kv";

/// Requests per second, all answered, by search; higher is better.
const MOST: &str = "requests per second without a loss";
const P50: &str = "p50 µs at the common rate";
const P99: &str = "p99 µs at the common rate";
const P50_HALF: &str = "p50 µs at half of its most";
const P99_HALF: &str = "p99 µs at half of its most";
/// CPU time of the server's process and of receiving for it, kernel included, at half of its most; lower is
/// better.
const CPU: &str = "CPU µs per request";
const SWITCHES: &str = "context switches per 1000 requests";
const SYSTEM_CALLS: &str = "system calls per request";

const COMPARED: [&str; 4] = [MOST, P50, P99, CPU];
const SHOWN: [&str; 9] =
    [MOST, BY_SOURCE, P50, P99, P50_HALF, P99_HALF, CPU, SWITCHES, SYSTEM_CALLS];

/// Requests per second at which all are compared: the slowest server still idles half the time.
const COMMON_RATE: f64 = 20_000.0;
/// The most that is tried.
const CEILING: f64 = 4e6;
/// Lost before anybody searches: some frames wait for the neighbour's address.
const WARM_UP: Duration = Duration::from_millis(200);

/// What one run is to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Job {
    workload: usize,
    /// Of each stretch at one rate.
    duration: Duration,
    /// Around this rate load is swept, and nothing else is measured.
    sweep: Option<f64>,
    /// Where the server is another machine.
    ends: Option<Ends>,
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new(options.environment());
    report.environment.network = Some(cable::NETWORK.to_owned());
    let duration = Duration::from_millis(if options.quick { 150 } else { 300 });
    let wanted = |ours| {
        let servers = SERVERS.iter().filter(move |server| server.ours == ours);
        servers.map(|server| server.name).filter(|name| options.wants(name)).collect()
    };
    let workloads = if options.quick { 1 } else { WORKLOADS.len() };
    for (workload, &Workload { name: scenario, .. }) in WORKLOADS[..workloads].iter().enumerate() {
        let job = Job { workload, duration, sweep: None, ends: options.ends };
        let plan =
            Plan { scenario, subjects: wanted(true), peers: wanted(false), rounds: options.rounds };
        let runs = paired::run(&plan, |name| child::sample(NAME, name, &job, &SHOWN))?;
        report.rows.extend(COMPARED.iter().flat_map(|metric| runs.rows(&plan, metric)));
        report.facts.extend(runs.facts(&plan, &SHOWN));
        report.curves.extend(open_loop::curves(
            &plan,
            ("requests", COMMON_RATE),
            options.sweeps(),
            |name| runs.median(name, MOST),
            |name, highest| child::run(NAME, name, &Job { sweep: Some(highest), ..job }),
        )?);
    }
    report.notes.push(format!(
        "One server on core 0, the client on core 1; {} items, keys of 16 B. The most is found by search, \
         {duration:?} at each rate, all requests answered; the common rate is {COMMON_RATE}/s.",
        workload::KEYS,
    ));
    if options.ends.is_none() {
        report.notes.push(format!(
            "A veth pair lies between them. {} CPU time includes the server's. {}",
            cable::ABOUT,
            generator::ABOUT,
        ));
    }
    Ok(report)
}

/// Measures the server `name`, in a process and a network of its own.
pub(crate) fn measure(name: &str, job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)?;
    if let Some(ends) = job.ends {
        let mut server = Remote::start(ends, NAME, name, &job)?;
        pin_to(CLIENT_CORE)?;
        let dialogue = Client::new(&WORKLOADS[job.workload]);
        let mut client = OverXdp::open(ends.here, server.address.into(), dialogue)?;
        return ask(&mut client, &job, || server.counters());
    }
    let cable = Cable::lay()?;
    let host = &cable.host;
    let workload = &WORKLOADS[job.workload];
    let server = Server::start(name, host.here)?;
    server.load(workload)?;
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            host.enter()?;
            pin_to(CLIENT_CORE)?;
            let requests = requests::requests(host, server.address(), workload)?;
            let mut client = Generator::open(&host.ends[1].name, &requests)?;
            ask(&mut client, &job, || server.counters(Some(&cable.receiver)))
        });
        client.join().map_err(|_| anyhow::anyhow!("the client panicked"))?
    })
}

/// Starts a server with all items for a generator elsewhere.
pub(crate) fn start(name: &str, at: Ipv4Addr, job: &Value) -> Result<Box<dyn Served>> {
    let job = Job::deserialize(job)?;
    let server = Server::start(name, at)?;
    server.load(WORKLOADS.get(job.workload).context("there is no such workload")?)?;
    Ok(Box::new(server))
}

impl Served for Server {
    fn address(&self) -> SocketAddrV4 {
        Self::address(self)
    }

    fn counters(&mut self) -> Result<Value> {
        Ok(serde_json::to_value(Self::counters(self, None)?)?)
    }
}

/// Asks the server, and answers what the job is about.
fn ask(
    client: &mut dyn Source,
    job: &Job,
    counters: impl FnMut() -> Result<Counters>,
) -> Result<()> {
    client.offer(COMMON_RATE, WARM_UP)?;
    if let Some(highest) = job.sweep {
        let points = open_loop::sweep(client, COMMON_RATE, highest, job.duration)?;
        return child::answer(&points);
    }
    let sample = measure_with(client, counters, job.duration)?;
    child::answer(&sample)
}

fn measure_with(
    client: &mut dyn Source,
    mut counters: impl FnMut() -> Result<Counters>,
    duration: Duration,
) -> Result<Sample> {
    let search = Search { from: COMMON_RATE, ceiling: CEILING, duration, allowed_loss: 0.0 };
    let found = search.highest(client)?.context("some requests are lost at any rate")?;
    let highest = found.rate;
    let common = client.offer(COMMON_RATE, duration)?;
    ensure!(common.answered > 0, "nothing is answered at {COMMON_RATE} a second");
    let before = counters()?;
    let half = client.offer(highest / 2.0, duration)?;
    let after = counters()?;
    let usage = after.when_asked.since(before.when_answered);
    let calls = after.system_calls.zip(before.system_calls).map(|(now, before)| now - before);
    ensure!(half.answered > 0, "nothing is answered at half of {highest} a second");
    let requests = half.answered as f64;
    let at = |run: &Stretch, quantile| run.latency.value_at_quantile(quantile) as f64 / 1000.0;
    let mut sample = Sample::from([
        (MOST, highest),
        found.by_source(),
        (P50, at(&common, 0.5)),
        (P99, at(&common, 0.99)),
        (P50_HALF, at(&half, 0.5)),
        (P99_HALF, at(&half, 0.99)),
        (CPU, usage.cpu_ns as f64 / 1000.0 / requests),
        (SWITCHES, 1000.0 * usage.switches as f64 / requests),
    ]);
    sample.extend(calls.map(|calls| (SYSTEM_CALLS, calls as f64 / requests)));
    Ok(sample)
}

/// The server of that name.
fn find(name: &str) -> Result<&'static server::Contestant> {
    let server = SERVERS.iter().find(|server| server.name == name);
    server.with_context(|| format!("there is no server `{name}`"))
}
