//! [`Address`]: where an exporter listens.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Error, Result};

/// Where an [`Exporter`](super::Exporter) listens: `127.0.0.1:9100`, `[::1]:9100`, `unix:/run/kv.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket of this path.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix("unix:") {
            Some("") | None => text.parse().map(Self::Tcp).map_err(|_| {
                let why = "it is an address with a port (127.0.0.1:9100), or unix:PATH";
                Error::config("telemetry", text, why)
            }),
            Some(path) => Ok(Self::Unix(path.into())),
        }
    }
}

impl Address {
    /// Listens there; the address is told as it is then.
    pub(super) fn listen(self) -> Result<(Listener, Self)> {
        let refused = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::AddrInUse => "another program listens there; take another address",
                io::ErrorKind::PermissionDenied => {
                    "take a port from 1024 on, or a path in a directory that you may write to"
                }
                io::ErrorKind::AddrNotAvailable => "take an address of this machine: `ip address`",
                _ => "take another address",
            };
            Error::os(format!("listen at {self} for readers of telemetry"), error)
                .with_remedy(remedy)
        };
        let (socket, address, file) = match &self {
            Self::Tcp(address) => {
                let listener = TcpListener::bind(address).map_err(refused)?;
                listener.set_nonblocking(true).map_err(refused)?;
                let address = Self::Tcp(listener.local_addr().map_err(refused)?);
                (OwnedFd::from(listener), address, None)
            }
            Self::Unix(path) => {
                let listener = bind(path).map_err(refused)?;
                listener.set_nonblocking(true).map_err(refused)?;
                (OwnedFd::from(listener), self.clone(), SocketFile::new(path))
            }
        };
        Ok((Listener { socket, _file: file }, address))
    }
}

/// Binds a Unix socket; one that a program has left behind makes room.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        outcome => outcome,
    }
}

fn is_left_behind(path: &Path) -> bool {
    let is_socket = path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

/// A socket that listens, with its file if it has one.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    _file: Option<SocketFile>,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The file of a Unix socket, which goes with it, unless another has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> Option<Self> {
        Some(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = path.symlink_metadata().ok()?;
    Some((file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            // Gone is gone, whoever did it.
            let _removed = std::fs::remove_file(&self.path);
        }
    }
}
