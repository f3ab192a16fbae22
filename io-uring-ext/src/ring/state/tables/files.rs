//! The table of fixed files.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::Table;
use crate::error::{Error, Result};
use crate::fixed::{FixedFd, Slot, SlotTable};
use crate::probe::Refusal;
use crate::ring::key::Kind;
use crate::ring::state::State;
use crate::sys::register;

impl State {
    /// Registers an empty file table: `own` slots to give out, and behind them `kernel` slots among
    /// which the kernel chooses.
    pub(crate) fn open_file_table(&mut self, own: u32, kernel: u32) -> Result<Arc<SlotTable>> {
        if self.closed {
            return Err(Error::Closed);
        }
        // A file that came from another ring into a slot of an earlier table may be among the completions.
        self.submit()?;
        self.release_slots();
        if self.files.is_some() {
            return Err(Error::config(
                "the second file table of a ring",
                own + kernel,
                "a ring has one; it goes when its handles, slots and operations are gone",
            ));
        }
        if own > 0 && kernel > 0 {
            let keeps = register::kernel_keeps_to_its_range();
            if !keeps.map_err(|error| Error::os("trying out a file table", error))? {
                let what = "a file table with slots of both kinds";
                return Err(Error::Refused { what, refusal: Refusal::missing((7, 0)) });
            }
        }
        let refused = |what, since| {
            move |error| Error::Refused { what, refusal: Refusal::of_register(error, since) }
        };
        let submitter = self.uring.submitter();
        submitter
            .register_files_sparse(own + kernel)
            .map_err(refused("a fixed file table", (5, 19)))?;
        // Without a range, an empty one too, the kernel would choose among all slots.
        if let Err(error) = register::file_alloc_range(self.uring.fd(), own, kernel)
            && kernel > 0
        {
            // The table has just been made and is empty.
            let _ = submitter.unregister_files();
            return Err(refused("a range of slots for the kernel to choose from", (6, 0))(error));
        }
        let slots = SlotTable::new(self.id, own, kernel);
        let generation = self.next_generation();
        self.files = Some(Table::new(Arc::clone(&slots), Kind::File, generation));
        Ok(slots)
    }

    /// Takes an empty slot of the file table.
    pub(crate) fn reserve_file(&mut self) -> Result<Slot> {
        let Some(files) = &mut self.files else { return Err(Error::Closed) };
        if files.free.is_empty() {
            // The tags of what has been released may be among the completions.
            self.submit()?;
        }
        let Some(files) = &mut self.files else { return Err(Error::Closed) };
        files.reserve().ok_or(Error::TableFull { what: "file", slots: files.slots.own() })
    }

    /// Puts a file into a slot, in the stead of what is there.
    pub(crate) fn install_file(&mut self, slot: &Slot, fd: BorrowedFd<'_>) -> Result<()> {
        let Some(files) = &mut self.files else { return Err(Error::Closed) };
        if !slot.is_of(&files.slots) {
            return Err(Error::ForeignRing);
        }
        let index = slot.index();
        register::install_file(self.uring.fd(), index, fd, files.tag(index))
            .map_err(|error| Error::os("installing a descriptor in the file table", error))?;
        files.installed(index);
        Ok(())
    }

    /// Empties a slot.
    pub(crate) fn remove_file(&mut self, slot: &Slot) -> Result<()> {
        let Some(files) = &self.files else { return Err(Error::Closed) };
        if !slot.is_of(&files.slots) {
            return Err(Error::ForeignRing);
        }
        register::remove_files(self.uring.fd(), slot.index(), 1)
            .map_err(|error| Error::os("closing a slot of the file table", error))?;
        Ok(())
    }

    /// A slot that the kernel chose for a file from another ring.
    pub(in crate::ring::state) fn hold_file(&mut self, index: u32) -> Option<FixedFd> {
        self.files.as_ref()?.slots.hold(index).map(FixedFd::new)
    }

    /// Slots of the file table that can be taken now.
    pub(crate) fn free_files(&mut self) -> usize {
        self.look_for_tags();
        self.files.as_ref().map_or(0, |files| files.free.len())
    }

