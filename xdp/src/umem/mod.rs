//! [`Umem`]: packet memory that the kernel and the device read and write.
//!
//! # What the unsafe code here relies on
//!
//! The kernel is done with a chunk when it shows its address on the RX ring or the completion ring, and
//! not before: the contract of AF_XDP. The pool knows of each chunk whether it is lent, and in which
//! direction; an address that was not lent is refused, whatever the kernel says. One that it repeats passes
//! once the chunk was lent again in the same direction: there the contract is all there is. A chunk that was lent
//! to a socket which is closed stays lent: the descriptor may have been duplicated, and a driver may go
//! on for a while. The kernel holds the pages of registered memory on its own account, so memory that
//! is unmapped meanwhile is not anybody else's before it is done.

mod addressing;
mod bind;
mod hand;
pub(crate) mod metadata;
mod options;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};

use bypass_core::pool::{Arena, FrameMeta, Kind, Lent, Pool, PoolBuf, Released, StrayChunk};
use bypass_core::{Burst, FrameCensus, Result, TxOffloads};

use self::addressing::Addressing;
pub(crate) use self::bind::{Bound, Plan, Refused, bind};
pub(crate) use self::hand::Seen;
pub use self::options::UmemOptions;
use crate::sys::{
    self, Desc, DescOptions, Place, UmemFlags, UmemReg, XDP_UMEM_TX_METADATA_LEN,
    XDP_UMEM_TX_SW_CSUM,
};

/// Marks the pools and frames of this backend.
#[derive(Clone, Copy, Debug)]
pub struct Xdp;

impl Kind for Xdp {
    type Meta = FrameMeta;
    const BACKEND: &'static str = "xdp";
}

/// The frame of this backend: bytes in a [`Umem`].
///
/// It has one owner, which gives it up by sending it:
///
/// ```compile_fail,E0382
/// # use bypass_core::{Buffer, Burst, PacketIo};
/// # use bypass_xdp::{XdpFrame, XdpPort};
/// fn send_and_read(port: &mut XdpPort, frame: XdpFrame) {
///     let mut burst = Burst::with_capacity(1);
///     let _ = burst.push(frame);
///     let _ = port.send(&mut burst);
///     frame.data(); // error: borrow of moved value
/// }
/// ```
///
/// There are never two:
///
/// ```compile_fail,E0599
/// # use bypass_xdp::XdpFrame;
/// fn two_owners(frame: XdpFrame) {
///     let another = frame.clone(); // error: no method `clone`
/// }
/// ```
///
/// It stays on its thread, unless it is [detached](PoolBuf::detach):
///
/// ```compile_fail,E0277
/// # use bypass_xdp::XdpFrame;
/// fn elsewhere(frame: XdpFrame) {
///     std::thread::spawn(move || drop(frame)); // error: cannot be sent between threads
/// }
/// ```
///
/// And no other backend's frame is one:
///
/// ```compile_fail,E0308
/// # use bypass_core::backend::packet::PacketFrame;
/// # use bypass_core::{Burst, PacketIo};
/// # use bypass_xdp::XdpPort;
/// fn mix(port: &mut XdpPort, frames: &mut Burst<PacketFrame>) {
///     let _ = port.send(frames); // error: expected `Burst<PoolBuf<Xdp>>`
/// }
/// ```
///
/// What types cannot tell, a frame of another umem, is refused by
/// [`send`](bypass_core::PacketIo::send) and stays in the burst.
pub type XdpFrame = PoolBuf<Xdp>;

/// Packet memory of a thread, for one queue or for several.
///
/// Ports that share one ([`XdpQueue::open_on`](crate::XdpQueue::open_on)) forward frames to each
/// other, also across devices, without a copy. Clones are the same memory; it is freed with the last
/// port, frame and clone.
///
/// What was lent to a port when it is closed stays lost to the others: the kernel tells nobody when it
/// is done. So does what was posted for a port that could not be opened over an
/// [adopted](crate::XdpOptions::adopt) socket, which somebody else may yet bind.
/// [`census`](Self::census) shows it as posted or in flight.
#[derive(Clone, Debug)]
pub struct Umem {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pool: Pool<Xdp>,
    addressing: Addressing,
    /// What frames may ask for when they are sent, and whether the kernel sums in place of the device.
    tx_offloads: TxOffloads,
    software_checksum: bool,
    /// Chunks that each port keeps posted for receiving.
    reserve: u32,
    /// Chunks that the ports want to post and have not.
    owed: Cell<u32>,
    /// Chunks that all ports together want to keep posted.
    promised: Cell<u32>,
    /// The sockets that this memory was registered with.
    sockets: RefCell<Vec<Member>>,
}

/// A socket over packet memory; gone when its port is.
#[derive(Debug)]
struct Member {
    socket: Weak<OwnedFd>,
    place: Place,
    multi_buffer: bool,
}

