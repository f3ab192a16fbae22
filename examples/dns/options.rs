//! What the command line says.

use std::net::SocketAddr;
use std::num::ParseIntError;
use std::path::PathBuf;

use bypass_io::worker::available_cores;
use lexopt::prelude::*;

use crate::Result;

pub(crate) const USAGE: &str = "\
usage: dns [--zone NAME=FILE]... [--cores A,B] [--tcp ADDRESS|off] [--queries N] [--json]
           [--telemetry ADDRESS] [PLACE]

PLACE is an address (127.0.0.1:5353; on AF_XDP and DPDK one of an Ethernet interface), or a URI such as
udp+socket://127.0.0.1:5353 or udp+xdp://10.0.0.1:53.";

/// Where queries come from.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// The backend that the features chose.
    Address(SocketAddr),
    /// The backend that it names.
    Uri(String),
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) place: Place,
    pub(crate) zones: Vec<(String, PathBuf)>,
    pub(crate) cores: Vec<usize>,
    pub(crate) tcp: Tcp,
    pub(crate) queries: u64,
    pub(crate) json: bool,
    pub(crate) telemetry: Option<String>,
}

/// Where connections come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tcp {
    /// From where the datagrams come, if the kernel has that address.
    Same,
    At(SocketAddr),
    Off,
}

impl Options {
    /// Reads the command line; `None` when it asks for help.
    pub(crate) fn read(mut args: lexopt::Parser) -> Result<Option<Self>> {
        let mut place = "127.0.0.1:5353".to_owned();
        let mut options = Self {
            place: Place::Uri(String::new()),
            zones: Vec::new(),
            cores: available_cores()?.into_iter().take(1).collect(),
            tcp: Tcp::Same,
            queries: u64::MAX,
            json: false,
            telemetry: None,
        };
        while let Some(arg) = args.next()? {
            match arg {
                Long("help") | Short('h') => return Ok(None),
                Long("json") => options.json = true,
                Long("telemetry") => options.telemetry = Some(args.value()?.string()?),
                Long("queries") => options.queries = args.value()?.parse()?,
                Long("zone") => {
                    let zone = args.value()?.string()?;
                    let (name, file) = zone.split_once('=').ok_or("--zone takes NAME=FILE")?;
                    options.zones.push((name.to_owned(), file.into()));
                }
                Long("cores") => {
                    let cores = |text: &str| text.split(',').map(str::parse).collect();
                    options.cores = args.value()?.parse_with::<_, _, ParseIntError>(cores)?;
                }
                Long("tcp") => {
                    options.tcp = match args.value()?.string()?.as_str() {
                        "off" => Tcp::Off,
                        address => Tcp::At(address.parse()?),
                    };
                }
                Value(value) => place = value.string()?,
                _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
            }
        }
        options.place = Place::read(place);
        if options.cores.len() > 1 && !options.place.is_shared() {
            let why =
                "only sockets, and queues of AF_XDP and DPDK, share an address of the kernel's";
            return Err(format!("--cores: {why}, so name one core").into());
        }
        Ok(Some(options))
    }

    /// Where connections are to be taken.
    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        match self.tcp {
            Tcp::Off => None,
            Tcp::At(address) => Some(address),
            Tcp::Same => self.place.kernel_address(),
        }
    }

    /// The URI as each worker opens it: they share their address, among which the kernel or the device
    /// spreads the queries.
    pub(crate) fn uri(&self, uri: &str, worker: usize) -> String {
        let separator = if uri.contains('?') { '&' } else { '?' };
        match self.cores.len() {
            1 => uri.to_owned(),
            count => format!("{uri}{separator}share={worker}/{count}"),
        }
    }
}

impl Place {
    fn read(text: String) -> Self {
        text.parse().map_or(Self::Uri(text), Self::Address)
    }

    /// Whether several workers may have it; what the features chose says so itself.
    fn is_shared(&self) -> bool {
        match self {
            Self::Address(_) => true,
            Self::Uri(uri) => {
                let shared = ["udp+socket:", "udp+uring:", "udp+xdp:", "udp+dpdk:"];
                shared.iter().any(|scheme| uri.starts_with(scheme))
                    && self.kernel_address().is_some()
            }
        }
    }

    /// The address, if the kernel has it: with an interface of its own, an endpoint has its own address.
    fn kernel_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Uri(uri) => {
                let (address, settings) = uri.split_once('?').unwrap_or((uri, ""));
                let own = settings.split('&').any(|setting| setting.starts_with("prefix="));
                let (_, address) = address.split_once("://").filter(|_| !own)?;
                address.parse().ok()
            }
        }
    }

    /// Puts a port in the place of port 0.
    pub(crate) fn set_port(&mut self, port: u16) {
        match self {
            Self::Address(address) if address.port() == 0 => address.set_port(port),
            Self::Uri(uri) => {
                let (address, settings) = match uri.split_once('?') {
                    Some((address, settings)) => (address, format!("?{settings}")),
                    None => (uri.as_str(), String::new()),
                };
                if let Some(host) = address.strip_suffix(":0") {
                    *uri = format!("{host}:{port}{settings}");
                }
            }
            Self::Address(_) => {}
        }
    }
}
