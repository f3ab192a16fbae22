//! [`XdpPort`]: whole frames through one queue of a network device.

mod direct;
mod endpoint;
mod in_place;
mod kernel;
mod rx;
mod times;
#[cfg(feature = "tokio")]
mod tokio;
mod tx;

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bypass_core::pool::Kind as _;
use bypass_core::{
    Burst, Caps, Error, PacketIo, Result, RxMeta, RxOffloads, Unsupported, Verdict, Visited,
};

use self::kernel::Kernel;
use self::rx::Rx;
pub use self::times::SentTime;
#[cfg(feature = "tokio")]
pub use self::tokio::TokioPort;
use self::tx::{Outcome, Tx};
use crate::program::Program;
use crate::socket::{CopyMode, Opened, Source};
use crate::sys::Place;
use crate::umem::{Umem, Xdp, XdpFrame, metadata};

/// How many calls of `recv` that find nothing go by before one asks whether the link is still there.
const IDLE_CALLS: u32 = 4096;

/// The most segments of a frame in copy mode: a linear part and `MAX_SKB_FRAGS` fragments, less one.
const MAX_SEGMENTS: usize = 17;

/// An AF_XDP socket on one queue of an interface (Linux 5.9 with the program of this crate, 5.4 with
/// another).
///
/// - Received frames are the umem's chunks themselves: forwarding one with [`send`](PacketIo::send) of
///   this port, or of another with the same [`Umem`], copies nothing in this process.
/// - [`visit`](PacketIo::visit) shows received frames of one segment where they lie, and
///   [`generate`](PacketIo::generate) has frames filled where they are sent from: no [`XdpFrame`] is made, and
///   chunks go straight from ring to ring, their owners checked as always.
/// - [`send`](PacketIo::send) puts frames into the TX ring, [`flush`](bypass_core::Endpoint::flush) rings the
///   doorbell. In copy mode the kernel sends during that call, as many frames at a time as the
///   [budget](crate::XdpOptions::tx_budget) says.
/// - A frame that the kernel had no buffer for is in [`DropCause::RxNoFrame`], one that the RX ring had
///   no room for in [`DropCause::RxQueueFull`], one that was longer than a chunk in
///   [`DropCause::RxTruncated`]; what the kernel sent into a full or missing link is in
///   [`DropCause::TxError`]. Addresses that the kernel returned without having them are in
///   [`DropCause::RxInvalid`], and nobody gets them.
/// - When the interface goes down, `recv` or `wait` says so once and then finds nothing; `flush` says so each
///   time, and so does `send`, taking nothing, once it is known. When it is up again, all go on, with
///   what was in the TX ring first.
/// - When the interface is removed, every call answers [`Error::NoSuchInterface`]: `recv` after the frames
///   that had come before.
///
/// It stays on the thread that opened it; what goes to another thread is an
/// [`XdpQueue`](crate::XdpQueue), which is opened there:
///
/// ```compile_fail,E0277
/// # use bypass_xdp::XdpPort;
/// fn elsewhere(port: XdpPort) {
///     std::thread::spawn(move || drop(port)); // error: cannot be sent between threads
/// }
/// ```
///
/// ```no_run
/// use bypass_core::{Burst, Endpoint, Interest, PacketIoExt, Verdict, swap_addresses};
/// use bypass_xdp::XdpOptions;
///
/// let mut port = XdpOptions::new("veth0").open()?;
/// println!("zero copy: {}; {:?}", port.caps().zero_copy, port.caps().fallbacks);
/// let mut burst = Burst::with_capacity(64);
/// loop {
///     port.wait(Interest::RX, None)?;
///     port.reflect(&mut burst, |frame| {
///         swap_addresses(frame);
///         Verdict::Send
///     })?;
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), bypass_core::Error>(())
/// ```
///
/// [`DropCause::RxNoFrame`]: bypass_core::DropCause::RxNoFrame
/// [`DropCause::RxQueueFull`]: bypass_core::DropCause::RxQueueFull
/// [`DropCause::RxTruncated`]: bypass_core::DropCause::RxTruncated
/// [`DropCause::TxError`]: bypass_core::DropCause::TxError
/// [`DropCause::RxInvalid`]: bypass_core::DropCause::RxInvalid
#[derive(Debug)]
pub struct XdpPort {
    rx: Rx,
    tx: Tx,
    umem: Umem,
    socket: Rc<OwnedFd>,
    place: Place,
    source: Source,
    kernel: Kernel,
    caps: Caps,
    multi_buffer: bool,
    /// Busy polling: the device is polled by calls.
    polls: bool,
    /// Calls of `recv` that found nothing since the kernel was last asked for the state of the link.
    idle: u32,
    /// When `wait` last asked for it.
    checked: Instant,
}

