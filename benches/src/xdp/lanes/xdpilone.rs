//! `xdpilone`: rings without libxdp, chunks by their addresses.
//!
//! # What the unsafe code here relies on
//!
//! The memory outlives the crate's view of it: it is the last field, so it is dropped last. An
//! address is in the stack, in a ring or in the hands of one call, never in two of them.

use std::ffi::CString;
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use anyhow::{Context as _, Result, anyhow};
use memmap2::{MmapOptions, MmapRaw};
use xdpilone::xdp::XdpDesc;
use xdpilone::{DeviceQueue, IfInfo, RingRx, RingTx, Socket, SocketConfig, Umem, UmemConfig};

use super::{BURST, CHUNK, CHUNKS, Lane, RING, kick, swap_addresses, widen_send_buffer};
use crate::xdp::bpf::borrowed;
use crate::xdp::rig::{LEN, Place};

pub(crate) struct Xdpilone {
    device: DeviceQueue,
    rx: RingRx,
    tx: RingTx,
    free: Vec<u64>,
    calls: u64,
    _umem: Umem,
    memory: MmapRaw,
}

/// The chunk that an address lies in.
fn chunk(address: u64) -> u64 {
    address & !u64::from(CHUNK - 1)
}

impl Xdpilone {
    fn reap(&mut self) {
        let mut done = self.device.complete(BURST as u32);
        self.free.extend(done.by_ref().map(chunk));
        done.release();
    }
}

impl Lane for Xdpilone {
    fn open(place: &Place) -> Result<Self> {
        let refused = |error| anyhow!("xdpilone: {error:?}");
        let len = CHUNKS as usize * CHUNK as usize;
        let memory: MmapRaw = MmapOptions::new().len(len).populate().map_anon()?.into();
        let start = NonNull::new(memory.as_mut_ptr()).context("mapped at zero")?;
        for n in 0..CHUNKS as usize {
            // SAFETY: the chunk is inside the memory, which nobody else knows of yet.
            let chunk = unsafe { start.add(n * CHUNK as usize) };
            // SAFETY: a frame is shorter than a chunk.
            unsafe { chunk.copy_from_nonoverlapping(NonNull::from(&place.frame).cast(), LEN) };
        }
        let config = UmemConfig {
            fill_size: RING,
            complete_size: RING,
            frame_size: CHUNK,
            headroom: 0,
            flags: 0,
        };
        let area = NonNull::slice_from_raw_parts(start, len);
        // SAFETY: it is mapped, page aligned, and outlives the result.
        let umem = unsafe { Umem::new(config, area) }.map_err(refused)?;
        let mut interface = IfInfo::invalid();
        interface.from_name(&CString::new(&*place.interface)?).map_err(refused)?;
        let socket = Socket::with_shared(&interface, &umem).map_err(refused)?;
        let mut device = umem.fq_cq(&socket).map_err(refused)?;
        let size = NonZeroU32::new(RING);
        let bind_flags = SocketConfig::XDP_BIND_NEED_WAKEUP | SocketConfig::XDP_BIND_COPY;
        let config = SocketConfig { rx_size: size, tx_size: size, bind_flags };
        let user = umem.rx_tx(&socket, &config).map_err(refused)?;
        let (rx, tx) = (user.map_rx().map_err(refused)?, user.map_tx().map_err(refused)?);
        umem.bind(&user).map_err(refused)?;
        let mut free: Vec<u64> =
            (0..CHUNKS).rev().map(|n| u64::from(n) * u64::from(CHUNK)).collect();
        let mut fill = device.fill(RING);
        fill.insert(free.drain(RING as usize..));
        fill.commit();
        drop(fill);
        // SAFETY: the ring keeps it open.
        let fd = unsafe { borrowed(tx.as_raw_fd()) };
        widen_send_buffer(fd)?;
        place.map.insert(0, fd)?;
        Ok(Self { device, rx, tx, free, calls: 0, _umem: umem, memory })
    }

    #[inline]
    fn receive(&mut self) -> Result<usize> {
        let mut came = self.rx.receive(BURST as u32);
        let count = came.capacity();
        let mut fill = self.device.fill(count);
        fill.insert(came.by_ref().map(|desc| chunk(desc.addr)));
        fill.commit();
        came.release();
        drop(fill);
        if self.device.needs_wakeup() {
            self.device.wake();
            self.calls += 1;
        }
        Ok(count as usize)
    }

    #[inline]
    fn send(&mut self, count: usize) -> Result<usize> {
        self.reap();
        let count = count.min(self.free.len());
        let mut places = self.tx.transmit(count as u32);
        let count = places.capacity() as usize;
        let first = self.free.len() - count;
        let descs =
            self.free.drain(first..).map(|addr| XdpDesc { addr, len: LEN as u32, options: 0 });
        places.insert(descs);
        places.commit();
        Ok(count)
    }

    #[inline]
    fn forward(&mut self) -> Result<usize> {
        self.reap();
        let mut places = self.tx.transmit(BURST as u32);
        let mut came = self.rx.receive(places.capacity());
        let count = came.capacity() as usize;
        let start = self.memory.as_mut_ptr();
        places.insert(came.by_ref().inspect(|desc| {
            // SAFETY: the kernel has put the frame inside the memory.
            let data = unsafe { start.add(desc.addr as usize) };
            // SAFETY: it is that long, and ours until it is sent.
            swap_addresses(unsafe { std::slice::from_raw_parts_mut(data, desc.len as usize) });
        }));
        places.commit();
        came.release();
        drop(came);
        let first = self.free.len() - count.min(self.free.len());
        let mut fill = self.device.fill(count as u32);
        fill.insert(self.free.drain(first..));
        fill.commit();
        Ok(count)
    }

    fn fd(&self) -> Result<BorrowedFd<'_>> {
        // SAFETY: the ring keeps it open.
        Ok(unsafe { borrowed(self.tx.as_raw_fd()) })
    }

    #[inline]
    fn kick(&mut self, count: usize) -> Result<()> {
        if self.tx.needs_wakeup() {
            // SAFETY: the ring keeps it open.
            self.calls += kick(unsafe { borrowed(self.tx.as_raw_fd()) }, count);
        }
        Ok(())
    }

    fn calls(&self) -> u64 {
        self.calls
    }
}
