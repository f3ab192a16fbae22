//! The headers that the stack reads and writes, each with its own checks.
//!
//! Headers are read through [`zerocopy`] views: a reference into the frame, length checked once,
//! fields in network byte order by their type, no `unsafe` here. Headers are written by copying a
//! [`Template`] and patching length and checksum.
//!
//! This was measured against well-kept alternatives with `cargo bench -p bypass-core --bench wire`,
//! in nanoseconds per IPv4/UDP packet with 16, 64 and 1400 bytes of payload, all checks and both
//! checksums included (one core of a busy two-core VM, best of 15):
//!
//! | | 16 | 64 | 1400 |
//! |---|---|---|---|
//! | read, fixed offsets, almost no checks | 6.3 | 7.5 | 48.6 |
//! | **read, zerocopy views** | 10.0 | 11.3 | 53.4 |
//! | read, smoltcp 0.14 `wire` | 17.9 | 17.7 | 52.9 |
//! | read, etherparse 0.21 | 56.0 | 57.2 | 129.7 |
//! | **build, template** | 4.1 | 5.3 | 43.8 |
//! | build, smoltcp 0.14 `wire` | 18.4 | 29.1 | 55.0 |
//! | build, etherparse 0.21 | 16.1 | 15.8 | 98.3 |
//! | **checksum, 32-bit words into 64 bits** | 2.6 | 3.9 | 44.9 |
//! | checksum, internet-checksum 0.2 | 10.1 | 4.8 | 74.2 |

pub(super) mod arp;
mod checksum;
pub(super) mod envelope;
pub(super) mod ethernet;
pub(super) mod icmp;
pub(super) mod igmp;
pub(super) mod ipv4;
pub(super) mod ipv6;
pub(super) mod mld;
pub(super) mod ndp;
mod template;
pub(super) mod udp;

pub(super) use checksum::Sum;
pub(super) use template::{Address, Flow, Seal, Template, turn};

/// IP protocol numbers (IPv6: next header) of what the stack knows.
pub(super) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IGMP: u8 = 2;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ICMPV6: u8 = 58;
}