impl XdpPort {
    pub(crate) fn new(opened: Opened) -> Self {
        let (caps, hints) = (caps(&opened), opened.has_hints());
        let Opened { bound, umem, link, source, place, zero_copy, multi_buffer, .. } = opened;
        let Opened { polls, target, .. } = opened;
        let rings = bound.rings;
        Self {
            rx: Rx::new(
                rings.rx,
                rings.fill,
                umem.clone(),
                target,
                bound.posted,
                place.queue,
                hints,
            ),
            tx: Tx::new(rings.tx, rings.completion, umem.clone(), zero_copy, caps.max_segments),
            umem,
            socket: bound.socket,
            place,
            source,
            kernel: Kernel::new(link),
            caps,
            multi_buffer,
            polls,
            idle: 0,
            checked: Instant::now(),
        }
    }

    /// Has the frames of the queue come here.
    pub(crate) fn listen(&self) -> Result<()> {
        match self.source.map() {
            Some(map) => map.insert(self.place.queue, self.socket.as_fd()),
            None => Ok(()),
        }
    }

    /// The memory that its frames lie in, to open other ports on.
    #[must_use]
    pub fn umem(&self) -> &Umem {
        &self.umem
    }

    /// Which queue it is.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.place.queue
    }

    /// Whether the kernel copies frames.
    #[must_use]
    pub fn copy_mode(&self) -> CopyMode {
        if self.caps.zero_copy { CopyMode::ZeroCopy } else { CopyMode::Copy }
    }

    /// When frames were sent that asked for it ([`TxMeta::timestamp`](bypass_core::TxMeta::timestamp)),
    /// in the order in which they were done. Those that nobody takes are kept until there are as many as
    /// the umem has chunks, and then counted (`tx_times_lost`).
    ///
    /// ```no_run
    /// use bypass_core::{Burst, Endpoint, Frame, PacketIo, TxMeta, TxOffloads};
    /// use bypass_xdp::XdpOptions;
    ///
    /// let mut options = XdpOptions::new("eth1");
    /// options.umem.pool.tx_offloads = TxOffloads::TIMESTAMP;
    /// let mut port = options.open()?;
    /// let mut burst = Burst::with_capacity(1);
    /// port.alloc(&mut burst, 1);
    /// let mut asked = TxMeta::default();
    /// asked.timestamp = Some(7);
    /// for frame in burst.iter_mut() {
    ///     // ... fill it ...
    ///     frame.set_tx_meta(asked)?;
    /// }
    /// port.send(&mut burst)?;
    /// port.flush()?;
    /// for sent in port.sent_times() {
    ///     println!("frame {} left at {} ns", sent.tag, sent.time.nanos);
    /// }
    /// # Ok::<(), bypass_core::Error>(())
    /// ```
    pub fn sent_times(&mut self) -> impl Iterator<Item = SentTime> + '_ {
        self.tx.times()
    }

    /// Refuses what the device, or the kernel for it, does not do when frames are sent.
    pub(crate) fn check_offloads(&self) -> Result<()> {
        let Self { umem, kernel, caps, .. } = self;
        let link = kernel.link();
        let lacking = umem.tx_offloads() - metadata::available(caps.zero_copy, link.features);
        if lacking.is_empty() {
            return Ok(());
        }
        let mode = self.copy_mode();
        let what = format!("send offload {lacking:?} on {}", link.name).into();
        let why = format!("its driver does not offer it in {mode}; leave it out of `tx_offloads`");
        Err(Unsupported { what, backend: Xdp::BACKEND, why: why.into() }.into())
    }

    /// The program that redirects frames to the queue, where it is known: its filter can be changed
    /// while packets flow. That changes what all ports receive that share the program.
    #[must_use]
    pub fn program(&self) -> Option<&Arc<Program>> {
        match &self.source {
            Source::Program(program) => Some(program),
            Source::Map(_) | Source::Nobody => None,
        }
    }

    /// Posts chunks for receiving, and wakes a driver that sleeps for want of them.
    fn refill(&mut self) -> Result<()> {
        if self.rx.refill() {
            self.kernel.poll(self.socket.as_fd())?;
        }
        Ok(())
    }

    /// Has the kernel take what is in the TX ring.
    fn transmit(&mut self) -> Result<()> {
        let Self { tx, kernel, socket, .. } = self;
        let outcome = tx.transmit(|| kernel.kick(socket.as_fd()));
        outcome.map_err(|error| kernel.explain("send", error))
    }

    /// After a call that found nothing: polls a device that is polled. Now and then looks after the link,
    /// and after what is in the TX ring: a device that went to sleep while the doorbell was looked at may
    /// not have seen it.
    fn idled(&mut self) -> Result<()> {
        self.idle += 1;
        let is_time = self.idle >= IDLE_CALLS;
        if is_time {
            self.idle = 0;
            self.transmit_unless_down()?;
        }
        if is_time || self.polls { self.check_link() } else { Ok(()) }
    }

    /// Has the kernel take what is in the TX ring. Of a link that is down was told already; that it is up
    /// again, [`check_link`](Self::check_link) finds out.
    fn transmit_unless_down(&mut self) -> Result<()> {
        if self.kernel.is_down() { Ok(()) } else { self.transmit() }
    }

    /// Finds out whether the link is still there.
    fn check_link(&mut self) -> Result<()> {
        self.kernel.poll(self.socket.as_fd())
    }
}

