//! Buffer rings, by their groups.

use super::State;
use crate::error::{Error, Result};
use crate::sys::buf_ring::BufRingMemory;

impl State {
    /// Registers a buffer ring and returns its group.
    pub(crate) fn register_buf_ring(
        &mut self,
        memory: &BufRingMemory,
        entries: u16,
    ) -> Result<u16> {
        let group = self.free_groups.pop().unwrap_or(self.next_group);
        let submitter = self.uring.submitter();
        // SAFETY: the memory is a mapping of so many entries; its owner (`buf_ring::Registered`)
        // keeps it until it has unregistered the group, or for ever.
        let answer =
            unsafe { submitter.register_buf_ring_with_flags(memory.address(), entries, group, 0) };
        if let Err(error) = answer {
            if group != self.next_group {
                self.free_groups.push(group);
            }
            return Err(Error::os("registering a buffer ring", error));
        }
        if group == self.next_group {
            self.next_group = self.next_group.wrapping_add(1);
        }
        Ok(group)
    }

    /// Takes a buffer ring back: when this has succeeded the kernel no longer reads its memory.
    pub(crate) fn unregister_buf_ring(&mut self, group: u16) -> std::io::Result<()> {
        self.uring.submitter().unregister_buf_ring(group)?;
        self.free_groups.push(group);
        Ok(())
    }
}
