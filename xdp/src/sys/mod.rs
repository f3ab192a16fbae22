//! System calls of AF_XDP sockets (`Documentation/networking/af_xdp.rst` of the kernel).
//!
//! `rustix` makes the calls and `memmap2` the mappings; what is left is in [`ethtool`].

#[allow(unsafe_code, reason = "an ioctl that no safe wrapper has")]
pub(crate) mod ethtool;
pub(crate) mod netdev;
#[cfg(feature = "tokio")]
#[allow(unsafe_code, reason = "tokio wants to be promised that a descriptor stays open")]
pub(crate) mod watch;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use bypass_core::sys::option;
use memmap2::{MmapOptions, MmapRaw};
use rustix::net::sockopt;
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XDP_PGOFF_RX_RING,
    XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpOptionsFlags,
    XdpRingOffset,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::ring::{Consumer, Layout, Mapped, Producer};

pub use netdev::DeviceFeatures;
pub(crate) use rustix::net::sockopt::{set_xdp_umem_reg as register, xdp_statistics as statistics};
pub(crate) use rustix::net::xdp::{
    SocketAddrXdpFlags as BindFlags, XdpDesc as Desc, XdpDescOptions as DescOptions,
    XdpStatistics as Statistics, XdpUmemReg as UmemReg, XdpUmemRegFlags as UmemFlags,
};

/// `linux/if_xdp.h`, Linux 6.8: the kernel sums what a device should, in copy mode.
pub(crate) const XDP_UMEM_TX_SW_CSUM: u32 = 1 << 1;
/// `linux/if_xdp.h`, Linux 6.11: there is room for metadata in front of frames that are sent.
pub(crate) const XDP_UMEM_TX_METADATA_LEN: u32 = 1 << 2;
/// `linux/if_xdp.h`, Linux 6.8: metadata lies in front of this frame.
pub(crate) const XDP_TX_METADATA: u32 = 1 << 1;
/// `XDP_MAX_TX_SKB_BUDGET` of `linux/if_xdp.h`, Linux 6.17.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;
/// `asm-generic/socket.h`: microseconds to poll the device in a call that would block.
const SO_BUSY_POLL: i32 = 46;
/// `asm-generic/socket.h`, Linux 5.11: the device's interrupts stay off while it is polled.
const SO_PREFER_BUSY_POLL: i32 = 69;
/// `asm-generic/socket.h`, Linux 5.11: packets that one poll takes.
const SO_BUSY_POLL_BUDGET: i32 = 70;

/// An AF_XDP socket. It belongs to the network namespace of the calling thread.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    Ok(socket)
}

/// How many entries each ring has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) rx: u32,
    pub(crate) tx: u32,
    pub(crate) fill: u32,
    pub(crate) completion: u32,
}

/// The four rings of a socket, from the application's side.
#[derive(Debug)]
pub(crate) struct Rings {
    pub(crate) rx: Consumer<Mapped<Desc>>,
    pub(crate) tx: Producer<Mapped<Desc>>,
    pub(crate) fill: Producer<Mapped<u64>>,
    pub(crate) completion: Consumer<Mapped<u64>>,
}

impl Rings {
    /// Makes the rings and maps them. The socket must not have any yet.
    pub(crate) fn new(socket: BorrowedFd<'_>, sizes: Sizes) -> io::Result<Self> {
        sockopt::set_xdp_umem_fill_ring_size(socket, sizes.fill)?;
        sockopt::set_xdp_umem_completion_ring_size(socket, sizes.completion)?;
        sockopt::set_xdp_rx_ring_size(socket, sizes.rx)?;
        sockopt::set_xdp_tx_ring_size(socket, sizes.tx)?;
        let at = sockopt::xdp_mmap_offsets(socket)?;
        let rx = layout(&at.rx, sizes.rx)?;
        let tx = layout(&at.tx, sizes.tx)?;
        let fill = layout(&at.fr, sizes.fill)?;
        let completion = layout(&at.cr, sizes.completion)?;
        let descriptors = |layout: &Layout, page| {
            Mapped::<Desc>::new(map(socket, layout.len::<Desc>(), page)?, layout)
        };
        let addresses = |layout: &Layout, page| {
            Mapped::<u64>::new(map(socket, layout.len::<u64>(), page)?, layout)
        };
        Ok(Self {
            rx: Consumer::new(descriptors(&rx, XDP_PGOFF_RX_RING)?),
            tx: Producer::new(descriptors(&tx, XDP_PGOFF_TX_RING)?),
            fill: Producer::new(addresses(&fill, XDP_UMEM_PGOFF_FILL_RING)?),
            completion: Consumer::new(addresses(&completion, XDP_UMEM_PGOFF_COMPLETION_RING)?),
        })
    }
}

