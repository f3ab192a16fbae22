//! The commands of `SIOCETHTOOL`.
//!
//! # What the unsafe code here relies on
//!
//! The kernel reads a command's structure, whose first word is the command, and writes no more of it
//! than the structure has, all during the call (`net/ethtool/ioctl.c`). Where a structure ends in a
//! table, a member tells the kernel how long that may be.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

pub(super) const GDRVINFO: u32 = 0x03;
pub(super) const GRXCLSRLALL: u32 = 0x30;
pub(super) const SRXCLSRLDEL: u32 = 0x31;
pub(super) const SRXCLSRLINS: u32 = 0x32;
pub(super) const GRXFHINDIR: u32 = 0x38;
pub(super) const SRXFHINDIR: u32 = 0x39;
pub(super) const GRINGPARAM: u32 = 0x10;
pub(super) const GCHANNELS: u32 = 0x3c;
pub(super) const SCHANNELS: u32 = 0x3d;

/// Entries that the tables here have room for; more than any driver has.
pub(super) const TABLE: usize = 4096;

/// A structure of a command.
///
/// # Safety
///
/// It has the layout of the kernel's for the commands that are put into it, tables included.
pub(super) unsafe trait Command {}

/// `struct ethtool_drvinfo`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct DriverInfo {
    pub(super) cmd: u32,
    pub(super) driver: [u8; 32],
    pub(super) rest: [u8; 160],
}

// SAFETY: checked against the kernel's header by the test below; bytes only behind the command.
unsafe impl Command for DriverInfo {}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct ChannelCounts {
    pub(super) cmd: u32,
    pub(super) max_rx: u32,
    pub(super) max_tx: u32,
    pub(super) max_other: u32,
    pub(super) max_combined: u32,
    pub(super) rx: u32,
    pub(super) tx: u32,
    pub(super) other: u32,
    pub(super) combined: u32,
}

// SAFETY: checked against the kernel's header by the test below.
unsafe impl Command for ChannelCounts {}

/// `struct ethtool_ringparam`.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct RingLengths {
    pub(super) cmd: u32,
    pub(super) max_rx: u32,
    pub(super) max_rx_mini: u32,
    pub(super) max_rx_jumbo: u32,
    pub(super) max_tx: u32,
    pub(super) rx: u32,
    pub(super) rx_mini: u32,
    pub(super) rx_jumbo: u32,
    pub(super) tx: u32,
}

// SAFETY: checked against the kernel's header by the test below.
unsafe impl Command for RingLengths {}

/// `struct ethtool_rxfh_indir`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Indirection {
    pub(super) cmd: u32,
    /// Entries of the table: the device's, or 0 to ask for their number (or to reset the table).
    pub(super) size: u32,
    pub(super) queues: [u32; TABLE],
}

// SAFETY: checked against the kernel's header by the test below; `size` is 0, or what the device has
// said and `TABLE` has room for: see `Steering`.
unsafe impl Command for Indirection {}

/// `struct ethtool_rxnfc`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) cmd: u32,
    pub(super) flow_type: u32,
    pub(super) data: u64,
    pub(super) spec: FlowSpec,
    /// Entries of the table that follows: its room before the call.
    pub(super) count: u32,
    pub(super) locations: [u32; TABLE],
}

// SAFETY: checked against the kernel's header by the test below; the kernel writes `count` entries at
// most, of which there are `TABLE`.
unsafe impl Command for Rules {}

/// `struct ethtool_rx_flow_spec`.
#[repr(C)]
#[derive(Clone, Debug)]
pub(super) struct FlowSpec {
    pub(super) flow_type: u32,
    pub(super) fields: [u8; 52],
    pub(super) extension: [u8; 20],
    /// Bits of `fields` that must be as they are there.
    pub(super) mask: [u8; 52],
    pub(super) mask_extension: [u8; 20],
    pub(super) queue: u64,
    pub(super) location: u32,
}

