//! AF_XDP: what the kernel allows, and what each interface can do.

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::interfaces::{chosen, has_default_route};
use super::{Finding, ProbeOptions, Section, line};
use crate::Error;
use crate::xdp::program::{Filter, Owner};
use crate::xdp::steer::{RingSizes, Steering};
use crate::xdp::{CopyMode, Hook, Interface, Receive, Want, XdpOptions};

/// For local experiments (IEEE 802), so nobody's.
const NOBODYS: u16 = 0x88b5;

/// That of the kernel, and those of the interfaces.
pub(super) fn sections(options: &ProbeOptions) -> Vec<Section> {
    let interfaces = chosen(&options.interfaces);
    let interfaces = interfaces.iter().map(|name| interface(name, options));
    [super::section("xdp", vec![sockets()])].into_iter().chain(interfaces).collect()
}

fn sockets() -> Finding {
    let made = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None);
    match made {
        Ok(_) => Finding::good("sockets", "can be made"),
        Err(rustix::io::Errno::AFNOSUPPORT) => {
            Finding::missing("sockets", "the kernel has none (CONFIG_XDP_SOCKETS)")
                .with_remedy("a kernel with CONFIG_XDP_SOCKETS=y")
        }
        Err(errno) => {
            let error = Error::privileged("open an AF_XDP socket", "CAP_NET_RAW", errno);
            Finding::missing("sockets", error.to_string())
        }
    }
}

/// What an interface can do.
fn interface(name: &str, options: &ProbeOptions) -> Section {
    let findings = match Interface::find(name) {
        Ok(interface) => look(&interface, options),
        Err(error) => vec![Finding::missing("interface", error.to_string())],
    };
    super::section(format!("xdp:{name}"), findings)
}

fn look(interface: &Interface, options: &ProbeOptions) -> Vec<Finding> {
    let mut findings = vec![
        Finding::good("interface", format!("{} queues, MTU {}", interface.queues, interface.mtu)),
        driver(&interface.name),
        features(interface),
        rings(&interface.name),
        spread(&interface.name),
        node(&interface.name),
    ];
    let owner = Owner::on(&interface.name);
    let taken = matches!(owner, Ok(Some(_)));
    findings.push(program(owner, &interface.name));
    match (options.try_sockets, has_default_route(&interface.name) && !options.force) {
        (false, _) => findings.push(
            Finding::limited("trial", "not made: attaching a program may interrupt traffic")
                .with_remedy("ProbeOptions::try_sockets (doctor --try)"),
        ),
        (true, true) => findings.push(
            Finding::limited("trial", "not made: a default route leads through this interface")
                .with_remedy("ProbeOptions::force (doctor --try --force)"),
        ),
        (true, false) if taken => {
            findings.push(Finding::limited("trial", "not made: another program is there"));
        }
        (true, false) => findings.extend(trials(interface)),
    }
    findings
}

fn driver(name: &str) -> Finding {
    match Steering::of(name).and_then(|device| device.driver()) {
        Ok(driver) => Finding::good("driver", driver),
        Err(error) => Finding::limited("driver", error.to_string()),
    }
}

fn features(interface: &Interface) -> Finding {
    let Some(features) = interface.features else {
        return Finding::limited(
            "driver's features",
            "the kernel does not tell (before Linux 6.3)",
        );
    };
    let told = [
        (features.zero_copy, "zero-copy".to_owned()),
        (features.multi_buffer, "multi-buffer".to_owned()),
        (!features.rx_hints.is_empty(), format!("RX hints {:?}", features.rx_hints)),
        (!features.tx_offloads.is_empty(), format!("TX offloads {:?}", features.tx_offloads)),
    ];
    let told: Vec<_> = told.into_iter().filter_map(|(has, what)| has.then_some(what)).collect();
    match features.zero_copy {
        true => Finding::good("driver's features", told.join(", ")),
        false if told.is_empty() => {
            Finding::limited("driver's features", "none: frames are copied")
        }
        false => {
            Finding::limited("driver's features", format!("frames are copied; {}", told.join(", ")))
        }
    }
}

