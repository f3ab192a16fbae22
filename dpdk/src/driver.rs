//! What is known of the drivers of virtual devices: which arguments they may be given.
//!
//! A driver believes its arguments. Some are addresses at which it reads, some have it write beyond packets,
//! or make ports that outlive their device. What is listed here was read in the sources of DPDK 22.11, 23.11,
//! 24.11 and 25.11 (`drivers/net/*`, `lib/kvargs/rte_kvargs.c`); everything else is refused.

use crate::error::{DpdkError, Result};

/// A driver that safe code may use.
struct Driver {
    /// What the names of its devices begin with.
    names: &'static [&'static str],
    /// The arguments that do no harm.
    takes: &'static [(&'static str, Value)],
    /// Others, and the harm that they do.
    refuses: &'static [(&'static str, &'static str)],
}

/// What an argument may be set to, where the driver does not look well enough.
#[derive(Clone, Copy)]
enum Value {
    /// What it looks at itself: a name, a path, a flag.
    Any,
    /// A number up to 65535.
    Count,
    /// A number from this one to 65535.
    AtLeast(u32),
    /// A power of two up to this one.
    Power(u32),
    /// Nothing but zero, and why.
    Zero(&'static str),
}

use Value::{Any, AtLeast, Count, Power, Zero};

const DRIVERS: &[Driver] = &[
    Driver {
        names: &["net_ring", "eth_ring"],
        takes: &[],
        refuses: &[
            ("internal", "the driver takes it for an address, and reads what is there"),
            ("nodeaction", "the port would have another name than its device, and outlive it"),
        ],
    },
    Driver {
        names: MAKING,
        takes: &[
            // An Ethernet header.
            ("size", AtLeast(14)),
            // It reads so many bytes of each packet that is sent, whether there are as many or not.
            ("copy", Zero("the driver would read beyond the packets that it copies")),
            ("no-rx", Any),
        ],
        refuses: &[],
    },
    Driver {
        names: &["net_tap", "eth_tap", "net_tun"],
        takes: &[("iface", Any), ("remote", Any), ("mac", Any), ("persist", Any)],
        refuses: &[],
    },
    Driver {
        names: &["net_af_packet", "eth_af_packet"],
        takes: &[
            ("iface", Any),
            ("qpairs", Count),
            // Frames that do not fill their blocks are not where the driver looks: it would take what is in
            // a packet for the kernel's description of one.
            ("blocksz", Power(1 << 30)),
            ("framesz", Power(1 << 30)),
            ("framecnt", Any),
            ("qdisc_bypass", Any),
            ("fanout_mode", Any),
        ],
        refuses: &[],
    },
    Driver {
        names: &["net_af_xdp"],
        takes: &[
            ("iface", Any),
            ("start_queue", Count),
            ("queue_count", Count),
            ("xdp_prog", Any),
            ("busy_budget", Count),
            ("force_copy", Any),
            ("mode", Any),
            ("use_cni", Any),
            ("use_pinned_map", Any),
            ("dp_path", Any),
        ],
        refuses: &[("shared_umem", "a port that is closed would free the memory of the others")],
    },
    Driver {
        names: &["net_pcap", "eth_pcap"],
        takes: &[
            ("rx_pcap", Any),
            ("tx_pcap", Any),
            ("rx_iface", Any),
            ("rx_iface_in", Any),
            ("tx_iface", Any),
            ("iface", Any),
            ("phy_mac", Any),
            ("infinite_rx", Any),
        ],
        refuses: &[],
    },
    Driver {
        names: &["net_memif"],
        takes: &[
            ("role", Any),
            ("id", Any),
            // It no longer looks whether a packet fits one (`eth_memif_tx`, since 23.03); 1518 bytes is the longest.
            ("bsize", if cfg!(dpdk_23_03) { AtLeast(1518) } else { Any }),
            ("rsize", Any),
            ("socket", Any),
            ("socket-abstract", Any),
            ("owner-uid", Any),
            ("owner-gid", Any),
            ("mac", Any),
            ("secret", Any),
        ],
        refuses: &[(
            "zero-copy",
            "the driver would take packets for as long as the other process says, whatever they have room \
             for, and looks for all of them in the first piece of DPDK's memory",
        )],
    },
    Driver {
        names: &["net_vhost", "eth_vhost"],
        takes: &[
            ("iface", Any),
            ("queues", Any),
            ("client", Any),
            ("iommu-support", Any),
            ("postcopy-support", Any),
            ("tso", Any),
            ("linear-buffer", Any),
        ],
        refuses: &[
            ("ext-buffer", "received packets would lie outside of their mbufs"),
            ("legacy-ol-flags", "received packets would ask for offloads that nobody checked"),
        ],
    },
    Driver {
        names: &["net_virtio_user", "virtio_user"],
        takes: &[
            ("path", Any),
            ("mac", Any),
            ("queues", Count),
            ("cq", Any),
            // Beyond, the driver's view of a ring and that of its other side differ.
            ("queue_size", Power(1 << 15)),
            ("iface", Any),
            ("server", Any),
            ("mrg_rxbuf", Any),
            ("in_order", Any),
            ("packed_vq", Any),
            ("speed", Any),
            ("vectorized", Any),
        ],
        refuses: &[],
    },
];

/// The driver whose packets are as long as it was told, whatever an mbuf has room for, by both its names.
const MAKING: &[&str] = &["net_null", "eth_null"];

/// Drivers whose devices drive others by themselves, `net_vdev_netvsc` through `net_failsafe`. DPDK does
/// not keep these plugged in, and packets that one of them sends out of several ports are shared.
const COMPOSITE: &[&str] =
    &["net_bonding", "eth_bond", "net_failsafe", "net_vdev_netvsc", "eth_vdev_netvsc"];

/// How to have what is refused here.
const UNCHECKED: &str =
    "who knows the driver can answer for it, by the unsafe `Vdev::plug_unchecked`";

/// Refuses devices that are not known to be harmless. Answers how long the packets are that this one makes
/// up.
pub(crate) fn check(name: &str, arguments: &str) -> Result<usize> {
    check_name(name)?;
    let Some(driver) = DRIVERS.iter().find(|driver| begins_with(name, driver.names)) else {
        let known = DRIVERS.iter().filter_map(|driver| driver.names.first().copied());
        let known = known.collect::<Vec<_>>().join(", ");
        let why = format!(
            "nobody has looked whether its driver can be used without harm, as {known} can; {UNCHECKED}"
        );
        return Err(DpdkError::config("vdev", name.escape_debug(), why));
    };
    let mut longest = if begins_with(name, MAKING) { 64 } else { 0 };
    for argument in arguments.split(',').filter(|_| !arguments.is_empty()) {
        let refused =
            |why: String| Err(DpdkError::config("vdev arguments", argument.escape_debug(), why));
        // As `rte_kvargs_parse` reads them: a second `=` would make the value a key, and brackets hide commas.
        let (key, value) = match argument.split_once('=') {
            Some((key, value)) if !value.is_empty() && !value.contains(['=', '[', ']']) => {
                (key, value)
            }
            _ => {
                return refused(
                    "an argument is `key=value`, without `=`, `[` and `]` in the value".into(),
                );
            }
        };
        if let Some((_, harm)) = driver.refuses.iter().find(|(refused, _)| *refused == key) {
            return refused(format!("{harm}; {UNCHECKED}"));
        }
        let Some((_, wanted)) = driver.takes.iter().find(|(taken, _)| *taken == key) else {
            let known: Vec<_> = driver.takes.iter().map(|(taken, _)| *taken).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return refused(format!("the arguments of this driver are: {known}"));
        };
        if let Some(why) = wanted.refuses(value) {
            return refused(why);
        }
        if key == "size" {
            longest = longest.max(value.parse().unwrap_or(0));
        }
    }
    Ok(longest)
}

/// Refuses what can be no virtual device's name, and devices that are made of others.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if begins_with(name, COMPOSITE) {
        let why = "it drives other devices, which could be unplugged from under it; drive them \
                   yourself, a queue pair can join two ports";
        return Err(DpdkError::config("vdev", name.escape_debug(), why));
    }
    let longest = bypass_dpdk_sys::RTE_DEV_NAME_MAX_LEN as usize - 1;
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

