//! `io_uring_enter(2)` for every kind of ring, and calls of `io_uring_register(2)` that neither the
//! `io-uring` crate nor rustix has.
//!
//! Relies on the numbers and layouts of `include/uapi/linux/io_uring.h`. The kernel reads the structures
//! inside the call, except for the [`WaitRegion`], which it reads in each `enter` that names it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::time::Duration;

use io_uring::EnterFlags;
use io_uring::squeue::Entry;
use memmap2::MmapMut;

use super::fork::{NotInChild, page_size};
use super::uring::Entered;

/// `IORING_REGISTER_IOWQ_AFF` and its opposite.
const IOWQ_AFF: u32 = 17;
const UNREGISTER_IOWQ_AFF: u32 = 18;
const RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
const CLOCK: u32 = 29;
const SEND_MSG_RING: u32 = 31;
const MEM_REGION: u32 = 34;

/// `IORING_MEM_REGION_TYPE_USER`: the memory is ours.
const TYPE_USER: u32 = 1;
/// `IORING_MEM_REGION_REG_WAIT_ARG`: times to wait are in it.
const REG_WAIT_ARG: u64 = 1;
/// `IORING_REG_WAIT_TS`: there is a time.
const REG_WAIT_TS: u32 = 1;

/// A century. The kernel adds a time to wait to its clock, in nanoseconds of 63 bits, and refuses
/// seconds beyond that with `EINVAL`.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What to wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// So many completions.
    pub(crate) want: u32,
    /// But not longer.
    pub(crate) timeout: Option<Duration>,
    /// After this, for any completion at all; zero: not.
    pub(crate) min: Duration,
}

/// How a ring is entered.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// The ring's index among those of its thread.
    registered: Option<u32>,
    pub(crate) region: Option<NotInChild<WaitRegion>>,
}

impl Control {
    pub(crate) fn enter(
        &mut self,
        ring: RawFd,
        submit: u32,
        wait: Wait,
        flags: u32,
    ) -> io::Result<Entered> {
        let arguments = RegisteredWait::new(wait);
        let extended = ExtendedArgument {
            signals: 0,
            signals_size: 0,
            min_wait_usec: arguments.min_wait_usec,
            time: if wait.timeout.is_some() {
                (&raw const arguments.time).expose_provenance() as u64
            } else {
                0
            },
        };
        let (flags, argument, size) = match &mut self.region {
            _ if wait.timeout.is_none() && wait.min.is_zero() => (flags, ptr::null(), 0),
            Some(region) => {
                region.write(&arguments);
                let flags = flags | (EnterFlags::EXT_ARG | EnterFlags::EXT_ARG_REG).bits();
                // The offset of the first of the region's arguments, in a pointer's stead.
                (flags, ptr::null(), size_of::<RegisteredWait>())
            }
            None => {
                let flags = flags | EnterFlags::EXT_ARG.bits();
                (flags, ptr::from_ref(&extended).cast(), size_of::<ExtendedArgument>())
            }
        };
        let (ring, flags) = match self.registered {
            Some(index) => (index as RawFd, flags | EnterFlags::REGISTERED_RING.bits()),
            None => (ring, flags),
        };
        let argument: *const libc::c_void = argument;
        // SAFETY: the argument is null or lives until the call returns, and so does the time that it
        // points to. What the submitted entries point to is the promise of `Uring::push`.
        let answer = unsafe {
            libc::syscall(libc::SYS_io_uring_enter, ring, submit, wait.want, flags, argument, size)
        };
        if answer >= 0 {
            return Ok(Entered::Done);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ETIME) => Ok(Entered::Done),
            Some(libc::EINTR) => Ok(Entered::Interrupted),
            Some(libc::EBUSY | libc::EAGAIN) => Ok(Entered::Busy),
            _ => Err(error),
        }
    }

    /// `IORING_REGISTER_RING_FDS`, for the calling thread.
    pub(crate) fn register_ring(&mut self, ring: RawFd) -> io::Result<()> {
        if self.registered.is_some() {
            return Ok(());
        }
        let mut update = RsrcUpdate { offset: u32::MAX, reserved: 0, data: ring as u64 };
        // SAFETY: the call takes one such structure, and writes the index it chose into it.
        unsafe { register(ring, RING_FDS, (&raw mut update).cast(), 1) }?;
        self.registered = Some(update.offset);
        Ok(())
    }

    pub(crate) fn unregister_ring(&mut self, ring: RawFd) {
        if let Some(offset) = self.registered.take() {
            let mut update = RsrcUpdate { offset, reserved: 0, data: 0 };
            // SAFETY: as above. Should it fail, the thread keeps the ring open until it exits.
            let _ = unsafe { register(ring, UNREGISTER_RING_FDS, (&raw mut update).cast(), 1) };
        }
    }
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RsrcUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct ExtendedArgument {
    signals: u64,
    signals_size: u32,
    min_wait_usec: u32,
    time: u64,
}

/// `struct io_uring_reg_wait`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct RegisteredWait {
    time: KernelTimespec,
    min_wait_usec: u32,
    flags: u32,
    signals: u64,
    signals_size: u32,
    reserved: [u32; 3],
    reserved_2: [u64; 2],
}

/// `struct __kernel_timespec`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

impl From<Duration> for KernelTimespec {
    fn from(time: Duration) -> Self {
        let time = time.min(LONGEST);
        Self { seconds: time.as_secs() as i64, nanoseconds: i64::from(time.subsec_nanos()) }
    }
}