fn layout(at: &XdpRingOffset, size: u32) -> io::Result<Layout> {
    // Before Linux 5.4 there are no flags, and none of what they tell.
    let flags = at.flags.ok_or(io::ErrorKind::Unsupported)?;
    Ok(Layout { producer: at.producer, consumer: at.consumer, flags, entries: at.desc, size })
}

fn map(socket: BorrowedFd<'_>, len: usize, page: u64) -> io::Result<MmapRaw> {
    MmapOptions::new().len(len).offset(page).populate().map_raw(socket.as_raw_fd())
}

/// Where a socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) interface: u32,
    pub(crate) queue: u32,
}

/// Binds a socket whose memory is its own.
pub(crate) fn bind(socket: BorrowedFd<'_>, at: Place, flags: BindFlags) -> io::Result<()> {
    rustix::net::bind(socket, &SocketAddrXdp::new(flags, at.interface, at.queue))?;
    Ok(())
}

/// Binds a socket to the memory of another, which is bound itself. Its mode is the other's.
pub(crate) fn bind_sharing(
    socket: BorrowedFd<'_>,
    at: Place,
    with: BorrowedFd<'_>,
) -> io::Result<()> {
    let flags = SocketAddrXdpFlags::XDP_SHARED_UMEM;
    let addr = SocketAddrXdp::new(flags, at.interface, at.queue);
    rustix::net::bind(socket, &SocketAddrXdpWithSharedUmem { addr, shared_umem_fd: with })?;
    Ok(())
}

/// Whether a socket is bound: not any more when its interface was removed.
pub(crate) fn is_bound(socket: BorrowedFd<'_>) -> bool {
    kick_rx(socket).err().and_then(|error| error.raw_os_error()) != Some(libc::ENXIO)
}

/// Whether a bound socket goes without copies (`XDP_OPTIONS`, Linux 5.3).
pub(crate) fn is_zero_copy(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(sockopt::xdp_options(socket)?.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY))
}

/// Tells the kernel that there is something to send. In copy mode it sends during the call.
pub(crate) fn kick_tx(socket: BorrowedFd<'_>) -> io::Result<()> {
    rustix::net::send(socket, &[], SendFlags::DONTWAIT)?;
    Ok(())
}

/// Tells the kernel that there is memory to receive into, and lets it poll a device that is polled.
pub(crate) fn kick_rx(socket: BorrowedFd<'_>) -> io::Result<()> {
    rustix::net::recv(socket, &mut [0; 0], RecvFlags::DONTWAIT)?;
    Ok(())
}

/// How many frames one call sends in copy mode, in place of 32 (Linux 6.17).
pub(crate) fn set_tx_budget(socket: BorrowedFd<'_>, frames: u32) -> io::Result<()> {
    option::set_int(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, frames.cast_signed())
}

/// Has the application poll the device, in place of interrupts (Linux 5.11).
pub(crate) fn set_busy_poll(socket: BorrowedFd<'_>, micros: u32, budget: u32) -> io::Result<()> {
    let set =
        |name, value: u32| option::set_int(socket, libc::SOL_SOCKET, name, value.cast_signed());
    set(SO_PREFER_BUSY_POLL, 1)?;
    set(SO_BUSY_POLL, micros)?;
    set(SO_BUSY_POLL_BUDGET, budget)
}
