//! What asks: a generator, which sends on a schedule, and dnsperf, which waits.

use std::net::SocketAddrV4;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::rig::{Rig, ZONE};
use crate::generator::{Generator, Requests, Route};
use crate::open_loop::Source as _;

/// How long a server may take to start, and the two to find each other.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of a response: the zone's word for it, not truncated, NOERROR or NXDOMAIN, one question.
const MASK: [u8; 8] = [0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
const RESPONSES: [[u8; 8]; 2] = [[0, 0, 0x84, 0, 0, 1, 0, 0], [0, 0, 0x84, 3, 0, 1, 0, 0]];

/// Asks from the client's side, on a thread of that, once the server answers.
pub(super) fn client(rig: &Rig, server: SocketAddrV4) -> Result<Generator> {
    let host = &rig.cable.host;
    let route = Route::from(host, server);
    let mut requests = Requests::new(route).answered(0, MASK, RESPONSES);
    for query in &rig.queries {
        let template = requests.template(query)?;
        requests.push(template);
    }
    let mut client = Generator::open(&host.ends[1].name, &requests)?;
    let begin = Instant::now();
    loop {
        // Some answer that they are not ready.
        let error = match client.offer(1000.0, Duration::from_millis(20)) {
            Ok(stretch) if stretch.answered > 0 => return Ok(client),
            Ok(_) => anyhow!("there is no answer"),
            Err(error) => error,
        };
        if begin.elapsed() > PATIENCE {
            return Err(error.context(format!("{server} does not answer as it should")));
        }
    }
}

/// What dnsperf found.
pub(super) struct Dnsperf {
    pub(super) rate: f64,
    pub(super) lost_percent: f64,
}

/// Runs dnsperf, if it is there, from a thread on the client's side.
pub(super) fn dnsperf(
    rig: &Rig,
    server: SocketAddrV4,
    duration: Duration,
) -> Result<Option<Dnsperf>> {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let seconds = duration.as_secs_f64().ceil().to_string();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "1", "dnsperf", "-s", &host, "-p", &port, "-l", &seconds]);
    command.args(["-c", "8", "-T", "1", "-q", "500", "-d"]).arg(rig.folder.join("queries"));
    let Ok(output) = command.output() else { return Ok(None) };
    let said = String::from_utf8_lossy(&output.stdout);
    let number = |label: &str| {
        let line = said.lines().find(|line| line.trim_start().starts_with(label))?;
        let rest = line.split_once(':')?.1.trim();
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    let found = (number("Queries per second"), number("Queries sent"), number("Queries lost"));
    let (Some(rate), Some(sent), Some(lost)) = found else {
        return Err(anyhow!("{}", String::from_utf8_lossy(&output.stderr)))
            .with_context(|| format!("dnsperf found nothing about {ZONE}: {said}"));
    };
    Ok(Some(Dnsperf { rate, lost_percent: 100.0 * lost / sent.max(1.0) }))
}
