//! Packet queues by URI.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::buffer::any_buffer;
use super::lane::Lane;
use crate::backend::memory::{LinkOptions, MemoryEnd, MemoryFrame, MemoryPort, link};
use crate::backend::packet::{PacketFrame, PacketPort};
use crate::pool::PoolOptions;
use crate::uri::Uri;
use crate::{Attach, Error, Frame, PacketIo, PacketOptions, Result, RxMeta, TxMeta, Unsupported};

/// A packet queue whose backend was chosen at run time.
pub type AnyPort = Box<dyn PacketIo<Frame = AnyFrame>>;

any_buffer! {
    /// A frame of whichever backend an [`AnyPort`] has.
    AnyFrame {
        Memory(MemoryFrame),
        Packet(PacketFrame),
        #[cfg(feature = "io-uring")]
        Uring(crate::io_uring::UringFrame),
        #[cfg(feature = "xdp")]
        Xdp(crate::xdp::XdpFrame),
        #[cfg(feature = "dpdk")]
        Dpdk(crate::dpdk::Mbuf),
    }

    impl Frame for AnyFrame {
        fn rx_meta(&self) -> RxMeta {
            each!(self, frame => frame.rx_meta())
        }

        fn set_tx_meta(&mut self, meta: TxMeta) -> Result<(), Unsupported> {
            each!(self, frame => frame.set_tx_meta(meta))
        }
    }
}

/// Opens the packet queue that a URI names: see [the table](crate::any).
///
/// ```
/// use bypass_io::any::open_port;
/// use bypass_io::prelude::*;
///
/// // Opened twice under one name: the two ends of a cable.
/// let (mut a, mut b) = (open_port("memory:cable")?, open_port("memory:cable")?);
/// let mut burst = Burst::with_capacity(8);
/// a.alloc(&mut burst, 8);
/// burst.iter_mut().try_for_each(|frame| frame.fill(&[0xff; 60]))?;
/// a.send(&mut burst)?;
/// assert_eq!(b.recv(&mut burst)?, 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::Config`](crate::Error::Config) for a URI that makes no sense, or a backend whose
/// feature is off, which it names; else as the backend's own way of opening.
pub fn open_port(uri: &str) -> Result<AnyPort> {
    let uri = Uri::parse(uri)?;
    open(uri.scheme, uri)
}

/// Opens the port of a backend, with the settings that are left.
pub(super) fn open(backend: &str, uri: Uri<'_>) -> Result<AnyPort> {
    match backend {
        "memory" => Ok(Box::new(Lane::new(memory(uri)?))),
        "packet" => Ok(Box::new(Lane::new(PacketPort::attach(&options(uri)?)?))),
        #[cfg(feature = "io-uring")]
        "uring" => Ok(Box::new(Lane::new(crate::io_uring::UringPort::attach(&options(uri)?)?))),
        #[cfg(feature = "xdp")]
        "xdp" => xdp(uri),
        #[cfg(feature = "dpdk")]
        "dpdk" => dpdk(uri),
        _ => Err(uri.unknown("memory, packet, uring, xdp and dpdk")),
    }
}

/// The settings of a pool.
pub(super) fn pool(uri: &mut Uri<'_>, pool: &mut PoolOptions) -> Result<()> {
    if let Some(chunks) = uri.take("frames")? {
        let PoolOptions { rx_reserve, .. } = PoolOptions::new(chunks);
        (pool.chunks, pool.rx_reserve) = (chunks, rx_reserve);
    }
    uri.set("rx_reserve", &mut pool.rx_reserve)?;
    uri.set("frame_size", &mut pool.chunk_size)?;
    uri.set("headroom", &mut pool.headroom)
}

