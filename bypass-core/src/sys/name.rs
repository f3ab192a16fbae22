//! [`Name`]: a socket address as the kernel reads and writes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for a `sockaddr_in`, `sockaddr_in6` (`ip(7)`, `ipv6(7)`) or `sockaddr_ll` (`packet(7)`),
/// encoded and decoded without a copy through the 128 bytes of `sockaddr_storage`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
pub struct Name {
    bytes: [u8; 32],
}

/// The family of an internet socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`; IPv4 addresses are mapped (RFC 4291, section 2.5.5.2).
    V6,
}

impl Family {
    /// The family of a socket bound to `address`.
    #[must_use]
    pub const fn of(address: &SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl Name {
    /// Bytes to tell the kernel for a name that it fills in.
    pub const ROOM: u32 = size_of::<Self>() as u32;

    /// Writes `address` for a socket of `family` and returns the length in bytes; `None` when an
    /// IPv4 socket cannot name it.
    #[inline]
    pub fn set_inet(&mut self, address: SocketAddr, family: Family) -> Option<u32> {
        match (family, address) {
            (Family::V4, SocketAddr::V4(address)) => Some(self.set_v4(address)),
            (Family::V4, SocketAddr::V6(address)) => {
                let ip = address.ip().to_ipv4_mapped()?;
                Some(self.set_v4(SocketAddrV4::new(ip, address.port())))
            }
            (Family::V6, SocketAddr::V6(address)) => Some(self.set_v6(address)),
            (Family::V6, SocketAddr::V4(address)) => {
                let ip = address.ip().to_ipv6_mapped();
                Some(self.set_v6(SocketAddrV6::new(ip, address.port(), 0, 0)))
            }
        }
    }

    fn set_v4(&mut self, address: SocketAddrV4) -> u32 {
        self.bytes[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        self.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        self.bytes[4..8].copy_from_slice(&address.ip().octets());
        self.bytes[8..16].fill(0);
        size_of::<libc::sockaddr_in>() as u32
    }

    fn set_v6(&mut self, address: SocketAddrV6) -> u32 {
        self.bytes[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        self.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        self.bytes[4..8].copy_from_slice(&address.flowinfo().to_ne_bytes());
        self.bytes[8..24].copy_from_slice(&address.ip().octets());
        self.bytes[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
        size_of::<libc::sockaddr_in6>() as u32
    }

    /// Writes the interface and EtherType that an AF_PACKET socket is bound to, and returns the
    /// length in bytes.
    pub fn set_link(&mut self, interface: u32, protocol: u16) -> u32 {
        self.bytes = [0; 32];
        self.bytes[0..2].copy_from_slice(&(libc::AF_PACKET as u16).to_ne_bytes());
        self.bytes[2..4].copy_from_slice(&protocol.to_be_bytes());
        self.bytes[4..8].copy_from_slice(&interface.to_ne_bytes());
        size_of::<libc::sockaddr_ll>() as u32
    }

    /// The first `len` bytes as an internet address, a mapped IPv4 address as IPv4; `None` when
    /// they are none.
    #[must_use]
    #[inline]
    pub fn inet(&self, len: u32) -> Option<SocketAddr> {
        let port = u16::from_be_bytes(self.at(2));
        match i32::from(u16::from_ne_bytes(self.at(0))) {
            libc::AF_INET if len as usize >= size_of::<libc::sockaddr_in>() => {
                Some((Ipv4Addr::from(self.at::<4>(4)), port).into())
            }
            libc::AF_INET6 if len as usize >= size_of::<libc::sockaddr_in6>() => {
                let ip = Ipv6Addr::from(self.at::<16>(8));
                let (flow, scope) = (self.at(4), self.at(24));
                Some(match ip.to_canonical() {
                    IpAddr::V4(ip) => (ip, port).into(),
                    IpAddr::V6(ip) => {
                        let (flow, scope) = (u32::from_ne_bytes(flow), u32::from_ne_bytes(scope));
                        SocketAddrV6::new(ip, port, flow, scope).into()
                    }
                })
            }
            _ => None,
        }
    }

    /// The index of the interface that the first `len` bytes name; `None` when they are no
    /// link-layer address.
    #[must_use]
    pub fn interface(&self, len: u32) -> Option<u32> {
        let is_link = i32::from(u16::from_ne_bytes(self.at(0))) == libc::AF_PACKET;
        // How much follows depends on how long the device's addresses are.
        (is_link && len >= 12).then(|| u32::from_ne_bytes(self.at(4)))
    }

    fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[offset..offset + N]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use libc::{sockaddr_in, sockaddr_in6, sockaddr_ll};
    use proptest::prelude::*;

    use super::*;

    /// The offsets used above are those of the C structures.
    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!((offset_of!(sockaddr_in, sin_port), offset_of!(sockaddr_in, sin_addr)), (2, 4));
        assert_eq!(size_of::<sockaddr_in>(), 16);
        assert_eq!(offset_of!(sockaddr_in6, sin6_port), 2);
        assert_eq!(offset_of!(sockaddr_in6, sin6_flowinfo), 4);
        assert_eq!(offset_of!(sockaddr_in6, sin6_addr), 8);
        assert_eq!(offset_of!(sockaddr_in6, sin6_scope_id), 24);
        assert_eq!(size_of::<sockaddr_in6>(), 28);
        assert_eq!(offset_of!(sockaddr_ll, sll_protocol), 2);
        assert_eq!(offset_of!(sockaddr_ll, sll_ifindex), 4);
        assert!(size_of::<sockaddr_ll>() <= size_of::<Name>());
        assert!(align_of::<sockaddr_in6>() <= align_of::<Name>());
    }

    #[test]
    fn an_interface_reads_back() {
        let mut name = Name::default();
        let len = name.set_link(7, 0x0800);
        assert_eq!(
            (name.interface(len), name.interface(11), name.inet(len)),
            (Some(7), None, None)
        );
        let len = name.set_inet(([10, 0, 0, 1], 9).into(), Family::V4).unwrap();
        assert_eq!(name.interface(len), None);
    }

    proptest! {
        #[test]
        fn addresses_round_trip(address: SocketAddr) {
            let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
            let mut name = Name::default();
            let len = name.set_inet(address, Family::V6).unwrap();
            let read = name.inet(len).unwrap();
            prop_assert_eq!(name.inet(len - 1), None, "a name that is cut short is no name");
            if canonical.is_ipv4() {
                prop_assert_eq!(read, canonical);
                let len = name.set_inet(address, Family::V4).unwrap();
                prop_assert_eq!(name.inet(len), Some(canonical));
            } else {
                prop_assert_eq!(read, address);
                prop_assert_eq!(name.set_inet(address, Family::V4), None);
            }
        }

        #[test]
        fn garbage_is_no_address(bytes: [u8; 32], len in 0u32..200) {
            let name = Name { bytes };
            let (_, _) = (name.inet(len), name.interface(len));
        }
    }
}
