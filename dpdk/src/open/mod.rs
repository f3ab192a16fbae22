//! [`QueuePair::open`]: from a name to a port that runs.

mod asked;
mod parts;

use std::net::UdpSocket;
use std::os::fd::AsFd as _;

use bypass_core::backend::packet::PacketOptions;
use bypass_core::backend::socket::Share;
use bypass_core::sys::interface;
use bypass_core::{Error, Result};

pub(crate) use self::parts::Part;
use crate::eal::{Eal, EalOptions};
use crate::error::DpdkError;
use crate::mempool::{Mempool, MempoolOptions};
use crate::port::{AF_XDP, Capabilities, Port, PortOptions, Rss, RssTypes, Started, Stopped};
use crate::queue::QueuePair;
use crate::vdev::Vdev;

/// What the names of drivers for virtual network devices begin with.
const VIRTUAL: [&str; 2] = ["net_", "virtio_user"];

/// Memory of an environment that nobody else started, in MiB; it is taken as it is used.
const MEMORY: u32 = 512;

/// In the ring that `net_af_packet` shares with the kernel: bytes in front of a frame (`TPACKET2_HDRLEN`,
/// aligned), bytes of a frame beyond the MTU (an Ethernet header with a VLAN tag), the smallest slot, the
/// smallest block, and slots when nobody says.
const IN_RING: usize = 96;
const ETHERNET: usize = 18;
const SLOT: usize = 2048;
const PAGE: usize = 4096;
const SLOTS: u32 = 4096;

/// The most queues of a `net_af_packet` (`RTE_PMD_AF_PACKET_MAX_RINGS`).
const MOST_QUEUES: u32 = 16;

/// What drivers of virtual devices call the number of their queues.
const QUEUES: [(&str, &str); 4] = [
    ("net_af_packet", "qpairs"),
    (AF_XDP, "queue_count"),
    ("net_vhost", "queues"),
    ("net_virtio_user", "queues"),
];

impl QueuePair {
    /// Opens a port with one queue each way, by nothing but a name:
    ///
    /// | name | port |
    /// |---|---|
    /// | of a port that DPDK has, such as `0000:03:00.0` | that one |
    /// | of a virtual device, `net_ring0` or `net_memif0,role=client` | the device is made, and goes with the port |
    /// | of an interface of the kernel's, `eth1` | the same with the driver `net_af_packet`, on the interface |
    ///
    /// The [environment](Eal) is started if it was not: with ordinary memory,
    /// [unpinned](EalOptions::unpinned), and without devices of the PCI bus. For those, start it before.
    ///
    /// On an interface, what another program there sends in trains (UDP GSO, TCP's TSO) over a virtual
    /// cable comes in frames that are longer than a packet; the driver cuts them off. `ip link set
    /// PEER gso_max_segs 1` at its other end has the kernel cut trains into packets before, as it does for
    /// a network card that cannot.
    ///
    /// Of the options, `ring` counts descriptors, and frames in the ring of an interface; the pool's
    /// headroom is DPDK's own; `batch` has no meaning, since a burst is one call. `max_frame` is for interfaces:
    /// other ports take their MTU. `qdisc_bypass` is for interfaces too; other ports have no queueing discipline
    /// in front of them, but for `net_af_packet` and `net_pcap` by name, whose arguments say.
    ///
    /// Without `outgoing` a `net_af_packet` leaves out what this machine itself sends, by a filter on its
    /// socket; from the moment between its opening and the filter, some may be there. A `net_pcap` of an
    /// interface is refused then, if its arguments ask for both directions; one that was there before goes on as
    /// it was. With `outgoing` other drivers are refused: they see only what comes in.
    ///
    /// ```standalone_crate
    /// use bypass_core::backend::packet::PacketOptions;
    /// use bypass_core::{Buffer, Burst, PacketIo};
    /// use bypass_dpdk::QueuePair;
    ///
    /// let mut ring = QueuePair::open(&PacketOptions::new("net_ring0"))?;
    /// let mut burst = Burst::with_capacity(8);
    /// ring.alloc(&mut burst, 8);
    /// burst.iter_mut().try_for_each(|packet| packet.fill(&[0xff; 60]))?;
    /// ring.send(&mut burst)?;
    /// assert_eq!(ring.recv(&mut burst)?, 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`] for a name that nobody knows; [`Error::Unsupported`] for options that
    /// the driver does not have; and what [`EalOptions::start`], [`Vdev::plug`], [`Mempool::new`] and
    /// [`Port::start`] say.
    pub fn open(options: &PacketOptions) -> Result<Self> {
        start(options, Share::default())?.queue_pair(0)
    }

