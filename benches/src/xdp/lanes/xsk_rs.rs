//! `xsk-rs`: libxdp's rings behind slices of descriptors.
//!
//! # What the unsafe code here relies on
//!
//! A descriptor is in the stack, in a ring or in the hands of one call, never in two of them, and
//! all are of the one umem.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result, ensure};
use xsk_rs::config::{
    BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig,
};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::{BURST, CHUNK, CHUNKS, Lane, RING, kick, swap_addresses, widen_send_buffer};
use crate::xdp::bpf::borrowed;
use crate::xdp::rig::{LEN, Place};

pub(crate) struct XskRs {
    rx: RxQueue,
    fill: FillQueue,
    tx: TxQueue,
    completion: CompQueue,
    umem: Umem,
    came: [FrameDesc; BURST],
    done: [FrameDesc; BURST],
    free: Vec<FrameDesc>,
    calls: u64,
}

impl XskRs {
    fn reap(&mut self) {
        // SAFETY: the ring is of this umem.
        let count = unsafe { self.completion.consume(&mut self.done) };
        self.free.extend_from_slice(&self.done[..count]);
    }
}

impl Lane for XskRs {
    fn open(place: &Place) -> Result<Self> {
        let size = QueueSize::new(RING)?;
        let memory = UmemConfig::builder()
            .frame_size(FrameSize::new(CHUNK)?)
            .fill_queue_size(size)
            .comp_queue_size(size)
            .build()?;
        let (umem, mut free) =
            Umem::new(memory, CHUNKS.try_into()?, false).context("xsk-rs has no umem")?;
        for desc in &mut free {
            // SAFETY: the descriptor is of this umem, and nobody else has it.
            let mut data = unsafe { umem.data_mut(desc) };
            std::io::Write::write_all(&mut data.cursor(), &place.frame)?;
        }
        let config = SocketConfig::builder()
            .rx_queue_size(size)
            .tx_queue_size(size)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let interface: Interface = place.interface.parse()?;
        // SAFETY: the umem is not shared.
        let (tx, rx, rings) = unsafe { Socket::new(config, &umem, &interface, 0) }
            .context("xsk-rs cannot open a socket")?;
        let (mut fill, completion) = rings.context("xsk-rs has no fill ring")?;
        let posted: Vec<_> = free.drain(RING as usize..).collect();
        // SAFETY: the descriptors are of this umem, and nobody else has them.
        let count = unsafe { fill.produce(&posted) };
        ensure!(count == posted.len(), "xsk-rs took {count} chunks to receive into");
        // SAFETY: the queue keeps it open.
        let fd = unsafe { borrowed(tx.fd().as_raw_fd()) };
        widen_send_buffer(fd)?;
        place.map.insert(0, fd)?;
        let descs = [FrameDesc::default(); BURST];
        Ok(Self { rx, fill, tx, completion, umem, came: descs, done: descs, free, calls: 0 })
    }

    #[inline]
    fn receive(&mut self) -> Result<usize> {
        // SAFETY: the ring is of this umem.
        let count = unsafe { self.rx.consume(&mut self.came) };
        // SAFETY: the descriptors are of this umem, and are not used again.
        unsafe { self.fill.produce(&self.came[..count]) };
        if count > 0 && self.fill.needs_wakeup() {
            self.fill.wakeup(self.rx.fd_mut(), 0)?;
            self.calls += 1;
        }
        Ok(count)
    }

    #[inline]
    fn send(&mut self, count: usize) -> Result<usize> {
        self.reap();
        let first = self.free.len() - count.min(self.free.len());
        for desc in &mut self.free[first..] {
            // SAFETY: the descriptor is of this umem, and nobody else has it.
            unsafe { self.umem.data_mut(desc) }.cursor().set_pos(LEN);
        }
        // SAFETY: the descriptors are of this umem, and leave the stack with this.
        let count = unsafe { self.tx.produce(&self.free[first..]) };
        // All or none.
        self.free.truncate(self.free.len() - count);
        Ok(count)
    }

    #[inline]
    fn forward(&mut self) -> Result<usize> {
        self.reap();
        let room = self.tx.nb_free(BURST as u32).min(BURST as u32) as usize;
        // SAFETY: the ring is of this umem.
        let count = unsafe { self.rx.consume(&mut self.came[..room]) };
        for desc in &mut self.came[..count] {
            // SAFETY: the descriptor is of this umem, and nobody else has it.
            swap_addresses(unsafe { self.umem.data_mut(desc) }.contents_mut());
        }
        // SAFETY: the descriptors are of this umem, and are not used again.
        unsafe { self.tx.produce(&self.came[..count]) };
        let first = self.free.len() - count.min(self.free.len());
        // SAFETY: the descriptors are of this umem, and leave the stack with this.
        let filled = unsafe { self.fill.produce(&self.free[first..]) };
        self.free.truncate(self.free.len() - filled);
        Ok(count)
    }

    fn fd(&self) -> Result<BorrowedFd<'_>> {
        // SAFETY: the ring keeps it open.
        Ok(unsafe { borrowed(self.tx.fd().as_raw_fd()) })
    }

    #[inline]
    fn kick(&mut self, count: usize) -> Result<()> {
        if self.tx.needs_wakeup() {
            // SAFETY: the queue keeps it open.
            self.calls += kick(unsafe { borrowed(self.tx.fd().as_raw_fd()) }, count);
        }
        Ok(())
    }

    fn calls(&self) -> u64 {
        self.calls
    }
}
