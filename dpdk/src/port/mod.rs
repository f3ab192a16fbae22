//! [`Port`]: a network device's port, stopped or started.

mod claim;
mod device;
mod dynamic;
mod events;
mod features;
pub mod flow;
mod link;
mod negotiate;
mod options;
mod pools;
mod setup;
mod stats;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bypass_core::{Error, MacAddr, Result};
use bypass_dpdk_sys as sys;

use device::Device;
pub(crate) use device::Running;
pub use events::{Event, Subscription};
pub use features::{Features, RssTypes};
pub use link::Link;
pub use options::{PortOptions, Report, Rss};
pub(crate) use pools::AF_XDP;
pub use stats::PortStats;

use crate::eal::Eal;
use crate::error::DpdkError;
use crate::queue::{QueuePair, RxQueue, TxQueue};
use crate::vdev::Plugged;

/// What a port can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The driver, such as `net_ring`.
    pub driver: String,
    /// The NUMA node that it is at; `None` for a virtual one.
    pub socket: Option<u32>,
    /// The kernel's interface behind it, by index, where there is one.
    pub interface: Option<u32>,
    /// The most receiving queues.
    pub rx_queues: u16,
    /// The most sending queues.
    pub tx_queues: u16,
    /// The smallest MTU.
    pub min_mtu: u16,
    /// The largest MTU.
    pub max_mtu: u16,
    /// The MTU that it has now.
    pub mtu: u16,
    /// What it can be asked for.
    pub features: Features,
    /// What it can spread packets by.
    pub rss: RssTypes,
    /// Bytes of the key for that.
    pub rss_key_len: u8,
    /// Entries of the table for that.
    pub rss_table_len: u16,
    /// The most segments in a packet that is sent.
    pub max_segments: u16,
}

/// A [`Port`] that moves no packets and can be started.
#[derive(Debug)]
pub struct Stopped(());

/// A [`Port`] that moves packets through its queues.
#[derive(Debug)]
pub struct Started(Arc<Running>);

/// A port of a network device.
///
/// It is opened once, started with what is [asked of it](PortOptions), and hands out each of its queues
/// once. It stays started until it is [stopped](Port::stop), or dropped with all its queues; then it is
/// closed. A closed port of a [`Vdev`](crate::Vdev) comes back when the device is plugged in again.
///
/// ```standalone_crate
/// use bypass_core::{Burst, PacketIo};
/// use bypass_dpdk::{EalOptions, Mempool, MempoolOptions, Port, PortOptions, Vdev};
///
/// let eal = EalOptions::new().start()?;
/// let pool = Mempool::new(&eal, &MempoolOptions::new(4095))?;
/// let _ring = Vdev::plug(&eal, "net_ring0", "")?;
/// let port = Port::open(&eal, "net_ring0")?.start(&PortOptions::new(&pool))?;
/// let mut queue = port.queue_pair(0)?;
/// let mut burst = Burst::with_capacity(32);
/// queue.recv(&mut burst)?;
/// // It is not stopped while somebody uses it,
/// let refused = port.stop().unwrap_err();
/// assert!(refused.error.to_string().contains("in use"));
/// drop(queue);
/// // but it is then.
/// let stopped = refused.port.stop()?;
/// # drop(stopped);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A stopped port has no queues:
///
/// ```compile_fail,E0599
/// fn early(port: bypass_dpdk::Port<bypass_dpdk::Stopped>) {
///     port.rx_queue(0); // error: no method named `rx_queue`
/// }
/// ```
///
/// and one that was started cannot be started again:
///
/// ```compile_fail,E0382
/// # use bypass_dpdk::{Port, PortOptions, Stopped};
/// fn twice(port: Port<Stopped>, options: &PortOptions) {
///     let started = port.start(options);
///     let again = port.start(options); // error: use of moved value
/// }
/// ```
pub struct Port<State = Stopped> {
    device: Arc<Device>,
    state: State,
}

/// A port that did not do what was asked, and why.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct Refused<State> {
    /// The port, as it was.
    pub port: Port<State>,
    /// What was wrong.
    pub error: Error,
}

impl<State> From<Refused<State>> for Error {
    fn from(refused: Refused<State>) -> Self {
        refused.error
    }
}

impl<State> fmt::Debug for Refused<State> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl Port<Stopped> {
    /// Opens the port that DPDK knows by this name: that of a [`Vdev`](crate::Vdev), or a PCI address.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is none of this name; [`DpdkError::Refused`] when it is open already.
    pub fn open(eal: &Eal, name: &str) -> Result<Self> {
        Ok(Self { device: Arc::new(Device::open(eal, name)?), state: Stopped(()) })
    }

    /// Its device, where that can be pulled.
    pub(crate) fn plugged(&self) -> Option<&Plugged> {
        self.device.plugged()
    }

    /// Starts the port.
    ///
    /// # Errors
    ///
    /// Gives the port back with [`Error::Config`] or [`Error::Unsupported`] when it cannot do what is
    /// asked, with [`DpdkError`] when the driver refuses.
    pub fn start(self, options: &PortOptions) -> Result<Port<Started>, Refused<Stopped>> {
        match Running::start(&self.device, options) {
            Ok(running) => Ok(Port { device: self.device, state: Started(Arc::new(running)) }),
            Err(error) => Err(Refused { port: self, error }),
        }
    }
}

