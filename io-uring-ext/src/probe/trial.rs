//! Trying things out on rings of the probe's own, and taking them back.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_uring::types::{CancelBuilder, IOU_PBUF_RING_INC, Napi};
use io_uring::{IoUring, Submitter};

use super::names::RegisterCall;
use crate::sys::{buf_ring, control, setup};

const CQSIZE: u32 = 1 << 3;
const SQPOLL: u32 = 1 << 1;
const SINGLE_ISSUER: u32 = 1 << 12;
const DEFER_TASKRUN: u32 = 1 << 13;
const REGISTERED_FD_ONLY: u32 = 1 << 15;
const NO_MMAP: u32 = 1 << 14;

/// Tries a ring with one setup flag, and those that the flag needs.
pub(super) fn setup(flag: u32, other: &IoUring) -> io::Result<()> {
    const IOPOLL: u32 = 1 << 0;
    const SQ_AFF: u32 = 1 << 2;
    const ATTACH_WQ: u32 = 1 << 5;
    const COOP_TASKRUN: u32 = 1 << 8;
    const TASKRUN_FLAG: u32 = 1 << 9;
    const HYBRID_IOPOLL: u32 = 1 << 17;

    let flags = match flag {
        SQ_AFF => flag | SQPOLL,
        TASKRUN_FLAG => flag | COOP_TASKRUN,
        DEFER_TASKRUN => flag | SINGLE_ISSUER,
        HYBRID_IOPOLL => flag | IOPOLL,
        // A ring without a descriptor would have to be closed in another way; the flag came with this
        // one, in the same release.
        REGISTERED_FD_ONLY => NO_MMAP,
        _ => flag,
    };
    if flags & NO_MMAP != 0 {
        return setup::try_no_mmap();
    }
    let mut parameters = setup::parameters(flags, 8);
    if flags & CQSIZE == 0 {
        parameters.cq_entries = 0;
    }
    if flag == ATTACH_WQ {
        parameters.wq_fd = other.as_raw_fd();
    }
    setup::try_open(4, parameters)
}

/// How many register calls the kernel knows: their numbers are all below. Linux 5.10 and later.
pub(super) fn known_calls() -> io::Result<u8> {
    let ring: IoUring = IoUring::builder().setup_r_disabled().build(4)?;
    for code in (0..=63).rev() {
        let restriction = io_uring::register::Restriction::register_op(code);
        match ring.submitter().register_restrictions(&mut [restriction]) {
            Ok(()) => return Ok(code + 1),
            // There is no such call; the ring is as it was.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(0)
}

/// Makes a call that the kernel knows, where it can be taken back and disturbs nobody. For the others
/// knowing it is all that can be told.
pub(super) fn register(call: RegisterCall, ring: &IoUring) -> io::Result<()> {
    type Call = RegisterCall;
    let submitter = ring.submitter();
    match call {
        Call::REGISTER_EVENTFD | Call::UNREGISTER_EVENTFD => eventfd(&submitter),
        Call::REGISTER_FILES2 => {
            submitter.register_files_sparse(4)?;
            submitter.unregister_files()
        }
        Call::REGISTER_BUFFERS2 => {
            submitter.register_buffers_sparse(4)?;
            submitter.unregister_buffers()
        }
        Call::REGISTER_PERSONALITY | Call::UNREGISTER_PERSONALITY => {
            let personality = submitter.register_personality()?;
            submitter.unregister_personality(personality)
        }
        Call::REGISTER_IOWQ_MAX_WORKERS => submitter.register_iowq_max_workers(&mut [0, 0]),
        Call::REGISTER_RING_FDS | Call::UNREGISTER_RING_FDS => {
            let mut control = control::Control::default();
            control.register_ring(ring.as_raw_fd())?;
            control.unregister_ring(ring.as_raw_fd());
            Ok(())
        }
        Call::REGISTER_PBUF_RING | Call::UNREGISTER_PBUF_RING => {
            buf_ring::try_register(&submitter, 0)
        }
        Call::REGISTER_SYNC_CANCEL => {
            match submitter.register_sync_cancel(None, CancelBuilder::any()) {
                // There was nothing to cancel: the call exists.
                Err(errno) if errno.raw_os_error() == Some(libc::ENOENT) => Ok(()),
                other => other,
            }
        }
        Call::REGISTER_NAPI | Call::UNREGISTER_NAPI => {
            submitter.register_napi(&mut Napi::new().set_busy_poll_timeout(1))?;
            submitter.unregister_napi(&mut Napi::new())
        }
        Call::REGISTER_CLOCK => control::set_clock(fd(ring), libc::CLOCK_MONOTONIC),
        Call::REGISTER_MEM_REGION => {
            let ring: IoUring = IoUring::builder().setup_r_disabled().build(4)?;
            control::WaitRegion::register(fd(&ring)).map(drop)
        }
        Call::REGISTER_RESIZE_RINGS => {
            let mut builder = IoUring::builder();
            builder.setup_single_issuer().setup_defer_taskrun().setup_no_sqarray();
            let ring = builder.build(4)?;
            let duplicate = fd(&ring).try_clone_to_owned()?;
            match setup::resize(ring.params(), duplicate, 8, 16) {
                Ok(_) => Ok(()),
                Err(setup::NotResized::Unchanged(error) | setup::NotResized::Lost(error)) => {
                    Err(error)
                }
            }
        }
        _ => Ok(()),
    }
}

fn fd(ring: &IoUring) -> BorrowedFd<'_> {
    setup::fd(ring)
}

fn eventfd(submitter: &Submitter<'_>) -> io::Result<()> {
    let fd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    submitter.register_eventfd(fd.as_fd().as_raw_fd())?;
    submitter.unregister_eventfd()
}

type Attempt = fn(&IoUring) -> io::Result<()>;

/// What has no name of its own in the interface.
pub(super) const BEHAVIOURS: &[(&str, (u32, u32), Attempt)] = &[
    ("cancel everything", (6, 0), |ring| register(RegisterCall::REGISTER_SYNC_CANCEL, ring)),
    ("multishot recvmsg", (6, 0), |_| multishot()),
    ("incremental buffer ring", (6, 12), |ring| {
        buf_ring::try_register(&ring.submitter(), IOU_PBUF_RING_INC as u16)
    }),
];

/// Arms one on a socket where nothing comes: a kernel that does not know it answers `EINVAL` at once.
fn multishot() -> io::Result<()> {
    use crate::buf::BufPool;
    use crate::buf_ring::{BufRing, MessageLayout};
    use crate::{DatagramFd, Error, Ring};

    let wrap = |error: Error| match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error),
    };
    let ring = Ring::builder().entries(4).build_shared().map_err(wrap)?;
    let buffers = BufRing::new(&ring, 1, BufPool::shared(256, 1)?).map_err(wrap)?;
    let socket = DatagramFd::new(std::os::unix::net::UnixDatagram::unbound()?)?;
    let mut receiver = buffers.message_receiver(&socket, MessageLayout::new(0, 0));
    receiver.try_recv().map_err(wrap).map(drop)
}
