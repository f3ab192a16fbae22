//! [`DatagramIo`]: the seam for UDP payloads with addresses.

use std::net::{IpAddr, SocketAddr};

use crate::{Buffer, Burst, Endpoint, Error, Result, Timestamp};

/// Moves owned UDP datagrams in bursts.
///
/// Code written against this trait runs on a plain UDP socket, on io_uring, and, through
/// [`UdpOverL2`](crate::udp::UdpOverL2), on every [`PacketIo`](crate::PacketIo). A datagram that was
/// received can be turned into its reply in place, so an echo copies nothing in user space:
///
/// ```
/// use bypass_core::{Burst, Datagram, DatagramIo, Result};
///
/// fn echo<S: DatagramIo>(socket: &mut S, burst: &mut Burst<S::Datagram>) -> Result<()> {
///     socket.recv(burst)?;
///     burst.iter_mut().for_each(|datagram| datagram.reply());
///     socket.send(burst)?; // what is refused stays in the burst
///     socket.flush()
/// }
/// ```
pub trait DatagramIo: Endpoint {
    /// The datagram that this backend receives and sends.
    type Datagram: Datagram;

    /// Appends received datagrams to `out`, as many as there are and fit. Never blocks: `Ok(0)` is
    /// an idle socket (or a full `out`).
    ///
    /// # Errors
    ///
    /// When the device is gone or the kernel refuses; datagrams received before the error come
    /// first, the error with the next call.
    fn recv(&mut self, out: &mut Burst<Self::Datagram>) -> Result<usize>;

    /// Appends up to `n` empty datagrams to `out` and returns how many; fewer than `n` is
    /// back-pressure.
    fn alloc(&mut self, out: &mut Burst<Self::Datagram>, n: usize) -> usize;

    /// Takes datagrams from the front of `datagrams` for sending, as many as there is room for, and
    /// returns how many. The rest stays where it is, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Frame`] when the first datagram can never be sent (no destination, too long, a
    /// destination that has no route): it is still the first in `datagrams`. Other errors as for
    /// [`recv`](Self::recv). No datagram is taken by a call that fails.
    fn send(&mut self, datagrams: &mut Burst<Self::Datagram>) -> Result<usize>;

    /// The address and port that the endpoint is bound to.
    fn local_addr(&self) -> SocketAddr;
}

impl<D: DatagramIo + ?Sized> DatagramIo for Box<D> {
    type Datagram = D::Datagram;

    fn recv(&mut self, out: &mut Burst<Self::Datagram>) -> Result<usize> {
        (**self).recv(out)
    }

    fn alloc(&mut self, out: &mut Burst<Self::Datagram>, n: usize) -> usize {
        (**self).alloc(out, n)
    }

    fn send(&mut self, datagrams: &mut Burst<Self::Datagram>) -> Result<usize> {
        (**self).send(datagrams)
    }

    fn local_addr(&self) -> SocketAddr {
        (**self).local_addr()
    }
}

/// Conveniences over [`DatagramIo`]; every datagram endpoint has them.
pub trait DatagramIoExt: DatagramIo {
    /// Receives into `scratch` and shows each datagram to `f`; they are dropped afterwards.
    /// Returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`DatagramIo::recv`].
    fn for_each(
        &mut self,
        scratch: &mut Burst<Self::Datagram>,
        mut f: impl FnMut(&mut Self::Datagram),
    ) -> Result<usize> {
        self.recv(scratch)?;
        let n = scratch.len();
        scratch.iter_mut().for_each(&mut f);
        scratch.clear();
        Ok(n)
    }

    /// Copies `payload` into a datagram to `destination`, at the back of `out`. Answers false when
    /// no datagram can be had just now.
    ///
    /// # Errors
    ///
    /// [`Error::Frame`] when the payload is longer than a datagram of this backend can be.
    fn compose(
        &mut self,
        payload: &[u8],
        destination: SocketAddr,
        out: &mut Burst<Self::Datagram>,
    ) -> Result<bool> {
        if out.is_full() || self.alloc(out, 1) == 0 {
            return Ok(false);
        }
        let Some(datagram) = out.last_mut() else { return Ok(false) };
        datagram.send_to(destination);
        if let Err(room) = datagram.fill(payload) {
            out.pop_back();
            return Err(Error::frame("compose a datagram", self.caps().backend, room));
        }
        Ok(true)
    }
}

impl<D: DatagramIo + ?Sized> DatagramIoExt for D {}

