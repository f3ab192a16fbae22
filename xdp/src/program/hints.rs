//! [`Hints`]: what the device says about frames beside their bytes.

use bypass_core::{Clock, RxMeta, Timestamp, VlanTag};

/// Whether the device is asked what it knows of each frame that is taken: the time when it arrived,
/// its RSS hash, and the VLAN tag that was taken out of it
/// (`Documentation/networking/xdp-rx-metadata.rst`).
///
/// That needs Linux 6.3 (the tag 6.8), native mode, and a driver that answers: ice, igc, mlx4, mlx5,
/// stmmac and veth among others. What it does not answer stays empty. The program is bound to the
/// device then, and asking costs some work for each frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hints {
    /// It is not asked.
    #[default]
    Off,
    /// It is asked where it can be, which [`Program::has_hints`](super::Program::has_hints) says.
    Prefer,
    /// It is asked, or there is an error.
    Require,
}

/// Bytes that the program puts in front of a frame: `struct hints` of `bpf/steer.bpf.c`.
pub(crate) const HINTS_LEN: usize = 24;

/// The upper half of the last word, whose lower half says what is there.
const MAGIC: u32 = 0x6279_0000;
const TIMESTAMP: u32 = 1 << 0;
const HASH: u32 = 1 << 1;
const VLAN: u32 = 1 << 2;

/// Takes the hints out of the bytes in front of a frame and adds them to what is known of it.
///
/// A frame that the program had no room in front of comes with what was in the chunk before: so that
/// hints are never taken twice, taking them makes them void.
pub(crate) fn take(front: &mut [u8; HINTS_LEN], meta: &mut RxMeta) {
    let [t0, t1, t2, t3, t4, t5, t6, t7, hash @ ..] = *front;
    let [h0, h1, h2, h3, _, _, _, _, tag @ ..] = hash;
    let [p0, p1, c0, c1, v0, v1, v2, v3] = tag;
    let valid = u32::from_ne_bytes([v0, v1, v2, v3]);
    if valid & 0xffff_0000 != MAGIC {
        return;
    }
    if valid & TIMESTAMP != 0 {
        let nanos = u64::from_ne_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
        meta.timestamp = Some(Timestamp { nanos, clock: Clock::Device });
    }
    if valid & HASH != 0 {
        meta.hash = Some(u32::from_ne_bytes([h0, h1, h2, h3]));
    }
    if valid & VLAN != 0 {
        let (tpid, tci) = (u16::from_be_bytes([p0, p1]), u16::from_ne_bytes([c0, c1]));
        meta.vlan = Some(VlanTag { tpid, tci });
    }
    if let Some(valid) = front.last_chunk_mut::<4>() {
        *valid = [0; 4];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(valid: u32) -> [u8; HINTS_LEN] {
        let mut front = [0; HINTS_LEN];
        front[..8].copy_from_slice(&77u64.to_ne_bytes());
        front[8..12].copy_from_slice(&0xabcdu32.to_ne_bytes());
        front[16..18].copy_from_slice(&[0x81, 0x00]);
        front[18..20].copy_from_slice(&0x2007u16.to_ne_bytes());
        front[20..].copy_from_slice(&valid.to_ne_bytes());
        front
    }

    #[test]
    fn what_is_there_is_taken_once() {
        let mut front = front(MAGIC | TIMESTAMP | HASH | VLAN);
        let mut meta = RxMeta::default();
        take(&mut front, &mut meta);
        assert_eq!(meta.timestamp, Some(Timestamp { nanos: 77, clock: Clock::Device }));
        assert_eq!(meta.hash, Some(0xabcd));
        assert_eq!(meta.vlan, Some(VlanTag { tpid: 0x8100, tci: 0x2007 }));
        let mut again = RxMeta::default();
        take(&mut front, &mut again);
        assert_eq!(again, RxMeta::default());
    }

    #[test]
    fn what_is_not_there_stays_empty() {
        for (valid, hash) in [(MAGIC, None), (MAGIC | HASH, Some(0xabcd)), (HASH, None), (0, None)]
        {
            let mut meta = RxMeta::default();
            take(&mut front(valid), &mut meta);
            assert_eq!((meta.timestamp, meta.hash, meta.vlan), (None, hash, None), "{valid:x}");
        }
    }
}
