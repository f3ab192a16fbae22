//! The table of registered buffers.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Weak};

use super::Table;
use crate::error::{Error, Result};
use crate::fixed::{Registrations, Slot, SlotTable};
use crate::probe::Refusal;
use crate::ring::RingId;
use crate::ring::key::Kind;
use crate::ring::state::State;
use crate::sys::arena::Arena;

/// The memory in the slots of a table, at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    changes: u64,
    slots: u32,
    memory: Vec<(u32, Arc<Arena>, Weak<Registrations>)>,
}

impl State {
    pub(crate) fn id(&self) -> RingId {
        self.id
    }

    /// Whether the kernel knows an operation; not when it does not say.
    pub(crate) fn has_opcode(&self, code: u8) -> bool {
        let mut probe = io_uring::Probe::new();
        let asked = self.uring.submitter().register_probe(&mut probe);
        asked.is_ok() && probe.is_supported(code)
    }

    /// Registers an empty buffer table.
    pub(crate) fn open_buffer_table(&mut self, slots: u32) -> Result<Arc<SlotTable>> {
        self.needs_no_buffer_table(slots)?;
        self.uring.submitter().register_buffers_sparse(slots).map_err(|error| Error::Refused {
            what: "a registered buffer table",
            refusal: Refusal::of_register(error, (5, 19)),
        })?;
        Ok(self.new_buffer_table(slots))
    }

    fn needs_no_buffer_table(&mut self, slots: u32) -> Result<()> {
        self.release_slots();
        if self.closed {
            return Err(Error::Closed);
        }
        if self.buffers.is_some() {
            return Err(Error::config(
                "the second buffer table of a ring",
                slots,
                "a ring has one; it goes when its handles and the pools registered in it are gone",
            ));
        }
        Ok(())
    }

    fn new_buffer_table(&mut self, slots: u32) -> Arc<SlotTable> {
        let shared = SlotTable::new(self.id, slots, 0);
        let generation = self.next_generation();
        self.buffers = Some(Table::new(Arc::clone(&shared), Kind::Buffer, generation));
        shared
    }

    /// Registers memory in a free slot, and tells its owner.
    pub(crate) fn register_memory(
        &mut self,
        arena: &Arc<Arena>,
        owner: &Arc<Registrations>,
    ) -> Result<()> {
        let Some(buffers) = &self.buffers else { return Err(Error::Closed) };
        if owner.index(self.id).is_some() {
            return Ok(());
        }
        if buffers.slots.has_released() || buffers.free.is_empty() {
            // The tags of what has been released may be among the completions.
            self.submit()?;
        }
        let Some(buffers) = &mut self.buffers else { return Err(Error::Closed) };
        let slots = buffers.slots.own();
        let slot = buffers.reserve().ok_or(Error::TableFull { what: "buffer", slots })?;
        self.put_memory(&slot, arena, owner)?;
        owner.add(slot);
        Ok(())
    }

    /// Registers memory in the stead of its owner's, which is about to go, and tells the new one.
    pub(crate) fn replace_memory(
        &mut self,
        old: &Registrations,
        arena: &Arc<Arena>,
        owner: &Arc<Registrations>,
    ) -> Result<()> {
        let Some(buffers) = &self.buffers else { return Err(Error::Closed) };
        let old = old.slot(self.id).filter(|slot| slot.is_of(&buffers.slots));
        let old = old.ok_or(Error::ForeignRing)?;
        if owner.index(self.id).is_some() {
            return Err(Error::config(
                "the memory to replace another",
                old.index(),
                "it is registered already, in a slot of its own",
            ));
        }
        self.put_memory(old, arena, owner)?;
        if let Some(slot) = old.hand_over() {
            owner.add(slot);
        }
        Ok(())
    }

