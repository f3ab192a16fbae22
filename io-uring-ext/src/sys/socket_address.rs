//! Socket addresses as the kernel reads and writes them.
//!
//! Relies on the layouts of `sockaddr_in` and `sockaddr_in6` (`ip(7)`, `ipv6(7)`), which `socket2`
//! builds; what the kernel wrote is taken apart by byte offset.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use socket2::SockAddr;

/// Room for an IPv4 or IPv6 address, as `sendto(2)` takes it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct RawAddress {
    bytes: [u8; Self::SIZE],
    len: u8,
}

impl RawAddress {
    /// `sizeof(struct sockaddr_in6)`.
    pub(crate) const SIZE: usize = size_of::<libc::sockaddr_in6>();

    pub(crate) const NONE: Self = Self { bytes: [0; Self::SIZE], len: 0 };

    pub(crate) fn new(address: SocketAddr) -> Self {
        let address = SockAddr::from(address);
        let len = (address.len() as usize).min(Self::SIZE);
        let mut raw = Self { bytes: [0; Self::SIZE], len: len as u8 };
        // SAFETY: `len` is at most the length that `SockAddr` says its storage is filled to.
        let bytes = unsafe { std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), len) };
        raw.bytes[..len].copy_from_slice(bytes);
        raw
    }

    /// Null when there is no address.
    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        if self.len == 0 { std::ptr::null() } else { self.bytes.as_ptr().cast() }
    }

    pub(crate) fn len(&self) -> libc::socklen_t {
        self.len.into()
    }
}

impl std::fmt::Debug for RawAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        parse(&self.bytes[..self.len.into()]).fmt(f)
    }
}

/// Room into which the kernel writes an IPv4 or IPv6 address.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct AddressRoom {
    bytes: [u8; RawAddress::SIZE],
    len: libc::socklen_t,
}

impl AddressRoom {
    /// As the kernel counts it.
    pub(crate) const SIZE: libc::socklen_t = RawAddress::SIZE as libc::socklen_t;

    pub(crate) const fn new() -> Self {
        Self { bytes: [0; RawAddress::SIZE], len: Self::SIZE }
    }

    pub(crate) fn address_ptr(&mut self) -> *mut libc::sockaddr {
        self.bytes.as_mut_ptr().cast()
    }

    pub(crate) fn len_ptr(&mut self) -> *mut libc::socklen_t {
        &raw mut self.len
    }

    /// Says how long an address was written; the kernel may name more than it had room for.
    pub(crate) fn set_len(&mut self, len: libc::socklen_t) {
        self.len = len;
    }

    /// What was written, unless it is of another family.
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        parse(self.bytes.get(..self.len as usize)?)
    }
}

impl std::fmt::Debug for AddressRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// The address in `bytes`; `None` when it is neither IPv4 nor IPv6 or cut short.
pub(crate) fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?);
            Some(SocketAddrV4::new(ip, port).into())
        }
        libc::AF_INET6 => {
            let flow = u32::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
            let ip = Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?);
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(ip, port, flow, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn addresses_read_back(v4: u32, v6: u128, port: u16, flow: u32, scope: u32) {
            for address in [
                SocketAddr::from(SocketAddrV4::new(v4.into(), port)),
                SocketAddr::from(SocketAddrV6::new(v6.into(), port, flow, scope)),
            ] {
                let raw = RawAddress::new(address);
                prop_assert_eq!(parse(&raw.bytes[..raw.len.into()]), Some(address));
            }
        }

        #[test]
        fn garbage_is_none_or_an_address(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn short_addresses_are_refused() {
        let raw = RawAddress::new("[::1]:9".parse().unwrap());
        for len in 0..RawAddress::SIZE {
            assert_eq!(parse(&raw.bytes[..len]), None, "{len}");
        }
        assert!(RawAddress::NONE.as_ptr().is_null());
    }
}
