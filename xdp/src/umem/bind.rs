//! Binding a socket to a queue, with memory to receive into from the first moment.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use super::Umem;
use crate::socket::{CopyMode, Want};
use crate::sys::{self, BindFlags, Place, Rings};

/// How often to try again while a queue is still taken. Nothing tells when the kernel has freed it.
const RETRY: Duration = Duration::from_millis(1);

/// What to bind, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) place: Place,
    pub(crate) mode: Want<CopyMode>,
    pub(crate) multi_buffer: bool,
    /// Nobody else can have a descriptor of the socket.
    pub(crate) is_ours: bool,
    /// Chunks to post for receiving.
    pub(crate) post: u32,
    pub(crate) timeout: Duration,
}

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) socket: Rc<OwnedFd>,
    pub(crate) rings: Rings,
    /// Chunks in the fill ring.
    pub(crate) posted: u32,
    /// Why the mode is not the one that was preferred.
    pub(crate) fallback: Option<io::Error>,
}

/// Why a socket could not be bound.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) source: io::Error,
    /// The mode that was tried last; none where another socket decides it.
    pub(crate) mode: Option<CopyMode>,
}

/// Fills the fill ring and binds the socket, to share the memory with `other` if there is one. When that
/// fails the socket is closed, and what was in the ring is free again: unless somebody else may have a
/// descriptor of the socket, and so can bind it yet.
pub(crate) fn bind(
    umem: &Umem,
    socket: OwnedFd,
    mut rings: Rings,
    other: Option<BorrowedFd<'_>>,
    plan: &Plan,
) -> Result<Bound, Refused> {
    // A zero-copy driver looks for memory while it is bound, and some never look again.
    let mut lent = Vec::with_capacity(plan.post as usize);
    let mut fill = rings.fill.reserve(plan.post);
    let posted = umem.lend(plan.post.min(fill.left()), |address| {
        lent.push(address);
        fill.push(address);
    });
    umem.posted(posted);
    drop(fill);
    let socket = Rc::new(socket);
    match bind_as_planned(&socket, other, plan) {
        Ok(fallback) => {
            umem.joined(&socket, plan);
            Ok(Bound { socket, rings, posted: lent.len() as u32, fallback })
        }
        Err(refused) => {
            if !plan.is_ours {
                // Whoever binds it then finds nothing to receive into; if that is going on just now, it
                // may find some.
                rings.fill.retract(lent.len() as u32);
                umem.abandon(lent.len() as u32);
                return Err(refused);
            }
            drop((socket, rings));
            for address in lent {
                // SAFETY: the kernel reads the fill ring of bound sockets only. This one never was
                // bound, and it is closed: there was no other descriptor of it.
                unsafe { umem.unlend(address) };
            }
            Err(refused)
        }
    }
}

fn bind_as_planned(
    socket: &OwnedFd,
    other: Option<BorrowedFd<'_>>,
    plan: &Plan,
) -> Result<Option<io::Error>, Refused> {
    if let Some(other) = other {
        let bound =
            patiently(plan.timeout, || sys::bind_sharing(socket.as_fd(), plan.place, other));
        return bound.map(|()| None).map_err(|source| Refused { source, mode: None });
    }
    let (first, second) = match plan.mode.first() {
        CopyMode::ZeroCopy => (CopyMode::ZeroCopy, CopyMode::Copy),
        CopyMode::Copy => (CopyMode::Copy, CopyMode::ZeroCopy),
    };
    let try_mode = |mode| {
        patiently(plan.timeout, || sys::bind(socket.as_fd(), plan.place, flags(mode, plan)))
            .map_err(|source| Refused { source, mode: Some(mode) })
    };
    match try_mode(first) {
        Ok(()) => Ok(None),
        Err(refused) if plan.mode.may_fall_back() && is_about_mode(&refused.source) => {
            try_mode(second)?;
            Ok(Some(refused.source))
        }
        Err(refused) => Err(refused),
    }
}

fn flags(mode: CopyMode, plan: &Plan) -> BindFlags {
    let mut flags = BindFlags::XDP_USE_NEED_WAKEUP;
    flags |= match mode {
        CopyMode::ZeroCopy => BindFlags::XDP_ZEROCOPY,
        CopyMode::Copy => BindFlags::XDP_COPY,
    };
    flags.set(BindFlags::XDP_USE_SG, plan.multi_buffer);
    flags
}

/// Whether another mode may be better off: the driver has no zero copy, not on this queue, not with
/// these buffers, or has no memory for it.
pub(crate) fn is_about_mode(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENODEV | libc::EPERM | libc::EACCES))
}

/// Tries again while the queue is taken: the kernel frees it some time after a socket was closed.
fn patiently(timeout: Duration, bind: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let deadline = Instant::now().checked_add(timeout);
    loop {
        match bind() {
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY)
                    && deadline.is_none_or(|deadline| Instant::now() < deadline) =>
            {
                thread::sleep(RETRY);
            }
            outcome => return outcome,
        }
    }
}