    fn put_memory(
        &mut self,
        slot: &Slot,
        arena: &Arc<Arena>,
        owner: &Arc<Registrations>,
    ) -> Result<()> {
        let Some(buffers) = &mut self.buffers else { return Err(Error::Closed) };
        let (index, memory) = (slot.index(), arena.as_iovec());
        let tag = buffers.tag(index);
        let submitter = self.uring.submitter();
        // SAFETY: the memory is a mapping that the entry owns, from below until the tag has come;
        // should the ring not see that, it is unregistered first or leaked (`close_tables`,
        // `leak_tables`). The arguments are read inside the call.
        let answer = unsafe { submitter.register_buffers_update(index, &[memory], Some(&[tag])) };
        answer.map_err(|error| Error::Refused {
            what: "the registration of a pool's memory",
            refusal: Refusal::of_register(error, (5, 19)),
        })?;
        let entry = buffers.installed(index);
        entry.memory.push(Arc::clone(arena));
        entry.owner = Arc::downgrade(owner);
        buffers.settle(index);
        Ok(())
    }

    /// Slots of the buffer table that can be taken now.
    pub(crate) fn free_buffers(&mut self) -> usize {
        self.look_for_tags();
        self.buffers.as_ref().map_or(0, |buffers| buffers.free.len())
    }

