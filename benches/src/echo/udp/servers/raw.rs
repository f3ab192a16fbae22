//! The `io-uring` crate by hand, with everything that is known to help: a multishot receive into a
//! buffer ring, one send entry per datagram on a fixed file, no completion for sends that succeed,
//! one system call per burst.
//!
//! Relies on: everything that the kernel reads or writes is leaked, so it lives as long as the
//! process. A buffer goes back to the buffer ring only after the submission that carried its send:
//! with `MSG_DONTWAIT` the kernel has copied the datagram by then, or given up on it.

use std::convert::Infallible;
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use io_uring::types::{BufRingEntry, Fixed, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode, squeue};
use memmap2::MmapMut;

use crate::echo::calls;

const BUFFERS: u16 = 256;
const BUFFER: usize = 2048;
const GROUP: u16 = 0;
const SOCKET: Fixed = Fixed(0);
const RECEIVE: u64 = u64::MAX;

/// What one send needs from its submission to its end; one per buffer.
struct Send {
    header: libc::msghdr,
    entry: libc::iovec,
}

/// The ring of buffers that receives take from.
struct BufferRing {
    entries: *mut BufRingEntry,
    buffers: *mut [u8; BUFFER],
    tail: u16,
}

pub(crate) fn serve(socket: UdpSocket) -> Result<Infallible> {
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_no_sqarray()
        .setup_cqsize(1024)
        .build(512)
        .context("cannot create a ring")?;
    ring.submitter().register_files(&[socket.as_raw_fd()])?;
    let mut buffers = BufferRing::register(&ring)?;
    let sends: &mut [Send] = Vec::leak((0..BUFFERS).map(|_| Send::new()).collect());
    // A multishot receive takes from its header only how much room addresses get.
    let template = Box::leak(Box::new(zeroed_header()));
    template.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
    let template = &*template;

    let mut under_way = Vec::with_capacity(usize::from(BUFFERS));
    let mut armed = false;
    loop {
        if !armed {
            let receive =
                opcode::RecvMsgMulti::new(SOCKET, template, GROUP).build().user_data(RECEIVE);
            push(&mut ring, &receive)?;
            armed = true;
        }
        ring.submit_and_wait(1)?;
        calls::count(1);
        buffers.give_back(under_way.drain(..));
        loop {
            let Some(completion) = ring.completion().next() else { break };
            if completion.user_data() != RECEIVE {
                bail!("a send failed: {}", std::io::Error::from_raw_os_error(-completion.result()));
            }
            armed = cqueue::more(completion.flags());
            let Some(id) = cqueue::buffer_select(completion.flags()) else {
                let ran_dry = completion.result() == -libc::ENOBUFS;
                ensure!(
                    ran_dry,
                    "a receive failed: {}",
                    std::io::Error::from_raw_os_error(-completion.result())
                );
                continue;
            };
            let received = buffers.received(id, completion.result(), template)?;
            push(&mut ring, &sends[usize::from(id)].aim(&received))?;
            under_way.push(id);
        }
    }
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> Result<()> {
    // SAFETY: what the entry points to is leaked, and a buffer under way is not given back before
    // the submission.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.context("the submission queue is full")
}

impl Send {
    fn new() -> Self {
        Self {
            header: zeroed_header(),
            entry: libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 },
        }
    }

    /// The entry that sends `received` back to where it came from.
    fn aim(&mut self, received: &RecvMsgOut<'_>) -> squeue::Entry {
        self.entry.iov_base = received.payload_data().as_ptr().cast_mut().cast();
        self.entry.iov_len = received.payload_data().len();
        self.header.msg_iov = &raw mut self.entry;
        self.header.msg_iovlen = 1;
        self.header.msg_name = received.name_data().as_ptr().cast_mut().cast();
        self.header.msg_namelen = received.name_data().len() as u32;
        let send =
            opcode::SendMsg::new(SOCKET, &raw const self.header).flags(libc::MSG_DONTWAIT as u32);
        send.build().flags(squeue::Flags::SKIP_SUCCESS)
    }
}

impl BufferRing {
    /// Makes the ring of entries and all buffers, tells the kernel of them, and gives it every
    /// buffer.
    fn register(ring: &IoUring) -> Result<Self> {
        let map = MmapMut::map_anon(usize::from(BUFFERS) * size_of::<BufRingEntry>())?;
        #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
        let entries = Box::leak(Box::new(map)).as_mut_ptr().cast::<BufRingEntry>();
        let buffers = Vec::leak(vec![[0; BUFFER]; usize::from(BUFFERS)]).as_mut_ptr();
        // SAFETY: `entries` is the start of a zeroed mapping of `BUFFERS` entries that is leaked,
        // so it stays valid.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries as u64, BUFFERS, GROUP, 0)
        }?;
        let mut this = Self { entries, buffers, tail: 0 };
        this.give_back(0..BUFFERS);
        Ok(this)
    }

    /// Puts the buffers at the ring's tail and publishes it once.
    fn give_back(&mut self, ids: impl Iterator<Item = u16>) {
        for id in ids {
            // SAFETY: the index is below `BUFFERS`, the number of entries in the mapping.
            let entry = unsafe { self.entries.add(usize::from(self.tail % BUFFERS)) };
            // SAFETY: `id` is below `BUFFERS`, the number of buffers.
            let buffer = unsafe { self.buffers.add(usize::from(id)) };
            // SAFETY: the mapping is live and zeroed at first, and the kernel reads no entry at or
            // beyond the tail.
            let entry = unsafe { &mut *entry };
            entry.set_addr(buffer as u64);
            entry.set_len(BUFFER as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: `entries` is the first entry of the registered ring, initialised to zeroes.
        let tail = unsafe { BufRingEntry::tail(self.entries) };
        // SAFETY: the tail is an aligned `u16` of the mapping, which only this thread writes and
        // the kernel reads.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// What the kernel wrote into the buffer.
    fn received(&self, id: u16, length: i32, template: &libc::msghdr) -> Result<RecvMsgOut<'_>> {
        let length = usize::try_from(length).context("a receive with a buffer failed")?.min(BUFFER);
        ensure!(id < BUFFERS, "the kernel named a buffer that it was not given");
        // SAFETY: `id` is below `BUFFERS`, the number of buffers.
        let buffer = unsafe { self.buffers.add(usize::from(id)) };
        // SAFETY: the buffer is initialised and `BUFFER` long, and the kernel does not write to it
        // until it is given back, for which `self` is borrowed mutably.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length) };
        RecvMsgOut::parse(bytes, template)
            .map_err(|()| anyhow!("a datagram is shorter than its header"))
    }
}

fn zeroed_header() -> libc::msghdr {
    // SAFETY: a `msghdr` is integers and pointers, for which all zeroes is a value.
    unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() }
}