/// A bound socket over packet memory, with which others can share it.
#[derive(Debug)]
pub(crate) struct Sibling {
    pub(crate) socket: Rc<OwnedFd>,
    /// Frames may have several segments: on all sockets, or on none.
    pub(crate) multi_buffer: bool,
}

impl Umem {
    /// Maps the memory.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](bypass_core::Error::Config) for a layout that AF_XDP does not allow;
    /// [`Error::Os`](bypass_core::Error::Os) when the memory is not to be had.
    pub fn new(options: &UmemOptions) -> Result<Self> {
        options.check()?;
        let mut layout = options.pool.clone();
        // What is reserved for receiving is what is posted, and what is owed.
        let reserve = std::mem::take(&mut layout.rx_reserve);
        layout.headroom += metadata::len(layout.tx_offloads);
        Ok(Self {
            shared: Rc::new(Shared {
                pool: Pool::new(&layout)?,
                addressing: Addressing::new(layout.chunk_size, options.unaligned),
                tx_offloads: layout.tx_offloads,
                software_checksum: options.software_checksum,
                reserve,
                owed: Cell::new(0),
                promised: Cell::new(0),
                sockets: RefCell::new(Vec::new()),
            }),
        })
    }

    /// Where each chunk is.
    #[must_use]
    pub fn census(&self) -> FrameCensus {
        self.shared.pool.census()
    }

