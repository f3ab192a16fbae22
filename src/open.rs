//! [`Bind`] and [`Attach`]: opening alike on every backend.

#[cfg(feature = "xdp")]
use crate::Queues;
use crate::backend::packet::PacketPort;
use crate::backend::socket::UdpSocket;
#[cfg(feature = "dpdk")]
use crate::dpdk::{DpdkSocket, QueuePair};
#[cfg(feature = "io-uring")]
use crate::io_uring::{UringOptions, UringPort, UringSocket};
#[cfg(feature = "xdp")]
use crate::xdp::{XdpOptions, XdpPort, XdpSocket};
use crate::{DatagramIo, PacketIo, PacketOptions, Result, UdpOptions};

/// A datagram backend that can be opened with [`UdpOptions`]; an application that is generic over
/// it runs on whichever the features chose.
///
/// A backend past the kernel (`xdp`, `dpdk`) works at an address that an Ethernet interface of the kernel has,
/// so it takes no loopback address, and an unspecified one only together with the interface:
/// [`beside_kernel`](crate::udp::UdpOverL2::beside_kernel) says what else differs.
///
/// ```no_run
/// use bypass_io::prelude::*;
/// use bypass_io::{Bind, DefaultSocket, UdpOptions};
///
/// fn serve<S: Bind>() -> bypass_io::Result<&'static str> {
///     let socket = S::bind(&UdpOptions::new(([10, 0, 0, 1], 9000).into()))?;
///     Ok(socket.caps().backend)
/// }
///
/// println!("{}", serve::<DefaultSocket>()?);
/// # Ok::<(), bypass_io::Error>(())
/// ```
pub trait Bind: DatagramIo + Sized {
    /// Opens an endpoint.
    ///
    /// # Errors
    ///
    /// As the backend's own way of opening; settings that it cannot honour are refused, not
    /// ignored.
    fn bind(options: &UdpOptions) -> Result<Self>;
}

impl Bind for UdpSocket {
    fn bind(options: &UdpOptions) -> Result<Self> {
        options.open()
    }
}

#[cfg(feature = "io-uring")]
impl Bind for UringSocket {
    fn bind(options: &UdpOptions) -> Result<Self> {
        Self::open(options, &UringOptions::new())
    }
}

#[cfg(feature = "xdp")]
impl Bind for XdpSocket {
    fn bind(options: &UdpOptions) -> Result<Self> {
        Self::beside_kernel(options, |beside| {
            Queues::new(XdpOptions::beside_kernel(options, beside)?.open_part(options.share)?)
        })
    }
}

#[cfg(feature = "dpdk")]
impl Bind for DpdkSocket {
    fn bind(options: &UdpOptions) -> Result<Self> {
        Self::beside_kernel(options, |beside| {
            let packet = PacketOptions::beside_kernel(options, beside)?;
            QueuePair::open_part(&packet, options.share)
        })
    }
}

/// A frame backend that can be opened on a network interface with [`PacketOptions`].
///
/// ```no_run
/// use bypass_io::prelude::*;
/// use bypass_io::{DefaultPort, Attach, PacketOptions};
///
/// let mut port = DefaultPort::attach(&PacketOptions::new("eth1"))?;
/// let mut burst = Burst::with_capacity(64);
/// port.wait(Interest::RX, None)?;
/// println!("{} frames", port.recv(&mut burst)?);
/// # Ok::<(), bypass_io::Error>(())
/// ```
pub trait Attach: PacketIo + Sized {
    /// Opens a port on the interface.
    ///
    /// # Errors
    ///
    /// As the backend's own way of opening; settings that it cannot honour are refused, not
    /// ignored.
    fn attach(options: &PacketOptions) -> Result<Self>;
}

impl Attach for PacketPort {
    fn attach(options: &PacketOptions) -> Result<Self> {
        options.open()
    }
}

#[cfg(feature = "xdp")]
impl Attach for XdpPort {
    fn attach(options: &PacketOptions) -> Result<Self> {
        XdpOptions::try_from(options)?.open()
    }
}

#[cfg(feature = "dpdk")]
impl Attach for QueuePair {
    fn attach(options: &PacketOptions) -> Result<Self> {
        Self::open(options)
    }
}

#[cfg(feature = "io-uring")]
impl Attach for UringPort {
    fn attach(options: &PacketOptions) -> Result<Self> {
        Self::open(options, &UringOptions::new())
    }
}
