//! `recvmmsg` and `sendmmsg` over a fixed set of buffers: the hand-written loop that everything is
//! measured against, and the traffic generator.
//!
//! Relies on: the message headers point into vectors of this same value that are never resized, so
//! the pointers that the kernel follows are valid for as long as the value lives; moving the value
//! does not move what vectors own.

use std::io;
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::ptr;

/// Large enough for every datagram of the benchmarks.
const BUFFER: usize = 2048;

/// What a receive does when there is nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    /// Waits for the first datagram, then takes what there is.
    ForOne,
    /// Fails with `WouldBlock`.
    No,
}

/// Up to a fixed number of datagrams, with the addresses that they came from.
pub(crate) struct Batch {
    // The headers and entries below point into these three; nothing resizes them.
    buffers: Vec<[u8; BUFFER]>,
    addresses: Vec<libc::sockaddr_in>,
    entries: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    /// Length of an address as the headers carry it: 0 on a connected socket.
    address_length: u32,
}

impl Batch {
    /// For a socket that talks to anyone over IPv4: the address that a datagram came from is where
    /// it goes back to.
    pub(crate) fn with_addresses(capacity: usize) -> Self {
        Self::new(capacity, size_of::<libc::sockaddr_in>() as u32)
    }

    /// For a connected socket.
    pub(crate) fn connected(capacity: usize) -> Self {
        Self::new(capacity, 0)
    }

    fn new(capacity: usize, address_length: u32) -> Self {
        let mut batch = Self {
            buffers: vec![[0; BUFFER]; capacity],
            addresses: vec![zeroed_address(); capacity],
            entries: Vec::with_capacity(capacity),
            headers: Vec::with_capacity(capacity),
            address_length,
        };
        for buffer in &mut batch.buffers {
            batch
                .entries
                .push(libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER });
        }
        for (entry, address) in batch.entries.iter_mut().zip(&mut batch.addresses) {
            let mut header = zeroed_header();
            header.msg_hdr.msg_iov = entry;
            header.msg_hdr.msg_iovlen = 1;
            if address_length > 0 {
                header.msg_hdr.msg_name = ptr::from_mut(address).cast();
                header.msg_hdr.msg_namelen = address_length;
            }
            batch.headers.push(header);
        }
        batch
    }

    /// Receives up to `limit` datagrams with one call and returns how many came; each stands where
    /// a send finds it.
    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
        limit: usize,
        wait: Wait,
    ) -> io::Result<usize> {
        // Not for the caller to choose freely: with MSG_TRUNC the kernel would report lengths
        // beyond the buffers.
        let flags = match wait {
            Wait::ForOne => libc::MSG_WAITFORONE,
            Wait::No => libc::MSG_DONTWAIT,
        };
        let limit = limit.min(self.headers.len());
        for (header, entry) in self.headers.iter_mut().zip(&mut self.entries).take(limit) {
            entry.iov_len = BUFFER;
            header.msg_hdr.msg_namelen = self.address_length;
        }
        // SAFETY: the first `limit` headers are initialised and point to an entry, a buffer of the
        // entry's length and (where it has a length) an address, all owned by `self`, which is
        // borrowed mutably for the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                limit as u32,
                flags,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (header, entry) in self.headers.iter().zip(&mut self.entries).take(count) {
            entry.iov_len = header.msg_len as usize;
        }
        Ok(count)
    }

    /// Sends the first `count` datagrams with as few calls as the kernel takes; returns the number
    /// of calls.
    pub(crate) fn send(&mut self, socket: &UdpSocket, count: usize) -> io::Result<usize> {
        let (mut sent, mut calls) = (0, 0);
        while sent < count {
            let headers = &mut self.headers[sent..count];
            // SAFETY: `headers` is a range of initialised headers that point to an entry, a buffer
            // of at least the entry's length and (where it has a length) an address, all owned by
            // `self`.
            let taken = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), headers.len() as u32, 0)
            };
            sent += usize::try_from(taken).map_err(|_| io::Error::last_os_error())?;
            calls += 1;
        }
        Ok(calls)
    }

    /// The datagram at `index` as the last receive or [`Batch::fill`] left it.
    pub(crate) fn payload(&self, index: usize) -> &[u8] {
        &self.buffers[index][..self.entries[index].iov_len]
    }

    /// Makes the datagram at `index` `length` bytes long, for the caller to write.
    pub(crate) fn fill(&mut self, index: usize, length: usize) -> &mut [u8] {
        let payload = &mut self.buffers[index][..length];
        self.entries[index].iov_len = length;
        payload
    }
}

fn zeroed_header() -> libc::mmsghdr {
    // SAFETY: a `mmsghdr` is integers and pointers, for which all zeroes is a value.
    unsafe { MaybeUninit::<libc::mmsghdr>::zeroed().assume_init() }
}

fn zeroed_address() -> libc::sockaddr_in {
    // SAFETY: a `sockaddr_in` is integers, for which all zeroes is a value.
    unsafe { MaybeUninit::<libc::sockaddr_in>::zeroed().assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_back_to_where_they_came_from() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let (mut ours, mut theirs) = (Batch::connected(4), Batch::with_addresses(4));
        for index in 0..4 {
            ours.fill(index, 10 + index).fill(index as u8 + 1);
        }
        ours.send(&client, 4).unwrap();
        for index in 0..4 {
            ours.fill(index, 10 + index).fill(0);
        }
        // Loopback delivers within the send, so all four are there.
        assert_eq!(theirs.receive(&server, 4, Wait::No).unwrap(), 4);
        theirs.send(&server, 4).unwrap();
        assert_eq!(ours.receive(&client, 4, Wait::No).unwrap(), 4);
        for index in 0..4 {
            assert_eq!(ours.payload(index), vec![index as u8 + 1; 10 + index]);
        }
    }
}
