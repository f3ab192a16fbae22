//! [`Vdev`]: virtual devices that come and go while the environment runs.
//!
//! Relied on: `rte_eal_hotplug_add` and `rte_eal_hotplug_remove` copy the strings that they are given. A
//! device's only port has its name, which [`driver`] sees to, or whoever answers for the driver. A device is
//! removed only when nobody holds its [`Plugged`], and whoever uses its port does.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Arc;

use bypass_dpdk_sys as sys;

use crate::driver;
use crate::eal::{Device, Eal, Life, stream, text};
use crate::error::{DpdkError, Errno, Result};
use crate::missed::Missed;

/// The bus of virtual devices.
const BUS: &CStr = c"vdev";

/// A virtual device that was plugged in. It is pulled when this and all its ports are dropped.
///
/// A device is trusted as hardware is: it sees the packets that it was given, writes into those that it is to
/// fill, and says how long they are. With `net_virtio_user`, `net_vhost` and `net_memif` the process at the
/// other end of the socket is part of the device, and has to be trusted alike: that of a `net_virtio_user` maps
/// all of DPDK's memory, and the drivers believe what the others put into the rings that they share. Give such a
/// device a socket that nobody else can open.
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
    /// Drivers believe their arguments, and some are addresses (`internal=` of `net_ring`), or have the driver
    /// write beyond packets. So these drivers are taken only, and of their arguments those that do no harm:
    /// `net_ring`, `net_null`, `net_tap`, `net_tun`, `net_af_packet`, `net_af_xdp`, `net_pcap`, `net_memif`,
    /// `net_vhost`, `net_virtio_user`. [`plug_unchecked`](Self::plug_unchecked) takes all.
    ///
    /// # Errors
    ///
    /// [`DpdkError::Config`] for what can be no device's name, other drivers, and arguments that are not known to
    /// be harmless, with what is wrong; [`DpdkError::Probe`] when the driver is not installed, or when it
    /// refuses, with what it said.
    pub fn plug(eal: &Eal, name: &str, arguments: &str) -> Result<Self> {
        let makes = driver::check(name, arguments)?;
        Self::make(eal, name, arguments, makes)
    }

    /// As [`plug`](Self::plug), with any driver and any arguments.
    ///
    /// # Safety
    ///
    /// With these arguments the driver is sound, whatever is done with the device by the safe methods of this
    /// crate: it uses no memory but its own and that of the packets in its hands, fills no packet beyond the
    /// room in its mbufs, makes up none without an Ethernet header, and of the packets that it is given it takes as many as it says, from the first on. The
    /// device has one port at most, which has the device's name and goes with it.
    ///
    /// # Errors
    ///
    /// As [`plug`](Self::plug); [`DpdkError::Config`] for names only, among them those of devices that drive
    /// others (`net_bonding`, `net_failsafe`).
    #[expect(unsafe_code, reason = "drivers believe their arguments")]
    pub unsafe fn plug_unchecked(eal: &Eal, name: &str, arguments: &str) -> Result<Self> {
        driver::check_name(name)?;
        Self::make(eal, name, arguments, 0)
    }

    /// Makes a device whose driver is sound with these arguments, and makes up packets of up to `makes` bytes.
    fn make(eal: &Eal, name: &str, arguments: &str, makes: usize) -> Result<Self> {
        // Held throughout, so that nobody meets a device that is half there.
        let mut devices = eal.devices();
        let (made, missed) = Missed::while_making(name, || probe(&devices, name, arguments));
        made?;
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

/// Makes the device, if there is none of its name. Its driver is sound with these arguments.
fn probe(devices: &HashMap<String, Device>, name: &str, arguments: &str) -> Result<()> {
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
        // SAFETY: C strings that live throughout the call; the environment runs; the driver is sound with
        // these arguments.
        unsafe { sys::rte_eal_hotplug_add(BUS.as_ptr(), device.as_ptr(), arguments.as_ptr()) }
    });
    if code == 0 {
        return Ok(());
    }
    let errno = Errno::new(code);
    let remedy = match errno.raw() {
        libc::EPERM | libc::EACCES => {
            "devices of the kernel's (net_tap, net_af_packet, net_af_xdp) need CAP_NET_ADMIN and \
             CAP_NET_RAW"
        }
        _ => {
            "is the driver that the name begins with installed (Debian: librte-net-*, all in dpdk's own \
             folder), and does this version of it know these arguments?"
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

impl Eal {
    /// Makes a device that stays until the environment ends.
    pub(crate) fn fixed_device(&self, name: &str, arguments: &str) -> Result<()> {
        let mut devices = self.devices();
        let makes = driver::check(name, arguments)?;
        probe(&devices, name, arguments)?;
        devices.insert(name.to_owned(), Device { life: Life::Fixed, makes });
        Ok(())
    }
}

/// What whoever uses the port of this name has to hold: the virtual device, where it was plugged in as a [`Vdev`];
/// others stay until the environment ends. And how long packets are that the device makes up. `None` for the port
/// of a device that was made neither way. No device comes or goes meanwhile.
///
/// # Errors
///
/// [`DpdkError::Refused`] when the port is about to go.
pub(crate) fn hold(
    devices: &HashMap<String, Device>,
    port: &str,
) -> Result<Option<(Option<Arc<Plugged>>, usize)>> {
    let Some(device) = devices.get(port) else { return Ok(None) };
    let plugged = match &device.life {
        Life::Fixed => None,
        Life::Plugged(plugged) => Some(plugged.upgrade().ok_or_else(|| {
            DpdkError::refused(format!("use port {port}"), libc::ENODEV)
                .with_remedy("its device is being removed; plug it in again")
        })?),
    };
    Ok(Some((plugged, device.makes)))
}