    /// Opens one of several queues of a port, as [`open`](Self::open) opens its only one: for workers that
    /// share a port, each of which calls this with its part. The first to come starts the port, with a queue
    /// and a pool for each part; it is closed with the last queue.
    ///
    /// The device spreads what arrives over the queues, by flows: by RSS where the driver has it, else in
    /// the driver's own way. `net_af_packet`, so an interface of the kernel's, has the kernel do it
    /// (`PACKET_FANOUT`); behind `net_memif`, `net_vhost` and `net_virtio_user` the other end chooses. A
    /// `net_ring` has a ring of its own for each queue.
    ///
    /// ```standalone_crate
    /// use bypass_core::backend::packet::PacketOptions;
    /// use bypass_core::backend::socket::Share;
    /// use bypass_core::{Burst, PacketIo};
    /// use bypass_dpdk::QueuePair;
    ///
    /// let workers = [0, 1].map(|index| {
    ///     std::thread::spawn(move || -> bypass_core::Result<usize> {
    ///         let share = Share { index, count: 2 };
    ///         let mut queue = QueuePair::open_part(&PacketOptions::new("net_null0"), share)?;
    ///         queue.recv(&mut Burst::with_capacity(32))
    ///     })
    /// });
    /// for worker in workers {
    ///     assert_eq!(worker.join().expect("it does not panic")?, 32);
    /// }
    /// # Ok::<(), bypass_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`Error::Config`] for what is no [`Share`], where the device has too few
    /// queues for all parts, for a part that is open, and for options or a count other than those of the
    /// parts that are.
    pub fn open_part(options: &PacketOptions, share: Share) -> Result<Self> {
        share.check()?;
        if share.is_all() {
            return Self::open(options);
        }
        parts::open(options, share, || start(options, share))
    }
}

/// Starts the port that the options name, with a queue for each that shares it.
fn start(options: &PacketOptions, share: Share) -> Result<Port<Started>> {
    asked::refuse(options)?;
    let eal = environment()?;
    let name = &options.interface;
    let opened = match Port::open(&eal, name) {
        // Not there: it can be made.
        Err(Error::Config { .. }) if VIRTUAL.iter().any(|driver| name.starts_with(driver)) => {
            let (name, arguments) = name.split_once(',').unwrap_or((name, ""));
            asked::refuse_both_ways(name, arguments, options)?;
            plug(&eal, name, arguments)?
        }
        Err(Error::Config { .. }) => return on_interface(&eal, options, share),
        known => known?,
    };
    asked::refuse_of_port(&opened.capabilities()?.driver, options)?;
    run(&eal, opened, options, share, options.pool.chunk_size as usize, options.ring)
}

/// The environment that runs, or a new one.
fn environment() -> Result<Eal> {
    if let Some(eal) = Eal::current() {
        return Ok(eal);
    }
    match EalOptions::new().unpinned().memory_limit(MEMORY).start() {
        // Another thread was quicker.
        Err(DpdkError::AlreadyStarted) => Eal::current().ok_or(DpdkError::AlreadyStarted),
        started => started,
    }
    .map_err(Error::from)
}

/// Makes a device and opens its port, which keeps it.
fn plug(eal: &Eal, name: &str, arguments: &str) -> Result<Port<Stopped>> {
    let _until_the_port_has_it = Vdev::plug(eal, name, arguments)?;
    Port::open(eal, name)
}