/// Whether a device's name begins with one of its driver's, which is how DPDK finds the driver.
pub(crate) fn begins_with(name: &str, drivers: &[&str]) -> bool {
    drivers.iter().any(|driver| name.starts_with(driver))
}

impl Value {
    /// What is wrong with this value.
    fn refuses(self, value: &str) -> Option<String> {
        // Drivers take numbers that begin with 0 for octal ones.
        let is_number = value.bytes().all(|digit| digit.is_ascii_digit())
            && (value == "0" || !value.starts_with('0'));
        let number = if is_number { value.parse::<u32>().ok() } else { None };
        match self {
            Any => None,
            Zero(why) => (number != Some(0)).then(|| why.to_owned()),
            Count => number
                .is_none_or(|number| number > u32::from(u16::MAX))
                .then(|| "a number up to 65535, in decimal digits".to_owned()),
            AtLeast(least) => number
                .is_none_or(|number| !(least..=u32::from(u16::MAX)).contains(&number))
                .then(|| format!("a number from {least} to 65535, in decimal digits")),
            Power(most) => number
                .is_none_or(|number| !number.is_power_of_two() || number > most)
                .then(|| format!("a power of two up to {most}, in decimal digits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_makes_up_is_known() {
        assert_eq!(check("net_ring0", "").unwrap(), 0);
        for name in ["net_null0", "eth_null0"] {
            assert_eq!(check(name, "").unwrap(), 64);
            assert_eq!(check(name, "no-rx=1,size=1500,copy=0,size=60").unwrap(), 1500);
            for bad in [
                "size=0x800",
                "size=[64,2000]",
                "size=0100",
                "size=13",
                "copy=1",
                "size=64,copy=01",
            ] {
                assert!(check(name, bad).is_err(), "{bad}");
            }
        }
    }

    #[test]
    fn names_begin_with_a_driver() {
        for good in ["net_ring0", "net_af_packet-a", "virtio_user0", "crypto_null0"] {
            check_name(good).unwrap();
        }
        for bad in
            ["", "eth0", "net_ring0,size=64", "net_ring 0", "0000:03:00.0", &"net_".repeat(20)]
        {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    /// Whatever `rte_kvargs_parse` would find such a key in is refused.
    #[test]
    fn no_spelling_reaches_what_a_driver_believes() {
        for name in ["net_ring0", "eth_ring0", "net_ring_anything"] {
            for arguments in [
                "internal=0x1",
                ",internal=0x1",
                "internal=0x1,",
                "size=internal=0x1",
                "a=[,internal=0x1",
                "=internal=0x1",
                "internal",
                "nodeaction=foo:0:CREATE",
                "nodeaction=net_ring0:0:CREATE",
            ] {
                let error = check(name, arguments).unwrap_err();
                assert!(
                    matches!(error, DpdkError::Config { setting: "vdev arguments", .. }),
                    "{error}"
                );
            }
        }
        for (name, arguments, said) in [
            ("net_memif0", "role=client,zero-copy=yes", "zero-copy=yes: the driver would take"),
            ("net_memif0", "role=client=zero-copy=yes", "is `key=value`"),
            ("net_af_xdp0", "iface=lo,shared_umem=1", "shared_umem=1: a port that is closed"),
            ("net_af_xdp0", "iface=lo,queue_count=2147483647", "up to 65535"),
            ("net_vhost0", "iface=/tmp/s,ext-buffer=1", "ext-buffer=1: received packets"),
            ("eth_vhost0", "iface=/tmp/s,legacy-ol-flags=1", "legacy-ol-flags=1: received packets"),
            ("net_af_packet0", "iface=lo,framesz=1504", "a power of two"),
            ("eth_af_packet0", "iface=lo,blocksz=12288", "a power of two"),
            ("virtio_user0", "path=/dev/vhost-net,queue_size=65792", "a power of two up to 32768"),
            ("net_softnic0", "firmware=x", "Vdev::plug_unchecked"),
            ("crypto_scheduler0", "", "Vdev::plug_unchecked"),
        ] {
            let error = check(name, arguments).unwrap_err().to_string();
            assert!(error.contains(said), "{name},{arguments}: {error}");
        }
    }

    #[test]
    fn what_does_no_harm_is_passed_on() {
        for (name, arguments) in [
            ("net_tap0", "iface=tap0,mac=fixed"),
            (
                "net_af_packet0",
                "iface=veth0,framesz=4096,blocksz=1048576,framecnt=8192,qdisc_bypass=1",
            ),
            ("net_af_xdp0", "iface=veth0,start_queue=1,queue_count=2,force_copy=1"),
            ("net_pcap0", "rx_pcap=/tmp/a.pcap,rx_pcap=/tmp/b.pcap,tx_pcap=/tmp/c.pcap"),
            ("net_memif0", "role=server,id=0,socket=/tmp/memif,socket-abstract=no,rsize=11"),
            ("net_vhost0", "iface=/tmp/vhost,queues=2,client=1"),
            ("net_virtio_user0", "path=/tmp/vhost,queues=2,queue_size=1024,packed_vq=1"),
        ] {
            check(name, arguments).unwrap();
        }
    }
}
