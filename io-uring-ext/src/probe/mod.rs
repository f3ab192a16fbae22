//! [`Probe`]: what io_uring can do here, and who refuses the rest.
//!
//! An opcode is asked for with `IORING_REGISTER_PROBE`, a feature is read from the ring's parameters,
//! and what neither tells is tried: a ring with the flags, a registration that is taken back. The
//! operations listed are those of this crate.

mod refusal;

use std::fmt;
use std::os::fd::AsRawFd;

use io_uring::types::{CancelBuilder, IOU_PBUF_RING_INC};
use io_uring::{IoUring, Parameters, opcode};

pub use refusal::Refusal;

use crate::sys::buf_ring;

/// What io_uring can do here.
///
/// ```
/// let probe = io_uring_ext::probe::Probe::run();
/// println!("{probe}"); // one line each: available, or refused and why
/// if let Err(refusal) = probe.get("multishot recvmsg") {
///     println!("falling back to plain sockets: {refusal}");
/// }
/// ```
#[derive(Debug)]
pub struct Probe {
    capabilities: Vec<Capability>,
}

/// One thing that a kernel may have.
#[derive(Debug)]
#[non_exhaustive]
pub struct Capability {
    /// What it is.
    pub name: &'static str,
    /// The first kernel that has it.
    pub since: (u32, u32),
    /// Whether this one has it, for this process.
    pub verdict: Result<(), Refusal>,
}

impl Probe {
    /// Asks and tries everything. Takes about a millisecond, leaves nothing behind.
    pub fn run() -> Self {
        let mut probe = Self { capabilities: Vec::new() };
        match IoUring::new(4) {
            Ok(ring) => {
                probe.note("ring", (5, 1), Ok(()));
                probe.opcodes(&ring);
                probe.features(ring.params());
                probe.registrations(&ring);
            }
            // Nothing else can be had either, for the same reason.
            Err(errno) => probe.note("ring", (5, 1), Err(Refusal::of_setup(errno, (5, 1)))),
        }
        probe.setups();
        probe
    }

