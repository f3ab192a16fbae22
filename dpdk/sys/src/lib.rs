//! Raw bindings to [DPDK](https://www.dpdk.org) 22.11 and newer, as `bypass-dpdk` needs them.
//!
//! ```
//! // SAFETY: asks for a string that lives as long as the library.
//! let version = unsafe { std::ffi::CStr::from_ptr(bypass_dpdk_sys::rte_version()) };
//! assert!(version.to_string_lossy().starts_with("DPDK "));
//! ```
//!
//! Everything here is as DPDK has it, under its names; [its documentation](https://doc.dpdk.org/api/)
//! says what each function needs. Three things are this crate's own:
//!
//! - `bypass_*`: what DPDK has as inline functions and thread-local variables, as functions. None
//!   belongs into a loop over packets.
//! - [`mbuf`]: the fields of an mbuf, reached by offsets that the C compiler computed, because their
//!   names differ between versions.
//! - The cfgs `dpdk_23_03` to `dpdk_25_11`, each set from that release on. A crate that depends on
//!   this one reads the version in its build script, as `DEP_DPDK_VERSION`.
//!
//! # Building
//!
//! It needs pkg-config, DPDK with its headers (Debian: `libdpdk-dev`), a C compiler and libclang.
//! DPDK is linked shared, and loads its drivers itself. The feature `static` links it into the program
//! with the drivers that the variable `BYPASS_DPDK_DRIVERS` names.

#[allow(
    unsafe_code,
    missing_docs,
    missing_debug_implementations,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::missing_safety_doc,
    clippy::ptr_as_ptr,
    clippy::borrow_as_ptr,
    reason = "generated from C"
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}
pub mod mbuf;

pub use bindings::*;
