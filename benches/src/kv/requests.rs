//! The workload as datagrams, for the generator on a cable.

use std::net::SocketAddrV4;

use anyhow::Result;
use bypass_core::sandbox::Host;

use super::workload::{self, Workload};
use crate::generator::{Requests, Route};

/// Bytes of the frame header: the number of the request, of the datagram, of all datagrams, nothing.
const HEADER: [u8; 8] = [0, 0, 0, 0, 0, 1, 0, 0];
/// What answers begin with, behind their header.
const ANSWERS: [[u8; 8]; 2] = [*b"VALUE ke", *b"STORED\r\n"];

pub(super) fn requests(host: &Host, server: SocketAddrV4, workload: &Workload) -> Result<Requests> {
    let mut requests =
        Requests::new(Route::from(host, server)).answered(HEADER.len() as u16, [0xff; 8], ANSWERS);
    let (value, key) = (workload.value(), workload::key(0));
    let text = format!(" 0 0 {}\r\n", value.len());
    let read = requests.template(&[&HEADER, b"get ".as_slice(), &key, b"\r\n"].concat())?;
    let write = [&HEADER, b"set ".as_slice(), &key, text.as_bytes(), &value, b"\r\n"].concat();
    let write = requests.template(&write)?;
    // Behind `get ` or `set `.
    let place = HEADER.len() + 4;
    for request in workload.draw() {
        let template = if request.reads { read } else { write };
        requests.push_with(template, place, workload::key(request.key));
    }
    Ok(requests)
}