    /// Empties the slots that nobody holds any more, or gives the table up.
    #[cold]
    pub(super) fn release_buffers(&mut self) {
        let Some(buffers) = &mut self.buffers else { return };
        let submitter = self.uring.submitter();
        if buffers.is_unused() && submitter.unregister_buffers().is_ok() {
            // No slot is held, so no operation that uses the memory is in flight. Tags that come
            // later find another generation.
            self.buffers = None;
            return;
        }
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        buffers.release(|first, run| {
            for index in (first..).take(run) {
                // SAFETY: empties the slot; there is no memory that would have to be valid.
                let answer = unsafe { submitter.register_buffers_update(index, &[nothing], None) };
                if let Err(error) = answer {
                    let done = (index - first) as usize;
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
            }
            Ok(run)
        });
    }

    /// What is in the buffer table now.
    pub(crate) fn buffers_snapshot(&mut self) -> Result<Snapshot> {
        self.look_for_tags();
        let buffers = self.buffers.as_ref().ok_or(Error::Closed)?;
        let memory = (0..).zip(&buffers.entries).filter_map(|(index, entry)| {
            let arena = entry.memory.last().filter(|_| !entry.emptied)?;
            Some((index, Arc::clone(arena), entry.owner.clone()))
        });
        Ok(Snapshot {
            changes: buffers.changes,
            slots: buffers.slots.own(),
            memory: memory.collect(),
        })
    }

    /// Whether the buffer table is still as it was then.
    pub(crate) fn buffers_are_as_in(&mut self, snapshot: &Snapshot) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| buffers.changes == snapshot.changes)
    }

    /// Clones the buffer table of another ring, which was as the snapshot says. Nobody can use the
    /// clone before [`adopt_clone`](Self::adopt_clone).
    pub(crate) fn clone_buffers(
        &mut self,
        source: BorrowedFd<'_>,
        snapshot: &Snapshot,
    ) -> Result<Arc<SlotTable>> {
        self.needs_no_buffer_table(snapshot.slots)?;
        let answer = self.uring.submitter().register_buffers_clone(source.as_raw_fd());
        answer.map_err(|error| Error::Refused {
            what: "a clone of another ring's registered buffers",
            refusal: Refusal::of_register(error, (6, 12)),
        })?;
        let slots = self.new_buffer_table(snapshot.slots);
        if let Some(buffers) = &mut self.buffers {
            for (index, arena, owner) in &snapshot.memory {
                let entry = &mut buffers.entries[*index as usize];
                entry.memory.push(Arc::clone(arena));
                entry.owner = owner.clone();
            }
        }
        Ok(slots)
    }

    /// Tells the owners of the memory that it is registered here too.
    pub(crate) fn adopt_clone(&mut self, snapshot: &Snapshot) {
        let Some(buffers) = &mut self.buffers else { return };
        for (index, _, owner) in &snapshot.memory {
            buffers.free.retain(|free| free != index);
            let slot = buffers.slots.hold(*index);
            // Without an owner the slot is released again, and emptied.
            if let (Some(slot), Some(owner)) = (slot, owner.upgrade()) {
                owner.add(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Weak;
    use std::time::Duration;

    use io_uring::{opcode, squeue};

    use crate::buf::{BufPool, IoBufMut};
    use crate::fixed::BufferTable;
    use crate::op::sealed::Prepare;
    use crate::op::{Completions, Operation, Target};
    use crate::ring::RingId;
    use crate::sys::arena::Arena;
    use crate::{Error, Fd, Ring};

    const SOON: Option<Duration> = Some(Duration::from_secs(10));

    /// Reads into registered memory that it does not own, which no operation of this crate does: so
    /// the pool can go while the kernel uses the memory.
    struct Rogue {
        fd: Target,
        address: *mut u8,
        index: u16,
    }

    // SAFETY: the tests see to it that the ring keeps the memory until the tag has come.
    unsafe impl Prepare for Rogue {
        fn target(&self) -> Option<&Target> {
            Some(&self.fd)
        }
        fn entry(&mut self, _ring: RingId) -> squeue::Entry {
            opcode::ReadFixed::new(self.fd.number(), self.address, 4, self.index).build()
        }
    }

    impl Operation for Rogue {
        type Output = std::io::Result<usize>;
        fn complete(self, completions: Completions) -> Self::Output {
            completions.result_or(0)
        }
    }

    fn rogue(pool: &BufPool, fd: Fd) -> (Rogue, Weak<Arena>) {
        let address = pool.take().unwrap().stable_mut_ptr();
        let arena = std::sync::Arc::downgrade(pool.memory().0);
        (Rogue { fd: (&fd).into(), address, index: 0 }, arena)
    }

    #[test]
    fn memory_and_slot_wait_for_the_tag() {
        let ring = Ring::local().unwrap();
        let table = BufferTable::new(&ring, 1).unwrap();
        let pool = BufPool::local(64, 1).unwrap();
        table.register(&pool).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (read, arena) = rogue(&pool, Fd::new(reader));
        let reading = ring.push(read).unwrap();
        ring.submit().unwrap();
        drop(pool);
        for _ in 0..3 {
            ring.submit().unwrap();
            let other = BufPool::local(64, 1).unwrap();
            assert!(matches!(table.register(&other), Err(Error::TableFull { .. })));
            assert!(arena.upgrade().is_some(), "the kernel may still write to it");
        }
        writer.write_all(b"late").unwrap();
        assert_eq!(reading.wait(SOON).unwrap().unwrap(), 4);
        assert_eq!(table.available(), 1);
        assert!(arena.upgrade().is_none());
    }

    #[test]
    fn replaced_memory_waits_for_its_tag_and_the_new_one_does_not() {
        let ring = Ring::local().unwrap();
        let table = BufferTable::new(&ring, 1).unwrap();
        let pool = BufPool::local(64, 1).unwrap();
        table.register(&pool).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (read, old) = rogue(&pool, Fd::new(reader));
        let reading = ring.push(read).unwrap();
        ring.submit().unwrap();
        let mut pool = pool;
        for _ in 0..3 {
            let next = BufPool::local(64, 1).unwrap();
            table.replace(pool, &next).map_err(|(_, error)| error).unwrap();
            ring.submit().unwrap();
            assert!(old.upgrade().is_some());
            pool = next;
        }
        writer.write_all(b"late").unwrap();
        assert_eq!(reading.wait(SOON).unwrap().unwrap(), 4);
        ring.submit().unwrap();
        assert!(old.upgrade().is_none());
        assert!(pool.is_registered(&ring));
        drop(pool);
        assert_eq!(table.available(), 1);
    }

    #[test]
    fn a_clone_keeps_the_memory_of_a_ring_that_is_closed() {
        let ring = Ring::local().unwrap();
        let table = BufferTable::new(&ring, 1).unwrap();
        let pool = BufPool::local(64, 1).unwrap();
        table.register(&pool).unwrap();
        let arena = std::sync::Arc::downgrade(pool.memory().0);
        let second = Ring::local().unwrap();
        let clone = match table.clone_to(&second) {
            Err(Error::Refused { refusal, .. }) => {
                return bypass_core::testing::needs::skip_because(&refusal.to_string());
            }
            clone => clone.unwrap(),
        };
        drop((ring, table, pool));
        assert!(arena.upgrade().is_some(), "the second ring has not taken its slot back yet");
        assert_eq!(clone.available(), 1);
        assert!(arena.upgrade().is_none());
    }
}
