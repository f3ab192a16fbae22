//! The calls that the environment is made of.
//!
//! Relied on: `rte_eal_init` keeps the strings of its command line (they are leaked for it, once per
//! attempt) and none of their order; the functions that ask something may be called by any thread while
//! the environment runs, and answer with defaults before; drivers set no variables while they are loaded but
//! those of [`SET_BY_DRIVERS`].

use std::env;
use std::ffi::{CStr, CString, OsStr, c_char};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bypass_dpdk_sys as sys;

use super::Memory;
use crate::error::{DpdkError, Errno, Result};

/// Variables that drivers set as they are loaded, whether there is a card of theirs or not, and to what
/// (`drivers/common/mlx5`, `drivers/net/mlx4`).
const SET_BY_DRIVERS: [(&str, &str); 3] = [
    ("RDMAV_HUGEPAGES_SAFE", "1"),
    ("MLX5_DEVICE_FATAL_CLEANUP", "1"),
    ("MLX4_DEVICE_FATAL_CLEANUP", "1"),
];

/// Sets what drivers will set. They do it in C, which knows nothing of the lock by which Rust's threads read
/// the environment or start programs with it: a variable that is new makes a new array of all, and the old one is
/// freed. Of one that is there only the text is exchanged, for an equal one.
fn set_variables() {
    let wide = (sys::RTE_CACHE_LINE_SIZE == 128).then_some(("MLX5_CQE_SIZE", "128"));
    let wide = wide.filter(|(name, _)| env::var_os(name).is_none());
    for (name, value) in SET_BY_DRIVERS.into_iter().chain(wide) {
        if env::var_os(name).is_none_or(|there| there != value) {
            // SAFETY: all Rust code is kept out by the standard library's lock, and the C library's `setenv` has
            // one of its own. What reads the environment in C without either, on a thread beside this one, is what
            // starting DPDK does not allow on any path: its drivers would do the same to it.
            unsafe { env::set_var(name, value) };
        }
    }
}

/// Starts the environment.
pub(super) fn init(arguments: &[CString]) -> Result<(), Errno> {
    set_variables();
    let mut line: Vec<*mut c_char> =
        arguments.iter().map(|argument| argument.clone().into_raw()).collect();
    let count = i32::try_from(line.len()).unwrap_or(i32::MAX);
    line.push(std::ptr::null_mut());
    // SAFETY: `count` strings that live as long as the process, and a null behind them; the caller lets
    // one thread at a time in here.
    let code = unsafe { sys::rte_eal_init(count, line.leak().as_mut_ptr()) };
    if code >= 0 { Ok(()) } else { Err(last_errno()) }
}

/// Lets other processes ask for packets to be shown to them.
pub(super) fn allow_capture() -> Result<()> {
    // SAFETY: the environment runs.
    match unsafe { sys::rte_pdump_init() } {
        0 => Ok(()),
        _ => Err(DpdkError::refused("allow packets to be captured", last_errno().raw())),
    }
}

/// Ends the environment; the caller knows that nobody uses it.
pub(super) fn cleanup() -> i32 {
    // SAFETY: by contract.
    unsafe { sys::rte_eal_cleanup() }
}

/// What the last call on this thread left in `rte_errno`.
pub(crate) fn last_errno() -> Errno {
    // SAFETY: reads a variable of this thread.
    Errno::new(unsafe { sys::bypass_errno() })
}

/// The cores that this thread may run on.
pub(super) fn allowed_cores() -> Result<Vec<usize>> {
    bypass_core::worker::available_cores().map_err(|error| {
        let code = error.raw_os_error().unwrap_or(libc::EINVAL);
        DpdkError::refused("ask which cores this thread may run on", code)
    })
}

pub(super) fn version() -> String {
    // SAFETY: has no preconditions.
    let version = unsafe { sys::rte_version() };
    // SAFETY: it is a C string that lives as long as the library.
    let version = unsafe { CStr::from_ptr(version) };
    version.to_string_lossy().into_owned()
}

pub(super) fn runtime_folder() -> PathBuf {
    // SAFETY: has no preconditions.
    let folder = unsafe { sys::rte_eal_get_runtime_dir() };
    // SAFETY: it is a C string that lives as long as the library.
    let folder = unsafe { CStr::from_ptr(folder) };
    PathBuf::from(OsStr::from_bytes(folder.to_bytes()))
}

pub(super) fn has_huge_pages() -> bool {
    // SAFETY: has no preconditions.
    unsafe { sys::rte_eal_has_hugepages() != 0 }
}

pub(super) fn numa_nodes() -> Vec<u32> {
    // SAFETY: has no preconditions.
    let count = unsafe { sys::rte_socket_count() };
    // SAFETY: an index below the count has a node; others would answer -1.
    let node = |index| unsafe { sys::rte_socket_id_by_idx(index) };
    (0..count).filter_map(|index| u32::try_from(node(index)).ok()).collect()
}

pub(super) fn numa_node() -> Option<u32> {
    // SAFETY: reads a variable of this thread.
    let node = unsafe { sys::rte_socket_id() };
    (node != sys::SOCKET_ID_ANY.cast_unsigned()).then_some(node)
}

/// Refuses huge pages where there are none, before DPDK's one start is spent on finding out.
pub(super) fn check_huge_pages(memory: Memory) -> Result<()> {
    if memory == Memory::Ordinary {
        return Ok(());
    }
    let sizes = Path::new("/sys/kernel/mm/hugepages");
    let free = sizes.read_dir().into_iter().flatten().flatten().any(|size| {
        let free = fs::read_to_string(size.path().join("free_hugepages"));
        free.is_ok_and(|free| free.trim().parse().is_ok_and(|free: u64| free > 0))
    });
    if free {
        return Ok(());
    }
    let why = "no huge page is free; reserve some as root (`sysctl vm.nr_hugepages=512` for 1 GiB), or \
               take `Memory::Ordinary`";
    Err(DpdkError::config("memory", format!("{memory:?}"), why))
}