    /// Everything that was looked at.
    pub fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }

    /// Whether a capability is there.
    ///
    /// # Errors
    ///
    /// The refusal; also for a name that is not among the [`capabilities`](Self::capabilities), which
    /// they all are not when there is no ring at all.
    pub fn get(&self, name: &str) -> Result<(), &Refusal> {
        match self.capabilities.iter().find(|capability| capability.name == name) {
            Some(capability) => capability.verdict.as_ref().copied(),
            None => self
                .capabilities
                .iter()
                .find_map(|capability| capability.verdict.as_ref().err())
                .map_or(Ok(()), Err),
        }
    }

    fn note(&mut self, name: &'static str, since: (u32, u32), verdict: Result<(), Refusal>) {
        self.capabilities.push(Capability { name, since, verdict });
    }

    fn opcodes(&mut self, ring: &IoUring) {
        let mut answer = io_uring::Probe::new();
        let asked = ring.submitter().register_probe(&mut answer);
        for (name, code, since) in [
            ("nop", opcode::Nop::CODE, (5, 1)),
            ("timeout", opcode::Timeout::CODE, (5, 4)),
            ("cancel", opcode::AsyncCancel::CODE, (5, 5)),
            ("read", opcode::Read::CODE, (5, 6)),
            ("write", opcode::Write::CODE, (5, 6)),
            ("vectored read", opcode::Readv::CODE, (5, 1)),
            ("vectored write", opcode::Writev::CODE, (5, 1)),
            ("open", opcode::OpenAt2::CODE, (5, 6)),
            ("close", opcode::Close::CODE, (5, 6)),
            ("statx", opcode::Statx::CODE, (5, 6)),
            ("fsync", opcode::Fsync::CODE, (5, 1)),
            ("sync range", opcode::SyncFileRange::CODE, (5, 2)),
            ("allocate", opcode::Fallocate::CODE, (5, 6)),
            ("truncate", opcode::Ftruncate::CODE, (6, 9)),
            ("file advice", opcode::Fadvise::CODE, (5, 6)),
            ("rename", opcode::RenameAt::CODE, (5, 11)),
            ("unlink", opcode::UnlinkAt::CODE, (5, 11)),
            ("make directory", opcode::MkDirAt::CODE, (5, 15)),
            ("symbolic link", opcode::SymlinkAt::CODE, (5, 15)),
            ("hard link", opcode::LinkAt::CODE, (5, 15)),
            ("get attribute", opcode::FGetXattr::CODE, (5, 19)),
            ("set attribute", opcode::FSetXattr::CODE, (5, 19)),
            ("splice", opcode::Splice::CODE, (5, 7)),
            ("tee", opcode::Tee::CODE, (5, 8)),
            ("pipe", opcode::Pipe::CODE, (6, 16)),
            ("futex wait", opcode::FutexWait::CODE, (6, 7)),
            ("futex wake", opcode::FutexWake::CODE, (6, 7)),
            ("futex waitv", opcode::FutexWaitV::CODE, (6, 7)),
            ("waitid", opcode::WaitId::CODE, (6, 7)),
            ("send", opcode::Send::CODE, (5, 6)),
            ("sendmsg", opcode::SendMsg::CODE, (5, 3)),
            ("recv", opcode::Recv::CODE, (5, 6)),
            ("recvmsg", opcode::RecvMsg::CODE, (5, 3)),
            ("zero-copy send", opcode::SendZc::CODE, (6, 0)),
            ("zero-copy sendmsg", opcode::SendMsgZc::CODE, (6, 1)),
        ] {
            let verdict = match &asked {
                Ok(()) if answer.is_supported(code) => Ok(()),
                Ok(()) => Err(Refusal::missing(since)),
                Err(errno) => Err(Refusal::of_register(copy(errno), (5, 6))),
            };
            self.note(name, since, verdict);
        }
    }

    fn features(&mut self, parameters: &Parameters) {
        for (name, there, since) in [
            ("completions are never dropped", parameters.is_feature_nodrop(), (5, 5)),
            ("wait with a timeout", parameters.is_feature_ext_arg(), (5, 11)),
            ("silent success", parameters.is_feature_skip_cqe_on_success(), (5, 17)),
            ("bundles", parameters.is_feature_recvsend_bundle(), (6, 10)),
            ("minimum wait", parameters.is_feature_min_timeout(), (6, 12)),
        ] {
            self.note(name, since, if there { Ok(()) } else { Err(Refusal::missing(since)) });
        }
    }

    fn registrations(&mut self, ring: &IoUring) {
        let submitter = ring.submitter();
        let mut tried = |name, since, answer: std::io::Result<()>| {
            self.note(name, since, answer.map_err(|errno| Refusal::of_register(errno, since)));
        };
        tried("eventfd", (5, 2), try_eventfd(ring));
        tried("buffer ring", (5, 19), buf_ring::try_register(&submitter, 0));
        let cancelled = submitter.register_sync_cancel(None, CancelBuilder::any());
        tried(
            "cancel everything",
            (6, 0),
            match cancelled {
                // There was nothing to cancel: the call exists.
                Err(errno) if errno.raw_os_error() == Some(libc::ENOENT) => Ok(()),
                other => other,
            },
        );
        tried("multishot recvmsg", (6, 0), try_multishot());
        tried(
            "incremental buffer ring",
            (6, 12),
            buf_ring::try_register(&submitter, IOU_PBUF_RING_INC as u16),
        );
        let files = submitter.register_files_sparse(4).and_then(|()| submitter.unregister_files());
        tried("fixed file table", (5, 19), files);
        let buffers =
            submitter.register_buffers_sparse(4).and_then(|()| submitter.unregister_buffers());
        tried("registered buffer table", (5, 19), buffers);
    }

    fn setups(&mut self) {
        let mut tried = |name, since, configure: fn(&mut io_uring::Builder)| {
            let mut builder = IoUring::builder();
            configure(&mut builder);
            let answer = builder.build(4).map(drop);
            self.note(name, since, answer.map_err(|errno| Refusal::of_setup(errno, since)));
        };
        tried("SQPOLL", (5, 11), |builder| {
            builder.setup_sqpoll(1);
        });
        tried("single issuer", (6, 0), |builder| {
            builder.setup_single_issuer();
        });
        tried("deferred task work", (6, 1), |builder| {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        });
        tried("no submission array", (6, 6), |builder| {
            builder.setup_no_sqarray();
        });
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Capability { name, since: (major, minor), verdict } in &self.capabilities {
            writeln!(f, "{name:<32} {major}.{minor:<4} {}", refusal::Verdict(verdict))?;
        }
        Ok(())
    }
}

fn try_eventfd(ring: &IoUring) -> std::io::Result<()> {
    let fd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    ring.submitter().register_eventfd(fd.as_raw_fd())?;
    ring.submitter().unregister_eventfd()
}

/// Arms one on a socket where nothing comes: a kernel that does not know it answers `EINVAL` at once.
fn try_multishot() -> std::io::Result<()> {
    use crate::buf::BufPool;
    use crate::buf_ring::{BufRing, MessageLayout};
    use crate::{DatagramFd, Error, Ring};

    let wrap = |error: Error| match error.raw_os_error() {
        Some(errno) => std::io::Error::from_raw_os_error(errno),
        None => std::io::Error::other(error),
    };
    let ring = Ring::builder().entries(4).build_shared().map_err(wrap)?;
    let buffers = BufRing::new(&ring, 1, BufPool::shared(256, 1)?).map_err(wrap)?;
    let socket = DatagramFd::new(std::os::unix::net::UnixDatagram::unbound()?)?;
    let mut receiver = buffers.message_receiver(&socket, MessageLayout::new(0, 0));
    receiver.try_recv().map_err(wrap).map(drop)
}

fn copy(errno: &std::io::Error) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno.raw_os_error().unwrap_or(0))
}
