//! What a driver says that it can do: the generic netlink family `netdev`
//! (`Documentation/netlink/specs/netdev.yaml` of the kernel, Linux 6.3).

use std::io;

use bypass_core::{RxOffloads, TxOffloads};
use netlink_packet_core::NlasIterator;
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

/// What the driver of an interface says that it can do (Linux 6.3). Whether it does so with the settings
/// that it has is another question: opening a port tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceFeatures {
    /// Sockets without copies (`NETDEV_XDP_ACT_XSK_ZEROCOPY`).
    pub zero_copy: bool,
    /// Frames of several segments in native mode (`NETDEV_XDP_ACT_RX_SG`).
    pub multi_buffer: bool,
    /// The most segments of a frame that is sent without copies (Linux 6.6).
    pub zero_copy_segments: u32,
    /// What the device tells of frames that it receives, to a program that asks in native mode
    /// (Linux 6.8).
    pub rx_hints: RxOffloads,
    /// What the device does for frames that it sends (Linux 6.8).
    pub tx_offloads: TxOffloads,
}

/// The controller of generic netlink (`linux/genetlink.h`).
const CONTROLLER: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// `linux/netdev.h`.
const FAMILY: &[u8] = b"netdev\0";
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;
const NETDEV_A_DEV_XDP_RX_METADATA_FEATURES: u16 = 5;
const NETDEV_A_DEV_XSK_FEATURES: u16 = 6;

const ZEROCOPY: u64 = 1 << 3;
const RX_SG: u64 = 1 << 5;
const HINTS: [(u64, RxOffloads); 3] =
    [(1, RxOffloads::TIMESTAMP), (2, RxOffloads::HASH), (4, RxOffloads::VLAN_STRIP)];
const OFFLOADS: [(u64, TxOffloads); 3] =
    [(1, TxOffloads::TIMESTAMP), (2, TxOffloads::CHECKSUM), (4, TxOffloads::LAUNCH_TIME)];

/// What the driver of an interface of the calling thread's namespace says; nothing where the kernel
/// cannot be asked.
pub(crate) fn features(ifindex: u32) -> Option<DeviceFeatures> {
    let mut socket = Socket::new(NETLINK_GENERIC).ok()?;
    let name = [(CTRL_ATTR_FAMILY_NAME, FAMILY)];
    let family = ask(&mut socket, CONTROLLER, CTRL_CMD_GETFAMILY, &name, |kind, value| {
        (kind == CTRL_ATTR_FAMILY_ID).then(|| number(value) as u16)
    });
    let family = family.ok()?.into_iter().next()?;
    let device = [(NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes()[..])];
    let said = ask(&mut socket, family, NETDEV_CMD_DEV_GET, &device, |kind, value| {
        Some((kind, number(value)))
    });
    let mut features = DeviceFeatures::default();
    for (kind, value) in said.ok()? {
        match kind {
            NETDEV_A_DEV_XDP_FEATURES => {
                features.zero_copy = value & ZEROCOPY != 0;
                features.multi_buffer = value & RX_SG != 0;
            }
            NETDEV_A_DEV_XDP_ZC_MAX_SEGS => features.zero_copy_segments = value as u32,
            NETDEV_A_DEV_XDP_RX_METADATA_FEATURES => features.rx_hints = flags(value, &HINTS),
            NETDEV_A_DEV_XSK_FEATURES => features.tx_offloads = flags(value, &OFFLOADS),
            _ => {}
        }
    }
    Some(features)
}

fn flags<F: Copy + FromIterator<F>>(value: u64, known: &[(u64, F)]) -> F {
    known.iter().filter(|(bit, _)| value & bit != 0).map(|(_, flag)| *flag).collect()
}

/// Lengths of `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS: usize = 16 + 4;
/// `NLM_F_REQUEST`
const REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;

/// Asks a family, and picks from the attributes of its one answer.
fn ask<T>(
    socket: &mut Socket,
    family: u16,
    command: u8,
    attributes: &[(u16, &[u8])],
    mut pick: impl FnMut(u16, &[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut request = vec![0; HEADERS];
    request[4..6].copy_from_slice(&family.to_ne_bytes());
    request[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    (request[16], request[17]) = (command, 1);
    for (kind, value) in attributes {
        request.extend(((4 + value.len()) as u16).to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend_from_slice(value);
        request.resize(request.len().next_multiple_of(4), 0);
    }
    let len = request.len() as u32;
    request[..4].copy_from_slice(&len.to_ne_bytes());
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = answer.get(4..6).ok_or_else(wrong)?;
    let attributes = answer.get(HEADERS..).ok_or_else(wrong)?;
    if kind == NLMSG_ERROR.to_ne_bytes() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let attributes = NlasIterator::new(attributes).flatten();
    Ok(attributes.filter_map(|its| pick(its.kind(), its.value())).collect())
}

/// An integer of whatever length.
fn number(bytes: &[u8]) -> u64 {
    match *bytes {
        [a, b] => u16::from_ne_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use bypass_core::testing::needs::{Need, skip};
    use bypass_core::testing::rig::{Veth, VethOptions};

    use super::*;

    #[test]
    fn a_veth_pair_says_what_it_can_do() {
        if skip(&[Need::Namespaces]) {
            return;
        }
        let veth = Veth::new(&VethOptions::default()).unwrap();
        let _inside = veth.a.enter().unwrap();
        let index = crate::Interface::find(Veth::NAME).unwrap().index;
        // A kernel that has never heard of the question says nothing.
        let Some(features) = features(index) else { return };
        assert!(!features.zero_copy && features.multi_buffer, "{features:?}");
        let hints = RxOffloads::TIMESTAMP | RxOffloads::HASH | RxOffloads::VLAN_STRIP;
        assert!(features.rx_hints == hints || features.rx_hints.is_empty(), "{features:?}");
        assert_eq!(features.tx_offloads, TxOffloads::empty());
        assert_eq!(super::features(u32::MAX >> 1), None, "there is no such interface");
    }
}
