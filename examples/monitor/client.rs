//! Asks an exporter, over TCP or a Unix socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::Result;

/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer.
const MAX_ANSWER: u64 = 64 << 20;

/// Everything that the application at an address shows, as JSON.
pub fn fetch(address: &str) -> Result<String> {
    let answer = match address.strip_prefix("unix:") {
        Some(path) => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            ask(stream)
        }),
        None => {
            let place: SocketAddr = address
                .parse()
                .map_err(|_| format!("{address:?} is no address: 127.0.0.1:9100, or unix:PATH"))?;
            TcpStream::connect_timeout(&place, PATIENCE).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                ask(stream)
            })
        }
    };
    let answer = answer.map_err(|error| {
        let remedy = "is there a program with `--telemetry`?";
        format!("no answer from {address}: {error}; {remedy}")
    })?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("what is at {address} does not speak HTTP"))?;
    let status = head.lines().next().unwrap_or_default();
    if status.split_whitespace().nth(1) != Some("200") {
        return Err(format!("{address} answers {status:?}").into());
    }
    Ok(body.to_owned())
}

fn ask(mut stream: impl Read + Write) -> std::io::Result<String> {
    stream.write_all(b"GET /json HTTP/1.1\r\nHost: application\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
