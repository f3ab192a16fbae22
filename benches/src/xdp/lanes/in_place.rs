//! Ours, with frames that stay where they lie: `visit` and `generate` of
//! [`PacketIo`](bypass_core::PacketIo).

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result};
use bypass_core::{Burst, Endpoint as _, PacketIo as _, Verdict};
use bypass_xdp::{XdpFrame, XdpPort};

use super::{BURST, Lane, ours, swap_addresses};
use crate::xdp::rig::{LEN, Place};

pub(crate) struct InPlace {
    port: XdpPort,
    /// Frames that the queue has refused, of which there are none as a rule.
    waiting: Burst<XdpFrame>,
}

impl Lane for InPlace {
    fn open(place: &Place) -> Result<Self> {
        Ok(Self { port: ours::open(place)?, waiting: Burst::with_capacity(BURST) })
    }

    #[inline]
    fn receive(&mut self) -> Result<usize> {
        Ok(self.port.visit(&mut self.waiting, |_, _| Verdict::Drop)?.seen)
    }

    #[inline]
    fn send(&mut self, count: usize) -> Result<usize> {
        Ok(self.port.generate(&mut self.waiting, count, LEN, |_| ())?)
    }

    #[inline]
    fn forward(&mut self) -> Result<usize> {
        let visited = self.port.visit(&mut self.waiting, |frame, _| {
            swap_addresses(frame);
            Verdict::Send
        })?;
        Ok(visited.sent)
    }

    fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.port.as_fd().context("a port has a socket")
    }

    #[inline]
    fn kick(&mut self, _count: usize) -> Result<()> {
        Ok(self.port.flush()?)
    }

    fn calls(&self) -> u64 {
        self.port.stats().syscalls.unwrap_or(0)
    }
}
