//! The workload over a wire.

use anyhow::{Result, ensure};
use bypass_io::any::AnyDatagram;
use bypass_io::prelude::*;

use super::workload::{self, Request, Workload};
use crate::over_xdp::Dialogue;

/// Bytes of the frame header.
const HEADER: usize = 8;

pub(super) struct Client {
    requests: std::iter::Cycle<std::vec::IntoIter<Request>>,
    value: Vec<u8>,
}

impl Client {
    pub(super) fn new(workload: &Workload) -> Self {
        Self { requests: workload.draw().into_iter().cycle(), value: workload.value() }
    }
}

impl Dialogue for Client {
    fn ask(&mut self, number: u16, datagram: &mut AnyDatagram) -> Result<()> {
        // They never end.
        let Some(Request { reads, key }) = self.requests.next() else { return Ok(()) };
        let key = workload::key(key);
        let mut text = [0; HEADER + 64];
        let mut length = 0;
        let mut put = |bytes: &[u8]| {
            text[length..length + bytes.len()].copy_from_slice(bytes);
            length += bytes.len();
        };
        let [high, low] = number.to_be_bytes();
        put(&[high, low, 0, 0, 0, 1, 0, 0]);
        put(if reads { b"get " } else { b"set " });
        put(&key);
        if reads {
            put(b"\r\n");
            datagram.fill(&text[..length])?;
            return Ok(());
        }
        put(b" 0 0 ");
        put(self.value.len().to_string().as_bytes());
        put(b"\r\n");
        datagram.set_len(length + self.value.len() + 2)?;
        let data = datagram.data_mut();
        data[..length].copy_from_slice(&text[..length]);
        data[length..length + self.value.len()].copy_from_slice(&self.value);
        data[length + self.value.len()..].copy_from_slice(b"\r\n");
        Ok(())
    }

    fn number(&self, answer: &[u8]) -> Result<Option<u16>> {
        let Some((header, text)) = answer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let right = text.starts_with(b"VALUE key-") || text == b"STORED\r\n";
        ensure!(right, "an answer is {:?}", String::from_utf8_lossy(text));
        Ok(Some(u16::from_be_bytes([header[0], header[1]])))
    }
}
