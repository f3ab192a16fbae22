//! [`Nic`]: the interface that somebody names, by its own name or by the PCI address of its card.

#[path = "../../src/probe/interfaces.rs"]
#[expect(dead_code, reason = "the probe also lists interfaces")]
mod interfaces;

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail, ensure};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// An interface that is up and has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nic {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
}

impl Nic {
    /// Finds it in the calling thread's network. One that a default route leads through is refused unless
    /// `force` says so: a benchmark would be between this machine and everybody else.
    pub(crate) fn find(named: &str, force: bool) -> Result<Self> {
        let name = if named.contains(':') { of_card(named)? } else { named.to_owned() };
        let entries: Vec<_> = getifaddrs()
            .context("cannot list the interfaces")?
            .filter(|entry| entry.interface_name == name)
            .collect();
        let Some(entry) = entries.first() else {
            bail!(
                "there is no interface `{name}`; `ip link` lists those of this network namespace"
            );
        };
        ensure!(
            entry.flags.contains(InterfaceFlags::IFF_UP),
            "{name} is down: ip link set {name} up"
        );
        ensure!(
            force || !interfaces::has_default_route(&name),
            "a default route leads through {name}, so a benchmark on it could cut this machine off; \
             --force takes it all the same"
        );
        let address = entries.iter().find_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip()));
        let address = address.with_context(|| {
            format!("{name} has no IPv4 address: ip address add 10.0.0.1/24 dev {name}")
        })?;
        Ok(Self { name, address })
    }

    /// The interface with its driver, for the report.
    pub(crate) fn describe(&self) -> String {
        match driver(&self.name) {
            Some(driver) => format!("{} (driver {driver})", self.name),
            None => self.name.clone(),
        }
    }
}

/// The interface of the card at a PCI address.
fn of_card(address: &str) -> Result<String> {
    let device = format!("/sys/bus/pci/devices/{address}");
    let driver = fs::read_link(format!("{device}/driver")).ok();
    let driver = driver.as_ref().and_then(|link| link.file_name()?.to_str());
    ensure!(
        fs::exists(&device)?,
        "there is no card at PCI address {address}; `lspci -D` lists them"
    );
    let interfaces = fs::read_dir(format!("{device}/net")).into_iter().flatten().flatten();
    let name = interfaces.filter_map(|entry| entry.file_name().into_string().ok()).next();
    name.with_context(|| {
        let driver = driver.unwrap_or("none");
        format!(
            "the card at {address} (driver {driver}) has no interface of the kernel's, which the servers \
             on sockets need; bind it to its own driver"
        )
    })
}

#[cfg(feature = "xdp")]
fn driver(interface: &str) -> Option<String> {
    bypass_xdp::steer::Steering::of(interface).ok()?.driver().ok()
}

#[cfg(not(feature = "xdp"))]
fn driver(interface: &str) -> Option<String> {
    let link = fs::read_link(format!("/sys/class/net/{interface}/device/driver")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        for (named, reason) in [("no-such0", "no interface"), ("ffff:ff:1f.7", "no card")] {
            let error = Nic::find(named, false).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn an_interface_is_found_with_its_address() {
        let lo = Nic::find("lo", false).unwrap();
        assert_eq!(lo, Nic { name: "lo".to_owned(), address: Ipv4Addr::LOCALHOST });
    }
}