/// The device's own rings, which are the first to overflow.
fn rings(name: &str) -> Finding {
    match Steering::of(name).and_then(|device| device.ring_sizes()) {
        Ok(RingSizes { rx, tx, max: [max_rx, max_tx], .. }) => {
            let detail = format!("RX {rx} of {max_rx}, TX {tx} of {max_tx}");
            if rx < max_rx {
                Finding::good("ring sizes", detail)
                    .with_remedy(format!("where bursts are lost: ethtool -G {name} rx {max_rx}"))
            } else {
                Finding::good("ring sizes", detail)
            }
        }
        Err(error) => Finding::limited("ring sizes", error.to_string()),
    }
}

/// Where the device is attached; memory and cores there are the nearest.
fn node(name: &str) -> Finding {
    match line(format!("/sys/class/net/{name}/device/numa_node")).as_deref() {
        None => {
            Finding::good("NUMA node", "none: no device of the machine's, or of another namespace")
        }
        Some("-1") => Finding::good("NUMA node", "the machine has one"),
        Some(node) => {
            let cores = line(format!("/sys/devices/system/node/node{node}/cpulist"));
            let cores = cores.unwrap_or_else(|| "unknown".to_owned());
            Finding::good("NUMA node", format!("{node}; cores there: {cores}"))
        }
    }
}

/// How packets spread over queues.
fn spread(name: &str) -> Finding {
    let table = Steering::of(name).and_then(|device| device.indirection());
    match table {
        Ok(table) => {
            let queues: std::collections::BTreeSet<_> = table.iter().collect();
            Finding::good("RSS", format!("over {} queues", queues.len()))
        }
        Err(error) => Finding::limited("RSS", error.to_string()),
    }
}

fn program(owner: crate::Result<Option<Owner>>, name: &str) -> Finding {
    match owner {
        Ok(None) => Finding::good("XDP program", "none attached"),
        Ok(Some(owner)) => Finding::missing("XDP program", format!("{owner} is attached already"))
            .with_remedy(owner.remedy(name)),
        Err(error) => Finding::limited("XDP program", error.to_string()),
    }
}

/// Opens queue 0 in each way, and then every queue in the best of them.
fn trials(interface: &Interface) -> Vec<Finding> {
    let ways = [
        ("generic mode", Hook::Generic, CopyMode::Copy),
        ("native mode", Hook::Native, CopyMode::Copy),
        ("zero-copy", Hook::Native, CopyMode::ZeroCopy),
    ];
    let open = |queue, hook, copy| {
        let mut options = XdpOptions::new(&interface.name);
        options.queue = queue;
        options.receive = Receive::Filter(Filter::new().ether_type(NOBODYS));
        (options.hook, options.mode) = (Want::Require(hook), Want::Require(copy));
        options.open().map(drop)
    };
    let outcomes = ways.map(|(subject, hook, copy)| (subject, open(0, hook, copy)));
    let best = (0..ways.len()).rev().find(|&at| outcomes[at].1.is_ok());
    let finding = |(subject, outcome): (&str, crate::Result<()>)| match outcome {
        Ok(()) => Finding::good(subject, "opened and closed"),
        Err(error) if best.is_some() => Finding::limited(subject, error.to_string()),
        Err(error) => Finding::missing(subject, error.to_string()),
    };
    let mut findings: Vec<_> = outcomes.into_iter().map(finding).collect();
    if let Some(at) = best {
        let (way, hook, copy) = ways[at];
        let refused =
            (1..interface.queues).find_map(|queue| Some((queue, open(queue, hook, copy).err()?)));
        findings.push(match refused {
            None => Finding::good("queues", format!("all {} opened, {way}", interface.queues)),
            Some((queue, error)) => Finding::limited("queues", format!("not {queue}: {error}")),
        });
    }
    findings
}
