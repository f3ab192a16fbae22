//! Over a wire: the servers on an interface of this machine, the load generator on another machine or in
//! another network namespace.
//!
//! The generator leads. Over a TCP connection to [`PORT`] it has one server started at a time, asks for the
//! server's counters, and ends it by closing the connection. Method and report are those of a run on one
//! machine.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::environment::Environment;
use crate::nic::Nic;
use crate::scenario::{Options, SCENARIOS, Scenario};

/// Where servers are ordered.
const PORT: u16 = 7711;

/// A server that runs and is counted; it ends when it is dropped.
pub(crate) trait Served {
    fn address(&self) -> SocketAddrV4;

    /// A stretch of load begins, for those that have to know.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// The scenario's counters since the server's start.
    fn counters(&mut self) -> Result<Value>;
}

/// Starts the contestant of that name at an address of this machine, for a job of the scenario's own.
pub(crate) type Start = fn(&str, Ipv4Addr, &Value) -> Result<Box<dyn Served>>;

/// The two ends of the wire, as the generator knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ends {
    /// The generator's address.
    pub(crate) here: Ipv4Addr,
    /// The servers' address.
    pub(crate) there: Ipv4Addr,
}

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Machine,
    Start { scenario: String, name: String, job: Value },
    Begin,
    Counters,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Machine(Environment),
    Started(SocketAddrV4),
    Begun,
    Counters(Value),
    Failed(String),
}

/// Starts servers on the interface as the generator orders, until the process is ended.
pub(crate) fn serve(scenario: &Scenario, nic: &Nic, options: &Options) -> Result<()> {
    let start = starter(scenario)?;
    let listener = TcpListener::bind((nic.address, PORT))
        .with_context(|| format!("cannot listen at {}:{PORT}", nic.address))?;
    println!(
        "The servers of `{}` are on {} at {}. At the other end of the wire, with the address of an \
         interface there:\n\n  cargo xtask bench {} --client <interface> --server {}\n",
        scenario.name,
        nic.describe(),
        nic.address,
        scenario.name,
        nic.address,
    );
    let machine = || {
        let mut machine = options.environment();
        machine.network = Some(nic.describe());
        machine
    };
    for connection in listener.incoming() {
        let order = |served: &mut Option<Box<dyn Served>>, order| match order {
            Order::Machine => Ok(Answer::Machine(machine())),
            Order::Start { scenario: other, .. } if other != scenario.name => {
                bail!("the servers here are those of `{}`, not of `{other}`", scenario.name)
            }
            Order::Start { name, job, .. } => {
                eprintln!("{name}");
                // The last one gives its port back first.
                *served = None;
                let server = start(&name, nic.address, &job)?;
                Ok(Answer::Started(served.insert(server).address()))
            }
            Order::Begin => {
                served.as_mut().context("no server runs")?.begin()?;
                Ok(Answer::Begun)
            }
            Order::Counters => {
                let server = served.as_mut().context("no server runs")?;
                Ok(Answer::Counters(server.counters()?))
            }
        };
        if let Err(error) = attend(&connection?, order) {
            eprintln!("{error:#}");
        }
    }
    Ok(())
}

/// Carries out the orders of one connection. The server that was started ends with it.
fn attend(
    connection: &TcpStream,
    carry_out: impl Fn(&mut Option<Box<dyn Served>>, Order) -> Result<Answer>,
) -> Result<()> {
    let mut served = None;
    for line in BufReader::new(connection).lines() {
        let order = serde_json::from_str(&line?)?;
        let answer = carry_out(&mut served, order);
        let answer = answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}")));
        say(connection, &answer)?;
    }
    Ok(())
}

fn say(mut connection: &TcpStream, what: &impl Serialize) -> Result<()> {
    connection.write_all(format!("{}\n", serde_json::to_string(what)?).as_bytes())?;
    Ok(())
}

/// A server at the other end; it ends when this is dropped.
pub(crate) struct Remote {
    connection: BufReader<TcpStream>,
    pub(crate) address: SocketAddrV4,
}

impl Remote {
    /// Has the contestant of that name started.
    pub(crate) fn start(
        ends: Ends,
        scenario: &str,
        name: &str,
        job: &impl Serialize,
    ) -> Result<Self> {
        let mut remote = Self::connect(ends)?;
        let (scenario, name) = (scenario.to_owned(), name.to_owned());
        let order = Order::Start { scenario, name, job: serde_json::to_value(job)? };
        let Answer::Started(address) = remote.order(&order)? else { bail!("it did not start") };
        remote.address = address;
        Ok(remote)
    }

    /// Tells the server that a stretch of load begins.
    #[cfg(feature = "xdp")]
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.order(&Order::Begin).map(drop)
    }

    /// The scenario's counters of the server.
    pub(crate) fn counters<C: DeserializeOwned>(&mut self) -> Result<C> {
        match self.order(&Order::Counters)? {
            Answer::Counters(counters) => Ok(serde_json::from_value(counters)?),
            other => bail!("the other end counts nothing: {other:?}"),
        }
    }

    fn connect(ends: Ends) -> Result<Self> {
        let address = SocketAddrV4::new(ends.there, PORT);
        let connection = TcpStream::connect(address).with_context(|| {
            format!(
                "nobody serves at {address}; there: cargo xtask bench <scenario> --nic <interface>"
            )
        })?;
        Ok(Self { connection: BufReader::new(connection), address })
    }

    fn order(&mut self, order: &Order) -> Result<Answer> {
        say(self.connection.get_ref(), order)?;
        let mut line = String::new();
        self.connection.read_line(&mut line).context("the other end is gone")?;
        match serde_json::from_str(&line).with_context(|| format!("the other end said {line:?}"))? {
            Answer::Failed(why) => Err(anyhow!("at the other end: {why}")),
            answer => Ok(answer),
        }
    }
}

/// Looks up both ends where the options name a server elsewhere, and says what is between them.
pub(crate) fn ends(scenario: &Scenario, options: &mut Options) -> Result<Option<String>> {
    let Some((client, there)) = &options.client else { return Ok(None) };
    starter(scenario)?;
    let nic = Nic::find(client, options.force)?;
    let ends = Ends { here: nic.address, there: *there };
    let Answer::Machine(machine) = Remote::connect(ends)?.order(&Order::Machine)? else {
        bail!("the other end does not say what it is")
    };
    options.ends = Some(ends);
    Ok(Some(format!(
        "generator on {}; servers on another host: {}",
        nic.describe(),
        machine.describe()
    )))
}

fn starter(scenario: &Scenario) -> Result<Start> {
    scenario.serve.with_context(|| {
        let able = SCENARIOS.iter().filter(|scenario| scenario.serve.is_some());
        let able: Vec<&str> = able.map(|scenario| scenario.name).collect();
        format!("`{}` cannot use a network card; {} can", scenario.name, able.join(", "))
    })
}
