//! AF_XDP: what the kernel allows, and what each interface can do.

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::interfaces::{chosen, has_default_route};
use super::{Finding, ProbeOptions, Section};
use crate::Error;
use crate::xdp::program::{Filter, Owner};
use crate::xdp::steer::Steering;
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
        spread(&interface.name),
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
        (true, false) => findings.extend(trials(&interface.name)),
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

/// Opens queue 0 in each way.
fn trials(name: &str) -> Vec<Finding> {
    let ways = [
        ("generic mode", Hook::Generic, CopyMode::Copy),
        ("native mode", Hook::Native, CopyMode::Copy),
        ("zero-copy", Hook::Native, CopyMode::ZeroCopy),
    ];
    let outcomes = ways.map(|(subject, hook, copy)| {
        let mut options = XdpOptions::new(name);
        options.receive = Receive::Filter(Filter::new().ether_type(NOBODYS));
        (options.hook, options.copy) = (Want::Require(hook), Want::Require(copy));
        (subject, options.open().map(drop))
    });
    let any = outcomes.iter().any(|(_, outcome)| outcome.is_ok());
    let finding = |(subject, outcome): (&str, crate::Result<()>)| match outcome {
        Ok(()) => Finding::good(subject, "opened and closed"),
        Err(error) if any => Finding::limited(subject, error.to_string()),
        Err(error) => Finding::missing(subject, error.to_string()),
    };
    outcomes.into_iter().map(finding).collect()
}
