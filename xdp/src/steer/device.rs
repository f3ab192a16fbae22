//! [`Steering`]: reads and changes how a device spreads packets over its queues.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;

use bypass_core::{Error, Result, Unsupported};

use super::flow::FlowRule;
use super::sys::{
    self, ChannelCounts, DriverInfo, FlowSpec, Indirection, RingLengths, Rules, TABLE, ethtool,
};

/// How a device spreads packets over its queues.
///
/// ```no_run
/// use bypass_xdp::program::Transport;
/// use bypass_xdp::steer::{FlowRule, Steering};
///
/// // Everything on queues 0 to 2, but one port on queue 3, where AF_XDP takes it.
/// let device = Steering::of("eth1")?;
/// device.spread(0..3)?;
/// let rule = device.add_rule(&FlowRule::new(Transport::Udp, 4000, 3))?;
/// // ...
/// device.remove_rule(rule)?;
/// device.spread_evenly()?;
/// # Ok::<(), bypass_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Steering {
    interface: String,
    socket: UdpSocket,
}

/// How many queues a device has, and may have. A combined channel is an RX and a TX queue; a device
/// has either these or separate ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Channels {
    /// Queues that only receive.
    pub rx: u32,
    /// Queues that only send.
    pub tx: u32,
    /// Queues that do both.
    pub combined: u32,
    /// The most of each: RX, TX, combined.
    pub max: [u32; 3],
}

impl Channels {
    /// The queues that receive: 0 to this, exclusive.
    #[must_use]
    pub fn rx_queues(&self) -> u32 {
        self.rx + self.combined
    }
}

/// How many descriptors the rings of each queue of a device have, and may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingSizes {
    /// Of a queue that receives: packets that may wait while nobody looks.
    pub rx: u32,
    /// Of a queue that sends.
    pub tx: u32,
    /// The most of each: RX, TX.
    pub max: [u32; 2],
}

