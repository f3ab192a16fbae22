//! The command line.

use std::net::SocketAddr;
use std::num::ParseIntError;
use std::path::PathBuf;
use std::time::Duration;

use bypass_io::worker::available_cores;
use lexopt::prelude::*;

use crate::Result;
use crate::log::{self, Level};
use crate::store::LEAST_MEMORY;

pub const USAGE: &str = "\
usage: kv [ADDRESS] [options]

  ADDRESS               where to listen, UDP and TCP; 127.0.0.1:11211
  --udp URI             another backend or address for UDP, such as `udp+xdp://10.0.0.9:{port}`, where
                        `{port}` stands for that of ADDRESS. Several workers, `{worker}` from 0 of `{workers}`,
                        share sockets, or queues of AF_XDP or DPDK: `udp+xdp://10.0.0.9:{port}?share={worker}/{workers}`
  --workers N           shards, each with a thread on a core of its own; 1
  --cores A,B           the cores
  --memory MIB          for items, of all shards together; 64
  --front tokio         serve with tokio in place of all that
  --spin                never sleep
  --patience SECONDS    how long the datagrams of a request may take, from the first on, and how long a connection
                        may keep memory that others wait for; 3
  --connections N       at a time, of each shard; 1024
  --check               start, and end at once
  --json                print what happened as JSON
  --log FOLDER          keep a log there, and begin with what it has
  --sync LEVEL          when a change is on the disk: `durable`, before it is acknowledged (the default);
                        `interval`, within the time below; `none`, never: no log
  --interval MS         how long a change may wait at `interval`; 100
  --telemetry ADDRESS   show what happens to the example `monitor` and to Prometheus, such as 127.0.0.1:9100
  --compact MIB         length of a log after which a snapshot takes its place; 64";

pub struct Options {
    pub address: SocketAddr,
    pub udp: Option<String>,
    pub cores: Vec<usize>,
    /// Bytes.
    pub memory: usize,
    pub tokio: bool,
    pub spin: bool,
    /// How long the datagrams of a request may take, and memory be kept that others wait for.
    pub patience: Duration,
    /// Of each shard.
    pub connections: usize,
    pub check: bool,
    pub json: bool,
    pub log: Option<log::Options>,
    pub telemetry: Option<String>,
}

impl Options {
    /// What the command line says; `None` when it asks for help.
    pub fn read(mut args: lexopt::Parser) -> Result<Option<Self>> {
        let mut address = SocketAddr::from(([127, 0, 0, 1], 11211));
        let (mut udp, mut tokio, mut spin, mut check, mut json) =
            (None, false, false, false, false);
        let (mut telemetry, mut patience) = (None, Duration::from_secs(3));
        let (mut workers, mut cores, mut memory, mut connections) = (1, None, 64, 1024);
        let (mut folder, mut sync, mut interval, mut compact) =
            (None, "durable".to_owned(), 100, 64.0);
        while let Some(arg) = args.next()? {
            match arg {
                Long("spin") => spin = true,
                Long("check") => check = true,
                Long("json") => json = true,
                Long("patience") => {
                    patience = Duration::try_from_secs_f64(args.value()?.parse()?)?;
                }
                Long("udp") => udp = Some(args.value()?.string()?),
                Long("workers") => workers = args.value()?.parse()?,
                Long("cores") => {
                    let list = |text: &str| text.split(',').map(str::parse).collect();
                    cores = Some(args.value()?.parse_with::<_, _, ParseIntError>(list)?);
                }
                Long("memory") => memory = args.value()?.parse::<usize>()?,
                Long("connections") => connections = args.value()?.parse()?,
                Long("front") => match args.value()?.string()?.as_str() {
                    "tokio" => tokio = true,
                    other => return Err(format!("there is no front end `{other}`").into()),
                },
                Long("telemetry") => telemetry = Some(args.value()?.string()?),
                Long("log") => folder = Some(PathBuf::from(args.value()?)),
                Long("sync") => sync = args.value()?.string()?,
                Long("interval") => interval = args.value()?.parse()?,
                Long("compact") => compact = args.value()?.parse::<f64>()?,
                Long("help") | Short('h') => return Ok(None),
                Value(value) => address = value.parse()?,
                _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
            }
        }
        let cores = match cores {
            Some(cores) => cores,
            None => {
                let available = available_cores()?;
                let missing = format!("there are {} cores for {workers} workers", available.len());
                available.get(..workers).ok_or(missing)?.to_vec()
            }
        };
        if cores.is_empty() {
            return Err("there has to be a worker".into());
        }
        let least = cores.len() * LEAST_MEMORY;
        let memory = memory.saturating_mul(1 << 20);
        if memory < least {
            return Err(format!("--memory: so many shards take {} at least", least >> 20).into());
        }
        let level = match sync.as_str() {
            "none" => None,
            "interval" => Some(Level::Interval(Duration::from_millis(interval))),
            "durable" => Some(Level::Durable),
            other => return Err(format!("--sync {other}? none, interval or durable").into()),
        };
        let compact_at = (compact * f64::from(1 << 20)) as u64;
        let log =
            folder.zip(level).map(|(folder, level)| log::Options { folder, level, compact_at });
        if tokio && (log.is_some() || udp.is_some() || telemetry.is_some() || json) {
            return Err(
                "--front tokio has no log, no other backend, no telemetry and no report".into()
            );
        }
        Ok(Some(Self {
            address,
            udp,
            cores,
            memory,
            tokio,
            spin,
            patience,
            connections,
            check,
            json,
            log,
            telemetry,
        }))
    }
}
