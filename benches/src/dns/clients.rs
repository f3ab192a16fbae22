//! What asks: on a schedule a generator, or over a wire an open loop; and dnsperf, which waits.

use std::net::SocketAddrV4;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use bypass_io::any::AnyDatagram;
use bypass_io::prelude::*;

use super::rig::{Questions, Rig, ZONE};
use crate::generator::{Generator, Requests, Route};
use crate::open_loop::Source;
use crate::over_xdp::Dialogue;

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
    for query in &rig.questions.queries {
        let template = requests.template(query)?;
        requests.push(template);
    }
    let mut client = Generator::open(&host.ends[1].name, &requests)?;
    await_answers(&mut client, server)?;
    Ok(client)
}

/// Waits until the server answers as it should.
pub(super) fn await_answers(client: &mut dyn Source, server: SocketAddrV4) -> Result<()> {
    let begin = Instant::now();
    loop {
        // Some answer that they are not ready.
        let error = match client.offer(1000.0, Duration::from_millis(20)) {
            Ok(stretch) if stretch.answered > 0 => return Ok(()),
            Ok(_) => anyhow!("there is no answer"),
            Err(error) => error,
        };
        if begin.elapsed() > PATIENCE {
            return Err(error.context(format!("{server} does not answer as it should")));
        }
    }
}

/// The same over a wire.
pub(super) struct Asking(std::iter::Cycle<std::vec::IntoIter<Vec<u8>>>);

impl Asking {
    pub(super) fn new(questions: &Questions) -> Self {
        Self(questions.queries.clone().into_iter().cycle())
    }
}

impl Dialogue for Asking {
    fn ask(&mut self, number: u16, datagram: &mut AnyDatagram) -> Result<()> {
        // They never end.
        let Some(query) = self.0.next() else { return Ok(()) };
        datagram.fill(&query)?;
        datagram.data_mut()[..2].copy_from_slice(&number.to_be_bytes());
        Ok(())
    }

    fn number(&self, answer: &[u8]) -> Result<Option<u16>> {
        let Some(first) = answer.first_chunk::<8>() else { return Ok(None) };
        let looked_at = std::array::from_fn(|at| first[at] & MASK[at]);
        ensure!(RESPONSES.contains(&looked_at), "an answer begins with {first:02x?}");
        Ok(Some(u16::from_be_bytes([first[0], first[1]])))
    }
}

/// What dnsperf found.
pub(super) struct Dnsperf {
    pub(super) rate: f64,
    pub(super) lost_percent: f64,
}

/// Runs dnsperf, if it is there, from a thread on the client's side.
pub(super) fn dnsperf(
    questions: &Questions,
    server: SocketAddrV4,
    duration: Duration,
) -> Result<Option<Dnsperf>> {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let seconds = duration.as_secs_f64().ceil().to_string();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "1", "dnsperf", "-s", &host, "-p", &port, "-l", &seconds]);
    command.args(["-c", "8", "-T", "1", "-q", "500", "-d"]).arg(questions.folder.join("queries"));
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
