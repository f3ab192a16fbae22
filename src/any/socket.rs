//! Datagram endpoints by URI.

use super::buffer::any_buffer;
use super::lane::Lane;
use crate::backend::socket::{UdpDatagram, UdpSocket};
use crate::uri::Uri;
use crate::{Bind, Datagram, DatagramIo, RecvMeta, Result, Transmit, UdpOptions};

/// A datagram endpoint whose backend was chosen at run time.
pub type AnySocket = Box<dyn DatagramIo<Datagram = AnyDatagram>>;

any_buffer! {
    /// A datagram of whichever backend an [`AnySocket`] has.
    AnyDatagram {
        Socket(UdpDatagram),
        #[cfg(feature = "io-uring")]
        Uring(crate::io_uring::UringDatagram),
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
/// let error = bypass_io::any::open_socket("udp+socket://127.0.0.1:0?color=red").unwrap_err();
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
        _ => Err(uri.unknown("udp+socket and udp+uring")),
    }
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
    uri.set("timestamps", &mut options.timestamps)?;
    crate::any::port::pool(&mut uri, &mut options.pool)?;
    uri.finish()?;
    Ok(options)
}