impl Steering {
    /// The device of this name in the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`].
    pub fn of(interface: &str) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .map_err(|error| Error::os("open a socket to look up interfaces", error))?;
        let steering = Self { interface: interface.to_owned(), socket };
        steering.driver()?;
        Ok(steering)
    }

    /// How many queues there are (`ETHTOOL_GCHANNELS`).
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where the driver does not say.
    pub fn channels(&self) -> Result<Channels> {
        let mut counts = ChannelCounts { cmd: sys::GCHANNELS, ..ChannelCounts::default() };
        self.run(&mut counts, "count the queues", "channels")?;
        let ChannelCounts { max_rx, max_tx, max_combined, rx, tx, combined, .. } = counts;
        Ok(Channels { rx, tx, combined, max: [max_rx, max_tx, max_combined] })
    }

    /// How long the device's own rings are (`ETHTOOL_GRINGPARAM`); those that an AF_XDP socket shares with
    /// the kernel are others.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where the driver does not say.
    pub fn ring_sizes(&self) -> Result<RingSizes> {
        let mut lengths = RingLengths { cmd: sys::GRINGPARAM, ..RingLengths::default() };
        self.run(&mut lengths, "look up the ring sizes", "ring sizes")?;
        let RingLengths { max_rx, max_tx, rx, tx, .. } = lengths;
        Ok(RingSizes { rx, tx, max: [max_rx, max_tx] })
    }

    /// Changes how many queues there are (`ETHTOOL_SCHANNELS`), which interrupts traffic for a moment.
    /// `max` is not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for more than the device can have; [`Error::MissingCapability`];
    /// [`Error::Unsupported`]; [`Error::Os`] when the driver refuses, as it does to take a queue away
    /// that has an AF_XDP socket or that flows are spread over.
    pub fn set_channels(&self, channels: &Channels) -> Result<()> {
        let now = self.channels()?;
        for (setting, wanted, max) in [
            ("rx", channels.rx, now.max[0]),
            ("tx", channels.tx, now.max[1]),
            ("combined", channels.combined, now.max[2]),
        ] {
            if wanted > max {
                let why = format!("{} has {max} at most", self.interface);
                return Err(Error::config(setting, wanted, why));
            }
        }
        let mut counts = ChannelCounts {
            cmd: sys::SCHANNELS,
            rx: channels.rx,
            tx: channels.tx,
            combined: channels.combined,
            ..ChannelCounts::default()
        };
        self.run(&mut counts, "change the number of queues", "channels").map_err(|error| {
            error.with_remedy(
                "close the AF_XDP sockets of the queues that go, and spread flows over the others first",
            )
        })
    }

    /// The RSS indirection table: the queue for each value of a flow's hash, modulo the table's
    /// length (`ETHTOOL_GRXFHINDIR`).
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where the device has none.
    pub fn indirection(&self) -> Result<Vec<u32>> {
        let mut table = self.table(sys::GRXFHINDIR, &[]);
        let (attempt, what) = ("read the RSS indirection table", "RSS indirection table");
        // With a size of 0, the kernel only tells the size.
        self.run(&mut *table, attempt, what)?;
        let size = table.size as usize;
        if size == 0 {
            return Err(self.unsupported(what));
        }
        if size > TABLE {
            let why = format!("of {TABLE} entries: its table has {size}");
            return Err(self.unsupported_because(what, &why));
        }
        self.run(&mut *table, attempt, what)?;
        Ok(table.queues[..size].to_vec())
    }

    /// Sets the RSS indirection table (`ETHTOOL_SRXFHINDIR`), which has as many entries as
    /// [`indirection`](Self::indirection) tells.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for another length; [`Error::MissingCapability`]; [`Error::Unsupported`];
    /// [`Error::Os`] for a queue that does not exist.
    pub fn set_indirection(&self, queues: &[u32]) -> Result<()> {
        let length = self.indirection()?.len();
        if queues.len() != length {
            let why = format!("the table of {} has {length} entries", self.interface);
            return Err(Error::config("indirection", queues.len(), why));
        }
        let mut table = self.table(sys::SRXFHINDIR, queues);
        self.run(&mut *table, "set the RSS indirection table", "RSS indirection table")
    }

    /// Spreads flows over these queues only, evenly: the others receive what rules send there.
    ///
    /// # Errors
    ///
    /// As [`set_indirection`](Self::set_indirection).
    pub fn spread(&self, queues: Range<u32>) -> Result<()> {
        if queues.is_empty() {
            return Err(Error::config("queues", format!("{queues:?}"), "flows must go somewhere"));
        }
        let length = self.indirection()?.len();
        self.set_indirection(&spread_over(queues, length))
    }

    /// Spreads flows over all queues, as the driver does by itself.
    ///
    /// # Errors
    ///
    /// As [`set_indirection`](Self::set_indirection).
    pub fn spread_evenly(&self) -> Result<()> {
        let mut table = self.table(sys::SRXFHINDIR, &[]);
        self.run(&mut *table, "reset the RSS indirection table", "RSS indirection table")
    }

    /// Adds a rule (`ETHTOOL_SRXCLSRLINS`) and returns its place in the device's table.
    ///
    /// # Errors
    ///
    /// [`Error::MissingCapability`]; [`Error::Unsupported`]; [`Error::Os`] when the driver refuses: the
    /// queue does not exist, the table is full, `ethtool -K DEVICE ntuple on` is missing, or the driver
    /// wants a [`location`](FlowRule::location).
    pub fn add_rule(&self, rule: &FlowRule) -> Result<u32> {
        let mut rules = self.rules_command(sys::SRXCLSRLINS);
        rules.spec = rule.spec();
        self.run(&mut *rules, &format!("send {rule:?} to its queue"), "flow rules").map_err(
            |error| {
                error.with_remedy(format!(
                    "`ethtool -K {} ntuple on` may be missing, or a location in the rule",
                    self.interface
                ))
            },
        )?;
        Ok(rules.spec.location)
    }

    /// Removes a rule (`ETHTOOL_SRXCLSRLDEL`).
    ///
    /// # Errors
    ///
    /// [`Error::MissingCapability`]; [`Error::Unsupported`]; [`Error::Os`] where there is none.
    pub fn remove_rule(&self, location: u32) -> Result<()> {
        let mut rules = self.rules_command(sys::SRXCLSRLDEL);
        rules.spec.location = location;
        self.run(&mut *rules, &format!("remove the flow rule {location}"), "flow rules")
    }

    /// The places of all rules (`ETHTOOL_GRXCLSRLALL`).
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where the driver has no rules.
    pub fn rules(&self) -> Result<Vec<u32>> {
        let mut rules = self.rules_command(sys::GRXCLSRLALL);
        rules.count = TABLE as u32;
        self.run(&mut *rules, "list the flow rules", "flow rules")?;
        let count = (rules.count as usize).min(TABLE);
        Ok(rules.locations[..count].to_vec())
    }

    fn table(&self, cmd: u32, queues: &[u32]) -> Box<Indirection> {
        let mut table = Box::new(Indirection { cmd, size: 0, queues: [0; TABLE] });
        let length = queues.len().min(TABLE);
        table.queues[..length].copy_from_slice(&queues[..length]);
        table.size = length as u32;
        table
    }

    fn rules_command(&self, cmd: u32) -> Box<Rules> {
        let spec = FlowSpec {
            flow_type: 0,
            fields: [0; 52],
            extension: [0; 20],
            mask: [0; 52],
            mask_extension: [0; 20],
            queue: 0,
            location: 0,
        };
        Box::new(Rules { cmd, flow_type: 0, data: 0, spec, count: 0, locations: [0; TABLE] })
    }

    fn run<T: sys::Command>(
        &self,
        command: &mut T,
        attempt: &str,
        what: &'static str,
    ) -> Result<()> {
        ethtool(&self.socket, &self.interface, command).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EOPNOTSUPP) => self.unsupported(what),
                _ => self.failed(attempt, error),
            }
        })
    }

    fn failed(&self, attempt: &str, error: io::Error) -> Error {
        let attempt = format!("{attempt} of {}", self.interface);
        match error.raw_os_error() {
            Some(libc::ENODEV) => {
                Error::NoSuchInterface { attempt: attempt.into(), name: self.interface.clone() }
            }
            _ => Error::privileged(attempt, "CAP_NET_ADMIN", error),
        }
    }

    fn unsupported(&self, what: &'static str) -> Error {
        self.unsupported_because(what, "")
    }

    fn unsupported_because(&self, what: &'static str, why: &str) -> Error {
        let driver = self.driver().unwrap_or_else(|_| "unknown".to_owned());
        let interface = &self.interface;
        let why = match why {
            "" => format!("the driver of {interface} ({driver}) does not offer it"),
            why => format!("{why} ({interface}, driver {driver})"),
        };
        Error::Unsupported(Unsupported {
            what: what.into(),
            backend: "the device",
            why: why.into(),
        })
    }

    /// The driver's name (`ETHTOOL_GDRVINFO`); "none" where there is none, as of the loopback interface.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`] when it is gone.
    pub fn driver(&self) -> Result<String> {
        let mut info = DriverInfo { cmd: sys::GDRVINFO, driver: [0; 32], rest: [0; 160] };
        match ethtool(&self.socket, &self.interface, &mut info) {
            Ok(()) => {
                let name = info.driver.split(|byte| *byte == 0).next().unwrap_or_default();
                Ok(String::from_utf8_lossy(name).into_owned())
            }
            // Such as the loopback interface.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok("none".to_owned()),
            Err(error) => Err(self.failed("look up the driver", error)),
        }
    }
}

/// A table of `length` entries in which each of the queues is as often as any other, give or take one.
fn spread_over(queues: Range<u32>, length: usize) -> Vec<u32> {
    queues.cycle().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_even_and_holds_nothing_else() {
        assert_eq!(spread_over(2..5, 8), [2, 3, 4, 2, 3, 4, 2, 3]);
        assert_eq!(spread_over(7..8, 3), [7, 7, 7]);
    }
}