/// Carries out a command on an interface of the socket's namespace.
pub(super) fn ethtool<T: Command>(
    socket: &UdpSocket,
    interface: &str,
    command: &mut T,
) -> io::Result<()> {
    // SAFETY: integers and pointers may be all zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(command).cast();
    let number = libc::SIOCETHTOOL as libc::Ioctl;
    // SAFETY: the name ends with a zero; `ifru_data` points to a structure of the command's layout
    // (`Command`), which is borrowed for the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw mut request) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::process::Command as Process;

    use bypass_core::testing::needs::{Need, skip, skip_because};

    use super::*;

    /// Asks the C compiler about the kernel's header.
    #[test]
    fn the_layouts_are_those_of_the_kernel_s_header() {
        if skip(&[Need::Tool("cc")]) {
            return;
        }
        if !std::path::Path::new("/usr/include/linux/ethtool.h").exists() {
            skip_because("no linux/ethtool.h");
            return;
        }
        let ours: &[(&str, usize)] = &[
            ("sizeof(struct ethtool_drvinfo)", size_of::<DriverInfo>()),
            ("offsetof(struct ethtool_drvinfo, driver)", offset_of!(DriverInfo, driver)),
            ("sizeof(struct ethtool_channels)", size_of::<ChannelCounts>()),
            ("offsetof(struct ethtool_channels, max_rx)", offset_of!(ChannelCounts, max_rx)),
            ("offsetof(struct ethtool_channels, rx_count)", offset_of!(ChannelCounts, rx)),
            ("offsetof(struct ethtool_channels, tx_count)", offset_of!(ChannelCounts, tx)),
            (
                "offsetof(struct ethtool_channels, combined_count)",
                offset_of!(ChannelCounts, combined),
            ),
            ("sizeof(struct ethtool_ringparam)", size_of::<RingLengths>()),
            ("offsetof(struct ethtool_ringparam, tx_max_pending)", offset_of!(RingLengths, max_tx)),
            ("offsetof(struct ethtool_ringparam, rx_pending)", offset_of!(RingLengths, rx)),
            ("offsetof(struct ethtool_ringparam, tx_pending)", offset_of!(RingLengths, tx)),
            ("offsetof(struct ethtool_rxfh_indir, size)", offset_of!(Indirection, size)),
            ("offsetof(struct ethtool_rxfh_indir, ring_index)", offset_of!(Indirection, queues)),
            ("offsetof(struct ethtool_rxnfc, data)", offset_of!(Rules, data)),
            ("offsetof(struct ethtool_rxnfc, fs)", offset_of!(Rules, spec)),
            ("offsetof(struct ethtool_rxnfc, rule_cnt)", offset_of!(Rules, count)),
            ("offsetof(struct ethtool_rxnfc, rule_locs)", offset_of!(Rules, locations)),
            ("sizeof(struct ethtool_rx_flow_spec)", size_of::<FlowSpec>()),
            ("offsetof(struct ethtool_rx_flow_spec, h_u)", offset_of!(FlowSpec, fields)),
            ("offsetof(struct ethtool_rx_flow_spec, m_u)", offset_of!(FlowSpec, mask)),
            ("offsetof(struct ethtool_rx_flow_spec, ring_cookie)", offset_of!(FlowSpec, queue)),
            ("offsetof(struct ethtool_rx_flow_spec, location)", offset_of!(FlowSpec, location)),
            ("offsetof(struct ethtool_tcpip4_spec, ip4dst)", 4),
            ("offsetof(struct ethtool_tcpip4_spec, pdst)", 10),
            ("offsetof(struct ethtool_tcpip6_spec, ip6dst)", 16),
            ("offsetof(struct ethtool_tcpip6_spec, pdst)", 34),
            ("ETHTOOL_GDRVINFO", GDRVINFO as usize),
            ("ETHTOOL_GRXCLSRLALL", GRXCLSRLALL as usize),
            ("ETHTOOL_SRXCLSRLDEL", SRXCLSRLDEL as usize),
            ("ETHTOOL_SRXCLSRLINS", SRXCLSRLINS as usize),
            ("ETHTOOL_GRXFHINDIR", GRXFHINDIR as usize),
            ("ETHTOOL_SRXFHINDIR", SRXFHINDIR as usize),
            ("ETHTOOL_GRINGPARAM", GRINGPARAM as usize),
            ("ETHTOOL_GCHANNELS", GCHANNELS as usize),
            ("ETHTOOL_SCHANNELS", SCHANNELS as usize),
            ("TCP_V4_FLOW", super::super::flow::TCP_V4 as usize),
            ("UDP_V4_FLOW", super::super::flow::UDP_V4 as usize),
            ("TCP_V6_FLOW", super::super::flow::TCP_V6 as usize),
            ("UDP_V6_FLOW", super::super::flow::UDP_V6 as usize),
            ("RX_CLS_LOC_ANY", super::super::flow::ANYWHERE as usize),
        ];
        let asserts: String = ours
            .iter()
            .map(|(theirs, ours)| format!("_Static_assert({theirs} == {ours}ul, \"{theirs}\");\n"))
            .collect();
        let source = format!("#include <stddef.h>\n#include <linux/ethtool.h>\n{asserts}");
        let file = std::env::temp_dir().join(format!("bypass-ethtool-{}.c", std::process::id()));
        std::fs::write(&file, source).unwrap();
        let output = Process::new("cc").args(["-fsyntax-only"]).arg(&file).output().unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
