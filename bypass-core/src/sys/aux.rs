//! What AF_PACKET says beside a frame, in its ring or in `PACKET_AUXDATA`.

use crate::{Buffer, ChecksumVerdict, OutOfRoom, VlanTag};

/// EtherType of an IEEE 802.1Q tag.
const ETHERTYPE_VLAN: u16 = 0x8100;

/// Bytes of a VLAN tag.
pub const VLAN_LEN: usize = 4;

/// The tag that the kernel or the device took out of a frame with these `TP_STATUS_*`.
#[must_use]
pub fn vlan(status: u32, tpid: u16, tci: u16) -> Option<VlanTag> {
    let known = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    (status & libc::TP_STATUS_VLAN_VALID != 0)
        .then_some(VlanTag { tpid: if known { tpid } else { ETHERTYPE_VLAN }, tci })
}

/// What the kernel knows of the checksums in a frame with these `TP_STATUS_*`.
#[must_use]
pub fn checksum(status: u32) -> ChecksumVerdict {
    if status & libc::TP_STATUS_CSUMNOTREADY != 0 {
        ChecksumVerdict::NotNeeded
    } else if status & libc::TP_STATUS_CSUM_VALID != 0 {
        ChecksumVerdict::Good
    } else {
        ChecksumVerdict::Unknown
    }
}

/// Puts a tag back behind the two addresses of a frame, which move into the headroom; nothing else
/// does.
///
/// # Errors
///
/// [`OutOfRoom`] without [`VLAN_LEN`] bytes of headroom; nothing changes. A frame too short for
/// addresses gets no tag.
pub fn restore_vlan(frame: &mut impl Buffer, tag: VlanTag) -> Result<(), OutOfRoom> {
    if frame.data().len() < 12 {
        return Ok(());
    }
    frame.prepend(VLAN_LEN)?;
    let data = frame.data_mut();
    data.copy_within(VLAN_LEN..VLAN_LEN + 12, 0);
    data[12..14].copy_from_slice(&tag.tpid.to_be_bytes());
    data[14..16].copy_from_slice(&tag.tci.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::memory::Memory;
    use crate::pool::{Pool, PoolOptions};

    #[test]
    fn a_tag_goes_behind_the_addresses() {
        let pool = Pool::<Memory>::new(&PoolOptions::new(2)).unwrap();
        let mut frame = pool.alloc_rx().unwrap();
        frame.fill(b"ddddddssssss\x08\x00payload").unwrap();
        let headroom = frame.headroom();
        restore_vlan(&mut frame, VlanTag { tpid: 0x88a8, tci: 0x6123 }).unwrap();
        assert_eq!(frame.data(), b"ddddddssssss\x88\xa8\x61\x23\x08\x00payload");
        assert_eq!(frame.headroom(), headroom - 4);
        frame.fill(b"short").unwrap();
        restore_vlan(&mut frame, VlanTag { tpid: 0x8100, tci: 1 }).unwrap();
        assert_eq!(frame.data(), b"short");
        frame.fill(&[0; 60]).unwrap();
        let all = frame.headroom();
        frame.prepend(all).unwrap();
        assert!(restore_vlan(&mut frame, VlanTag { tpid: 0x8100, tci: 1 }).is_err());
        assert_eq!(frame.data().len(), 60 + all);
    }

    #[test]
    fn status_bits_mean_what_they_say() {
        use libc::{TP_STATUS_CSUM_VALID, TP_STATUS_CSUMNOTREADY};
        assert_eq!(checksum(TP_STATUS_CSUMNOTREADY | 1), ChecksumVerdict::NotNeeded);
        assert_eq!(checksum(TP_STATUS_CSUM_VALID | 1), ChecksumVerdict::Good);
        assert_eq!(checksum(1), ChecksumVerdict::Unknown);
        let valid = libc::TP_STATUS_VLAN_VALID;
        let both = valid | libc::TP_STATUS_VLAN_TPID_VALID;
        assert_eq!(vlan(1, 0x88a8, 5), None);
        assert_eq!(vlan(valid, 0, 5), Some(VlanTag { tpid: 0x8100, tci: 5 }));
        assert_eq!(vlan(both, 0x88a8, 5), Some(VlanTag { tpid: 0x88a8, tci: 5 }));
    }
}
