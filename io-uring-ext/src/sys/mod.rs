//! The raw layer: everything here that is `unsafe` says what it relies on, and nothing above this
//! folder talks to the kernel's memory.
//!
//! - [`queued_entries`]: queued submission entries, to be changed before the kernel takes them.
//! - [`uring`]: submission and completion queue, `enter`, `register`.
//! - [`entry_fields`]: fields of a submission entry that the `io-uring` crate cannot set.
//! - [`payload`]: places for operations of any type, at fixed addresses.
//! - [`buf_ring`]: the shared memory of a provided-buffer ring.
//! - [`control`]: `enter` for every kind of ring, and registrations that no crate has.
//! - [`setup`]: rings that the `io-uring` crate's builder cannot make.
//! - [`arena`]: page-aligned memory cut into equal pieces.
//! - [`fork`]: knowing that one is the child.
//! - [`register`]: registrations that the `io-uring` crate has no call for.
//! - [`socket_address`]: `sockaddr_storage` to and from `SocketAddr`.

#[expect(unsafe_code, reason = "hands out exclusive pieces of one mapping")]
pub(crate) mod arena;
#[expect(unsafe_code, reason = "writes memory that the kernel reads, and publishes it")]
pub(crate) mod buf_ring;
#[expect(unsafe_code, reason = "hands structures to the kernel that no crate has")]
pub(crate) mod control;
#[expect(unsafe_code, reason = "writes fields of a submission entry by their offset")]
pub(crate) mod entry_fields;
#[expect(unsafe_code, reason = "marks a page to be wiped in a forked child")]
pub(crate) mod fork;
#[expect(unsafe_code, reason = "stores operations of any type inline, by hand-written vtable")]
pub(crate) mod payload;
#[expect(unsafe_code, reason = "changes submission entries in shared memory")]
pub(crate) mod queued_entries;
#[expect(unsafe_code, reason = "hands structures to the kernel that its own crate does not have")]
pub(crate) mod register;
#[expect(unsafe_code, reason = "makes and maps rings from their raw parameters")]
pub(crate) mod setup;
#[expect(unsafe_code, reason = "the bytes of a socket address are read by its family")]
pub(crate) mod socket_address;
#[expect(unsafe_code, reason = "publishes submission entries whose pointers the kernel follows")]
pub(crate) mod uring;
