//! Programs of the kernel: attached, and run on frames that were never on a wire.
//!
//! # What the unsafe code here relies on
//!
//! libbpf's calls read and write what they are given while they run, and keep none of it. A
//! descriptor that one of them returns is new and belongs to the caller.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::libbpf_sys as sys;

/// `BPF_F_TEST_XDP_LIVE_FRAMES` of `linux/bpf.h`, Linux 5.18: the frames go where the program says.
const LIVE_FRAMES: u32 = 1 << 1;

/// A program is where it was attached until this is dropped.
#[derive(Debug)]
pub(crate) struct Attached(#[expect(dead_code, reason = "dropped, never read")] OwnedFd);

/// The index of an interface of the calling thread's network.
pub(crate) fn index(interface: &str) -> Result<u32> {
    let index = nix::net::if_::if_nametoindex(interface);
    index.with_context(|| format!("there is no interface {interface}"))
}

/// Has an XDP program see what comes to an interface, in the driver where that can.
#[cfg(feature = "peers")]
pub(crate) fn attach(program: BorrowedFd<'_>, interface: u32) -> Result<Attached> {
    link(program, interface, sys::BPF_XDP, 0).context("cannot attach an XDP program")
}

/// Has an XDP program see what comes to an interface, in the kernel's stack.
pub(crate) fn attach_generic(program: BorrowedFd<'_>, interface: u32) -> Result<Attached> {
    let attached = link(program, interface, sys::BPF_XDP, sys::XDP_FLAGS_SKB_MODE);
    attached.context("cannot attach an XDP program")
}

/// Has a program of traffic control see what comes to an interface.
pub(crate) fn attach_tcx(program: BorrowedFd<'_>, interface: u32) -> Result<Attached> {
    let attached = link(program, interface, sys::BPF_TCX_INGRESS, 0);
    attached.context("cannot attach a program to traffic control (Linux 6.6)")
}

fn link(
    program: BorrowedFd<'_>,
    interface: u32,
    place: sys::bpf_attach_type,
    flags: u32,
) -> io::Result<Attached> {
    let options = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as sys::size_t,
        flags,
        ..sys::bpf_link_create_opts::default()
    };
    let (program, interface) = (program.as_raw_fd(), interface as i32);
    // SAFETY: it takes numbers, and options that outlive the call.
    let link = unsafe { sys::bpf_link_create(program, interface, place, &raw const options) };
    // SAFETY: it is what that call has returned, and nothing else is made of it.
    unsafe { descriptor(link) }.map(Attached)
}

/// Runs an XDP program on `count` copies of `frame`, as if they had come from queue 0 of the interface; they
/// go where it sends them, `batch` (1 to 256) at a time, before this returns.
pub(crate) fn run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    interface: u32,
    count: u32,
    batch: u32,
) -> Result<()> {
    let context = sys::xdp_md {
        data_end: frame.len() as u32,
        ingress_ifindex: interface,
        ..sys::xdp_md::default()
    };
    let mut options = sys::bpf_test_run_opts {
        sz: size_of::<sys::bpf_test_run_opts>() as sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len() as u32,
        ctx_in: (&raw const context).cast(),
        ctx_size_in: size_of::<sys::xdp_md>() as u32,
        repeat: count as i32,
        flags: LIVE_FRAMES,
        batch_size: batch,
        ..sys::bpf_test_run_opts::default()
    };
    // SAFETY: frame and context are as long as the options say, and outlive the call.
    let outcome = unsafe { sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    let error = io::Error::last_os_error();
    ensure!(outcome == 0, "cannot run a program on live frames (Linux 5.18): {error}");
    Ok(())
}

/// What a call has returned: a descriptor, or less than 0 for an error.
///
/// # Safety
///
/// `outcome` is what the last call of libbpf's has returned on this thread, which makes a descriptor that is the
/// caller's; nothing else is made of it.
pub(crate) unsafe fn descriptor(outcome: i32) -> io::Result<OwnedFd> {
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open and owned by nobody yet, as the caller says: the call has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(outcome) })
}