    /// The memory itself.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        self.shared.pool.arena()
    }

    /// Whether `frame` lies in this memory.
    #[must_use]
    #[inline]
    pub fn owns(&self, frame: &XdpFrame) -> bool {
        self.shared.pool.owns(frame)
    }

    /// Makes a detached frame an ordinary one again.
    ///
    /// # Errors
    ///
    /// Gives the frame back when it is of another umem.
    pub fn attach(
        &self,
        frame: bypass_core::pool::Detached<Xdp>,
    ) -> Result<XdpFrame, bypass_core::pool::Detached<Xdp>> {
        self.shared.pool.attach(frame)
    }

    /// Bytes in front of the data of a fresh frame that are the application's.
    pub(crate) fn headroom(&self) -> u32 {
        self.shared.pool.headroom() - metadata::len(self.tx_offloads())
    }

    /// Bytes of a fresh frame.
    pub(crate) fn data_room(&self) -> usize {
        self.shared.pool.data_room() as usize
    }

    /// What frames may ask for when they are sent.
    pub(crate) fn tx_offloads(&self) -> TxOffloads {
        self.shared.tx_offloads
    }

    /// Whether the kernel sums in place of the device.
    pub(crate) fn has_software_checksum(&self) -> bool {
        self.shared.software_checksum
    }

    /// The longest piece of a frame that the kernel puts into one chunk.
    pub(crate) fn rx_room(&self) -> usize {
        options::rx_room(self.arena().chunk_size(), self.headroom()) as usize
    }

    /// Chunks that a port keeps posted for receiving.
    pub(crate) fn reserve(&self) -> u32 {
        self.shared.reserve
    }

    /// Hands out empty frames, leaving what the ports owe to their fill rings.
    pub(crate) fn alloc(&self, out: &mut Burst<XdpFrame>, n: usize) -> usize {
        self.shared.pool.alloc(out, n.min(self.spare()))
    }

    /// How many frames [`alloc`](Self::alloc) would hand out.
    pub(crate) fn spare(&self) -> usize {
        self.shared.pool.available().saturating_sub(self.shared.owed.get() as usize)
    }

    /// Whether the ports want to post more chunks than they could: those that come free are theirs.
    #[inline]
    pub(crate) fn is_owing(&self) -> bool {
        self.shared.owed.get() > 0
    }

    /// Promises a port `chunks` to keep posted; false when there are not so many.
    pub(crate) fn promise(&self, chunks: u32) -> bool {
        let Some(sum) = self.shared.promised.get().checked_add(chunks) else { return false };
        if sum >= self.arena().chunks() {
            return false;
        }
        self.shared.promised.set(sum);
        self.shared.owed.set(self.shared.owed.get() + chunks);
        true
    }

    /// Takes a promise back, of which `owed` chunks are not posted.
    pub(crate) fn release(&self, chunks: u32, owed: u32) {
        self.shared.promised.set(self.shared.promised.get() - chunks);
        self.shared.owed.set(self.shared.owed.get() - owed);
    }

    /// Lends up to `n` free chunks to be received into, for which `post` gets the addresses. Returns how
    /// many there were; they are [posted](Self::posted) now.
    #[inline]
    pub(crate) fn lend(&self, n: u32, mut post: impl FnMut(u64)) -> u32 {
        let addressing = self.shared.addressing;
        self.shared.pool.lend_rx(n as usize, |chunk| post(addressing.address(chunk.into()))) as u32
    }

    /// Notes that so many chunks that were owed are posted.
    #[inline]
    pub(crate) fn posted(&self, chunks: u32) {
        self.shared.owed.set(self.shared.owed.get().saturating_sub(chunks));
    }

    /// Notes that so many chunks were received and are to be posted again.
    #[inline]
    pub(crate) fn owe(&self, chunks: u32) {
        self.shared.owed.set(self.shared.owed.get() + chunks);
    }

    /// Takes back the chunks of a fill ring that the kernel never had.
    ///
    /// # Safety
    ///
    /// The kernel must not have seen the address, and must not see it any more.
    unsafe fn unlend(&self, address: u64) {
        let (_, offset) = self.shared.addressing.locate(address);
        // SAFETY: the caller says that the kernel does not have the chunk.
        if unsafe { self.shared.pool.reclaim(self.chunk_of(address), Lent::Rx, offset, 0) }.is_ok()
        {
            self.owe(1);
        }
    }

    /// Lends frames from the front of `frames` to be sent, up to `most`, as long as they are of this
    /// memory, of one segment and `accept`ed; `queue` gets how the TX ring names them. Returns how many.
    #[inline]
    pub(crate) fn lend_front(
        &self,
        frames: &mut Burst<XdpFrame>,
        most: usize,
        accept: impl FnMut(&XdpFrame) -> bool,
        mut queue: impl FnMut(Desc),
    ) -> usize {
        let Shared { pool, addressing, .. } = &*self.shared;
        XdpFrame::post_front(frames, pool, Lent::Tx, most, accept, |posted| {
            let addr = addressing.address_of(&posted);
            queue(Desc { addr, len: posted.len, options: DescOptions::empty() });
        })
    }

    /// The chunk that an address lies in; one that no umem has for an address beyond.
    #[inline]
    pub(crate) fn chunk_of(&self, address: u64) -> u32 {
        u32::try_from(self.shared.addressing.locate(address).0).unwrap_or(u32::MAX)
    }

    /// Frees the chunks of addresses that the kernel has sent. Those that it did not have for that are
    /// told apart.
    #[inline]
    pub(crate) fn sent(&self, addresses: impl Iterator<Item = u64>) -> Released {
        let addressing = self.shared.addressing;
        // SAFETY: their addresses were on the completion ring, so the kernel is done with them (see the
        // module's head).
        unsafe { self.shared.pool.release_sent(addresses.map(|at| addressing.locate(at).0)) }
    }

    /// Takes a frame back that the kernel has sent, as it was.
    ///
    /// # Errors
    ///
    /// [`StrayChunk`] when the kernel did not have it for that.
    pub(crate) fn take_sent(&self, chunk: u32) -> Result<XdpFrame, StrayChunk> {
        // SAFETY: its address was on the completion ring, so the kernel is done with the chunk (see the
        // module's head).
        unsafe { self.shared.pool.reclaim_sent(chunk) }
    }

    /// Keeps chunks lent that the kernel may yet receive into, and that no port accounts for.
    pub(crate) fn abandon(&self, chunks: u32) {
        self.shared.owed.set(self.shared.owed.get() + chunks);
    }

    /// A bound socket that this memory is registered with. One whose interface was removed is not bound
    /// any more.
    pub(crate) fn sibling(&self) -> Option<Sibling> {
        self.shared.sockets.borrow().iter().find_map(|member| {
            let socket = member.socket.upgrade().filter(|socket| sys::is_bound(socket.as_fd()))?;
            Some(Sibling { socket, multi_buffer: member.multi_buffer })
        })
    }

    /// Whether a socket over this memory is bound there.
    pub(crate) fn serves(&self, place: Place) -> bool {
        let sockets = self.shared.sockets.borrow();
        sockets.iter().any(|member| member.socket.strong_count() > 0 && member.place == place)
    }

    /// Registers the memory with a socket (`XDP_UMEM_REG`).
    pub(crate) fn register(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let arena = self.arena();
        let mut flags = UmemFlags::empty();
        flags.set(UmemFlags::XDP_UMEM_UNALIGNED_CHUNK_FLAG, self.shared.addressing.unaligned);
        let tx_metadata_len = metadata::len(self.tx_offloads());
        // Flags that rustix has no names for.
        if tx_metadata_len > 0 {
            flags |= UmemFlags::from_bits_retain(XDP_UMEM_TX_METADATA_LEN);
        }
        if self.has_software_checksum() {
            flags |= UmemFlags::from_bits_retain(XDP_UMEM_TX_SW_CSUM);
        }
        sys::register(
            socket,
            UmemReg {
                addr: arena.base().expose_provenance() as u64,
                len: arena.len() as u64,
                chunk_size: arena.chunk_size(),
                headroom: self.headroom(),
                flags,
                tx_metadata_len,
            },
        )?;
        Ok(())
    }

    /// Remembers a bound socket, so that others can share the memory with it.
    fn joined(&self, socket: &Rc<OwnedFd>, plan: &Plan) {
        let mut sockets = self.shared.sockets.borrow_mut();
        sockets.retain(|member| member.socket.strong_count() > 0);
        let (socket, place) = (Rc::downgrade(socket), plan.place);
        sockets.push(Member { socket, place, multi_buffer: plan.multi_buffer });
    }
}

#[cfg(test)]
mod tests;
