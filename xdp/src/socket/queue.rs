//! [`XdpQueue`]: a queue that is ready to be opened, on any thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bypass_core::sys::option;
use bypass_core::{Error, Result};

use super::refusal::{in_use, no_socket, not_bound, not_fresh, not_registered};
use super::{CopyMode, Holder, Interface, Receive, XdpOptions};
use crate::error::XdpError;
use crate::port::XdpPort;
use crate::program::{Frags, Program, ProgramOptions, XskMap};
use crate::socket::Want;
use crate::sys::{self, Place, Rings, Sizes};
use crate::umem::{Bound, Plan, Sibling, Umem, bind};

/// Bytes that the kernel counts for a frame in flight, beside its data.
const PER_FRAME: usize = 2048;

/// A queue of an interface, to be opened by the thread that will drive it.
///
/// It has its socket already, so what needs a privilege or the interface's network namespace is done:
/// open it in whichever namespace, with whichever rights the thread has then.
#[derive(Debug)]
pub struct XdpQueue {
    socket: OwnedFd,
    /// The socket was made here, and nobody else can have a descriptor of it.
    is_ours: bool,
    place: Place,
    link: Arc<Interface>,
    source: Source,
    options: XdpOptions,
}

/// Who redirects frames to the sockets.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Program(Arc<Program>),
    Map(Arc<XskMap>),
    Nobody,
}

impl Source {
    fn new(options: &XdpOptions, link: &Interface) -> Result<Self> {
        let filter = match &options.receive {
            Receive::Filter(filter) => filter.clone(),
            Receive::Program(program) => return Ok(Self::Program(Arc::clone(program))),
            Receive::Map(map) => return Ok(Self::Map(Arc::clone(map))),
            Receive::Nothing => return Ok(Self::Nobody),
        };
        let mut program = ProgramOptions::new(&*options.interface);
        program.filter = filter;
        program.hook = options.hook;
        program.hints = options.hints;
        program.force = options.force;
        program.queues = program.queues.max(link.queues);
        if options.multi_buffer {
            program.frags = Frags::On;
        }
        Ok(Self::Program(program.share()?))
    }

    pub(crate) fn map(&self) -> Option<&XskMap> {
        match self {
            Self::Program(program) => Some(program.sockets()),
            Self::Map(map) => Some(map),
            Self::Nobody => None,
        }
    }
}

/// What a port is made of.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) bound: Bound,
    pub(crate) umem: Umem,
    pub(crate) link: Arc<Interface>,
    pub(crate) source: Source,
    pub(crate) place: Place,
    pub(crate) zero_copy: bool,
    pub(crate) multi_buffer: bool,
    pub(crate) polls: bool,
    /// Chunks to keep posted.
    pub(crate) target: u32,
    pub(crate) fallbacks: Vec<String>,
}

impl Opened {
    /// Whether the device is asked for what it knows of received frames.
    pub(crate) fn has_hints(&self) -> bool {
        matches!(&self.source, Source::Program(program) if program.has_hints())
    }
}

impl XdpQueue {
    /// The queues of the interface that `choose` chooses.
    pub(super) fn prepare(
        options: &XdpOptions,
        choose: impl FnOnce(&Interface) -> Result<Vec<u32>>,
    ) -> Result<Vec<Self>> {
        options.check()?;
        let link = Arc::new(Interface::find(&options.interface)?);
        let queues = choose(&link)?;
        // Sockets first: they are the least that is needed, and cost nothing to give up.
        let sockets = queues
            .iter()
            .map(|_| sys::socket().map_err(|error| no_socket(&link, error)))
            .collect::<Result<Vec<_>>>()?;
        let source = Source::new(options, &link)?;
        let ready = queues.into_iter().zip(sockets).map(|(queue, socket)| Self {
            socket,
            is_ours: true,
            place: Place { interface: link.index, queue },
            link: Arc::clone(&link),
            source: source.clone(),
            options: options.clone(),
        });
        Ok(ready.collect())
    }

