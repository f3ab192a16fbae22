//! [`Dispatched`]: a program that shares its interface with others, through libxdp's dispatcher.
//!
//! # What the unsafe code here relies on
//!
//! - A `bpf_object` that is open and not loaded may be given to libxdp, which loads it while it
//!   attaches; it is the caller's to close, after the `xdp_program` made from it.
//! - libxdp keeps what it is told in memory of its own, except for that object. Its functions may be
//!   called on any thread, one at a time: it has static buffers, so there is a lock.
//! - Its bindings and libbpf's each declare `bpf_object`; it is one type in one libbpf.

use std::ffi::CStr;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_rs::{AsRawLibbpf as _, Object, OpenObject};
use libxdp_sys::{self as libxdp, xdp_attach_mode, xdp_program, xdp_program_opts};

use super::load::quietly;
use crate::socket::Hook;

/// The name of the program that calls the others.
pub(super) const DISPATCHER: &str = "xdp_dispatcher";

/// What the dispatcher takes.
pub(super) const NEEDS: &str = "libxdp's dispatcher needs Linux 5.10, a BPF file system (`mount -t \
                                bpf bpf /sys/fs/bpf`), and the right to load programs that replace \
                                functions of others (CAP_PERFMON or CAP_SYS_ADMIN)";

/// A program behind the dispatcher of an interface; dropping this takes it out, and the dispatcher
/// with the last one.
#[derive(Debug)]
pub(super) struct Dispatched {
    program: NonNull<xdp_program>,
    ifindex: i32,
    mode: xdp_attach_mode,
}

// SAFETY: nothing in an `xdp_program` belongs to a thread, and it is not aliased.
unsafe impl Send for Dispatched {}
// SAFETY: there is no method with a shared reference.
unsafe impl Sync for Dispatched {}

impl Dispatched {
    /// Loads the program of this name and puts it behind the dispatcher of an interface of the calling
    /// thread's namespace.
    pub(super) fn attach(
        object: OpenObject,
        name: &CStr,
        frags: bool,
        priority: u32,
        ifindex: u32,
        hook: Hook,
    ) -> io::Result<(Object, Self)> {
        let _quiet = Quiet::begin();
        let mut options = xdp_program_opts {
            sz: size_of::<xdp_program_opts>(),
            obj: object.as_libbpf_object().as_ptr().cast(),
            opts: ptr::null_mut(),
            prog_name: name.as_ptr(),
            find_filename: ptr::null(),
            open_filename: ptr::null(),
            pin_path: ptr::null(),
            id: 0,
            fd: 0,
        };
        // SAFETY: `options` states its size; object and name outlive the call.
        let made = unsafe { libxdp::xdp_program__create(&raw mut options) };
        // SAFETY: it looks at the pointer's value only.
        let failed = unsafe { libxdp::libxdp_get_error(made.cast()) };
        check(i32::try_from(failed).unwrap_or(-libc::EINVAL))?;
        let program = NonNull::new(made).ok_or(io::ErrorKind::OutOfMemory)?;
        // Closed, if nothing else, when this goes.
        let program = Handle(program);
        // SAFETY: the program is live and not loaded yet, as its object is not.
        check(unsafe { libxdp::xdp_program__set_run_prio(program.0.as_ptr(), priority) })?;
        // SAFETY: as before.
        check(unsafe { libxdp::xdp_program__set_xdp_frags_support(program.0.as_ptr(), frags) })?;
        let mode = match hook {
            Hook::Native => libxdp::xdp_attach_mode_XDP_MODE_NATIVE,
            Hook::Generic => libxdp::xdp_attach_mode_XDP_MODE_SKB,
        };
        let ifindex = ifindex.cast_signed();
        // SAFETY: the program is live; the call loads its object, which outlives it here and below.
        check(unsafe { libxdp::xdp_program__attach(program.0.as_ptr(), ifindex, mode, 0) })?;
        let attached = Self { program: program.keep(), ifindex, mode };
        // SAFETY: the call has loaded the object, and this is its only owner.
        let object = unsafe { Object::from_ptr(object.take_ptr()) };
        Ok((object, attached))
    }
}

impl Drop for Dispatched {
    fn drop(&mut self) {
        let program = self.program.as_ptr();
        // A dispatcher for the others is loaded, of which libbpf has things to say.
        quietly(|| {
            let _quiet = Quiet::begin();
            // SAFETY: the program is live. Where this fails, the interface or the dispatcher is gone.
            let _gone = unsafe { libxdp::xdp_program__detach(program, self.ifindex, self.mode, 0) };
            drop(Handle(self.program));
        });
    }
}

/// Closes the program when it goes.
struct Handle(NonNull<xdp_program>);

impl Handle {
    fn keep(self) -> NonNull<xdp_program> {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the program is live, and this is its only owner.
        unsafe { libxdp::xdp_program__close(self.0.as_ptr()) };
    }
}

/// libxdp is used by nobody else and prints nothing until this goes.
struct Quiet {
    before: libxdp::libxdp_print_fn_t,
    _alone: MutexGuard<'static, ()>,
}

impl Quiet {
    fn begin() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: no function is given that could be called.
        let before = unsafe { libxdp::libxdp_set_print(None) };
        Self { before, _alone: alone }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: the function was in use before.
        unsafe { libxdp::libxdp_set_print(self.before) };
    }
}

fn check(answer: i32) -> io::Result<()> {
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(()) }
}
