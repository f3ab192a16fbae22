//! What lies between the exchange and the receiver.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bypass_io::Result;
use bypass_io::sandbox::{Host, Sandbox};

#[derive(Clone)]
pub enum Network {
    /// A cable to another host, where the exchange is.
    Cable(Arc<Host>),
    /// Nothing, for this reason.
    Loopback(String),
}

impl Network {
    /// To be called while there is only one thread.
    pub fn make() -> Self {
        match Sandbox::enter().and_then(|sandbox| sandbox.host("feed")) {
            Ok(host) => Self::Cable(Arc::new(host)),
            Err(error) => Self::Loopback(error.to_string()),
        }
    }

    pub fn receiver(&self) -> Ipv4Addr {
        match self {
            Self::Cable(host) => host.here,
            Self::Loopback(_) => Ipv4Addr::LOCALHOST,
        }
    }

    pub fn exchange(&self) -> Ipv4Addr {
        match self {
            Self::Cable(host) => host.there,
            Self::Loopback(_) => Ipv4Addr::LOCALHOST,
        }
    }

    /// Moves the calling thread to where the exchange is.
    pub fn enter_exchange(&self) -> Result<()> {
        match self {
            Self::Cable(host) => host.enter(),
            Self::Loopback(_) => Ok(()),
        }
    }

    /// What did not fit into the cable so far, on the receiver's side.
    pub fn dropped_by_receiver(&self) -> Result<u64> {
        self.dropped(0)
    }

    /// Likewise on the exchange's side.
    pub fn dropped_by_exchange(&self) -> Result<u64> {
        self.dropped(1)
    }

    fn dropped(&self, end: usize) -> Result<u64> {
        match self {
            Self::Cable(host) => host.dropped(end),
            Self::Loopback(_) => Ok(0),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cable(_) => f.write_str("a cable between two network namespaces"),
            Self::Loopback(why) => write!(f, "the loopback interface ({why})"),
        }
    }
}