    /// The queue that the options name, over a socket that was made elsewhere.
    pub(super) fn adopt(options: &XdpOptions, socket: OwnedFd, link: Interface) -> Result<Self> {
        options.check()?;
        has_queue(&link, options.queue)?;
        let domain = option::get_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_DOMAIN);
        if domain.ok() != Some(libc::AF_XDP) {
            let why = "the descriptor must be that of an AF_XDP socket";
            return Err(Error::config("socket", format!("{socket:?}"), why));
        }
        Ok(Self {
            socket,
            is_ours: false,
            place: Place { interface: link.index, queue: options.queue },
            source: Source::new(options, &link)?,
            link: Arc::new(link),
            options: options.clone(),
        })
    }

    /// Which queue it is.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.place.queue
    }

    /// The program that redirects frames to the queue, where it is known.
    #[must_use]
    pub fn program(&self) -> Option<&Arc<Program>> {
        match &self.source {
            Source::Program(program) => Some(program),
            Source::Map(_) | Source::Nobody => None,
        }
    }

    /// Opens the queue for the calling thread, with memory of its own.
    ///
    /// # Errors
    ///
    /// As [`open_on`](Self::open_on), and [`Umem::new`].
    pub fn open(self) -> Result<XdpPort> {
        let umem = Umem::new(&self.options.umem)?;
        self.open_on(&umem)
    }

    /// Opens the queue for the calling thread, with memory that it shares with other ports: frames of
    /// the one can be sent by the other (`XDP_SHARED_UMEM`, Linux 5.10). Whether the device copies, and
    /// whether frames may have several segments, is what the first port obtained.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] with an [`XdpError`]: the queue is in use, the driver refuses the mode,
    /// frames are too long for a chunk, memory cannot be locked, the kernel is too old.
    /// [`Error::Unsupported`] when the umem allows offloads that are not to be had here.
    pub fn open_on(self, umem: &Umem) -> Result<XdpPort> {
        let Self { socket, is_ours, place, link, source, mut options } = self;
        if umem.serves(place) {
            return Err(in_use(&link, place, Holder::of(place)));
        }
        let target = umem.reserve().min(options.rings.fill);
        let promise = Promise::new(umem, target)?;
        let mut fallbacks = Vec::new();
        let sibling = umem.sibling();
        if let Some(sibling) = &sibling {
            share(sibling, &mut options, &mut fallbacks)?;
        }
        if source.map().is_some() && !options.multi_buffer && link.longest() > umem.rx_room() {
            let (interface, mtu, frame) = (link.name.clone(), link.mtu, link.longest());
            let room = umem.rx_room();
            return Err(XdpError::MtuTooLarge { interface, mtu, frame, room }.into());
        }
        if umem.has_software_checksum() && options.mode != Want::Require(CopyMode::Copy) {
            let why = "the kernel sums in copy mode only: set `mode` to `Require(CopyMode::Copy)`";
            return Err(Error::config("software_checksum", true, why));
        }
        if sibling.is_none() {
            umem.register(socket.as_fd()).map_err(|error| not_registered(umem, error))?;
        }
        let rings = make_rings(socket.as_fd(), is_ours, &link, &options)?;
        tune(socket.as_fd(), &options, &mut fallbacks)?;
        let plan = Plan {
            place,
            mode: options.mode,
            multi_buffer: options.multi_buffer,
            is_ours,
            post: target,
            timeout: options.bind_timeout,
        };
        let other = sibling.as_ref().map(|sibling| sibling.socket.as_fd());
        let bound = bind(umem, socket, rings, other, &plan)
            .map_err(|refused| not_bound(&link, place, &options, refused))?;
        let zero_copy = sys::is_zero_copy(bound.socket.as_fd()).map_err(|error| {
            // The kernel may have filled some of them by now.
            umem.abandon(bound.posted);
            Error::os("ask an AF_XDP socket for its mode", error)
        })?;
        // From here on the port accounts for what is posted.
        promise.keep();
        fallbacks.extend(bound.fallback.as_ref().map(|error| {
            let (wanted, got) = (options.mode.first(), mode(zero_copy));
            format!("{wanted} preferred, {got} obtained: {error}")
        }));
        if let Source::Program(program) = &source
            && let Some(refused) = program.no_hints()
        {
            fallbacks.push(format!("hints preferred, none obtained: {refused}"));
        }
        if let Source::Program(program) = &source
            && let Some(refused) = program.attachment().fallback()
        {
            let hook = program.attachment().hook();
            fallbacks.push(format!(
                "{} mode preferred, {hook} mode obtained: {refused}",
                options.hook.first()
            ));
        }
        fallbacks.extend(umem.arena().fallback().map(str::to_owned));
        let port = XdpPort::new(Opened {
            bound,
            umem: umem.clone(),
            link,
            source,
            place,
            zero_copy,
            multi_buffer: options.multi_buffer,
            polls: options.busy_poll.is_some(),
            target,
            fallbacks,
        });
        port.check_offloads()?;
        port.listen()?;
        Ok(port)
    }
}

