//! [`QueueDrops`]: what a socket's receive queue had no room for.

use std::cell::Cell;
use std::os::fd::BorrowedFd;

use super::option::queue_drops;

/// Follows the kernel's 32-bit count of dropped packets, which wraps.
#[derive(Debug, Default)]
pub struct QueueDrops {
    last: Cell<u32>,
    total: Cell<u64>,
}

impl QueueDrops {
    /// Counts from now on; what the socket has dropped before is not ours.
    #[must_use]
    pub fn new(socket: BorrowedFd<'_>) -> Self {
        let drops = Self::default();
        drops.last.set(queue_drops(socket).unwrap_or(0));
        drops
    }

    /// Asks the kernel and answers how many there were since `new`. Where the kernel does not know
    /// (before Linux 4.12) there are none.
    pub fn read(&self, socket: BorrowedFd<'_>) -> u64 {
        queue_drops(socket).map_or(self.total.get(), |now| self.advance(now))
    }

    /// The kernel's count is `now`, as it also comes with a packet (`SO_RXQ_OVFL`).
    pub fn advance(&self, now: u32) -> u64 {
        let new = now.wrapping_sub(self.last.replace(now));
        self.total.set(self.total.get() + u64::from(new));
        self.total.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_goes_on_when_the_kernels_wraps() {
        let drops = QueueDrops::default();
        let seen = [5, 5, u32::MAX, 2, 2].map(|now| drops.advance(now));
        let top = u64::from(u32::MAX);
        assert_eq!(seen, [5, 5, top, top + 3, top + 3]);
    }
}
