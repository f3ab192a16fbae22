//! [`Vdev`]: virtual devices that come and go while the environment runs.
//!
//! Relied on: `rte_eal_hotplug_add` and `rte_eal_hotplug_remove` copy the strings that they are given;
//! a port belongs to the device that `rte_eth_dev_info_get` names. A device is removed only when nobody
//! holds its [`Plugged`], and whoever uses one of its ports does.

use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::Arc;

use bypass_dpdk_sys as sys;

use crate::eal::{Device, Eal, Life, stream, text};
use crate::error::{DpdkError, Errno, Result};
use crate::missed::Missed;

/// The bus of virtual devices.
const BUS: &CStr = c"vdev";

/// A virtual device that was plugged in. It is pulled when this and all its ports are dropped.
///
/// ```standalone_crate
/// use bypass_dpdk::{EalOptions, Vdev};
///
/// let eal = EalOptions::new().start()?;
/// let ring = Vdev::plug(&eal, "net_ring0", "")?;
/// assert_eq!(ring.ports(), [0]);
/// ring.unplug().map_err(|(_, error)| error)?;
/// # Ok::<(), bypass_dpdk::DpdkError>(())
/// ```
#[derive(Debug)]
pub struct Vdev(Arc<Plugged>);

/// The device itself, held by its [`Vdev`] and by its ports.
#[derive(Debug)]
pub(crate) struct Plugged {
    name: String,
    /// Whether it is still to be removed.
    there: bool,
    pub(crate) missed: Missed,
    eal: Eal,
}

impl Vdev {
    /// Makes the device `name`, which begins with its driver's name (`net_null0`, `net_tap1`), with
    /// arguments for the driver (`iface=tap0,mac=fixed`; the drivers' pages in the DPDK guide list them).
    ///
    /// # Errors
    ///
    /// [`DpdkError::Config`] for what can be no device's name; [`DpdkError::Probe`] when there is no such
    /// driver, or when it refuses, with what it said.
    pub fn plug(eal: &Eal, name: &str, arguments: &str) -> Result<Self> {
        // Held throughout, so that nobody meets a device that is half there.
        let mut devices = eal.devices();
        let (made, missed) = Missed::while_making(name, || probe(&devices, name, arguments));
        let makes = made?;
        let name = name.to_owned();
        let plugged = Arc::new(Plugged { name, there: true, missed, eal: eal.clone() });
        let life = Life::Plugged(Arc::downgrade(&plugged));
        devices.insert(plugged.name.clone(), Device { life, makes });
        Ok(Self(plugged))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The number of its port, which has the device's name. Devices that are no network devices have
    /// none, nor has one whose port was closed.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let mut port = 0;
        let Ok(name) = text("vdev", self.0.name.as_str()) else { return Vec::new() };
        // SAFETY: a C string, and room for the answer. Unlike what tells a port's device, this may be
        // asked while others open and close ports.
        let code = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut port) };
        if code == 0 { vec![port] } else { Vec::new() }
    }

    /// Pulls the device now.
    ///
    /// # Errors
    ///
    /// The device and [`DpdkError::DeviceInUse`] while a port of it is in use.
    pub fn unplug(self) -> Result<(), (Self, DpdkError)> {
        let eal = self.0.eal.clone();
        let mut devices = eal.devices();
        let mut plugged = match Arc::try_unwrap(self.0) {
            // From here on nobody else can come to hold it.
            Ok(plugged) => plugged,
            Err(shared) => {
                let device = shared.name.clone();
                return Err((Self(shared), DpdkError::DeviceInUse { device }));
            }
        };
        let removed = remove(&plugged.name);
        match removed {
            Ok(()) => {
                devices.remove(&plugged.name);
                plugged.there = false;
                drop(devices);
                Ok(())
            }
            Err(error) => {
                let plugged = Arc::new(plugged);
                if let Some(device) = devices.get_mut(&plugged.name) {
                    device.life = Life::Plugged(Arc::downgrade(&plugged));
                }
                Err((Self(plugged), error))
            }
        }
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        if self.there {
            // Whoever plugs the same name in meanwhile waits for the lock.
            let mut devices = self.eal.devices();
            let _logged_by_dpdk = remove(&self.name);
            devices.remove(&self.name);
        }
    }
}