/// What was asked for, in the light of what the ports have that the umem is shared with.
fn share(sibling: &Sibling, options: &mut XdpOptions, fallbacks: &mut Vec<String>) -> Result<()> {
    let obtained = sys::is_zero_copy(sibling.socket.as_fd())
        .map(mode)
        .map_err(|error| Error::os("ask an AF_XDP socket for its mode", error))?;
    let wanted = options.mode.first();
    let why = "the first port of a umem decides for all; open that one so, or take another umem";
    if wanted != obtained {
        if !options.mode.may_fall_back() {
            return Err(Error::config("mode", wanted, format!("the umem has {obtained}: {why}")));
        }
        fallbacks.push(format!("{wanted} preferred, {obtained} obtained: {why}"));
    }
    if options.multi_buffer && !sibling.multi_buffer {
        return Err(Error::config("multi_buffer", true, why));
    }
    options.multi_buffer = sibling.multi_buffer;
    Ok(())
}

fn mode(zero_copy: bool) -> CopyMode {
    if zero_copy { CopyMode::ZeroCopy } else { CopyMode::Copy }
}

/// Chunks that are promised to a port that may yet fail to open.
struct Promise<'a> {
    umem: &'a Umem,
    chunks: u32,
}

impl<'a> Promise<'a> {
    fn new(umem: &'a Umem, chunks: u32) -> Result<Self> {
        if umem.promise(chunks) {
            return Ok(Self { umem, chunks });
        }
        let why = format!(
            "every port keeps that many of the {} chunks posted, and one must be left",
            umem.arena().chunks()
        );
        Err(Error::config("rx_reserve", chunks, why))
    }

    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        // What was posted meanwhile has come back.
        self.umem.release(self.chunks, self.chunks);
    }
}

fn make_rings(
    socket: BorrowedFd<'_>,
    is_ours: bool,
    link: &Interface,
    options: &XdpOptions,
) -> Result<Rings> {
    let sizes = options.rings;
    let sizes =
        Sizes { rx: sizes.rx, tx: sizes.tx, fill: sizes.fill, completion: sizes.completion };
    Rings::new(socket, sizes).map_err(|error| {
        if !is_ours && matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINVAL)) {
            return not_fresh("it has rings, or is bound");
        }
        if error.kind() == io::ErrorKind::Unsupported {
            let attempt = format!("map the rings of a socket on {}", link.name);
            return XdpError::OldKernel { attempt, since: "5.4", source: error }.into();
        }
        Error::os(format!("make the rings of an AF_XDP socket on {}", link.name), error)
            .with_remedy("ask for smaller `rings`")
    })
}

/// Sets what the kernel does besides.
fn tune(socket: BorrowedFd<'_>, options: &XdpOptions, fallbacks: &mut Vec<String>) -> Result<()> {
    let budget = options.budget();
    let attempt = || format!("send {budget} frames with one call");
    match sys::set_tx_budget(socket, budget) {
        Ok(()) => {}
        // What nobody asked for cannot be missed, here and below.
        Err(_) if options.tx_budget.is_none() => {}
        Err(source) if source.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            return Err(XdpError::OldKernel { attempt: attempt(), since: "6.17", source }.into());
        }
        Err(source) => return Err(Error::os(attempt(), source)),
    }
    let each = options.umem.pool.chunk_size as usize + PER_FRAME;
    let all = (options.rings.tx as usize).saturating_mul(each).min(option::MAX_QUEUE);
    let told = option::set_queue(socket, option::Queue::Send, options.send_buffer.unwrap_or(all))?;
    // The kernel then takes fewer frames at a time.
    fallbacks.extend(told.filter(|_| options.send_buffer.is_some()));
    let Some(polling) = options.busy_poll else { return Ok(()) };
    sys::set_busy_poll(socket, polling.micros, polling.budget).map_err(|source| {
        let attempt = "poll the device from the application's calls";
        match source.raw_os_error() {
            Some(libc::ENOPROTOOPT) => {
                XdpError::OldKernel { attempt: attempt.to_owned(), since: "5.11", source }.into()
            }
            _ => Error::privileged(attempt, "CAP_NET_ADMIN", source),
        }
    })
}

pub(super) fn has_queue(link: &Interface, queue: u32) -> Result<()> {
    if queue < link.queues {
        return Ok(());
    }
    let (interface, queues) = (link.name.clone(), link.queues);
    Err(XdpError::NoSuchQueue { interface, queue, queues }.into())
}
