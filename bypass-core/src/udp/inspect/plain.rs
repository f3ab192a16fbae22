//! The short way: plain datagrams told by fixed offsets.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Layout;
use crate::udp::datagram::Flags;
use crate::udp::local::Local;
use crate::udp::wire::ethernet::Ethernet;
use crate::udp::wire::ipv4::Ipv4;
use crate::udp::wire::ipv6::Ipv6;
use crate::udp::wire::udp::{Sealed, Udp, Verify};
use crate::udp::wire::{Sum, ethernet, ipv4, ipv6, protocol, udp};
use crate::{MacAddr, RxMeta};

/// Where a datagram lies, if its frame is a plain one for the first of our addresses. Says nothing
/// about any other frame, and accepts none that [`inspect`](super::inspect) does not accept alike.
#[inline(always)]
pub(in crate::udp) fn plain(
    frame: &[u8],
    meta: &RxMeta,
    local: &Local,
    verify: Verify,
) -> Option<Layout> {
    if local.vlan.is_some() || meta.vlan.is_some() {
        return None;
    }
    if let Some(layout) = plain_v4(frame, local, verify) {
        return Some(layout);
    }
    plain_v6(frame, local, verify)
}

/// Every header of a plain datagram.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Plain<Ip> {
    ethernet: Ethernet,
    ip: Ip,
    udp: Udp,
}

#[inline(always)]
fn plain_v4(frame: &[u8], local: &Local, verify: Verify) -> Option<Layout> {
    const LINK: usize = ethernet::LEN;
    let (Plain { ethernet, ip, .. }, _) = Plain::<Ipv4>::ref_from_prefix(frame).ok()?;
    let &(address, _) = local.hosts_v4.first()?;
    let total = usize::from(ip.total_length.get());
    let is_plain = ethernet.destination == local.mac.0
        && !MacAddr(ethernet.source).is_group()
        && ethernet.ethertype.get() == ethernet::IPV4
        && ip.version_ihl == ipv4::PLAIN
        && ip.fragment.get() & ipv4::FRAGMENT == 0
        && ip.protocol == protocol::UDP
        && ip.destination == address.octets()
        && local.believes_v4(ip.source.into())
        && Sum::of(ip.as_bytes()).is_intact();
    if !is_plain {
        return None;
    }
    let datagram = frame.get(LINK + ipv4::LEN..LINK + total)?;
    let addresses = ip.as_bytes().last_chunk::<8>()?;
    let (length, sealed) = udp::read(datagram, addresses, local.port, verify).ok()?;
    Some(Layout::plain(ipv4::LEN, length, false, sealed))
}

#[inline(always)]
fn plain_v6(frame: &[u8], local: &Local, verify: Verify) -> Option<Layout> {
    const START: usize = ethernet::LEN + ipv6::LEN;
    let (Plain { ethernet, ip, .. }, _) = Plain::<Ipv6>::ref_from_prefix(frame).ok()?;
    let address = local.hosts_v6.first()?;
    let is_plain = ethernet.destination == local.mac.0
        && !MacAddr(ethernet.source).is_group()
        && ethernet.ethertype.get() == ethernet::IPV6
        && ip.version_class_flow.get() >> 28 == 6
        && ip.next_header == protocol::UDP
        && ip.destination == address.octets()
        && local.believes_v6(ip.source.into())
        // Loopback and mapped addresses begin with zeroes, groups with ones.
        && !matches!(ip.source[0], 0 | 0xff);
    if !is_plain {
        return None;
    }
    let datagram = frame.get(START..START + usize::from(ip.payload_length.get()))?;
    let addresses = ip.as_bytes().last_chunk::<32>()?;
    let (length, sealed) = udp::read(datagram, addresses, local.port, verify).ok()?;
    Some(Layout::plain(ipv6::LEN, length, true, sealed))
}

