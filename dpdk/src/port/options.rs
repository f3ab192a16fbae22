//! [`PortOptions`]: what is asked of a port; [`Report`]: what was obtained.

use super::{Features, RssTypes};
use crate::mempool::Mempool;

/// What is asked of a port when it is started.
///
/// ```no_run
/// use bypass_dpdk::{EalOptions, Features, Mempool, MempoolOptions, Port, PortOptions, Rss, RssTypes};
///
/// let eal = EalOptions::new().start()?;
/// let pool = Mempool::new(&eal, &MempoolOptions::new(8191))?;
/// let options = PortOptions {
///     rx_queues: 2,
///     tx_queues: 2,
///     require: Features::RX_L4_CHECKSUM,
///     prefer: Features::TX_L4_CHECKSUM | Features::RX_HASH,
///     rss: Some(Rss::new(RssTypes::IP | RssTypes::UDP)),
///     ..PortOptions::new(&pool)
/// };
/// let port = Port::open(&eal, "0000:03:00.0")?.start(&options)?;
/// println!("{:#?}", port.report());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PortOptions {
    /// Where received packets lie: queue `i` takes the pool `i` modulo their number.
    pub pools: Vec<Mempool>,
    /// Queues for receiving.
    pub rx_queues: u16,
    /// Queues for sending.
    pub tx_queues: u16,
    /// Descriptors of each receiving queue; the driver may round.
    pub rx_descriptors: u16,
    /// Descriptors of each sending queue; the driver may round.
    pub tx_descriptors: u16,
    /// Bytes in a packet without its Ethernet header; `None` for what the device has.
    pub mtu: Option<u16>,
    /// What the port must have; it is not started without.
    pub require: Features,
    /// What the port should have; what it lacks is in [`Report::fallbacks`].
    pub prefer: Features,
    /// How packets are spread over the receiving queues; `None` leaves that to the device.
    pub rss: Option<Rss>,
    /// Whether a descriptor tells when packets arrive, so that a thread can sleep:
    /// [`RxQueue::as_fd`](crate::RxQueue::as_fd). It is an error where the driver has none.
    pub rx_interrupts: bool,
    /// Whether the device tells of its link by itself ([`Event::Link`](crate::Event::Link)), where the
    /// driver has to be asked for that. It is an error where it cannot.
    pub link_interrupts: bool,
}

impl PortOptions {
    /// One queue each way, of 1024 descriptors, and nothing beyond moving bytes.
    #[must_use]
    pub fn new(pool: &Mempool) -> Self {
        Self {
            pools: vec![pool.clone()],
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: None,
            require: Features::empty(),
            prefer: Features::empty(),
            rss: None,
            rx_interrupts: false,
            link_interrupts: false,
        }
    }
}

/// Receive side scaling: packets of one flow go to one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    /// What tells flows apart. The port is not started when it knows none of these; what is missing is
    /// in [`Report::fallbacks`].
    pub types: RssTypes,
    /// The key of the hash, as long as [`Capabilities::rss_key_len`](super::Capabilities::rss_key_len)
    /// says; `None` for the driver's.
    pub key: Option<Vec<u8>>,
    /// The queue of each value of the hash, taken modulo
    /// [`Capabilities::rss_table_len`](super::Capabilities::rss_table_len), repeated to that length;
    /// `None` for all queues in turn.
    pub table: Option<Vec<u16>>,
}

impl Rss {
    /// By these types, with the driver's key, over all queues.
    #[must_use]
    pub fn new(types: RssTypes) -> Self {
        Self { types, key: None, table: None }
    }
}

/// What a port was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The driver.
    pub driver: String,
    /// Descriptors of each receiving queue.
    pub rx_descriptors: u16,
    /// Descriptors of each sending queue.
    pub tx_descriptors: u16,
    /// Bytes in a packet without its Ethernet header.
    pub mtu: u16,
    /// What was required, preferred and granted, and what the device does anyway.
    pub features: Features,
    /// The types that packets are spread by.
    pub rss: RssTypes,
    /// The most segments in a packet that is sent.
    pub max_segments: usize,
    /// What was preferred and is not to be had, and that drops are not counted where a driver's socket was not
    /// found, each in a sentence.
    pub fallbacks: Vec<String>,
}
