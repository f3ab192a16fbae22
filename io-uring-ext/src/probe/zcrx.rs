//! Zero-copy receive: whether an interface's queue would take it.

use std::fs;
use std::io;

use io_uring::types::{
    IORING_MEM_REGION_TYPE_USER, io_uring_region_desc, io_uring_zcrx_area_reg,
    io_uring_zcrx_ifq_reg,
};
use io_uring::{IoUring, cqueue, squeue};
use memmap2::MmapMut;

use super::Refusal;
use crate::sys::fork::page_size;

/// Why a queue takes no zero-copy receive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZeroCopyRefusal {
    /// There is no such interface in this network namespace.
    #[error("there is no interface {interface} in this network namespace ({errno})")]
    NoInterface {
        /// Its name.
        interface: String,
        /// Why its index could not be read.
        errno: io::Error,
    },
    /// The kernel gives no ring of the kind that is needed, or is too old (6.15).
    #[error("zero-copy receive is refused: {0}")]
    Kernel(#[source] Refusal),
    /// It takes `CAP_NET_ADMIN` over the interface's network namespace.
    #[error("zero-copy receive on {interface} needs CAP_NET_ADMIN")]
    Privilege {
        /// The interface.
        interface: String,
    },
    /// The driver has no such queues (`EOPNOTSUPP`).
    #[error(
        "the driver of {interface} lends no memory of the application's to its queues, or does not \
         split headers from data; take an interface whose driver does (such as bnxt, fbnic, gve or \
         mlx5) on a kernel with CONFIG_IO_URING_ZCRX"
    )]
    Driver {
        /// The interface.
        interface: String,
    },
    /// The driver could, but headers are not split from data, the queue is not there, or something
    /// else uses it.
    #[error(
        "queue {queue} of {interface} is not ready for zero-copy receive ({errno}); it has to exist \
         (ethtool -l), to be free of XDP and other users, and headers have to be split from data \
         (ethtool -G {interface} tcp-data-split on)"
    )]
    Queue {
        /// The interface.
        interface: String,
        /// The receive queue.
        queue: u32,
        /// The kernel's answer.
        errno: io::Error,
    },
}

/// Tries to register `queue` of `interface` for zero-copy receive (Linux 6.15,
/// `IORING_REGISTER_ZCRX_IFQ`; `Documentation/networking/iou-zcrx.rst`), and takes it back.
///
/// Where it succeeds the queue is reset twice, which loses what it holds; where it is refused, nothing
/// happens. This crate has no operation for it: the probe is for those who have the hardware.
///
/// # Errors
///
/// The refusal.
pub fn zero_copy_receive(interface: &str, queue: u32) -> Result<(), ZeroCopyRefusal> {
    const SINCE: (u32, u32) = (6, 15);
    /// Entries of the ring through which memory goes back to the queue.
    const ENTRIES: u32 = 64;
    const AREA: usize = 1 << 20;

    let no_interface =
        |errno| ZeroCopyRefusal::NoInterface { interface: interface.to_owned(), errno };
    if interface.is_empty() || interface.contains(['/', '\0']) || interface.starts_with('.') {
        return Err(no_interface(io::ErrorKind::InvalidInput.into()));
    }
    let index = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"));
    let index = index.and_then(|index| index.trim().parse().map_err(io::Error::other));
    let index: u32 = index.map_err(no_interface)?;

    let kernel = |errno| ZeroCopyRefusal::Kernel(Refusal::of_setup(errno, SINCE));
    let ring = IoUring::<squeue::Entry, cqueue::Entry32>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(8)
        .map_err(kernel)?;
    let mut area = MmapMut::map_anon(AREA).map_err(kernel)?;
    let mut region = MmapMut::map_anon(2 * page_size()).map_err(kernel)?;
    let mut area_reg = io_uring_zcrx_area_reg {
        addr: area.as_mut_ptr() as u64,
        len: AREA as u64,
        ..Default::default()
    };
    let mut region_reg = io_uring_region_desc {
        user_addr: region.as_mut_ptr() as u64,
        size: region.len() as u64,
        flags: IORING_MEM_REGION_TYPE_USER,
        ..Default::default()
    };
    let registration = io_uring_zcrx_ifq_reg {
        if_idx: index,
        if_rxq: queue,
        rq_entries: ENTRIES,
        area_ptr: &raw mut area_reg as u64,
        region_ptr: &raw mut region_reg as u64,
        ..Default::default()
    };
    // Should it succeed: the kernel pins the pages of both mappings, so they may be unmapped while the
    // ring, whose end takes the queue back, still goes away.
    let answer = ring.submitter().register_ifq(&registration);
    answer.map_err(|errno| judge(errno, interface, queue, SINCE))
}

fn judge(errno: io::Error, interface: &str, queue: u32, since: (u32, u32)) -> ZeroCopyRefusal {
    let interface = interface.to_owned();
    match errno.raw_os_error() {
        Some(libc::EPERM) => ZeroCopyRefusal::Privilege { interface },
        Some(libc::EOPNOTSUPP) => ZeroCopyRefusal::Driver { interface },
        Some(libc::ENODEV) => ZeroCopyRefusal::NoInterface { interface, errno },
        Some(libc::EINVAL) => match Refusal::of_register(errno, since) {
            old @ Refusal::OldKernel { .. } => ZeroCopyRefusal::Kernel(old),
            _ => ZeroCopyRefusal::Queue {
                interface,
                queue,
                errno: io::Error::from_raw_os_error(libc::EINVAL),
            },
        },
        Some(libc::ENOMEM) => ZeroCopyRefusal::Kernel(Refusal::of_register(errno, since)),
        _ => ZeroCopyRefusal::Queue { interface, queue, errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_to_do() {
        let says =
            |errno| judge(io::Error::from_raw_os_error(errno), "eth9", 3, (6, 15)).to_string();
        for (errno, words) in [
            (libc::EPERM, "CAP_NET_ADMIN"),
            (libc::EOPNOTSUPP, "the driver of eth9"),
            (libc::ENODEV, "no interface eth9"),
            (libc::EEXIST, "queue 3 of eth9"),
            (libc::ERANGE, "ethtool -l"),
        ] {
            let said = says(errno);
            assert!(said.contains(words), "{said:?} should say {words:?}");
        }
        let old = judge(io::Error::from_raw_os_error(libc::EINVAL), "eth9", 3, (99, 0));
        assert!(old.to_string().contains("needs Linux 99.0"), "{old}");
    }

    /// What this machine's interfaces say; none of them is expected to have the hardware.
    #[test]
    fn loopback_has_no_queue_for_it() {
        let refused = zero_copy_receive("lo", 0).unwrap_err();
        assert!(
            matches!(
                refused,
                ZeroCopyRefusal::Driver { .. }
                    | ZeroCopyRefusal::Privilege { .. }
                    | ZeroCopyRefusal::Kernel(_)
            ),
            "{refused:?}"
        );
        for nobody in ["no-such-thing", "../lo", "", "."] {
            let refused = zero_copy_receive(nobody, 0).unwrap_err();
            assert!(matches!(refused, ZeroCopyRefusal::NoInterface { .. }), "{refused:?}");
        }
    }
}
