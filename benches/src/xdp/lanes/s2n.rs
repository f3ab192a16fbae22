//! `s2n-quic-xdp`: rings as slices.
//!
//! # What the unsafe code here relies on
//!
//! An address is in the stack, in a ring or in the hands of one call, never in two of them.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use s2n_quic_xdp::if_xdp::{Address, RxTxDescriptor, UmemDescriptor, XdpFlags};
use s2n_quic_xdp::ring::{Completion, Fill, Rx, Tx};
use s2n_quic_xdp::socket::Fd;
use s2n_quic_xdp::syscall;
use s2n_quic_xdp::umem::Umem;

use super::{BURST, CHUNK, CHUNKS, Lane, RING, kick, swap_addresses, widen_send_buffer};
use crate::xdp::bpf::borrowed;
use crate::xdp::rig::{LEN, Place};

pub(crate) struct S2n {
    rx: Rx,
    fill: Fill,
    tx: Tx,
    completion: Completion,
    umem: Umem,
    socket: Fd,
    free: Vec<UmemDescriptor>,
    calls: u64,
}

/// The chunk that an address lies in.
fn chunk(address: u64) -> UmemDescriptor {
    UmemDescriptor { address: address & !u64::from(CHUNK - 1) }
}

impl S2n {
    fn reap(&mut self) {
        let count = self.completion.acquire(BURST as u32);
        let (head, tail) = self.completion.data();
        self.free.extend(head.iter().chain(tail.iter()).map(|desc| chunk(desc.address)));
        self.completion.release(count);
    }
}

impl Lane for S2n {
    fn open(place: &Place) -> Result<Self> {
        let mut umem = Umem::builder();
        (umem.frame_size, umem.frame_count) = (CHUNK, CHUNKS);
        let umem = umem.build()?;
        let socket = Fd::open()?;
        socket.attach_umem(&umem)?;
        let offsets = syscall::offsets(&socket)?;
        let mut fill = Fill::new(socket.clone(), &offsets, RING)?;
        let completion = Completion::new(socket.clone(), &offsets, RING)?;
        let rx = Rx::new(socket.clone(), &offsets, RING)?;
        let tx = Tx::new(socket.clone(), &offsets, RING)?;
        let mut address = Address::default();
        address.set_if_name(&CString::new(&*place.interface)?)?;
        address.flags = XdpFlags::USE_NEED_WAKEUP | XdpFlags::COPY;
        let mut free: Vec<_> = umem.frames().collect();
        for desc in &free {
            // SAFETY: nobody else knows of the chunk yet.
            let data = unsafe { umem.get_mut(*desc) };
            data[..LEN].copy_from_slice(&place.frame);
        }
        fill.acquire(RING);
        fill.init(free.drain(RING as usize..));
        syscall::bind(&socket, &mut address).context("s2n-quic-xdp cannot bind")?;
        // SAFETY: the socket keeps it open.
        let fd = unsafe { borrowed(socket.as_raw_fd()) };
        widen_send_buffer(fd)?;
        place.map.insert(0, fd)?;
        Ok(Self { rx, fill, tx, completion, umem, socket, free, calls: 0 })
    }

    #[inline]
    fn receive(&mut self) -> Result<usize> {
        let count = self.rx.acquire(BURST as u32).min(BURST as u32);
        let count = count.min(self.fill.acquire(count));
        let (head, tail) = self.rx.data();
        let (front, back) = self.fill.data();
        let places = front.iter_mut().chain(back);
        for (place, desc) in places.zip(head.iter().chain(tail.iter())).take(count as usize) {
            *place = chunk(desc.address);
        }
        self.fill.release(count);
        self.rx.release(count);
        if self.fill.needs_wakeup() {
            syscall::busy_poll(&self.socket)?;
            self.calls += 1;
        }
        Ok(count as usize)
    }

    #[inline]
    fn send(&mut self, count: usize) -> Result<usize> {
        self.reap();
        let count = count.min(self.free.len());
        let count = count.min(self.tx.acquire(count as u32) as usize);
        let first = self.free.len() - count;
        let (head, tail) = self.tx.data();
        for (place, desc) in head.iter_mut().chain(tail).zip(self.free.drain(first..)) {
            *place = desc.with_len(LEN as u32);
        }
        self.tx.release(count as u32);
        Ok(count)
    }

    #[inline]
    fn forward(&mut self) -> Result<usize> {
        self.reap();
        let count = self.tx.acquire(BURST as u32).min(BURST as u32);
        let count = count.min(self.rx.acquire(count)) as usize;
        let (head, tail) = self.rx.data();
        let (front, back) = self.tx.data();
        let places = front.iter_mut().chain(back);
        for (place, desc) in places.zip(head.iter().chain(tail.iter())).take(count) {
            let desc: RxTxDescriptor = *desc;
            // SAFETY: the kernel is done with the frame, and it is ours until it is sent.
            swap_addresses(unsafe { self.umem.get_mut(desc) });
            *place = desc;
        }
        self.tx.release(count as u32);
        self.rx.release(count as u32);
        let fill = count.min(self.free.len());
        let fill = fill.min(self.fill.acquire(fill as u32) as usize);
        let first = self.free.len() - fill;
        let (head, tail) = self.fill.data();
        for (place, desc) in head.iter_mut().chain(tail).zip(self.free.drain(first..)) {
            *place = desc;
        }
        self.fill.release(fill as u32);
        Ok(count)
    }

    fn fd(&self) -> Result<BorrowedFd<'_>> {
        // SAFETY: the socket keeps it open.
        Ok(unsafe { borrowed(self.socket.as_raw_fd()) })
    }

    #[inline]
    fn kick(&mut self, count: usize) -> Result<()> {
        if self.tx.needs_wakeup() {
            // SAFETY: the socket keeps it open.
            self.calls += kick(unsafe { borrowed(self.socket.as_raw_fd()) }, count);
        }
        Ok(())
    }

    fn calls(&self) -> u64 {
        self.calls
    }
}
