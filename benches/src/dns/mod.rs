//! DNS: the example's server on several backends, beside other servers, over a veth pair, or over a wire.

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

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, ensure};
use bypass_core::worker::pin_to;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cable::{self, CLIENT_CORE};
use crate::child;
use crate::generator;
use crate::open_loop::{self, BY_SOURCE, Search, Source};
use crate::over_xdp::OverXdp;
use crate::paired::{self, Plan, Sample};
use crate::report::Report;
use crate::scenario::Options;
use crate::wire::{Ends, Remote, Served};
use clients::Asking;
use rig::{Questions, Rig};
use server::{CONTESTANTS, Contestant, Server};

pub(crate) use server::{COMMAND, serve};

const NAME: &str = "dns";

/// The highest rate at which every query is answered.
const WITHOUT_LOSS: &str = "queries per second, none lost";
/// When more are asked than can be answered.
const IN_A_FLOOD: &str = "answers per second in a flood";
/// By dnsperf, which waits for answers.
const DNSPERF: &str = "dnsperf, queries per second";
const DNSPERF_LOST: &str = "dnsperf, lost %";
/// CPU time of the server and of receiving for it, per query at the common rate; lower is better.
const CPU: &str = "CPU µs per query at the common rate";

const P50: &str = "p50 µs at the common rate";
const P99: &str = "p99 µs at the common rate";

/// What is compared as ratios.
const COMPARED: [&str; 6] = [WITHOUT_LOSS, IN_A_FLOOD, DNSPERF, CPU, P50, P99];
const SHOWN: [&str; 8] =
    [WITHOUT_LOSS, BY_SOURCE, IN_A_FLOOD, DNSPERF, DNSPERF_LOST, CPU, P50, P99];

/// Queries per second that every server answers.
const RATE: f64 = 30_000.0;
/// The most that is tried.
const CEILING: f64 = 4e6;

/// What one run is to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Job {
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
    let wanted = |ours: bool| {
        let contestants = CONTESTANTS.iter().filter(move |contestant| {
            contestant.is_ours() == ours && options.wants(contestant.name)
        });
        contestants.map(|contestant| contestant.name).collect()
    };
    let plan = Plan {
        scenario: NAME,
        subjects: wanted(true),
        peers: wanted(false),
        rounds: options.rounds,
    };
    ensure!(!(plan.subjects.is_empty() && plan.peers.is_empty()), "there is no such server");
    let duration = Duration::from_millis(if options.quick { 100 } else { 500 });
    let job = Job { duration, sweep: None, ends: options.ends };
    let runs = paired::run(&plan, |name| child::sample(NAME, name, &job, &SHOWN))?;
    report.rows.extend(COMPARED.iter().flat_map(|metric| runs.rows(&plan, metric)));
    report.facts.extend(runs.facts(&plan, &SHOWN));
    report.curves.extend(open_loop::curves(
        &plan,
        ("queries", RATE),
        options.sweeps(),
        |name| runs.median(name, WITHOUT_LOSS),
        |name, highest| child::run(NAME, name, &Job { sweep: Some(highest), ..job }),
    )?);
    report.notes.push(format!(
        "A zone of {} names; nine of ten queries are for one of them, the others for names that are \
         not there. Server on core 0, queries from core 1 ({duration:?} at each rate; the highest by \
         search), then by dnsperf over sockets. CPU time and latency at {RATE}/s.",
        rig::NAMES,
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
        let (questions, at) = (Questions::write()?, server.address);
        let mut client = OverXdp::open(ends.here, at.into(), Asking::new(&questions))?;
        clients::await_answers(&mut client, at)?;
        return ask(client, &job, || server.counters(), (&questions, at));
    }
    let contestant = Contestant::find(name)?;
    let rig = Rig::lay()?;
    let server = Server::start(contestant, &rig)?;
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            rig.cable.host.enter()?;
            pin_to(CLIENT_CORE)?;
            let client = clients::client(&rig, contestant.address())?;
            let cpu_ns = || server.cpu_ns(Some(&rig.cable.receiver));
            ask(client, &job, cpu_ns, (&rig.questions, contestant.address()))
        });
        client.join().map_err(|_| anyhow::anyhow!("the client panicked"))?
    })
}

/// Starts a server for a generator elsewhere.
pub(crate) fn start(name: &str, at: Ipv4Addr, _job: &Value) -> Result<Box<dyn Served>> {
    let questions = Questions::write()?;
    let server = Server::start_on_interface(Contestant::find(name)?, at, &questions.folder)?;
    Ok(Box::new(OnInterface { server, address: Contestant::address_at(at), _questions: questions }))
}

struct OnInterface {
    server: Server,
    address: SocketAddrV4,
    _questions: Questions,
}

impl Served for OnInterface {
    fn address(&self) -> SocketAddrV4 {
        self.address
    }

    fn counters(&mut self) -> Result<Value> {
        Ok(self.server.cpu_ns(None)?.into())
    }
}

/// Asks the server, which has used so much CPU time, and answers what the job is about.
fn ask(
    mut client: impl Source,
    job: &Job,
    cpu_ns: impl FnMut() -> Result<u64>,
    (questions, server): (&Questions, SocketAddrV4),
) -> Result<()> {
    if let Some(highest) = job.sweep {
        let points = open_loop::sweep(&mut client, RATE, highest, job.duration)?;
        return child::answer(&points);
    }
    let mut sample = measure_with(&mut client, cpu_ns, job.duration)?;
    drop(client);
    if let Some(found) = clients::dnsperf(questions, server, job.duration)? {
        sample.extend([(DNSPERF, found.rate), (DNSPERF_LOST, found.lost_percent)]);
    }
    child::answer(&sample)
}

fn measure_with(
    client: &mut dyn Source,
    mut cpu_ns: impl FnMut() -> Result<u64>,
    duration: Duration,
) -> Result<Sample> {
    let mut sample = Sample::new();
    client.offer(RATE, duration / 5)?;
    let before = cpu_ns()?;
    let common = client.offer(RATE, duration)?;
    let cpu_ns = cpu_ns()? - before;
    // On a machine with other things to do a server may not have had its turn; no figure then.
    if common.answered > 0 {
        sample.insert(CPU, cpu_ns as f64 / 1000.0 / common.answered as f64);
    }
    let flood = client.offer(f64::INFINITY, duration)?;
    sample.insert(IN_A_FLOOD, flood.answered as f64 / flood.seconds);
    let search = Search { from: RATE, ceiling: CEILING, duration, allowed_loss: 0.0 };
    if let Some(found) = search.highest(client)? {
        sample.extend([(WITHOUT_LOSS, found.rate), found.by_source()]);
    }
    for (metric, quantile) in [(P50, 0.5), (P99, 0.99)] {
        sample.extend(common.micros(quantile).map(|micros| (metric, micros)));
    }
    Ok(sample)
}
