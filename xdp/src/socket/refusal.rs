//! What it means when the kernel refuses a step of opening a queue.

use std::io;

use bypass_core::Error;

use super::{Holder, Interface, Want, XdpOptions};
use crate::error::XdpError;
use crate::sys::Place;
use crate::umem::{Refused, Umem};

pub(super) fn no_socket(link: &Interface, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT | libc::ESOCKTNOSUPPORT | libc::EPROTONOSUPPORT) => {
            XdpError::NoAfXdp.into()
        }
        _ => {
            let attempt = format!("open an AF_XDP socket on {}", link.name);
            Error::privileged(attempt, "CAP_NET_RAW", error)
        }
    }
}

pub(super) fn not_registered(umem: &Umem, error: io::Error) -> Error {
    let bytes = umem.arena().len();
    match error.raw_os_error() {
        Some(libc::EBUSY) => not_fresh("it has packet memory"),
        Some(libc::ENOBUFS | libc::EPERM) => XdpError::LockedMemory { bytes }.into(),
        Some(libc::EINVAL) if !umem.tx_offloads().is_empty() => {
            let attempt = "register packet memory with AF_XDP for `tx_offloads`".to_owned();
            XdpError::OldKernel { attempt, since: "6.11", source: error }.into()
        }
        _ => Error::os(format!("register {bytes} bytes of packet memory with AF_XDP"), error),
    }
}

/// An adopted socket with which something was done already.
pub(super) fn not_fresh(what: &str) -> Error {
    Error::config("socket", "adopted", format!("{what} already; pass a fresh AF_XDP socket on"))
}

pub(super) fn in_use(link: &Interface, place: Place, holder: Option<Holder>) -> Error {
    XdpError::QueueInUse { interface: link.name.clone(), queue: place.queue, holder }.into()
}

pub(super) fn not_bound(
    link: &Interface,
    place: Place,
    options: &XdpOptions,
    refused: Refused,
) -> Error {
    let Refused { source, mode } = refused;
    let (interface, queue) = (link.name.clone(), place.queue);
    let attempt = format!("bind an AF_XDP socket to queue {queue} of {interface}");
    match (source.raw_os_error(), mode) {
        (Some(libc::EBUSY), _) => in_use(link, place, Holder::of(place)),
        (Some(libc::ENODEV), _) => {
            Error::NoSuchInterface { attempt: attempt.into(), name: interface }
        }
        (Some(libc::ENETDOWN), _) => {
            Error::os(attempt, source).with_remedy(format!("ip link set {interface} up"))
        }
        (Some(libc::EINVAL), Some(_)) if options.multi_buffer => {
            let attempt = format!("{attempt} for frames of several segments");
            XdpError::OldKernel { attempt, since: "6.6", source }.into()
        }
        (Some(libc::EINVAL), None) => XdpError::OldKernel {
            attempt: format!("{attempt}, sharing memory"),
            since: "5.10",
            source,
        }
        .into(),
        (_, Some(mode)) if matches!(options.mode, Want::Require(_)) => {
            XdpError::ModeRefused { interface, queue, mode, source }.into()
        }
        _ => Error::os(attempt, source),
    }
}