/// The settings of a port on an interface.
fn options(mut uri: Uri<'_>) -> Result<PacketOptions> {
    let mut options = PacketOptions::new(uri.target);
    options.ring = uri.take("ring")?;
    options.max_frame = uri.take("max_frame")?;
    options.send_buffer = uri.take("send_buffer")?;
    uri.set("batch", &mut options.batch)?;
    uri.set("promiscuous", &mut options.promiscuous)?;
    uri.set("qdisc_bypass", &mut options.qdisc_bypass)?;
    pool(&mut uri, &mut options.pool)?;
    uri.finish()?;
    Ok(options)
}

/// A queue of an interface.
#[cfg(feature = "xdp")]
fn xdp(mut uri: Uri<'_>) -> Result<AnyPort> {
    let settings = super::xdp::Settings::take(&mut uri)?;
    let mut xdp = crate::xdp::XdpOptions::try_from(&options(uri)?)?;
    settings.apply(&mut xdp)?;
    Ok(Box::new(Lane::new(xdp.open()?)))
}

/// A queue of a port, which several may share.
#[cfg(feature = "dpdk")]
fn dpdk(mut uri: Uri<'_>) -> Result<AnyPort> {
    let share = uri.take("share")?.unwrap_or_default();
    Ok(Box::new(Lane::new(crate::dpdk::QueuePair::open_part(&options(uri)?, share)?)))
}

/// The end of a link that waits for whoever opens the same name next.
fn memory(mut uri: Uri<'_>) -> Result<MemoryPort> {
    static WAITING: LazyLock<Mutex<HashMap<String, MemoryEnd>>> = LazyLock::new(Mutex::default);
    let mut options = LinkOptions::default();
    let plain = uri.is_plain();
    uri.set("ring", &mut options.ring)?;
    pool(&mut uri, &mut options.pool)?;
    let name = uri.target.to_owned();
    uri.finish()?;
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    // Nothing would come from where a port is gone.
    waiting.retain(|_, end| !end.is_disconnected());
    if waiting.get(&name).is_some_and(|end| !plain && *end.options() != options) {
        let why =
            "both ends of a cable are alike: give the settings that it was made with, or none";
        return Err(Error::config("memory", name, why));
    }
    let end = match waiting.remove(&name) {
        Some(end) => end,
        None => {
            let (mine, other) = link(&options)?;
            waiting.insert(name, other);
            mine
        }
    };
    end.open()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffer, Burst};

    #[test]
    fn the_ends_of_a_cable_are_alike() {
        let first = open_port("memory:alike?ring=8&frames=64").unwrap();
        for other in ["memory:alike?ring=9&frames=64", "memory:alike?ring=8"] {
            let error = open_port(other).map(drop).unwrap_err().to_string();
            assert!(error.starts_with("memory = alike: both ends"), "{error}");
        }
        drop((open_port("memory:alike?ring=8&frames=64").unwrap(), first));
        let first = open_port("memory:alike?ring=8").unwrap();
        drop((open_port("memory:alike").unwrap(), first));
    }

    #[test]
    fn a_cable_whose_first_port_is_gone_is_made_anew() {
        drop(open_port("memory:anew?ring=8").unwrap());
        let (mut a, mut b) = (open_port("memory:anew").unwrap(), open_port("memory:anew").unwrap());
        let mut burst = Burst::with_capacity(1);
        assert_eq!(a.alloc(&mut burst, 1), 1);
        burst[0].fill(&[0xff; 60]).unwrap();
        assert_eq!(a.send(&mut burst).unwrap(), 1);
        assert_eq!(b.recv(&mut burst).unwrap(), 1);
        // What a port sent before it went still arrives.
        let mut a = open_port("memory:anew").unwrap();
        burst.clear();
        assert_eq!(a.alloc(&mut burst, 1), 1);
        burst[0].fill(&[0xee; 60]).unwrap();
        assert_eq!(a.send(&mut burst).unwrap(), 1);
        drop(a);
        assert_eq!(open_port("memory:anew").unwrap().recv(&mut burst).unwrap(), 1);
    }
}
