//! Datagram endpoints by URI.

use std::net::SocketAddr;

use super::buffer::any_buffer;
use super::lane::Lane;
use super::port::{AnyFrame, AnyPort, open};
#[cfg(feature = "xdp")]
use crate::Queues;
use crate::backend::socket::{SocketDatagram, UdpSocket};
use crate::udp::{self, Beside, IpNet, UdpDatagram, UdpOverL2};
use crate::uri::Uri;
use crate::{
    Bind, Datagram, DatagramIo, Error, PacketOptions, RecvMeta, Result, Transmit, UdpOptions, sys,
};

/// A datagram endpoint whose backend was chosen at run time.
pub type AnySocket = Box<dyn DatagramIo<Datagram = AnyDatagram>>;

any_buffer! {
    /// A datagram of whichever backend an [`AnySocket`] has.
    AnyDatagram {
        Socket(SocketDatagram),
        #[cfg(feature = "io-uring")]
        Uring(crate::io_uring::UringDatagram),
        OverFrames(UdpDatagram<AnyFrame>),
    }

    impl Datagram for AnyDatagram {
        fn recv_meta(&self) -> RecvMeta {
            each!(self, datagram => datagram.recv_meta())
        }

        fn transmit(&self) -> Transmit {
            each!(self, datagram => datagram.transmit())
        }

        fn set_transmit(&mut self, transmit: Transmit) {
            each!(self, datagram => datagram.set_transmit(transmit));
        }
    }
}

/// Opens the datagram endpoint that a URI names: see [the table](crate::any).
///
/// ```
/// use bypass_io::prelude::*;
///
/// let mut socket = bypass_io::any::open_socket("udp+socket://127.0.0.1:0?batch=16")?;
/// assert_eq!(socket.caps().backend, "socket");
/// let mut burst = Burst::with_capacity(16);
/// assert_eq!(socket.recv(&mut burst)?, 0);
///
/// let error = bypass_io::any::open_socket("udp+socket://127.0.0.1:0?color=red").map(drop).unwrap_err();
/// assert!(error.to_string().contains("no such setting"));
/// # Ok::<(), bypass_io::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Config`](crate::Error::Config) for a URI that makes no sense, or a backend whose
/// feature is off, which it names; else as the backend's own way of opening.
pub fn open_socket(uri: &str) -> Result<AnySocket> {
    let uri = Uri::parse(uri)?;
    match uri.scheme {
        "udp+socket" => Ok(Box::new(Lane::new(UdpSocket::bind(&options(uri)?)?))),
        #[cfg(feature = "io-uring")]
        "udp+uring" => Ok(Box::new(Lane::new(crate::io_uring::UringSocket::bind(&options(uri)?)?))),
        "udp+packet" => over_frames("packet", uri),
        #[cfg(feature = "xdp")]
        "udp+xdp" => over_frames("xdp", uri),
        #[cfg(feature = "dpdk")]
        "udp+dpdk" => over_frames("dpdk", uri),
        "udp+memory" => at_own_address("memory", uri),
        _ => {
            Err(uri.unknown("udp+socket, udp+uring, udp+packet, udp+xdp, udp+dpdk and udp+memory"))
        }
    }
}

/// UDP in user space. With the `prefix` of a network the address is the endpoint's own; without it is
/// the kernel's, which knows the rest.
fn over_frames(backend: &'static str, mut uri: Uri<'_>) -> Result<AnySocket> {
    if uri.has("prefix") {
        return at_own_address(backend, uri);
    }
    #[cfg(feature = "xdp")]
    if backend == "xdp" {
        let settings = super::xdp::Settings::take(&mut uri)?;
        let options = options(uri)?;
        let open = |beside: &Beside| -> Result<AnyPort> {
            let mut xdp = crate::xdp::XdpOptions::beside_kernel(&options, beside)?;
            settings.apply(&mut xdp)?;
            // A worker that names its queue has that, whichever part of the others is its own.
            let ports = match settings.queue() {
                Some(_) => vec![xdp.open()?],
                None => xdp.open_part(options.share)?,
            };
            Ok(Box::new(Lane::new(Queues::new(ports)?)))
        };
        return Ok(Box::new(Lane::new(UdpOverL2::beside_kernel(&options, open)?)));
    }
    let max_frame = uri.take("max_frame")?;
    let ring = uri.take("ring")?;
    let options = options(uri)?;
    if backend != "dpdk" {
        options.share.refuse(backend)?;
    }
    let open = |beside: &Beside| -> Result<AnyPort> {
        let mut packet = PacketOptions::beside_kernel(&options, beside)?;
        packet.max_frame = max_frame;
        packet.ring = ring.or(packet.ring);
        #[cfg(feature = "dpdk")]
        if backend == "dpdk" {
            let part = crate::dpdk::QueuePair::open_part(&packet, options.share)?;
            return Ok(Box::new(Lane::new(part)));
        }
        Ok(Box::new(Lane::new(packet.open()?)))
    };
    Ok(Box::new(Lane::new(UdpOverL2::beside_kernel(&options, open)?)))
}

/// UDP in user space at an address that the kernel does not have, on a port that takes every frame.
fn at_own_address(backend: &str, mut uri: Uri<'_>) -> Result<AnySocket> {
    let address: SocketAddr = uri.target("address")?;
    let interface: String = uri.take("interface")?.ok_or_else(|| {
        let why = "an address of its own needs `interface=NAME`, and `prefix=BITS` of its network";
        Error::config("interface", "nothing", why)
    })?;
    if uri.has("share") {
        let why = "one endpoint has all of an address of its own: answers of neighbours may come to any queue";
        return Err(Error::config("share", uri.target, why));
    }
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let prefix = uri.take("prefix")?.unwrap_or(whole);
    let net = IpNet::new(address.ip(), prefix)
        .map_err(|error| Error::config("prefix", prefix, error.to_string()))?;
    let mac = match uri.take("mac")? {
        Some(mac) => mac,
        None => sys::interface::mac(&interface)?,
    };
    let mut config = udp::Config::new(mac, address.port()).address(net);
    if let Some(gateway) = uri.take("gateway")? {
        config = config.gateway(gateway);
    }
    if let Some(vlan) = uri.take("vlan")? {
        config = config.vlan(vlan);
    }
    config = config.echo(uri.take("ping")?.unwrap_or(false));
    let port = open(backend, uri.of(&interface))?;
    Ok(Box::new(Lane::new(UdpOverL2::new(port, config)?)))
}

fn options(mut uri: Uri<'_>) -> Result<UdpOptions> {
    let mut options = UdpOptions::new(uri.target("address")?);
    options.interface = uri.take("interface")?;
    options.recv_buffer = uri.take("recv_buffer")?;
    options.send_buffer = uri.take("send_buffer")?;
    options.ttl = uri.take("ttl")?;
    uri.set("batch", &mut options.batch)?;
    uri.set("coalesce", &mut options.coalesce)?;
    uri.set("gro", &mut options.gro)?;
    uri.set("reuse_port", &mut options.reuse_port)?;
    uri.set("share", &mut options.share)?;
    uri.set("timestamps", &mut options.timestamps)?;
    crate::any::port::pool(&mut uri, &mut options.pool)?;
    uri.finish()?;
    Ok(options)
}