/// An owned UDP datagram: its [data](Buffer::data) is the payload.
pub trait Datagram: Buffer {
    /// Where it came from and what else is known; the default on a datagram of one's own.
    fn recv_meta(&self) -> RecvMeta;

    /// Where it goes and how.
    fn transmit(&self) -> Transmit;

    /// Sets where it goes and how.
    fn set_transmit(&mut self, transmit: Transmit);

    /// Makes it the reply to itself: to the remote address, from the local address that it was
    /// sent to, through the next hop that it came through.
    fn reply(&mut self) {
        let meta = self.recv_meta();
        let transmit = Transmit {
            destination: meta.remote,
            source: meta.local,
            next_hop: meta.next_hop,
            segment_size: meta.segment_size,
            ..Transmit::default()
        };
        self.set_transmit(transmit);
    }

    /// Sends it to `destination`, with nothing else asked for.
    fn send_to(&mut self, destination: SocketAddr) {
        self.set_transmit(Transmit::to(destination));
    }
}

/// What was learned about a datagram when it was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecvMeta {
    /// The sender. `None` only on a datagram that was not received.
    ///
    /// Populated by: all.
    pub remote: Option<SocketAddr>,
    /// The local address that it was sent to, which on a socket bound to a wildcard is not known
    /// otherwise.
    ///
    /// Populated by: all.
    pub local: Option<IpAddr>,
    /// The congestion mark of the IP header (RFC 3168).
    ///
    /// Populated by: all.
    pub ecn: Ecn,
    /// The data is a train of datagrams of this size in bytes, the last one perhaps shorter (GRO).
    /// `None`: it is one datagram.
    ///
    /// Populated by: `socket` and `io_uring` when asked for.
    pub segment_size: Option<u16>,
    /// The station that a reply goes through.
    ///
    /// Populated by: `UdpOverL2`.
    pub next_hop: Option<NextHop>,
    /// When it arrived.
    ///
    /// Populated by: `socket` and `io_uring` (software, when asked for); `UdpOverL2` where the
    /// frame has it.
    pub timestamp: Option<Timestamp>,
}

/// Where a datagram goes and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transmit {
    /// The receiver; a datagram without one is refused.
    pub destination: Option<SocketAddr>,
    /// The local address that it is sent from; `None` leaves the choice to the backend.
    pub source: Option<IpAddr>,
    /// The congestion mark to set.
    pub ecn: Ecn,
    /// The data is a train: cut it into datagrams of this many bytes (GSO). Refused where
    /// [`TxOffloads::SEGMENTATION`](crate::TxOffloads::SEGMENTATION) is missing.
    pub segment_size: Option<u16>,
    /// The station to send through, which spares asking for it. Ignored by sockets.
    pub next_hop: Option<NextHop>,
}

impl Transmit {
    /// To `destination`, with nothing else asked for.
    #[must_use]
    pub fn to(destination: SocketAddr) -> Self {
        Self { destination: Some(destination), ..Self::default() }
    }
}

/// The congestion field of an IP header (RFC 3168).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Ecn {
    /// Not capable.
    #[default]
    NotCapable = 0b00,
    /// Capable, ECT(1).
    Ect1 = 0b01,
    /// Capable, ECT(0).
    Ect0 = 0b10,
    /// Congestion experienced.
    Congestion = 0b11,
}

impl Ecn {
    /// The low two bits of a traffic class or type of service.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            0b11 => Self::Congestion,
            _ => Self::NotCapable,
        }
    }
}

/// The layer-2 station that packets for a destination go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Its Ethernet address.
    pub mac: MacAddr,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All stations on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it names a group (multicast or broadcast) and not one station.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl std::fmt::Display for MacAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for MacAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::config("mac", text, "an Ethernet address is six hex bytes, aa:bb:cc:dd:ee:ff")
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() <= 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_address_reads_back_what_it_prints() {
        let mac = MacAddr([0x02, 0, 0xab, 7, 0xff, 1]);
        assert_eq!(mac.to_string().parse::<MacAddr>().unwrap(), mac);
        for wrong in ["", "02:00", "02:00:ab:07:ff:01:02", "02:00:ab:07:ff:zz", "002:0:0:0:0:0"] {
            assert!(wrong.parse::<MacAddr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ecn_bits_round_trip() {
        for bits in 0..=3 {
            assert_eq!(Ecn::from_bits(bits | 0xfc) as u8, bits);
        }
    }
}
