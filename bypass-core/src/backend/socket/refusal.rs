//! What the kernel's answers to a send mean.

use std::borrow::Cow;
use std::io;

use super::MAX_PAYLOAD;
use crate::sys::{Coalescer, Family, Train};
use crate::{Caps, FrameError, TxOffloads, Unsupported};

/// Why a message can never be sent, as far as that is known without asking the kernel.
#[inline]
pub(super) fn unsendable(train: &Train, family: Family, caps: &Caps) -> Option<FrameError> {
    let Some(destination) = train.transmit.destination else {
        return Some(FrameError::NoDestination);
    };
    let to = destination.ip().to_canonical();
    let cannot =
        |why: &'static str| Some(FrameError::Destination { destination, why: Cow::Borrowed(why) });
    if family == Family::V4 && to.is_ipv6() {
        return cannot("the socket is bound to an IPv4 address; bind one to [::]");
    }
    if train.transmit.source.is_some_and(|from| from.to_canonical().is_ipv4() != to.is_ipv4()) {
        return cannot("the source is of another address family");
    }
    if train.bytes > MAX_PAYLOAD {
        return Some(FrameError::TooLong { len: train.bytes, max: MAX_PAYLOAD });
    }
    if train.segment_size.is_some() && !caps.tx_offloads.contains(TxOffloads::SEGMENTATION) {
        let why = "the kernel has no UDP_SEGMENT, which Linux 4.18 brought";
        return Some(no_trains(caps.backend, why.into()));
    }
    None
}

/// A datagram of several segments.
pub(super) fn chain(backend: &'static str) -> FrameError {
    FrameError::Unsupported(Unsupported {
        what: "datagram of several buffers".into(),
        backend,
        why: "`caps().max_segments` is 1; copy it into one buffer".into(),
    })
}

/// What to make of a failed send.
pub(super) enum Judgement {
    /// The kernel has no room now.
    Full,
    /// The error may be about an earlier datagram: try again.
    Pending,
    /// This message was refused, with this error number.
    Refused(i32),
}

/// Judges the error of a message that was tried `tries` times before.
pub(super) fn judge(error: &io::Error, tries: u64) -> Judgement {
    match error.raw_os_error().unwrap_or(libc::EIO) {
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR => Judgement::Full,
        errno if is_pending(errno) => Judgement::Pending,
        errno if may_be_pending(errno) && tries == 0 => Judgement::Pending,
        errno => Judgement::Refused(errno),
    }
}

/// Whether `errno` can be the network's answer (ICMP) to an earlier datagram, which the kernel
/// gives to the next call (`icmp_err_convert` in `net/ipv4/icmp.c`, `icmpv6_err_convert`).
#[must_use]
pub fn may_be_pending(errno: i32) -> bool {
    is_pending(errno)
        || matches!(errno, libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EMSGSIZE | libc::EACCES)
}

/// Whether `errno` can be nothing else: no send fails this way by itself.
fn is_pending(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::ECONNRESET
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EOPNOTSUPP
    )
}

/// What is wrong with a message that the kernel refuses with `errno` for good; `None` when it is
/// not the message.
pub(super) fn diagnose(train: &Train, errno: i32, backend: &'static str) -> Option<FrameError> {
    if let Some(size) = train.segment_size
        && Coalescer::may_refuse_trains(errno)
    {
        return Some(no_trains(
            backend,
            format!(
                "the kernel refuses {} segments of {size} bytes: too many, or longer than the MTU \
                 of the interface, or it cannot do their checksums",
                train.packets()
            )
            .into(),
        ));
    }
    let destination = train.transmit.destination?;
    let why: Cow<'static, str> = match (errno, train.transmit.source) {
        (
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL | libc::EADDRNOTAVAIL,
            Some(from),
        ) => {
            format!("there is no route from {from}, or it is not an address of this machine").into()
        }
        (libc::ENETUNREACH | libc::EHOSTUNREACH, None) => {
            "there is no route; `ip route get` shows what the kernel knows".into()
        }
        (libc::EINVAL, None) => "the port is 0, or a route says that nothing is there".into(),
        (libc::EMSGSIZE, _) => {
            let len = train.bytes;
            format!("{len} bytes do not fit in a packet on the way, and `dont_fragment` is on")
                .into()
        }
        (libc::EACCES, _) => "it is a broadcast address and `broadcast` is off".into(),
        (libc::EPERM, _) => "a firewall rule of this machine forbids it".into(),
        _ => return None,
    };
    Some(FrameError::Destination { destination, why })
}

fn no_trains(backend: &'static str, why: Cow<'static, str>) -> FrameError {
    FrameError::Unsupported(Unsupported { what: "GSO train".into(), backend, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_may_be_about_an_earlier_datagram_gets_another_try() {
        let judged = |errno, tries| judge(&io::Error::from_raw_os_error(errno), tries);
        for tries in [0, 1, 3] {
            assert!(matches!(judged(libc::ECONNREFUSED, tries), Judgement::Pending));
            assert!(matches!(judged(libc::EAGAIN, tries), Judgement::Full));
            assert!(matches!(judged(libc::EINVAL, tries), Judgement::Refused(libc::EINVAL)));
        }
        // These can be about this datagram too: then they come again.
        assert!(matches!(judged(libc::EHOSTUNREACH, 0), Judgement::Pending));
        assert!(matches!(judged(libc::EHOSTUNREACH, 1), Judgement::Refused(libc::EHOSTUNREACH)));
    }
}