fn caps(opened: &Opened) -> Caps {
    let Opened { umem, link, zero_copy, multi_buffer, fallbacks, .. } = opened;
    let features = link.features.unwrap_or_default();
    let single = if opened.source.map().is_some() { umem.rx_room() } else { umem.data_room() };
    let max_len = if *multi_buffer { link.max_len() } else { link.max_len().min(single) };
    let mut caps = Caps::new(Xdp::BACKEND, max_len, umem.headroom() as usize);
    caps.zero_copy = *zero_copy;
    let copies = u8::from(!zero_copy);
    (caps.rx_copies, caps.tx_copies) = (copies, copies);
    // They all have to be in the ring at once.
    let most = MAX_SEGMENTS.min(opened.bound.rings.tx.size() as usize);
    caps.max_segments = match (*multi_buffer, *zero_copy) {
        (false, _) => 1,
        (true, false) => most,
        (true, true) => most.min(features.zero_copy_segments.max(1) as usize),
    };
    caps.rx_offloads = if opened.has_hints() { features.rx_hints } else { RxOffloads::empty() };
    caps.tx_offloads = umem.tx_offloads();
    caps.fallbacks.clone_from(fallbacks);
    caps
}

impl PacketIo for XdpPort {
    type Frame = XdpFrame;

    fn recv(&mut self, out: &mut Burst<XdpFrame>) -> Result<usize> {
        self.tx.reclaim();
        match self.rx.take(out) {
            0 if out.is_full() => self.kernel.still_there()?,
            0 => self.none_came()?,
            received => {
                self.came();
                return Ok(received);
            }
        }
        Ok(0)
    }

    fn alloc(&mut self, out: &mut Burst<XdpFrame>, n: usize) -> usize {
        let first = self.umem.alloc(out, n);
        if first == n {
            return n;
        }
        self.tx.reclaim();
        first + self.umem.alloc(out, n - first)
    }

    fn send(&mut self, frames: &mut Burst<XdpFrame>) -> Result<usize> {
        self.kernel.still_there()?;
        if self.kernel.is_down() {
            self.transmit_or_probe()?;
        }
        self.tx.reclaim();
        let (mut taken, mut outcome) = self.tx.take(frames, self.kernel.link());
        if matches!(outcome, Outcome::Full) {
            // Those in the ring go first; whatever happens to them is not about these.
            let _told_by_flush = self.transmit();
            let (more, then) = self.tx.take(frames, self.kernel.link());
            (taken, outcome) = (taken + more, then);
        }
        match outcome {
            Outcome::Unsendable(cause) if taken == 0 => {
                Err(Error::frame("send a frame", Xdp::BACKEND, cause))
            }
            Outcome::Unsendable(_) | Outcome::Full | Outcome::All => Ok(taken),
        }
    }

    /// Frames of one segment are shown where they lie, and their chunks go from the RX ring straight to
    /// the fill ring or the TX ring.
    ///
    /// A chunk that the kernel names twice before the next call, as no driver should, is shown twice, one
    /// after the other, and posted twice, if the visitor drops what is in it. Sent or kept the first time, it
    /// is a stray the second time, as it always is to `recv`. Dropped the first time and kept the second,
    /// it is the application's and the kernel's.
    #[inline]
    fn visit(
        &mut self,
        waiting: &mut Burst<XdpFrame>,
        f: impl FnMut(&mut [u8], &RxMeta) -> Verdict,
    ) -> Result<Visited> {
        self.visit_in_place(waiting, f)
    }

    /// Frames are filled in the chunks that they are sent from.
    ///
    /// A chunk that the kernel returns twice before the next call, as no driver should, is filled and queued
    /// twice.
    #[inline]
    fn generate(
        &mut self,
        waiting: &mut Burst<XdpFrame>,
        n: usize,
        len: usize,
        f: impl FnMut(&mut [u8]),
    ) -> Result<usize> {
        self.generate_in_place(waiting, n, len, f)
    }
}

impl XdpPort {
    /// After a call that found something.
    #[inline]
    fn came(&mut self) {
        self.idle = 0;
        // What goes wrong here is told by the next call that finds nothing.
        if self.refill().is_err() {
            self.kernel.tell_later();
        }
    }

    /// After a call that could have found something, and did not.
    #[inline(never)]
    fn none_came(&mut self) -> Result<()> {
        // After what had come before the interface went.
        self.kernel.still_there()?;
        self.refill()?;
        if self.tx.is_stalled() {
            self.transmit_unless_down()?;
        }
        self.idled()
    }

    /// Finds out whether the link is still down.
    fn transmit_or_probe(&mut self) -> Result<()> {
        let kicked = self.kernel.kick(self.socket.as_fd());
        self.tx.kicked(&kicked);
        match kicked {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENXIO)) => {
                Err(self.kernel.explain("send", error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