impl Layout {
    /// Of a plain datagram of `length` bytes, UDP header included.
    #[inline(always)]
    fn plain(ip: usize, length: usize, v6: bool, sealed: Sealed) -> Self {
        let start = ethernet::LEN + ip;
        let family = if v6 { Flags::V6 } else { Flags::empty() };
        let flags = Flags::RECEIVED | Flags::PLAIN | family | sealed.flag();
        Self { link: ethernet::LEN, head: start + udp::LEN, end: start + length, flags }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Inspected, inspect};
    use super::*;
    use crate::udp::wire::{Address, Flow, Seal, Template};
    use crate::{ChecksumVerdict, Ecn, VlanTag};

    const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn local(vlan: Option<u16>) -> Local {
        let nets = ["10.0.0.1/24", "10.0.1.1/24", "fd00::1/64", "fd00::2/64"];
        let addresses = nets.iter().map(|net| net.parse().unwrap()).collect();
        Local::new(US, 4000, vlan, addresses, Vec::new())
    }

    fn datagram(v6: bool, payload: &[u8]) -> Vec<u8> {
        let address = if v6 {
            Address::V6 {
                source: "fd00::3".parse().unwrap(),
                destination: "fd00::1".parse().unwrap(),
            }
        } else {
            Address::V4 { source: [10, 0, 0, 2].into(), destination: [10, 0, 0, 1].into() }
        };
        let template = Template::new(&Flow {
            source_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            destination_mac: US,
            tag: None,
            address,
            source_port: 5000,
            destination_port: 4000,
            hops: 64,
            ecn: Ecn::NotCapable,
        });
        let mut frame = vec![0; template.len()];
        frame.extend(payload);
        template.write(&mut frame, Seal::Software);
        frame
    }

    #[test]
    fn plain_datagrams_are_told_by_fixed_offsets() {
        for v6 in [false, true] {
            let frame = datagram(v6, b"payload");
            let layout = plain(&frame, &RxMeta::default(), &local(None), Verify::Compute);
            assert_eq!(layout.unwrap().end, frame.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        /// The short way accepts nothing that the long way does not accept alike.
        #[test]
        fn both_ways_agree(
            v6: bool,
            payload in proptest::collection::vec(any::<u8>(), 0..40),
            padding in proptest::collection::vec(any::<u8>(), 0..4),
            harms in proptest::collection::vec((0usize..70, any::<u8>()), 0..3),
            mended: bool,
            verdict in 0usize..4,
            stripped: bool,
            vlan: bool,
            host in proptest::option::of(0..4u8),
            network in 0..3u8,
            ours: bool,
        ) {
            let mut frame = datagram(v6, &payload);
            frame.extend(padding);
            // Addresses that nearly nobody has, ours and broadcasts among them.
            if let Some(host) = host {
                let at = match (v6, ours) {
                    (false, false) => 28,
                    (false, true) => 32,
                    (true, false) => 36,
                    (true, true) => 52,
                };
                (frame[at], frame[at + 1]) = (if v6 { 0 } else { network }, host.wrapping_sub(1));
            }
            for (at, value) in harms {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if mended && !v6 {
                frame[24..26].fill(0);
                let sum = Sum::of(&frame[14..34]).checksum();
                frame[24..26].copy_from_slice(&sum);
            }
            let local = local(vlan.then_some(7));
            let checksum = [
                ChecksumVerdict::Unknown,
                ChecksumVerdict::Good,
                ChecksumVerdict::NotNeeded,
                ChecksumVerdict::Bad,
            ][verdict];
            let vlan = stripped.then_some(VlanTag { tpid: 0x8100, tci: 0 });
            let meta = RxMeta { checksum, vlan, ..RxMeta::default() };
            for verify in [
                Verify::Compute,
                Verify::ComputeOrPartial,
                Verify::Right,
                Verify::Ignore,
            ] {
                if let Some(short) = plain(&frame, &meta, &local, verify) {
                    match inspect(&frame, &meta, &local, verify) {
                        Ok(Inspected::Udp(long)) => prop_assert_eq!(short, long),
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
            }
        }
    }
}
