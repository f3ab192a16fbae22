//! Programs that a test runs, and asks.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Running, example};
use crate::query::{Query, Response};

/// The program of the example.
pub(crate) fn dns() -> Command {
    example("dns")
}

/// Interrupts a program as Ctrl-C does, and returns what it had left to say.
pub(crate) fn interrupt(running: Running) -> String {
    let id = running.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    running.finish()
}

/// A folder of a test's own, which goes with this value.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("bypass-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is in the folder for what is temporary.
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// A client of a server, over datagrams.
pub(crate) struct Client {
    socket: UdpSocket,
    next: u16,
}

impl Client {
    /// Waits until the server answers.
    pub(crate) fn connect(server: SocketAddr) -> Self {
        let socket =
            UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut client = Self { socket, next: 0 };
        let begin = Instant::now();
        while client.exchange(&Query::new("example.com", 6).message(0)).is_none() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{server} does not answer");
        }
        client.socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client
    }

    /// Sends bytes and takes the response with the same number, unless there is none for as long as the
    /// socket waits.
    pub(crate) fn exchange(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        // A server that is not there yet refuses; asking again is what the caller does.
        let _refused = self.socket.send(message);
        let mut response = vec![0; 65_536];
        loop {
            let len = self.socket.recv(&mut response).ok()?;
            if response[..len].get(..2) == message.get(..2) {
                response.truncate(len);
                return Some(response);
            }
        }
    }

    pub(crate) fn ask(&mut self, query: &Query) -> Response {
        self.next += 1;
        let response = self.exchange(&query.message(self.next));
        let response = response.unwrap_or_else(|| panic!("no response to {query:?}"));
        Response::read(&response).unwrap_or_else(|error| panic!("{query:?}: {error}"))
    }
}
