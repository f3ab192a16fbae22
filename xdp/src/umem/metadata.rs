//! What a frame asks of the device when it is sent: `struct xsk_tx_metadata` of `linux/if_xdp.h`, in front
//! of the frame (`Documentation/networking/xsk-tx-metadata.rst` of the kernel).

use bypass_core::pool::Kind as _;
use bypass_core::{
    Buffer, Clock, FrameError, OutOfRoom, Room, Timestamp, TxMeta, TxOffloads, Unsupported,
};

use super::{Xdp, XdpFrame};
use crate::sys::{DescOptions, DeviceFeatures, XDP_TX_METADATA};

/// Bytes of the structure.
const LEN: usize = 24;

/// `XDP_TXMD_FLAGS_*`
const FLAG_TIMESTAMP: u64 = 1 << 0;
const FLAG_CHECKSUM: u64 = 1 << 1;
const FLAG_LAUNCH_TIME: u64 = 1 << 2;

/// Bytes that belong to the kernel in front of every frame, where these may be asked for
/// (`tx_metadata_len`).
pub(crate) fn len(offloads: TxOffloads) -> u32 {
    if offloads.is_empty() { 0 } else { LEN as u32 }
}

/// What a socket can be asked for.
pub(crate) fn available(zero_copy: bool, features: Option<DeviceFeatures>) -> TxOffloads {
    let device = features.unwrap_or_default().tx_offloads;
    if zero_copy {
        return device;
    }
    // The kernel's stack sums what the device does not, and takes the time itself.
    device | TxOffloads::CHECKSUM | TxOffloads::TIMESTAMP
}

/// Whether there is room in front of every segment, and what is asked for lies inside the frame: the
/// kernel stops at a frame of which that is not so. In software it sums the first segment only
/// (`xsk_build_skb` of `net/xdp/xsk.c`, Linux 6.18).
pub(crate) fn check(
    frame: &XdpFrame,
    offloads: TxOffloads,
    in_software: bool,
) -> Result<(), FrameError> {
    let chunk = frame.arena().chunk_size() as usize;
    // Chunks lie at multiples of their size, and so does the memory.
    let before = |segment: &[u8]| segment.as_ptr().addr() % chunk;
    if let Some(available) = frame.segments().map(before).find(|before| *before < LEN) {
        return Err(OutOfRoom { room: Room::Headroom, asked: LEN, available }.into());
    }
    let asked = frame.meta().tx;
    // `set_tx_meta` refuses this, `set_meta` does not.
    let lacking = asked.offloads() - offloads;
    if !lacking.is_empty() {
        return Err(FrameError::Unsupported(Unsupported {
            what: format!("send offload {lacking:?}").into(),
            backend: Xdp::BACKEND,
            why: "it is not among the `tx_offloads` of the umem".into(),
        }));
    }
    let Some(sum) = asked.checksum else { return Ok(()) };
    let (len, min) = (frame.data().len(), usize::from(sum.start) + usize::from(sum.offset) + 2);
    if len < min {
        return Err(FrameError::TooShort { len, min });
    }
    if in_software && frame.is_chain() {
        return Err(FrameError::Unsupported(Unsupported {
            what: "checksum over several segments".into(),
            backend: Xdp::BACKEND,
            why: "with `software_checksum` the kernel sums the first one only".into(),
        }));
    }
    Ok(())
}

/// Writes what a frame asks for in front of it; how its descriptor says so.
pub(crate) fn put(frame: &mut XdpFrame) -> (DescOptions, bool) {
    let asked = frame.meta().tx;
    if asked.offloads().is_empty() {
        return (DescOptions::empty(), false);
    }
    let Ok(front) = frame.prepend(LEN) else { return (DescOptions::empty(), false) };
    front.copy_from_slice(request(&asked).as_flattened());
    let _there_were_as_many = frame.trim_front(LEN);
    (DescOptions::from_bits_retain(XDP_TX_METADATA), asked.timestamp.is_some())
}

/// The structure in words: flags, the place of the checksum, the launch time.
fn request(asked: &TxMeta) -> [[u8; 8]; 3] {
    let mut flags = 0;
    let mut place = [0; 8];
    if let Some(sum) = asked.checksum {
        flags |= FLAG_CHECKSUM;
        place[..2].copy_from_slice(&sum.start.to_ne_bytes());
        place[2..4].copy_from_slice(&sum.offset.to_ne_bytes());
    }
    if asked.launch_time.is_some() {
        flags |= FLAG_LAUNCH_TIME;
    }
    if asked.timestamp.is_some() {
        flags |= FLAG_TIMESTAMP;
    }
    [u64::to_ne_bytes(flags), place, asked.launch_time.unwrap_or(0).to_ne_bytes()]
}

/// When a frame was sent that asked for it, and the number that it is told under.
pub(crate) fn sent_time(frame: &mut XdpFrame, clock: Clock) -> Option<(u64, Timestamp)> {
    let asked = frame.meta().tx;
    let tag = asked.timestamp?;
    let [_, place, _] = request(&asked);
    let front = frame.prepend(LEN).ok()?;
    // The time takes the place of the request.
    let told = *front.get(8..)?.first_chunk()?;
    (told != place).then(|| (tag, Timestamp { nanos: u64::from_ne_bytes(told), clock }))
}

#[cfg(test)]
mod tests {
    use bypass_core::TxChecksum;

    use super::*;

    #[test]
    fn the_request_has_the_kernel_s_layout() {
        let mut asked = TxMeta::default();
        asked.checksum = Some(TxChecksum { start: 34, offset: 6 });
        asked.launch_time = Some(77);
        let [flags, place, launch] = request(&asked);
        assert_eq!(u64::from_ne_bytes(flags), FLAG_CHECKSUM | FLAG_LAUNCH_TIME);
        assert_eq!(place[..4], [34u16.to_ne_bytes(), 6u16.to_ne_bytes()].concat());
        assert_eq!(u64::from_ne_bytes(launch), 77);
    }
}
