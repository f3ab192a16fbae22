//! `xdp`: rings in Rust, packets of a umem that keeps its own free list.
//!
//! # What the unsafe code here relies on
//!
//! The memory outlives packets and rings: all of them are fields of one value, or locals of one
//! call. A packet that goes into a ring is not used again.

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result, anyhow};
use xdp::Umem;
use xdp::nic::NicIndex;
use xdp::slab::{HeapSlab, Slab as _};
use xdp::socket::{XdpSocket, XdpSocketBuilder};
use xdp::umem::{FrameSize, UmemCfgBuilder};
use xdp::{CompletionRing, RingConfigBuilder, RxRing, WakableFillRing, WakableTxRing};

use super::{BURST, CHUNKS, Lane, RING, kick, swap_addresses, widen_send_buffer};
use crate::xdp::bpf::borrowed;
use crate::xdp::rig::{LEN, Place};

pub(crate) struct Xdp {
    rx: RxRing,
    fill: WakableFillRing,
    tx: WakableTxRing,
    completion: CompletionRing,
    socket: XdpSocket,
    umem: Umem,
    packets: HeapSlab,
    swapped: HeapSlab,
    calls: u64,
}

impl Lane for Xdp {
    fn open(place: &Place) -> Result<Self> {
        let config = UmemCfgBuilder {
            frame_size: FrameSize::TwoK,
            frame_count: CHUNKS,
            ..UmemCfgBuilder::default()
        };
        let mut umem = Umem::map(config.build().map_err(|error| anyhow!("xdp: {error}"))?)?;
        let mut all = Vec::new();
        // SAFETY: the packets go back before this function ends.
        while let Some(mut packet) = unsafe { umem.alloc() } {
            packet.append(&place.frame).map_err(|error| anyhow!("xdp: {error}"))?;
            all.push(packet);
        }
        all.into_iter().for_each(|packet| umem.free_packet(packet));
        let rings = RingConfigBuilder {
            rx_count: RING,
            tx_count: RING,
            fill_count: RING,
            completion_count: RING,
        };
        let rings = rings.build().map_err(|error| anyhow!("xdp: {error}"))?;
        let mut socket = XdpSocketBuilder::new()?;
        let (rings, mut flags) = socket.build_wakable_rings(&umem, rings)?;
        flags.force_copy();
        let socket = socket.bind(NicIndex::new(place.index), 0, flags)?;
        let mut fill = rings.fill_ring;
        // SAFETY: the memory outlives the socket: it is the later field.
        unsafe { fill.enqueue(&mut umem, RING as usize, false) }?;
        // SAFETY: the socket keeps it open.
        let fd = unsafe { borrowed(socket.raw_fd()) };
        widen_send_buffer(fd)?;
        place.map.insert(0, fd)?;
        Ok(Self {
            rx: rings.rx_ring.context("xdp has no RX ring")?,
            fill,
            tx: rings.tx_ring.context("xdp has no TX ring")?,
            completion: rings.completion_ring,
            socket,
            umem,
            packets: HeapSlab::with_capacity(BURST),
            swapped: HeapSlab::with_capacity(BURST),
            calls: 0,
        })
    }

    #[inline]
    fn receive(&mut self) -> Result<usize> {
        // SAFETY: the packets are freed below.
        let count = unsafe { self.rx.recv(&self.umem, &mut self.packets) };
        while let Some(packet) = self.packets.pop_back() {
            self.umem.free_packet(packet);
        }
        // SAFETY: the memory outlives the socket.
        unsafe { self.fill.enqueue(&mut self.umem, count, false) }?;
        Ok(count)
    }

    #[inline]
    fn send(&mut self, count: usize) -> Result<usize> {
        self.completion.dequeue(&mut self.umem, BURST);
        for _ in self.packets.len()..count {
            // SAFETY: the packet is sent, or stays in a field beside the memory.
            let Some(mut packet) = (unsafe { self.umem.alloc() }) else { break };
            packet.adjust_tail(LEN as i32).map_err(|error| anyhow!("xdp: {error}"))?;
            self.packets.push_front(packet);
        }
        // SAFETY: the memory outlives the socket.
        Ok(unsafe { self.tx.send(&mut self.packets, false) }?)
    }

    #[inline]
    fn forward(&mut self) -> Result<usize> {
        self.completion.dequeue(&mut self.umem, BURST);
        if self.swapped.is_empty() {
            // SAFETY: the packets are sent, or stay in a field beside the memory.
            let count = unsafe { self.rx.recv(&self.umem, &mut self.packets) };
            while let Some(mut packet) = self.packets.pop_back() {
                swap_addresses(&mut packet);
                self.swapped.push_front(packet);
            }
            // SAFETY: the memory outlives the socket.
            unsafe { self.fill.enqueue(&mut self.umem, count, false) }?;
        }
        // SAFETY: the memory outlives the socket.
        Ok(unsafe { self.tx.send(&mut self.swapped, false) }?)
    }

    fn fd(&self) -> Result<BorrowedFd<'_>> {
        // SAFETY: the socket keeps it open.
        Ok(unsafe { borrowed(self.socket.raw_fd()) })
    }

    #[inline]
    fn kick(&mut self, count: usize) -> Result<()> {
        // SAFETY: the socket keeps it open.
        self.calls += kick(unsafe { borrowed(self.socket.raw_fd()) }, count);
        Ok(())
    }

    fn calls(&self) -> u64 {
        self.calls
    }
}
