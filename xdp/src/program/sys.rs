//! Calls of libbpf that its safe wrapper does not have.
//!
//! # What the unsafe code here relies on
//!
//! Every function called here reads and writes what its arguments point to while the call lasts, and
//! keeps none of it. Structures with a size as their first member are read and written up to that
//! size; all of them are integers throughout, so that zeros and whatever the kernel writes are valid.
//! A negative answer is an error number (libbpf 1.0).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use libbpf_rs::libbpf_sys::{
    self, bpf_link_create_opts, bpf_map_info, bpf_prog_info, bpf_xdp_attach_opts,
    bpf_xdp_query_opts,
};

/// Attaches a program to an interface of the calling thread's namespace (`BPF_LINK_CREATE`).
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let options = bpf_link_create_opts {
        sz: size_of::<bpf_link_create_opts>() as _,
        flags,
        ..bpf_link_create_opts::default()
    };
    let (program, ifindex) = (program.as_raw_fd(), ifindex.cast_signed());
    // SAFETY: `options` is whole, states its size, and outlives the call.
    let answer = unsafe {
        libbpf_sys::bpf_link_create(program, ifindex, libbpf_sys::BPF_XDP, &raw const options)
    };
    owned(answer)
}

/// Takes a link's program off its interface, even where the descriptor has duplicates.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: it takes no pointer.
    check(unsafe { libbpf_sys::bpf_link_detach(link.as_raw_fd()) })
}

/// The identity of the programs on an interface of the calling thread's namespace: native, generic.
pub(super) fn attached(ifindex: u32) -> io::Result<(u32, u32)> {
    let mut options = bpf_xdp_query_opts {
        sz: size_of::<bpf_xdp_query_opts>() as _,
        ..bpf_xdp_query_opts::default()
    };
    // SAFETY: `options` is whole, states its size, and outlives the call.
    let answer = unsafe { libbpf_sys::bpf_xdp_query(ifindex.cast_signed(), 0, &raw mut options) };
    check(answer)?;
    Ok((options.drv_prog_id.max(options.hw_prog_id), options.skb_prog_id))
}

/// Opens a program by its identity.
pub(super) fn program(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: it takes no pointer.
    owned(unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) })
}

/// Takes this program off an interface of the calling thread's namespace, and no other one
/// (`XDP_FLAGS_REPLACE`, Linux 5.7).
pub(super) fn detach(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<()> {
    let options = bpf_xdp_attach_opts {
        sz: size_of::<bpf_xdp_attach_opts>() as _,
        old_prog_fd: program.as_raw_fd(),
        ..bpf_xdp_attach_opts::default()
    };
    // SAFETY: `options` is whole, states its size, and outlives the call.
    let answer =
        unsafe { libbpf_sys::bpf_xdp_detach(ifindex.cast_signed(), flags, &raw const options) };
    check(answer)
}

/// The kernel's number of a program.
pub(super) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    program_info(program).map(|info| info.id)
}

/// A program's name.
pub(super) fn program_name(program: BorrowedFd<'_>) -> io::Result<String> {
    let name = program_info(program)?.name.map(|byte| byte as u8);
    Ok(name.split(|byte| *byte == 0).next().map(String::from_utf8_lossy).unwrap_or_default().into())
}

fn program_info(program: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    let mut info = bpf_prog_info::default();
    let mut size = size_of::<bpf_prog_info>() as u32;
    let fd = program.as_raw_fd();
    // SAFETY: the kernel reads and writes `size` bytes of `info`, which is so large; its pointers
    // are null, which asks for nothing behind them.
    let answer = unsafe { libbpf_sys::bpf_prog_get_info_by_fd(fd, &raw mut info, &raw mut size) };
    check(answer)?;
    Ok(info)
}

/// A map that was found to be of type `BPF_MAP_TYPE_XSKMAP`, whose keys and values are 4 bytes
/// (`xsk_map_alloc` in `net/xdp/xskmap.c`).
#[derive(Debug)]
pub(super) struct SocketMap {
    map: OwnedFd,
    pub(super) entries: u32,
}

impl SocketMap {
    /// Looks at a map; `Err` with its type when it is of another.
    pub(super) fn new(map: OwnedFd) -> io::Result<Result<Self, u32>> {
        let mut info = bpf_map_info::default();
        let mut size = size_of::<bpf_map_info>() as u32;
        let fd = map.as_raw_fd();
        // SAFETY: the kernel writes at most `size` bytes of `info`, which is so large.
        let answer =
            unsafe { libbpf_sys::bpf_map_get_info_by_fd(fd, &raw mut info, &raw mut size) };
        check(answer)?;
        // A program's type can be the same number; it has no sizes there.
        Ok(match info.type_ {
            libbpf_sys::BPF_MAP_TYPE_XSKMAP if (info.key_size, info.value_size) == (4, 4) => {
                Ok(Self { map, entries: info.max_entries })
            }
            other => Err(other),
        })
    }

    /// Sets an entry, of which there is none yet.
    pub(super) fn insert(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let (map, socket) = (self.map.as_raw_fd(), socket.as_raw_fd());
        let (key, value) = ((&raw const queue).cast(), (&raw const socket).cast());
        let flags = libbpf_sys::BPF_NOEXIST.into();
        // SAFETY: the kernel reads 4 bytes of key and value each, and so many they have.
        check(unsafe { libbpf_sys::bpf_map_update_elem(map, key, value, flags) })
    }

    /// Removes an entry.
    pub(super) fn remove(&self, queue: u32) -> io::Result<()> {
        let key = (&raw const queue).cast();
        // SAFETY: the kernel reads 4 bytes of the key, and so many it has.
        check(unsafe { libbpf_sys::bpf_map_delete_elem(self.map.as_raw_fd(), key) })
    }
}

impl AsFd for SocketMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

/// Opens what is pinned under a path of a BPF file system.
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a zero and outlives the call.
    let answer = unsafe { libbpf_sys::bpf_obj_get(path.as_ptr()) };
    owned(answer)
}

fn check(answer: i32) -> io::Result<()> {
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(()) }
}

/// Takes a descriptor that a call has just made.
fn owned(answer: i32) -> io::Result<OwnedFd> {
    check(answer)?;
    // SAFETY: the kernel has just made this descriptor for the caller, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}
