//! [`Frame`]: a whole layer-2 frame, and what is known about it beside its bytes.

use crate::{Buffer, Unsupported};

/// An owned layer-2 (Ethernet) frame, destination address first, without the frame check sequence.
pub trait Frame: Buffer {
    /// What the backend learned when it received the frame; all empty on a frame of one's own.
    fn rx_meta(&self) -> RxMeta;

    /// Asks for offloads when the frame is sent.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] when the backend cannot do what is asked; the frame keeps what it had.
    fn set_tx_meta(&mut self, meta: TxMeta) -> Result<(), Unsupported>;
}

/// What a backend learned about a frame when it received it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RxMeta {
    /// When the frame arrived.
    ///
    /// Populated by: `packet` and `io_uring` (by the kernel, in software), AF_XDP and DPDK where
    /// the driver stamps.
    pub timestamp: Option<Timestamp>,
    /// The RSS hash.
    ///
    /// Populated by: AF_XDP and DPDK where the driver gives it.
    pub hash: Option<u32>,
    /// The outer VLAN tag, if it was taken out of the frame.
    ///
    /// Populated by: AF_XDP and DPDK where the driver strips tags; `packet` and `io_uring` put a
    /// stripped tag back in front of the payload, so they never fill this.
    pub vlan: Option<VlanTag>,
    /// What is known of the checksums inside.
    ///
    /// Populated by: `packet` and `io_uring` (from `TP_STATUS_CSUM_VALID`), AF_XDP and DPDK where
    /// the device verifies, `memory` never.
    pub checksum: ChecksumVerdict,
    /// The RX queue that it came from.
    ///
    /// Populated by: AF_XDP, DPDK; 0 elsewhere.
    pub queue: u16,
}

/// What a receiver need not verify any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChecksumVerdict {
    /// Nobody looked: verify.
    #[default]
    Unknown,
    /// The layer-3 and layer-4 checksums were verified and are right.
    Good,
    /// The layer-4 checksum has not been filled in because the frame never left this machine
    /// (Linux `CHECKSUM_PARTIAL`, seen on veth and loopback): the payload is good, the field is not.
    NotNeeded,
    /// A checksum was verified and is wrong.
    Bad,
}

/// A point in time, and the clock that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Nanoseconds since the clock's epoch.
    pub nanos: u64,
    /// The clock.
    pub clock: Clock,
}

/// The clocks that stamp packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// `CLOCK_REALTIME`, stamped by the kernel in software.
    Realtime,
    /// `CLOCK_TAI`, stamped by the kernel in software.
    Tai,
    /// The device's own clock (PHC); its epoch is the device's.
    Device,
}

/// An IEEE 802.1Q tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanTag {
    /// The tag protocol identifier: `0x8100`, or `0x88a8` for a service tag.
    pub tpid: u16,
    /// Priority (3 bits), drop eligibility (1 bit) and VLAN identifier (12 bits).
    pub tci: u16,
}

/// What a sender asks the backend to do to a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TxMeta {
    /// A checksum to fill in: see [`Caps::tx_offloads`](crate::Caps::tx_offloads).
    pub checksum: Option<TxChecksum>,
    /// Cut the layer-4 payload into segments of so many bytes (TSO, USO).
    pub segment_size: Option<u16>,
    /// Not before this time, by the device's clock, in nanoseconds.
    pub launch_time: Option<u64>,
    /// Tell when it was sent, under this number, which the sender chooses.
    ///
    /// Told by: AF_XDP (`XdpPort::sent_times`).
    pub timestamp: Option<u64>,
}

/// Where a device writes the internet checksum (RFC 1071) of the end of a frame.
///
/// What is in the field beforehand is summed with the rest: for UDP and TCP the sum over the pseudo
/// header, not complemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxChecksum {
    /// Offset of the first byte that is summed, from the start of the frame.
    pub start: u16,
    /// Offset of the checksum field, from `start`.
    pub offset: u16,
}

impl TxMeta {
    /// The offloads that this asks for.
    #[must_use]
    pub fn offloads(&self) -> crate::TxOffloads {
        use crate::TxOffloads;
        let mut asked = TxOffloads::empty();
        asked.set(TxOffloads::CHECKSUM, self.checksum.is_some());
        asked.set(TxOffloads::SEGMENTATION, self.segment_size.is_some());
        asked.set(TxOffloads::LAUNCH_TIME, self.launch_time.is_some());
        asked.set(TxOffloads::TIMESTAMP, self.timestamp.is_some());
        asked
    }
}
