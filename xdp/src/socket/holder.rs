//! [`Holder`]: the process whose socket is bound to a queue.

use std::fmt;
use std::fs;

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

use crate::sys::Place;

/// A process that has an AF_XDP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number, as this process sees it.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

impl Holder {
    /// Who has the queue. Nothing when the kernel cannot list AF_XDP sockets
    /// (`CONFIG_XDP_SOCKETS_DIAG`), or when the process is not to be seen from here.
    pub(crate) fn of(place: Place) -> Option<Self> {
        let inode = inode(place)?;
        let wanted = format!("socket:[{inode}]");
        let processes = fs::read_dir("/proc").ok()?;
        processes.flatten().find_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
            descriptors
                .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == &*wanted))
                .then(|| {
                    let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                    Self { pid, name: name.trim_end().to_owned() }
                })
        })
    }
}

/// `struct nlmsghdr` and `struct xdp_diag_req` of `linux/xdp_diag.h`.
const REQUEST_LEN: u32 = 16 + 20;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
const XDP_SHOW_INFO: u32 = 1;
const XDP_DIAG_INFO: u16 = 1;
const NLMSG_DONE: u16 = 3;

/// The inode of the socket that is bound there (`sock_diag(7)`).
fn inode(place: Place) -> Option<u32> {
    let mut request = Vec::with_capacity(REQUEST_LEN as usize);
    request.extend(REQUEST_LEN.to_ne_bytes());
    request.extend([SOCK_DIAG_BY_FAMILY.to_ne_bytes(), DUMP.to_ne_bytes()].concat());
    request.extend([0; 8]);
    request.extend([libc::AF_XDP as u8, 0, 0, 0]);
    request.extend(0u32.to_ne_bytes());
    request.extend(XDP_SHOW_INFO.to_ne_bytes());
    request.extend([0; 8]);
    let socket = Socket::new(NETLINK_SOCK_DIAG).ok()?;
    socket.send_to(&request, &SocketAddr::new(0, 0), 0).ok()?;
    loop {
        let (answer, _) = socket.recv_from_full().ok()?;
        let mut rest = &answer[..];
        while let Some(len) = word(rest, 0) {
            let message = rest.get(..len as usize).filter(|message| message.len() >= 16)?;
            match half(message, 4)? {
                SOCK_DIAG_BY_FAMILY if is_at(message.get(32..)?, place) => {
                    return word(message, 20);
                }
                SOCK_DIAG_BY_FAMILY => {}
                NLMSG_DONE => return None,
                // An error: this kernel does not know of the family.
                _ => return None,
            }
            rest = rest.get((len as usize).next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Whether the attributes of a socket say that it is bound there.
fn is_at(mut attributes: &[u8], place: Place) -> bool {
    while let (Some(len), Some(kind)) = (half(attributes, 0), half(attributes, 2)) {
        if kind == XDP_DIAG_INFO {
            let at = (word(attributes, 4), word(attributes, 8));
            return at == (Some(place.interface), Some(place.queue));
        }
        let len = usize::from(len).next_multiple_of(4).max(4);
        attributes = attributes.get(len..).unwrap_or_default();
    }
    false
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}