impl RegisteredWait {
    fn new(wait: Wait) -> Self {
        Self {
            time: wait.timeout.unwrap_or_default().into(),
            min_wait_usec: u32::try_from(wait.min.as_micros()).unwrap_or(u32::MAX),
            flags: if wait.timeout.is_some() { REG_WAIT_TS } else { 0 },
            signals: 0,
            signals_size: 0,
            reserved: [0; 3],
            reserved_2: [0; 2],
        }
    }
}

/// Memory from which the kernel reads how long to wait, without copying it from the caller in each call.
#[derive(Debug)]
pub(crate) struct WaitRegion(MmapMut);

impl WaitRegion {
    /// Tells a ring that is still disabled about the memory (`IORING_REGISTER_MEM_REGION`, Linux 6.13).
    /// The kernel pins its pages, so it may be unmapped before the ring is gone.
    pub(crate) fn register(ring: BorrowedFd<'_>) -> io::Result<Self> {
        let mut map = MmapMut::map_anon(page_size())?;
        map.advise(memmap2::Advice::DontFork)?;
        let mut region = RegionDescription {
            address: map.as_mut_ptr().expose_provenance() as u64,
            size: map.len() as u64,
            flags: TYPE_USER,
            ..RegionDescription::default()
        };
        let mut registration = RegionRegistration {
            region: (&raw mut region).expose_provenance() as u64,
            flags: REG_WAIT_ARG,
            reserved: [0; 2],
        };
        // SAFETY: the call takes one such structure; it and what it points to live until it returns. The
        // kernel pins the memory and only ever reads it.
        unsafe { register(ring.as_raw_fd(), MEM_REGION, (&raw mut registration).cast(), 1) }?;
        Ok(Self(map))
    }

    fn write(&mut self, arguments: &RegisteredWait) {
        #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins with a page")]
        let place = self.0.as_mut_ptr().cast::<RegisteredWait>();
        // SAFETY: the mapping is a page, exclusive through `&mut self`; the kernel reads it only inside
        // an `enter` of the thread that holds it. Volatile, so that it is written before that.
        unsafe { place.write_volatile(*arguments) };
    }
}

/// `struct io_uring_region_desc`.
#[repr(C)]
#[derive(Debug, Default)]
struct RegionDescription {
    address: u64,
    size: u64,
    flags: u32,
    id: u32,
    offset: u64,
    reserved: [u64; 4],
}

/// `struct io_uring_mem_region_reg`.
#[repr(C)]
struct RegionRegistration {
    region: u64,
    flags: u64,
    reserved: [u64; 2],
}

/// Tells a ring by which clock its waits are measured (`IORING_REGISTER_CLOCK`, Linux 6.12).
pub(crate) fn set_clock(ring: BorrowedFd<'_>, clock: libc::clockid_t) -> io::Result<()> {
    // `struct io_uring_clock_register`.
    let mut registration = [clock as u32, 0, 0, 0];
    // SAFETY: the call takes one such structure, and asks for no count.
    unsafe { register(ring.as_raw_fd(), CLOCK, registration.as_mut_ptr().cast(), 0) }.map(drop)
}

/// Binds a ring's workers to the CPUs whose bits are set (`IORING_REGISTER_IOWQ_AFF`, Linux 5.14), or to
/// none in particular.
pub(crate) fn set_worker_cpus(ring: BorrowedFd<'_>, mask: Option<&mut [u64]>) -> io::Result<()> {
    let ring = ring.as_raw_fd();
    let answer = match mask {
        // SAFETY: the call takes a mask of so many bytes.
        Some(mask) => unsafe {
            register(ring, IOWQ_AFF, mask.as_mut_ptr().cast(), size_of_val(mask) as u32)
        },
        // SAFETY: the call takes nothing.
        None => unsafe { register(ring, UNREGISTER_IOWQ_AFF, ptr::null_mut(), 0) },
    };
    answer.map(drop)
}

/// CPUs that the machine may have, online or not.
pub(crate) fn configured_cpus() -> usize {
    // SAFETY: `sysconf` has no preconditions.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    usize::try_from(count).unwrap_or(1)
}

/// Has the kernel do what the entry says, a message to a ring, without a ring of one's own.
pub(crate) fn send_message(entry: &Entry) -> io::Result<()> {
    let entry = ptr::from_ref(entry).cast_mut().cast();
    // SAFETY: the call takes one entry, which it only reads, and -1 in a ring's stead. It does nothing
    // but what `IORING_OP_MSG_RING` does.
    unsafe { register(-1, SEND_MSG_RING, entry, 1) }.map(drop)
}

/// `io_uring_register(2)`.
///
/// # Safety
///
/// `argument` and `count` are what the call with this number takes.
pub(super) unsafe fn register(
    ring: RawFd,
    call: u32,
    argument: *mut libc::c_void,
    count: u32,
) -> io::Result<u32> {
    // SAFETY: passed on to the caller.
    let answer = unsafe { libc::syscall(libc::SYS_io_uring_register, ring, call, argument, count) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io_uring as theirs;
    use std::mem::offset_of;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<RegisteredWait>(), size_of::<theirs::io_uring_reg_wait>());
        assert_eq!(
            (offset_of!(RegisteredWait, min_wait_usec), offset_of!(RegisteredWait, flags)),
            (16, 20)
        );
        assert_eq!(size_of::<ExtendedArgument>(), size_of::<theirs::io_uring_getevents_arg>());
        assert_eq!((size_of::<RegionDescription>(), size_of::<RegionRegistration>()), (64, 32));
        assert_eq!(size_of::<RsrcUpdate>(), 16);
    }
}