    /// Empties the slots that nobody holds any more, or gives the table up.
    #[cold]
    pub(super) fn release_files(&mut self) {
        let Some(files) = &mut self.files else { return };
        if files.is_unused() && self.uring.submitter().unregister_files().is_ok() {
            // Tags that come later find another generation.
            self.files = None;
            return;
        }
        let ring = self.uring.fd();
        files.release(|first, run| register::remove_files(ring, first, run));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::time::Duration;

    use io_uring::{opcode, squeue, types};

    use crate::fixed::{FileTable, FixedFd};
    use crate::op::sealed::Prepare;
    use crate::op::{Completions, Operation, Target};
    use crate::ring::RingId;
    use crate::ring::state::State;
    use crate::{Error, Ring};

    /// Reads from a slot that it does not own, which no operation of this crate does: so the slot can
    /// be let go of while the kernel uses the file.
    struct Rogue(u32, [u8; 1]);

    // SAFETY: the byte is part of the operation; the kernel keeps the file of an operation that has
    // begun, whatever becomes of the slot.
    unsafe impl Prepare for Rogue {
        fn target(&self) -> Option<&Target> {
            None
        }
        fn entry(&mut self, _ring: RingId) -> squeue::Entry {
            opcode::Read::new(types::Fixed(self.0), self.1.as_mut_ptr(), 1).build()
        }
    }

    impl Operation for Rogue {
        type Output = u8;
        fn complete(self, _completions: Completions) -> u8 {
            self.1[0]
        }
    }

    #[test]
    fn a_slot_is_not_given_out_before_the_tag_of_what_was_in_it_has_come() {
        let ring = Ring::local().unwrap();
        let table = FileTable::new(&ring, 1).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let slot: FixedFd = table.install(&reader).unwrap();
        let reading = ring.push(Rogue(slot.slot(), [0])).unwrap();
        ring.submit().unwrap();
        drop(slot);
        for _ in 0..3 {
            ring.submit().unwrap();
            assert!(matches!(table.reserve(), Err(Error::TableFull { .. })));
        }
        let emptied = |state: &mut State| {
            state.files.as_ref().map(|files| (files.entries[0].emptied, files.entries[0].tags))
        };
        assert_eq!(
            ring.inner.with(emptied).unwrap(),
            Some((true, 1)),
            "it waits for its tag alone"
        );
        writer.write_all(b"x").unwrap();
        assert_eq!(reading.wait(Some(Duration::from_secs(10))).unwrap(), b'x');
        table.reserve().unwrap();
    }

    /// Asks for a slot of the kernel's in a table that has none, which `KernelSlots` prevents.
    struct Intruder(std::fs::File, i32);

    // SAFETY: the number is part of the operation, which owns the descriptor.
    unsafe impl Prepare for Intruder {
        fn target(&self) -> Option<&Target> {
            None
        }
        fn entry(&mut self, _ring: RingId) -> squeue::Entry {
            self.1 = self.0.as_raw_fd();
            opcode::FilesUpdate::new((&raw mut self.1).cast_const(), 1).offset(-1).build()
        }
    }

    impl Operation for Intruder {
        type Output = Option<i32>;
        fn complete(self, completions: Completions) -> Option<i32> {
            completions.result_or(0).err()?.raw_os_error()
        }
    }

    #[test]
    fn a_table_without_kernel_slots_has_an_empty_range() {
        let ring = Ring::local().unwrap();
        let _table = FileTable::new(&ring, 2).unwrap();
        let file = std::fs::File::open("/dev/zero").unwrap();
        let refused = ring.push(Intruder(file, -1)).unwrap().wait(None).unwrap();
        assert_eq!(refused, Some(libc::ENFILE));
    }

    #[test]
    fn tags_of_an_earlier_table_are_not_taken_for_the_next_ones() {
        let ring = Ring::local().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reading = {
            let table = FileTable::new(&ring, 1).unwrap();
            let slot = table.install(&reader).unwrap();
            let reading = ring.push(Rogue(slot.slot(), [0])).unwrap();
            ring.submit().unwrap();
            reading
        };
        // The first table is unregistered while the read goes on.
        let table = FileTable::new(&ring, 1).unwrap();
        let slot = table.install(&reader).unwrap();
        writer.write_all(b"x").unwrap();
        assert_eq!(reading.wait(Some(Duration::from_secs(10))).unwrap(), b'x');
        let tags = |state: &mut State| state.files.as_ref().map(|files| files.entries[0].tags);
        assert_eq!(ring.inner.with(tags).unwrap(), Some(1), "its own has not come");
        drop(slot);
        assert_eq!(table.available(), 1);
    }
}