/// Makes the device, if there is none of its name, and returns how long packets are that it makes up.
fn probe(devices: &HashMap<String, Device>, name: &str, arguments: &str) -> Result<usize> {
    check(name)?;
    let makes = makes(name, arguments)?;
    let refused = |errno: Errno, said, remedy: &'static str| {
        Err(DpdkError::Probe { device: name.to_owned(), errno, said, remedy: Some(remedy.into()) })
    };
    // DPDK reports success for a device that is there already.
    if devices.contains_key(name) {
        let remedy = "a device of this name is there: choose another number at its end";
        return refused(Errno::new(libc::EEXIST), Vec::new(), remedy);
    }
    let device = text("vdev", name)?;
    let arguments = text("vdev arguments", arguments)?;
    let (code, said) = stream::collect(|| {
        // SAFETY: C strings that live throughout the call; the environment runs.
        unsafe { sys::rte_eal_hotplug_add(BUS.as_ptr(), device.as_ptr(), arguments.as_ptr()) }
    });
    if code == 0 {
        return Ok(makes);
    }
    let errno = Errno::new(code);
    let remedy = match errno.raw() {
        libc::EPERM | libc::EACCES => {
            "devices of the kernel's (net_tap, net_af_packet, net_af_xdp) need CAP_NET_ADMIN and \
             CAP_NET_RAW"
        }
        _ => {
            "does the name begin with the name of a driver that is installed (Debian: librte-net-*, all in \
             dpdk's own folder), and does the driver know these arguments?"
        }
    };
    refused(errno, said, remedy)
}

fn remove(name: &str) -> Result<()> {
    let device = text("vdev", name)?;
    // SAFETY: C strings that live throughout the call; the environment runs, and nobody uses the device.
    match unsafe { sys::rte_eal_hotplug_remove(BUS.as_ptr(), device.as_ptr()) } {
        0 => Ok(()),
        code => Err(DpdkError::refused(format!("remove {name}"), code)),
    }
}

/// Drivers whose devices drive others by themselves, `net_vdev_netvsc` through `net_failsafe`. DPDK does
/// not keep these plugged in, and packets that one of them sends out of several ports are shared.
const COMPOSITE: [&str; 4] = ["net_bonding", "eth_bond", "net_failsafe", "net_vdev_netvsc"];

/// The driver whose packets are as long as it was told, whatever an mbuf has room for, by both its names.
const MAKES: [&str; 2] = ["net_null", "eth_null"];

/// How long the packets are that a device of this name and with these arguments makes up.
fn makes(name: &str, arguments: &str) -> Result<usize> {
    /// The driver's own.
    const USUAL: usize = 64;
    if !MAKES.iter().any(|driver| name.starts_with(driver)) {
        return Ok(0);
    }
    let mut longest = USUAL;
    for argument in arguments.split(',') {
        let refused = |why| Err(DpdkError::config("vdev arguments", argument.escape_debug(), why));
        match argument.split_once('=') {
            Some(("size", size)) => match size.parse() {
                Ok(size) => longest = longest.max(size),
                Err(_) => return refused("a size is a number of bytes, in decimal digits"),
            },
            // It reads so many bytes of each packet that is sent, whether there are as many or not.
            Some(("copy", copy)) if copy != "0" => {
                return refused("the driver would read beyond the packets that it copies");
            }
            _ => {}
        }
    }
    Ok(longest)
}

