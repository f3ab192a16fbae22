//! Files: everything that is done to them through a ring but reading.
//!
//! An operation owns its paths, names and result buffers along with its descriptor.

mod allocate;
mod close;
mod names;
mod open;
mod path;
mod stat;
mod sync;
mod vectored;
mod write;
mod xattr;

pub use allocate::{Advice, Advise, Allocate, AllocateMode, Truncate};
pub use close::{Close, CloseSlot};
pub use names::{HardLink, MakeDir, Rename, RenameMode, Symlink, Unlink};
pub use open::{Open, OpenInSlot, OpenOptions, Resolve};
pub use path::PathAt;
pub use stat::{DirectIo, Metadata, Statx};
pub use sync::{Fsync, SyncRange, SyncRangeMode};
pub use vectored::{ReadVectored, Vectored, WriteVectored};
pub(super) use write::POSITION;
pub use write::{RwFlags, Write, WriteDone};
pub use xattr::{GetXattr, SetXattr, XattrMode};

/// Operations that succeed or fail, and bring nothing else.
macro_rules! succeeds_or_fails {
    ($($operation:ty),+) => {$(
        impl $crate::op::Operation for $operation {
            type Output = std::io::Result<()>;

            fn complete(self, completions: $crate::op::Completions) -> std::io::Result<()> {
                completions.result_or(0).map(drop)
            }
        }
    )+};
}
use succeeds_or_fails;
