//! [`Pci`]: which devices on the PCI bus DPDK may take.

use super::line::Line;
use crate::error::{DpdkError, Result};

/// Which devices on the PCI bus DPDK may take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pci {
    /// None; the bus is not even looked at (`--no-pci`).
    #[default]
    Off,
    /// All that are bound to a driver that DPDK can use, such as vfio-pci.
    All,
    /// These only, by address (`0000:03:00.0`). Their drivers get no arguments;
    /// [`EalOptions::pci_device_unchecked`](super::EalOptions::pci_device_unchecked) allows a device with some.
    Allow(Vec<String>),
    /// All but these, by address.
    Block(Vec<String>),
}

/// What the command line says of `pci`, and of devices that are allowed with arguments for their drivers.
pub(super) fn arguments(pci: &Pci, devices: &[(String, String)], line: &mut Line) -> Result<()> {
    let (option, named): (_, &[String]) = match (pci, devices) {
        (Pci::Off, []) => return line.flag("--no-pci"),
        (Pci::All, []) => return Ok(()),
        (Pci::Off, _) => ("-a", &[]),
        (Pci::Allow(named), _) => ("-a", named),
        (Pci::Block(named), []) => ("-b", named),
        (Pci::All | Pci::Block(_), [(address, _), ..]) => {
            let why = "DPDK gives arguments to devices that are named, and takes no others then: take `Pci::Allow`";
            return Err(DpdkError::config("pci_device_unchecked", address.escape_debug(), why));
        }
    };
    if named.is_empty() && devices.is_empty() {
        let why = "name at least one device, or take `Pci::Off` or `Pci::All`";
        return Err(DpdkError::config("pci", "[]", why));
    }
    for address in named {
        line.option(option, checked("pci", address)?)?;
    }
    for (address, arguments) in devices {
        let address = checked("pci_device_unchecked", address)?;
        line.option("-a", format!("{address},{arguments}"))?;
    }
    Ok(())
}

/// An address, and nothing behind it: drivers believe their arguments.
fn checked<'a>(setting: &'static str, address: &'a str) -> Result<&'a str> {
    if is_address(address) {
        return Ok(address);
    }
    let why = match address.split_once(',') {
        Some((device, _)) if is_address(device) => {
            "an address only: nobody has looked which arguments the driver can be given without harm; who \
             knows it can answer for them, by the unsafe `EalOptions::pci_device_unchecked`"
        }
        _ => "an address looks like 0000:03:00.0; `lspci -D` lists those there are",
    };
    Err(DpdkError::config(setting, address.escape_debug(), why))
}

/// `03:00.0` or `0000:03:00.0`.
fn is_address(address: &str) -> bool {
    let hex = |part: &str, digits: std::ops::RangeInclusive<usize>| {
        digits.contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    let Some((slot, function)) = address.rsplit_once('.') else { return false };
    let mut parts = slot.rsplit(':');
    let device = parts.next().is_some_and(|device| hex(device, 1..=2));
    let bus = parts.next().is_some_and(|bus| hex(bus, 1..=2));
    let domain = parts.next().is_none_or(|domain| hex(domain, 1..=8));
    device && bus && domain && parts.next().is_none() && hex(function, 1..=1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pci: &Pci, devices: &[(&str, &str)]) -> Result<String> {
        let devices: Vec<_> =
            devices.iter().map(|&(address, with)| (address.to_owned(), with.to_owned())).collect();
        let mut line = Line::default();
        arguments(pci, &devices, &mut line)?;
        Ok(line.to_string())
    }

    fn named(address: &str) -> Vec<String> {
        vec![address.to_owned()]
    }

    #[test]
    fn addresses_are_known_by_their_form() {
        for good in ["03:00.0", "0000:03:00.0", "10000:00:1f.7"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "3", "03:00", "xx:00.0", "0000:03:00.00", "0:0:0:0.0"] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn devices_are_allowed_or_blocked_by_address() {
        for (pci, wanted) in [
            (Pci::Off, "--no-pci"),
            (Pci::All, ""),
            (Pci::Allow(named("03:00.0")), "-a 03:00.0"),
            (Pci::Block(named("03:00.0")), "-b 03:00.0"),
        ] {
            assert_eq!(line(&pci, &[]).unwrap(), wanted);
        }
    }

    /// Each driver has arguments of its own, and believes them.
    #[test]
    fn arguments_for_a_driver_are_for_who_answers_for_them() {
        for pci in [
            Pci::Allow(named("03:00.0,dv_flow_en=1")),
            Pci::Allow(named("03:00.0,")),
            Pci::Block(named("03:00.0,dv_flow_en=1")),
        ] {
            let error = line(&pci, &[]).unwrap_err().to_string();
            assert!(error.starts_with("pci = 03:00.0,"), "{error}");
            assert!(error.contains("pci_device_unchecked"), "{error}");
        }
        let device = ("0000:03:00.0", "dv_flow_en=1,x=y");
        assert_eq!(line(&Pci::Off, &[device]).unwrap(), "-a 0000:03:00.0,dv_flow_en=1,x=y");
        let both = line(&Pci::Allow(named("04:00.0")), &[device]).unwrap();
        assert_eq!(both, "-a 04:00.0 -a 0000:03:00.0,dv_flow_en=1,x=y");
        for (pci, address, why) in [
            (Pci::Off, "03:00.0,a=b", "an address only"),
            (Pci::Off, "net_ring0", "looks like"),
            (Pci::All, "03:00.0", "take `Pci::Allow`"),
            (Pci::Block(named("04:00.0")), "03:00.0", "take `Pci::Allow`"),
        ] {
            let error = line(&pci, &[(address, "c=d")]).unwrap_err().to_string();
            assert!(error.starts_with("pci_device_unchecked = "), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
