//! XDP programs of a few instructions, and runs of them on frames that were never on a wire: the
//! traffic source.
//!
//! # What the unsafe code here relies on
//!
//! libbpf's calls read and write what they are given while they run, and keep none of it. A
//! descriptor that one of them returns is new and belongs to the caller.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;

use anyhow::{Context as _, Result};
use bypass_xdp::program::XskMap;
use libbpf_rs::libbpf_sys as sys;

use crate::generator::live::{self, Attached, descriptor};

/// Frames of a test run that are given to the driver in one go: what a poll of a driver takes, too.
const BATCH: u32 = 64;

/// What becomes of a frame (`enum xdp_action` of `linux/bpf.h`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    Drop = 1,
    Pass = 2,
}

/// An instruction (`struct bpf_insn` of `linux/bpf.h`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    value: i32,
}

/// `rN = value`, `call value`, `exit`, and both halves of `rN = map`.
const MOVE: u8 = 0xb7;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const LOAD: u8 = 0x18;
/// The source of a [`LOAD`] whose value is a map's descriptor (`BPF_PSEUDO_MAP_FD`).
const MAP: u8 = 1;
/// `bpf_redirect_map`.
const REDIRECT_MAP: i32 = 51;

fn instruction(code: u8, registers: u8, value: i32) -> Instruction {
    Instruction { code, registers, offset: 0, value }
}

/// An XDP program.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

impl Program {
    /// Does the same with every frame.
    pub(crate) fn verdict(verdict: Verdict) -> Result<Self> {
        Self::load(&[instruction(MOVE, 0, verdict as i32), instruction(EXIT, 0, 0)])
    }

    /// Gives every frame to the socket of queue 0, and those that it has none for to the kernel.
    pub(crate) fn redirect(map: &XskMap) -> Result<Self> {
        Self::load(&[
            instruction(LOAD, MAP << 4 | 1, map.as_fd().as_raw_fd()),
            instruction(0, 0, 0),
            instruction(MOVE, 2, 0),
            instruction(MOVE, 3, Verdict::Pass as i32),
            instruction(CALL, 0, REDIRECT_MAP),
            instruction(EXIT, 0, 0),
        ])
    }

    fn load(instructions: &[Instruction]) -> Result<Self> {
        let (kind, license) = (sys::BPF_PROG_TYPE_XDP, c"GPL".as_ptr());
        // SAFETY: the instructions are that many, laid out as the kernel has them; the strings end
        // with a zero; options may be missing.
        let program = unsafe {
            sys::bpf_prog_load(
                kind,
                c"bench".as_ptr(),
                license,
                instructions.as_ptr().cast(),
                instructions.len() as sys::size_t,
                ptr::null_mut(),
            )
        };
        // SAFETY: it is what that call has returned, and nothing else is made of it.
        let program = unsafe { descriptor(program) };
        Ok(Self(program.context("cannot load an XDP program (it takes root)")?))
    }

    /// Attaches it to an interface, in the driver where that can.
    pub(crate) fn attach(&self, interface: u32) -> Result<Attached> {
        live::attach(self.0.as_fd(), interface)
    }

    /// Runs it on `count` copies of `frame`, as if they had come from queue 0 of the interface; they
    /// go where it sends them, before this returns.
    pub(crate) fn run(&self, frame: &[u8], interface: u32, count: u32) -> Result<()> {
        live::run(self.0.as_fd(), frame, interface, count, BATCH)
    }
}

/// A map with a socket for queue 0.
pub(crate) fn socket_map() -> Result<XskMap> {
    let (kind, name) = (sys::BPF_MAP_TYPE_XSKMAP, c"bench".as_ptr());
    // SAFETY: the name ends with a zero; options may be missing.
    let map = unsafe { sys::bpf_map_create(kind, name, 4, 4, 1, ptr::null()) };
    // SAFETY: it is what that call has returned, and nothing else is made of it.
    let map = unsafe { descriptor(map) };
    Ok(XskMap::from_fd(map.context("cannot make an XSKMAP (it takes root)")?)?)
}

/// A descriptor that a peer owns and names by number.
///
/// # Safety
///
/// It must stay open for as long as the result is used.
pub(crate) unsafe fn borrowed<'a>(descriptor: i32) -> BorrowedFd<'a> {
    // SAFETY: the caller says that it is open.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}
