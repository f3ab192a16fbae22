//! Whatever arrives: no panic, and everything is delivered, handled, or counted as dropped.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod udp;

use bypass_core::udp::neighbours::Learned;
use bypass_core::{
    Buffer, Burst, ChecksumVerdict, Datagram, DatagramIo, Endpoint, MacAddr, RxMeta, VlanTag,
};
use proptest::prelude::*;
use udp::*;

/// A good packet of every kind that the stack knows.
fn good() -> Vec<Vec<u8>> {
    let group_mac = MacAddr([1, 0, 0x5e, 1, 2, 3]);
    let tagged = |bytes: Vec<u8>| [&bytes[..12], &[0x81, 0, 0, 0], &bytes[12..]].concat();
    let extended = {
        let plain = v6(b"payload");
        let mut bytes = [&plain[..54], &[17, 0, 1, 4, 0, 0, 0, 0], &plain[54..]].concat();
        (bytes[19], bytes[20]) = (bytes[19] + 8, 60);
        bytes
    };
    vec![
        v4(b"payload"),
        v4(&[7; 1400]),
        v6(b"payload"),
        tagged(v4(b"payload")),
        extended,
        v4_to(MacAddr::BROADCAST, [255; 4], b"payload"),
        v4_to(group_mac, [239, 1, 2, 3], b"payload"),
        ping_v4(),
        ping_v6(),
        arp(1, (PEER.0, PEER_V4), US_V4),
        arp(2, (PEER.0, PEER_V4), US_V4),
        ndp(135, 0, PEER_V6, solicited(US_V6), US_V6),
        ndp(136, 0x60, PEER_V6, US_V6, PEER_V6),
    ]
}

/// What is done to a packet on its way.
#[derive(Clone, Debug)]
enum Harm {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Grow(Vec<u8>),
    Insert(prop::sample::Index, Vec<u8>),
}

fn harm() -> impl Strategy<Value = Harm> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, value)| Harm::Set(at, value)),
        (index(), 0..8u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        index().prop_map(Harm::Cut),
        prop::collection::vec(any::<u8>(), 1..70).prop_map(Harm::Grow),
        (index(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, new)| Harm::Insert(at, new)),
    ]
}

fn apply(bytes: &mut Vec<u8>, harms: &[Harm]) {
    for harm in harms {
        // Headers are where it hurts.
        let head = bytes.len().min(70);
        match harm {
            Harm::Set(at, value) if head > 0 => bytes[at.index(head)] = *value,
            Harm::Flip(at, bit) if head > 0 => bytes[at.index(head)] ^= 1 << bit,
            Harm::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Harm::Grow(more) => bytes.extend(more),
            Harm::Insert(at, new) => {
                let at = at.index(head + 1);
                bytes.splice(at..at, new.iter().copied());
            }
            Harm::Set(..) | Harm::Flip(..) => {}
        }
    }
}

fn any_meta() -> impl Strategy<Value = RxMeta> {
    let verdicts = [
        ChecksumVerdict::Unknown,
        ChecksumVerdict::Good,
        ChecksumVerdict::NotNeeded,
        ChecksumVerdict::Bad,
    ];
    (prop::option::weighted(0.1, any::<u16>()), prop::sample::select(verdicts.to_vec())).prop_map(
        |(tci, checksum)| {
            let mut meta = RxMeta::default();
            meta.vlan = tci.map(|tci| VlanTag { tpid: 0x8100, tci });
            meta.checksum = checksum;
            meta
        },
    )
}

/// Receives what arrived, replies to all of it, and checks the books.
fn survive(frames: &[(Vec<u8>, RxMeta)], vlan: bool) -> Result<(), TestCaseError> {
    let (mut stack, wire) = stack(|config| {
        let config = if vlan { config.vlan(7) } else { config };
        config.echo(true).neighbours(Learned::only())
    });
    stack.join("239.1.2.3".parse().unwrap()).unwrap();
    for (bytes, meta) in frames {
        wire.arrive_with(bytes, *meta);
        let mut got = Burst::with_capacity(4);
        stack.recv(&mut got).unwrap();
        for one in got.iter() {
            prop_assert!(one.data().len() <= bytes.len());
            let meta = one.recv_meta();
            prop_assert!(meta.remote.is_some() && meta.local.is_some() && meta.next_hop.is_some());
        }
        got.iter_mut().for_each(Datagram::reply);
        let n = got.len();
        prop_assert_eq!(stack.send(&mut got).unwrap(), n, "whatever came can be answered");
    }
    assert_accounted(&stack);
    let stats = stack.stats();
    prop_assert_eq!((stats.tx_packets, stats.tx_in_flight), (stats.rx_packets, 0));
    prop_assert_eq!(stats.frames.unwrap().held, 0);
    // Whatever goes out is well formed, the stack's own answers included.
    for sent in wire.sent() {
        let parsed = etherparse::PacketHeaders::from_ethernet_slice(&sent.bytes);
        prop_assert!(parsed.is_ok(), "{parsed:?}: {:?}", sent.bytes);
        let header = if vlan { 18 } else { 14 };
        if sent.bytes[header - 2..header] == [8, 0] {
            let ip = &sent.bytes[header..];
            let len = usize::from(ip[0] & 0xf) * 4;
            prop_assert_eq!(checksum(&ip[..len]), [0, 0]);
            prop_assert_eq!(u16::from_be_bytes([ip[2], ip[3]]) as usize, ip.len());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn noise(
        frames in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..200), any_meta()), 1..8,
        ),
        vlan: bool,
    ) {
        survive(&frames, vlan)?;
    }

    #[test]
    fn good_packets_made_bad(
        picks in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec(harm(), 0..4), any_meta()), 1..8,
        ),
        vlan: bool,
        mended: bool,
    ) {
        let good = good();
        let frames: Vec<_> = picks
            .into_iter()
            .map(|(which, harms, meta)| {
                let mut bytes = which.get(&good).clone();
                apply(&mut bytes, &harms);
                // So that what is behind the first checksum is reached too.
                let header = bytes.get(14).map_or(0, |byte| usize::from(byte & 0xf) * 4);
                if mended && bytes.len() >= 14 + header.max(20) {
                    mend_ipv4(&mut bytes);
                }
                (bytes, meta)
            })
            .collect();
        survive(&frames, vlan)?;
    }
}
