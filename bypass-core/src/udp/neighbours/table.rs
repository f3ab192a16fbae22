//! [`Table`]: stations that were written down beforehand.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{Lookup, Neighbours};
use crate::MacAddr;

/// A static table. Nobody is ever asked, and what is not in it cannot be reached.
///
/// ```
/// use bypass_core::udp::neighbours::Table;
///
/// let neighbours = Table::new()
///     .with("10.0.0.2".parse()?, "02:00:00:00:00:02".parse()?)
///     .with("10.0.0.254".parse()?, "02:00:00:00:00:fe".parse()?);
/// # let _ = neighbours;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Table {
    stations: HashMap<IpAddr, MacAddr>,
    generation: u64,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same table with one more entry.
    #[must_use]
    pub fn with(mut self, host: IpAddr, station: MacAddr) -> Self {
        self.insert(host, station);
        self
    }

    /// Adds or changes an entry.
    pub fn insert(&mut self, host: IpAddr, station: MacAddr) {
        self.stations.insert(host, station);
        self.generation += 1;
    }

    /// Removes an entry.
    pub fn remove(&mut self, host: IpAddr) {
        self.stations.remove(&host);
        self.generation += 1;
    }
}

impl Neighbours for Table {
    fn lookup(&mut self, host: IpAddr, _now: Duration) -> Lookup {
        match self.stations.get(&host) {
            Some(station) => Lookup::Found(*station),
            None => Lookup::Unknown(format!("{host} is not in the static table").into()),
        }
    }

    fn generation(&self) -> u64 {
        self.generation
    }
}
