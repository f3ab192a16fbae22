//! Filters and frames from few addresses and ports, so that they meet; some frames are then damaged.

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::filter::{Filter, Rule, Transport};

const PORTS: &[u16] = &[0, 1, 63, 64, 4000, 65535];
const PREFIXES: &[&str] = &[
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.2/32",
    "10.0.1.0/24",
    "::/0",
    "fd66::/16",
    "fd66::/64",
    "fd66::2/128",
];
const V4: &[[u8; 4]] =
    &[[10, 0, 0, 2], [10, 0, 0, 3], [10, 0, 1, 1], [10, 9, 9, 9], [192, 0, 2, 1]];
const V6: &[u8] = &[0x66, 0x67];
const ETHER_TYPES: &[u16] = &[0x0800, 0x86dd, 0x0806, 0x88f7, 0x8100];

pub(super) fn filter() -> impl Strategy<Value = Filter> {
    let prefix = || select(PREFIXES).prop_map(|text| text.parse::<IpNet>().unwrap());
    let transport = prop_oneof![Just(Transport::Udp), Just(Transport::Tcp)];
    let port = (proptest::option::of(prefix()), transport, select(PORTS))
        .prop_map(|(to, transport, port)| Rule::Port { to, transport, port });
    let rule = prop_oneof![
        12 => port,
        3 => prefix().prop_map(Rule::To),
        2 => select(ETHER_TYPES).prop_map(Rule::EtherType),
    ];
    prop_oneof![
        30 => vec(rule, 0..6).prop_map(|rules| Filter { rules }),
        1 => Just(Filter::everything()),
    ]
}

pub(super) fn frame() -> impl Strategy<Value = Vec<u8>> {
    let tags = prop_oneof![4 => Just(0), 2 => Just(1usize), 1 => Just(2), 1 => Just(3)];
    let tag = select(&[0x8100u16, 0x88a8, 0x9100]);
    let packet = prop_oneof![
        8 => ipv4().prop_map(|packet| (0x0800, packet)),
        8 => ipv6().prop_map(|packet| (0x86dd, packet)),
        1 => (select(ETHER_TYPES), vec(any::<u8>(), 0..60)),
    ];
    (tags, vec(tag, 3), packet, damage()).prop_map(|(tags, tag, (ether_type, packet), damage)| {
        let mut frame = vec![2; 12];
        for tag in &tag[..tags] {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 7]);
        }
        frame.extend(ether_type.to_be_bytes());
        frame.extend(packet);
        damage.apply(&mut frame);
        frame
    })
}

#[derive(Clone, Debug)]
enum Damage {
    None,
    Cut(Index),
    Byte(Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => Just(Damage::None),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
    ]
}

impl Damage {
    /// The kernel runs programs on whole Ethernet headers only.
    fn apply(self, frame: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Cut(at) => frame.truncate(14 + at.index(frame.len() - 13)),
            Self::Byte(at, byte) => {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
        }
    }
}

fn ports() -> impl Strategy<Value = Vec<u8>> {
    (select(PORTS), select(PORTS), 0..30usize).prop_map(|(from, to, more)| {
        let mut header = [from.to_be_bytes(), to.to_be_bytes()].concat();
        header.extend(vec![0; more]);
        header
    })
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(17u8), 4 => Just(6), 1 => Just(1), 1 => any::<u8>()]
}

fn ipv4() -> impl Strategy<Value = Vec<u8>> {
    let words = prop_oneof![4 => Just(5u8), 2 => 6..=15u8, 1 => 0..5u8];
    let fragment =
        prop_oneof![6 => Just(0u16), 2 => Just(0x4000), 1 => Just(0x2000), 1 => 0..0x2000u16];
    (words, fragment, protocol(), select(V4), ports()).prop_map(
        |(words, fragment, protocol, to, ports)| {
            let mut packet = vec![0x40 | words, 0, 0, 0, 0, 0];
            packet.extend(fragment.to_be_bytes());
            packet.extend([64, protocol, 0, 0, 10, 0, 0, 1]);
            packet.extend(to);
            packet.resize(usize::from(words).max(5) * 4, 1);
            packet.extend(ports);
            packet
        },
    )
}

fn ipv6() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![3 => Just([0u8, 0]), 1 => Just([0, 1]), 1 => any::<[u8; 2]>()];
    let kind = select(&[0u8, 43, 44, 51, 60]);
    let count = prop_oneof![5 => Just(0usize), 3 => 1..=4usize, 1 => 5..7usize];
    let extensions =
        count.prop_flat_map(move |count| vec((kind.clone(), 0..4u8, fragment.clone()), count));
    (extensions, protocol(), select(V6), 1..4u8, ports()).prop_map(
        |(extensions, protocol, net, host, ports)| {
            let next = |i: usize| extensions.get(i).map_or(protocol, |(kind, ..)| *kind);
            let mut packet = vec![0x60, 0, 0, 0, 0, 0, next(0), 64];
            packet.extend([0; 16]);
            packet.extend([0xfd, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
            for (i, (kind, length, fragment)) in extensions.iter().enumerate() {
                let start = packet.len();
                packet.extend([next(i + 1), *length, fragment[0], fragment[1]]);
                let whole = match kind {
                    44 => 8,
                    51 => (usize::from(*length) + 2) * 4,
                    _ => (usize::from(*length) + 1) * 8,
                };
                packet.resize(start + whole, 0);
            }
            packet.extend(ports);
            packet
        },
    )
}
