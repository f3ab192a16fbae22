//! What a port is asked for by [`PacketOptions`] and cannot be given is refused, not ignored.

use bypass_core::backend::packet::PacketOptions;
use bypass_core::pool::HugePages;
use bypass_core::{Error, Result, Unsupported};

use crate::BACKEND;
use crate::eal::Eal;
use crate::port::{Port, Stopped};

/// The driver whose sockets see what an interface sends, and can be told not to.
const AF_PACKET: &str = "net_af_packet";

/// One that sees that too, and is told by its arguments.
const PCAP: &str = "net_pcap";

fn unsupported<T>(what: &'static str, why: &'static str) -> Result<T> {
    Err(Unsupported { what: what.into(), backend: BACKEND, why: why.into() }.into())
}

/// Refuses options that no driver has.
pub(super) fn refuse(options: &PacketOptions) -> Result<()> {
    if options.send_buffer.is_some() {
        return unsupported("`send_buffer`", "its drivers send from rings; `ring` sets their size");
    }
    if options.fanout.is_some() {
        return unsupported("`fanout`", "open the parts of one port (`QueuePair::open_part`)");
    }
    if options.pool.huge_pages == HugePages::Require
        && Eal::current().is_none_or(|eal| !eal.has_huge_pages())
    {
        let why = "start the environment with huge pages before (`EalOptions::memory`)";
        return unsupported("huge pages in an environment that it starts itself", why);
    }
    Ok(())
}

/// Refuses options of an interface's for other ports.
pub(super) fn refuse_of_port(driver: &str, options: &PacketOptions) -> Result<()> {
    if options.max_frame.is_some() {
        let why = "a port's MTU says how long its packets are; `PortOptions::mtu` sets it";
        return unsupported("`max_frame`", why);
    }
    if options.qdisc_bypass && [AF_PACKET, PCAP].contains(&driver) {
        return unsupported("`qdisc_bypass`", "give `net_af_packet` the argument `qdisc_bypass=1`");
    }
    if options.outgoing && ![AF_PACKET, PCAP].contains(&driver) {
        return unsupported(
            "`outgoing`",
            "the driver sees only what comes in; `net_af_packet` sees both",
        );
    }
    Ok(())
}

/// Refuses to make a `net_pcap` that receives what this machine sends when nobody asked for that.
pub(super) fn refuse_both_ways(name: &str, arguments: &str, options: &PacketOptions) -> Result<()> {
    let both = |argument: &str| argument.starts_with("iface=") || argument.starts_with("rx_iface=");
    if !options.outgoing && name.starts_with(PCAP) && arguments.split(',').any(both) {
        let why = "it receives what this machine sends, too: set `outgoing`, or give it `rx_iface_in=` and \
                   `tx_iface=`";
        return unsupported("`net_pcap` with `iface=` or `rx_iface=`", why);
    }
    Ok(())
}

/// Has a `net_af_packet` leave out what this machine sends, unless somebody asked for that.
pub(super) fn leave_out_outgoing(
    port: &Port<Stopped>,
    driver: &str,
    options: &PacketOptions,
) -> Result<()> {
    if options.outgoing || driver != AF_PACKET {
        return Ok(());
    }
    let Some(device) = port.plugged() else {
        let why =
            "its sockets are not known; set `outgoing`, or make it by `Vdev::plug` or by this name";
        return unsupported("a `net_af_packet` of `EalOptions::vdev` without `outgoing`", why);
    };
    device.missed.leave_out_what_is_sent().map_err(|error| {
        Error::os(format!("have {} leave out what this machine sends", port.name()), error)
    })
}