impl Port<Started> {
    /// What it was started with.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.state.0.report
    }

    /// A receiving queue. Each is handed out once, and again when it was dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is none of this number, or it is in use.
    pub fn rx_queue(&self, queue: u16) -> Result<RxQueue> {
        take("rx_queue", &self.state.0.rx, queue)?;
        Ok(RxQueue::new(Arc::clone(&self.state.0), queue))
    }

    /// A sending queue. Each is handed out once, and again when it was dropped.
    ///
    /// # Errors
    ///
    /// As [`rx_queue`](Self::rx_queue).
    pub fn tx_queue(&self, queue: u16) -> Result<TxQueue> {
        take("tx_queue", &self.state.0.tx, queue)?;
        Ok(TxQueue::new(Arc::clone(&self.state.0), queue))
    }

    /// The receiving and the sending queue of this number, as a [`PacketIo`](bypass_core::PacketIo).
    ///
    /// # Errors
    ///
    /// As [`rx_queue`](Self::rx_queue).
    pub fn queue_pair(&self, queue: u16) -> Result<QueuePair> {
        let rx = self.rx_queue(queue)?;
        Ok(QueuePair::new(rx, self.tx_queue(queue)?))
    }

    /// Stops the port, when nobody uses it any more.
    ///
    /// # Errors
    ///
    /// Gives it back while a queue or a flow rule of it is there.
    pub fn stop(self) -> Result<Port<Stopped>, Refused<Started>> {
        let Self { device, state: Started(running) } = self;
        match Arc::try_unwrap(running) {
            Ok(running) => {
                drop(running);
                Ok(Port { device, state: Stopped(()) })
            }
            Err(running) => {
                let users = Arc::strong_count(&running).saturating_sub(1);
                let why = "drop its queues and flow rules first";
                let attempt = format!(
                    "stop port {} ({}): it is in use {users} times",
                    device.id(),
                    device.name()
                );
                let error = DpdkError::refused(attempt, libc::EBUSY).with_remedy(why).into();
                Err(Refused { port: Self { device, state: Started(running) }, error })
            }
        }
    }

    /// The queue of each value of the RSS hash, as the device has it now.
    ///
    /// # Errors
    ///
    /// When the driver does not say.
    pub fn rss_table(&self) -> Result<Vec<u16>> {
        setup::rss_table(&self.state.0)
    }

    /// What the device has counted since the start, over all queues.
    ///
    /// # Errors
    ///
    /// When the driver refuses.
    pub fn stats(&self) -> Result<PortStats> {
        self.state.0.counters()
    }

    /// Shows every counter that the driver has, by its name (`rte_eth_xstats_get`).
    ///
    /// # Errors
    ///
    /// When the driver refuses.
    pub fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) -> Result<()> {
        self.state.0.visit(visit)
    }
}

fn take(setting: &'static str, queues: &[std::sync::atomic::AtomicBool], queue: u16) -> Result<()> {
    let Some(taken) = queues.get(usize::from(queue)) else {
        let why = format!("the port was started with {} of them", queues.len());
        return Err(Error::config(setting, queue, why));
    };
    // Whoever had it before is done with it.
    if taken.swap(true, Ordering::Acquire) {
        return Err(Error::config(setting, queue, "it is in use; a queue has one user"));
    }
    Ok(())
}

impl<State> Port<State> {
    /// Its number, by which packets tell [where they came in](crate::Mbuf::port).
    #[must_use]
    pub fn id(&self) -> u16 {
        self.device.id()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// What it can do.
    ///
    /// # Errors
    ///
    /// When the driver does not say.
    pub fn capabilities(&self) -> Result<Capabilities> {
        self.device.capabilities()
    }

    /// The NUMA node that the device is at; `None` for a virtual one.
    #[must_use]
    pub fn socket(&self) -> Option<u32> {
        // SAFETY: the port is open.
        u32::try_from(unsafe { sys::rte_eth_dev_socket_id(self.id()) }).ok()
    }

    /// Its Ethernet address.
    ///
    /// # Errors
    ///
    /// When the driver does not say.
    pub fn mac(&self) -> Result<MacAddr> {
        self.device.mac()
    }

    /// Gives it another Ethernet address.
    ///
    /// # Errors
    ///
    /// When the driver refuses, or cannot.
    pub fn set_mac(&self, address: MacAddr) -> Result<()> {
        self.device.set_mac(address)
    }

    /// Whether it takes packets to other stations too.
    ///
    /// # Errors
    ///
    /// When the driver does not say.
    pub fn is_promiscuous(&self) -> Result<bool> {
        Ok(self.device.call("ask for promiscuous mode", sys::rte_eth_promiscuous_get)? == 1)
    }

    /// Has it take packets to other stations too, or not.
    ///
    /// # Errors
    ///
    /// When the driver refuses, or cannot.
    pub fn set_promiscuous(&self, on: bool) -> Result<()> {
        let functions = [sys::rte_eth_promiscuous_disable, sys::rte_eth_promiscuous_enable];
        self.device.call("set promiscuous mode", functions[usize::from(on)]).map(drop)
    }

    /// Whether it takes packets to every group.
    ///
    /// # Errors
    ///
    /// When the driver does not say.
    pub fn is_all_multicast(&self) -> Result<bool> {
        Ok(self.device.call("ask for all-multicast mode", sys::rte_eth_allmulticast_get)? == 1)
    }

    /// Has it take packets to every group, or not.
    ///
    /// # Errors
    ///
    /// When the driver refuses, or cannot.
    pub fn set_all_multicast(&self, on: bool) -> Result<()> {
        let functions = [sys::rte_eth_allmulticast_disable, sys::rte_eth_allmulticast_enable];
        self.device.call("set all-multicast mode", functions[usize::from(on)]).map(drop)
    }

    /// The state of its link, as far as it is known: this does not wait for one to come up.
    ///
    /// # Errors
    ///
    /// When the driver does not say.
    pub fn link(&self) -> Result<Link> {
        self.device.link()
    }
}

impl<State> fmt::Debug for Port<State> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
