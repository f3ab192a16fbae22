//! Ours, with frames that the application owns: `recv`, `alloc`, `send` of
//! [`PacketIo`](bypass_core::PacketIo).

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bypass_core::{Buffer as _, Burst, Endpoint as _, PacketIo as _, swap_addresses};
use bypass_xdp::program::XskMap;
use bypass_xdp::{CopyMode, Receive, Want, XdpFrame, XdpOptions, XdpPort};

use super::{BURST, CHUNK, CHUNKS, Lane, RING};
use crate::xdp::rig::{LEN, Place};

pub(crate) struct Ours {
    port: XdpPort,
    received: Burst<XdpFrame>,
    sending: Burst<XdpFrame>,
}

/// A port whose frames have the content of what is sent, written once.
pub(super) fn open(place: &Place) -> Result<XdpPort> {
    let mut options = XdpOptions::new(&*place.interface);
    let map = XskMap::from_fd(place.map.as_fd().try_clone_to_owned()?)?;
    options.receive = Receive::Map(Arc::new(map));
    options.mode = Want::Require(CopyMode::Copy);
    options.umem.pool.chunks = CHUNKS;
    options.umem.pool.chunk_size = CHUNK;
    options.umem.pool.rx_reserve = RING;
    let mut port = options.open()?;
    let mut all = Burst::with_capacity(CHUNKS as usize);
    port.alloc(&mut all, CHUNKS as usize);
    for frame in all.iter_mut() {
        frame.fill(&place.frame)?;
    }
    Ok(port)
}

impl Lane for Ours {
    fn open(place: &Place) -> Result<Self> {
        let port = open(place)?;
        let burst = || Burst::with_capacity(BURST);
        Ok(Self { port, received: burst(), sending: burst() })
    }

    #[inline]
    fn receive(&mut self) -> Result<usize> {
        let count = self.port.recv(&mut self.received)?;
        self.received.clear();
        Ok(count)
    }

    #[inline]
    fn send(&mut self, count: usize) -> Result<usize> {
        let waiting = self.sending.len();
        self.port.alloc(&mut self.sending, count.saturating_sub(waiting));
        for frame in &mut self.sending[waiting..] {
            frame.set_len(LEN)?;
        }
        Ok(self.port.send(&mut self.sending)?)
    }

    #[inline]
    fn forward(&mut self) -> Result<usize> {
        let waiting = self.sending.len();
        self.port.recv(&mut self.sending)?;
        for frame in &mut self.sending[waiting..] {
            swap_addresses(frame);
        }
        if self.sending.is_empty() {
            return Ok(0);
        }
        Ok(self.port.send(&mut self.sending)?)
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