/// Refuses what can be no virtual device's name, and devices that are made of others.
pub(crate) fn check(name: &str) -> Result<()> {
    if COMPOSITE.iter().any(|driver| name.starts_with(driver)) {
        let why = "it drives other devices, which could be unplugged from under it; drive them \
                   yourself, a queue pair can join two ports";
        return Err(DpdkError::config("vdev", name.escape_debug(), why));
    }
    let longest = sys::RTE_DEV_NAME_MAX_LEN as usize - 1;
    let letters = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'_' || letter == b'-';
    if name.contains('_') && name.len() <= longest && name.bytes().all(letters) {
        return Ok(());
    }
    let why = format!(
        "the name of a virtual device begins with its driver's, such as `net_ring0`, and has at most \
         {longest} letters, digits, `_` and `-`"
    );
    Err(DpdkError::config("vdev", name.escape_debug(), why))
}

/// The name of the device that a port of the caller's belongs to, if there is such a port.
fn device_of(port: u16) -> Option<String> {
    let mut info = MaybeUninit::<sys::rte_eth_dev_info>::zeroed();
    // SAFETY: has no preconditions.
    if unsafe { sys::rte_eth_dev_is_valid_port(port) } == 0 {
        return None;
    }
    // SAFETY: writes the information into memory that is there for it.
    if unsafe { sys::rte_eth_dev_info_get(port, info.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: it was written, and zeroed before: every field is a number or a pointer.
    let device = unsafe { info.assume_init() }.device;
    if device.is_null() {
        return None;
    }
    // SAFETY: the port's device lives as long as the port.
    let name = unsafe { sys::rte_dev_name(device) };
    // SAFETY: it is the device's name, a C string.
    let name = unsafe { CStr::from_ptr(name) };
    Some(name.to_string_lossy().into_owned())
}

impl Eal {
    /// Makes a device that stays until the environment ends.
    pub(crate) fn fixed_device(&self, name: &str, arguments: &str) -> Result<()> {
        let mut devices = self.devices();
        let makes = probe(&devices, name, arguments)?;
        devices.insert(name.to_owned(), Device { life: Life::Fixed, makes });
        Ok(())
    }
}

/// What whoever uses `port` has to hold: the device, where it was plugged in as a [`Vdev`]. Nothing
/// otherwise: other devices stay until the environment ends. And how long packets are that the device makes
/// up. The port is the caller's: nobody closes it
/// meanwhile.
///
/// # Errors
///
/// [`DpdkError::Refused`] when there is no such port, or it is about to go.
pub(crate) fn hold(
    devices: &HashMap<String, Device>,
    port: u16,
) -> Result<(Option<Arc<Plugged>>, usize)> {
    let gone = || {
        DpdkError::refused(format!("use port {port}"), libc::ENODEV)
            .with_remedy("its device is being removed; plug it in again")
    };
    let device = device_of(port).ok_or_else(gone)?;
    let Some(device) = devices.get(&device) else { return Ok((None, 0)) };
    let plugged = match &device.life {
        Life::Fixed => None,
        Life::Plugged(plugged) => Some(plugged.upgrade().ok_or_else(gone)?),
    };
    Ok((plugged, device.makes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_makes_up_is_known() {
        assert_eq!(makes("net_ring0", "size=1500").unwrap(), 0);
        for name in ["net_null0", "eth_null0"] {
            assert_eq!(makes(name, "").unwrap(), 64);
            assert_eq!(makes(name, "no-rx=1,size=1500,copy=0,size=60").unwrap(), 1500);
            for bad in ["size=0x800", "size=[64,2000]", "copy=1", "size=64,copy=01"] {
                assert!(makes(name, bad).is_err(), "{bad}");
            }
        }
    }

    #[test]
    fn names_begin_with_a_driver() {
        for good in ["net_ring0", "net_af_packet-a", "virtio_user0"] {
            check(good).unwrap();
        }
        for bad in
            ["", "eth0", "net_ring0,size=64", "net_ring 0", "0000:03:00.0", &"net_".repeat(20)]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
