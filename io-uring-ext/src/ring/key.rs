//! The 64 bits that an operation and its completions share.

/// Which operation: a place in the slab, and how many times that place had been used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What a completion is about.
///
/// Each kind has its own number, so that one completion queue serves them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// An operation in the slab.
    Operation = 1,
    /// A request to cancel the operation of this key; owns nothing.
    Cancel = 2,
    /// A request to cancel many; owns nothing, has no key.
    CancelMany = 3,
    /// Nothing but a completion, to wake who polls; has no key.
    Wake = 4,
    /// The kernel is done with a file that was in the slot of this key.
    File = 5,
    /// The kernel is done with memory that was in the slot of this key.
    Buffer = 6,
    /// A number from another ring; its upper half and the inbox are in the stead of a key.
    Message = 7,
    /// A file from another ring; its tag and the inbox are in the stead of a key.
    FileMessage = 8,
}

/// Bits of `user_data` for the index.
const INDEX_BITS: u32 = 24;

/// Operations in flight at once, at most.
pub(crate) const MAX_OPERATIONS: u32 = 1 << INDEX_BITS;

/// `kind (8) | generation (32) | index (24)`.
///
/// A completion that arrives after its place was given to another operation differs in the
/// generation; it would take 2³² operations in one place, all while one completion waits, to fool it.
pub(crate) fn encode(kind: Kind, key: Key) -> u64 {
    debug_assert!(key.index < MAX_OPERATIONS);
    (kind as u64) << 56 | u64::from(key.generation) << INDEX_BITS | u64::from(key.index)
}

/// `None` for a number that [`encode`] never makes.
pub(crate) fn decode(user_data: u64) -> Option<(Kind, Key)> {
    let kind = match user_data >> 56 {
        1 => Kind::Operation,
        2 => Kind::Cancel,
        3 => Kind::CancelMany,
        4 => Kind::Wake,
        5 => Kind::File,
        6 => Kind::Buffer,
        7 => Kind::Message,
        8 => Kind::FileMessage,
        _ => return None,
    };
    let index = (user_data & u64::from(MAX_OPERATIONS - 1)) as u32;
    let generation = (user_data >> INDEX_BITS) as u32;
    Some((kind, Key { index, generation }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn user_data_reads_back(index in 0..MAX_OPERATIONS, generation: u32, kind in 1..9u8) {
            let kind = [
                Kind::Operation,
                Kind::Cancel,
                Kind::CancelMany,
                Kind::Wake,
                Kind::File,
                Kind::Buffer,
                Kind::Message,
                Kind::FileMessage,
            ][usize::from(kind) - 1];
            let key = Key { index, generation };
            prop_assert_eq!(decode(encode(kind, key)), Some((kind, key)));
        }
    }

    #[test]
    fn foreign_user_data_is_not_ours() {
        assert_eq!(decode(0), None);
        assert_eq!(decode(u64::MAX), None);
    }
}
