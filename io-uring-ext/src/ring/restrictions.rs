//! [`Restrictions`]: what a ring may do.

use io_uring::opcode;
use io_uring::register::Restriction;

use crate::probe::{Opcode, RegisterCall};

bitflags::bitflags! {
    /// Flags of a submission entry (`IOSQE_*` in `io_uring_enter(2)`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct EntryFlags: u8 {
        /// On a fixed file.
        const FIXED_FILE = 1 << 0;
        /// After all before it.
        const IO_DRAIN = 1 << 1;
        /// A soft link to the next.
        const IO_LINK = 1 << 2;
        /// A hard link to the next.
        const IO_HARDLINK = 1 << 3;
        /// In a worker.
        const ASYNC = 1 << 4;
        /// With a buffer of a buffer ring.
        const BUFFER_SELECT = 1 << 5;
        /// Without a completion when it succeeds.
        const CQE_SKIP_SUCCESS = 1 << 6;
    }
}

/// What a ring may do, by opcode, flag and registration (`IORING_REGISTER_RESTRICTIONS`, Linux 5.10).
/// Anything else answers `EACCES`.
///
/// ```
/// use io_uring_ext::probe::Opcode;
/// use io_uring_ext::{EntryFlags, Restrictions, Ring, op::Nop};
///
/// let ring = Ring::builder().build_disabled()?;
/// ring.restrict(&Restrictions::none().opcode(Opcode::READ).flags(EntryFlags::FIXED_FILE))?;
/// let ring = ring.enable()?;
/// ring.push(Nop::new())?.wait(None)??; // the ring itself needs it, so it is always allowed
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "restrictions do nothing until `DisabledRing::restrict`"]
pub struct Restrictions {
    opcodes: Vec<Opcode>,
    calls: Vec<RegisterCall>,
    allowed: EntryFlags,
    required: EntryFlags,
}

impl Restrictions {
    /// Nothing is allowed but what the ring itself needs to end: cancelling, and nops. Not even a
    /// registration: [`Ring::poll_fd`](super::Ring::poll_fd), tables and buffer rings need theirs.
    pub fn none() -> Self {
        Self::default()
    }

    /// Allows an operation.
    pub fn opcode(mut self, opcode: Opcode) -> Self {
        self.opcodes.push(opcode);
        self
    }

    /// Allows a registration.
    pub fn register(mut self, call: RegisterCall) -> Self {
        self.calls.push(call);
        self
    }

    /// Allows flags of entries.
    pub fn flags(mut self, flags: EntryFlags) -> Self {
        self.allowed |= flags;
        self
    }

    /// Demands flags of every entry. The ring's own cancels have none, so with this nothing can be
    /// cancelled, and dropping the ring waits for what is in flight up to its
    /// [deadline](super::RingBuilder::shutdown_deadline).
    pub fn require(mut self, flags: EntryFlags) -> Self {
        self.required |= flags;
        self
    }

    pub(super) fn list(&self) -> Vec<Restriction> {
        let own = [opcode::AsyncCancel::CODE, opcode::Nop::CODE];
        let opcodes = own.into_iter().chain(self.opcodes.iter().map(|opcode| opcode.code()));
        let calls = self.calls.iter().map(|call| Restriction::register_op(call.code()));
        // Were none named, the kernel would take that for no restriction of this kind.
        let enable = Restriction::register_op(RegisterCall::REGISTER_ENABLE_RINGS.code());
        opcodes
            .map(Restriction::sqe_op)
            .chain(calls)
            .chain([
                enable,
                Restriction::sqe_flags_allowed(self.allowed.bits()),
                Restriction::sqe_flags_required(self.required.bits()),
            ])
            .collect()
    }
}