/// A port on an interface of the kernel's, with the driver `net_af_packet`.
fn on_interface(eal: &Eal, options: &PacketOptions, share: Share) -> Result<Port<Started>> {
    let name = &options.interface;
    let queues = share.count;
    if queues > MOST_QUEUES {
        let why = format!("net_af_packet has {MOST_QUEUES} queues at most: have fewer share");
        return Err(Error::config("share", share, why));
    }
    let any = UdpSocket::bind(("127.0.0.1", 0))
        .map_err(|error| Error::os(format!("ask for the MTU of {name}"), error))?;
    let frame = match options.max_frame {
        Some(frame) => frame,
        None => interface::mtu(any.as_fd(), name)? + ETHERNET,
    };
    // The driver divides blocks into frames of one size, each behind its header.
    let slot = (frame + IN_RING).next_power_of_two().max(SLOT);
    let frames = options.ring.unwrap_or(SLOTS);
    let arguments = format!(
        "iface={name},qpairs={queues},framesz={slot},blocksz={},framecnt={frames},qdisc_bypass={}",
        slot.max(PAGE),
        u8::from(options.qdisc_bypass),
    );
    let letters = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let device = format!("net_af_packet_{}", name.chars().map(letters).collect::<String>());
    let port = plug(eal, &device, &arguments)?;
    run(eal, port, options, share, slot, None)
}

/// Starts a port whose packets have up to `room` bytes, with a queue and a pool for each that shares it.
fn run(
    eal: &Eal,
    port: Port<Stopped>,
    options: &PacketOptions,
    share: Share,
    room: usize,
    descriptors: Option<u32>,
) -> Result<Port<Started>> {
    let sixteen_bits = |setting: &'static str, number: usize| {
        u16::try_from(number).map_err(|_| Error::config(setting, number, "at most 65535"))
    };
    let capabilities = port.capabilities()?;
    asked::leave_out_outgoing(&port, &capabilities.driver, options)?;
    let queues = queues(&capabilities, port.name(), share)?;
    let mut pool = MempoolOptions::new(options.pool.chunks);
    pool.data_room = sixteen_bits("frame_size", room.max(options.pool.chunk_size as usize))?;
    pool.rx_reserve = options.pool.rx_reserve;
    pool.socket = port.socket();
    pool.packed = cfg!(not(dpdk_24_11)) && capabilities.driver == AF_XDP;
    let pools = (0..queues).map(|_| Mempool::new(eal, &pool)).collect::<Result<Vec<_>, _>>()?;
    let mut asked = PortOptions::new(&pools[0]);
    asked.pools = pools;
    (asked.rx_queues, asked.tx_queues) = (queues, queues);
    let types = capabilities.rss & (RssTypes::IP | RssTypes::UDP | RssTypes::TCP);
    asked.rss = (queues > 1 && !types.is_empty()).then(|| Rss::new(types));
    if let Some(descriptors) = descriptors {
        let descriptors = sixteen_bits("ring", descriptors as usize)?;
        (asked.rx_descriptors, asked.tx_descriptors) = (descriptors, descriptors);
    }
    let port = port.start(&asked).map_err(Error::from)?;
    if options.promiscuous {
        port.set_promiscuous(true)?;
    }
    Ok(port)
}

/// So many queues as share the port, if it has as many.
fn queues(device: &Capabilities, name: &str, share: Share) -> Result<u16> {
    let most = device.rx_queues.min(device.tx_queues);
    if let Ok(queues) = u16::try_from(share.count)
        && queues <= most
    {
        return Ok(queues);
    }
    let argument = QUEUES.iter().find(|(driver, _)| *driver == device.driver);
    let remedy = match argument {
        Some((_, argument)) => {
            format!("make it with `{argument}={}`, or have fewer share", share.count)
        }
        None => "have fewer share".to_owned(),
    };
    let why = format!("{name} has {most} queues, too few for all to get one: {remedy}");
    Err(Error::config("share", share, why))
}
