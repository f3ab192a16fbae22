//! Setting a port up.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bypass_core::{Error, Result, Unsupported};
use bypass_dpdk_sys as sys;

use super::device::{Device, Running};
use super::negotiate::{Plan, negotiate};
use super::{AF_XDP, Capabilities, Features, PortOptions, PortStats, Report, Rss, dynamic, pools};

/// The driver whose interrupt handler outlives its port (seen in DPDK 22.11).
const HAZARDOUS: &str = "net_virtio_user";

/// Entries of the RSS table that are set at a time.
const GROUP: usize = sys::RTE_ETH_RETA_GROUP_SIZE as usize;

/// Configures the port, its queues and what was asked for, and starts it.
pub(super) fn start(device: &Arc<Device>, options: &PortOptions) -> Result<Running> {
    let capabilities = device.capabilities()?;
    let plan = negotiate(options, &capabilities)?;
    pools::check(device, &capabilities.driver, options)?;
    if (options.link_interrupts || options.rx_interrupts) && capabilities.driver == HAZARDOUS {
        return Err(Error::Unsupported(Unsupported {
            what: "interrupts from this device".into(),
            backend: crate::BACKEND,
            why: format!(
                "{HAZARDOUS} goes on using what it has freed when its peer leaves while it is closed"
            )
            .into(),
        }));
    }
    if options.link_interrupts && !device.tells_of_link()? {
        let why = format!("the driver {} does not tell of its link", capabilities.driver);
        return Err(Error::config("link_interrupts", true, why));
    }
    if plan.features.contains(Features::RX_TIMESTAMP) {
        dynamic::register_times(device)?;
    }
    if options.rx_queues > 1 {
        dynamic::register_queues()?;
    }
    configure(device, options, &plan)?;
    let (rx, tx) = descriptors(device, options)?;
    // The former ones too, until the last queue lies in the new ones.
    device.keep_also(&options.pools);
    queues(device, &capabilities.driver, options, rx, tx)?;
    device.keep(options.pools.clone());
    let report = report(device, &capabilities, plan, rx, tx)?;
    let _one = device.control();
    // SAFETY: the port is configured, and its queues are set up.
    let code = unsafe { sys::rte_eth_dev_start(device.id()) };
    device.answer("start", code)?;
    drop(_one);
    let mut running = Running {
        report,
        device: Arc::clone(device),
        rx: (0..options.rx_queues).map(|_| AtomicBool::new(false)).collect(),
        tx: (0..options.tx_queues).map(|_| AtomicBool::new(false)).collect(),
        pools: options.pools.clone(),
        before: PortStats::default(),
        interrupts: Vec::new(),
    };
    // From here on the port is stopped when this fails.
    if let Some(rss) = &options.rss {
        spread(&running, rss, options.rx_queues, capabilities.rss_table_len)?;
    }
    if options.rx_interrupts {
        running.interrupts = interrupts(&running, options.rx_queues, &capabilities)?;
    }
    running.before = device.stats()?;
    Ok(running)
}

fn configure(device: &Device, options: &PortOptions, plan: &Plan) -> Result<()> {
    let mut conf = MaybeUninit::<sys::rte_eth_conf>::zeroed();
    // SAFETY: zeros are the defaults of every field; it consists of numbers and pointers.
    let conf = unsafe { conf.assume_init_mut() };
    let (rx_offloads, tx_offloads) = plan.features.offloads();
    conf.rxmode.offloads = rx_offloads;
    conf.txmode.offloads = tx_offloads;
    conf.rxmode.mtu = options.mtu.map_or(0, u32::from);
    let mut key = options.rss.as_ref().and_then(|rss| rss.key.clone());
    if !plan.rss.is_empty() {
        conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = plan.rss.bits();
        if let Some(key) = &mut key {
            conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
            conf.rx_adv_conf.rss_conf.rss_key_len = key.len() as u8;
        }
    }
    conf.intr_conf.set_rxq(u32::from(options.rx_interrupts));
    conf.intr_conf.set_lsc(u32::from(options.link_interrupts));
    let (rx, tx) = (options.rx_queues, options.tx_queues);
    let _one = device.control();
    // SAFETY: the port is open and stopped; the configuration and the key are read during the call.
    let code = unsafe { sys::rte_eth_dev_configure(device.id(), rx, tx, conf) };
    device.answer(&format!("set up {rx} receiving and {tx} sending queues"), code)?;
    let Some(mtu) = options.mtu else { return Ok(()) };
    // What configures the queues leaves the kernel's interface behind the port as it is.
    // SAFETY: the port is open and stopped.
    match unsafe { sys::rte_eth_dev_set_mtu(device.id(), mtu) } {
        // Nothing but the configuration has one.
        code if code == -libc::ENOTSUP => Ok(()),
        code => device.answer(&format!("set the MTU {mtu}"), code),
    }
}

/// Descriptors of each queue, as the driver wants them.
fn descriptors(device: &Device, options: &PortOptions) -> Result<(u16, u16)> {
    let (mut rx, mut tx) = (options.rx_descriptors, options.tx_descriptors);
    let _one = device.control();
    // SAFETY: the port is open; the numbers are read and written during the call.
    let code =
        unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(device.id(), &raw mut rx, &raw mut tx) };
    device.answer(&format!("take {rx} and {tx} descriptors"), code)?;
    Ok((rx, tx))
}

fn queues(device: &Device, driver: &str, options: &PortOptions, rx: u16, tx: u16) -> Result<()> {
    let _one = device.control();
    // SAFETY: the port is open.
    let socket = unsafe { sys::rte_eth_dev_socket_id(device.id()) }.cast_unsigned();
    // These first: since DPDK 24.07 `net_tap` cuts no TCP for a queue whose receiving one was there before
    // (`tap_setup_queue`).
    for queue in 0..options.tx_queues {
        // SAFETY: the port is configured for so many queues, and stopped; the defaults are taken.
        let code = unsafe {
            sys::rte_eth_tx_queue_setup(device.id(), queue, tx, socket, std::ptr::null())
        };
        device.answer(&format!("set up sending queue {queue}"), code)?;
    }
    for queue in 0..options.rx_queues {
        let pool = &options.pools[usize::from(queue) % options.pools.len()];
        let set_up = || {
            let (port, pool) = (device.id(), pool.as_ptr());
            // SAFETY: as above. The pool stays as long as the queue: the device keeps it.
            unsafe { sys::rte_eth_rx_queue_setup(port, queue, rx, socket, std::ptr::null(), pool) }
        };
        let code = match driver {
            AF_XDP => device.missed.while_setting_up(set_up),
            _ => set_up(),
        };
        device.answer(&format!("set up receiving queue {queue}"), code)?;
    }
    Ok(())
}

fn report(
    device: &Device,
    capabilities: &Capabilities,
    plan: Plan,
    rx: u16,
    tx: u16,
) -> Result<Report> {
    let mtu = device.capabilities()?.mtu;
    let multi = plan.features.contains(Features::TX_MULTI_SEGMENT);
    let mut fallbacks = plan.fallbacks;
    fallbacks.extend(device.missed.fallback());
    fallbacks.extend(device.plugged().and_then(|device| device.missed.fallback()));
    Ok(Report {
        driver: capabilities.driver.clone(),
        rx_descriptors: rx,
        tx_descriptors: tx,
        mtu,
        features: plan.features,
        rss: plan.rss,
        max_segments: if multi { usize::from(capabilities.max_segments) } else { 1 },
        fallbacks,
    })
}

/// Sets the table that says which queue a hash leads to.
fn spread(running: &Running, rss: &Rss, queues: u16, len: u16) -> Result<()> {
    let Some(table) = &rss.table else { return Ok(()) };
    debug_assert!(table.iter().all(|&queue| queue < queues), "checked when it was negotiated");
    let groups = usize::from(len).div_ceil(GROUP);
    let mut entries = vec![sys::rte_eth_rss_reta_entry64 { mask: 0, reta: [0; GROUP] }; groups];
    for (i, &queue) in table.iter().cycle().take(usize::from(len)).enumerate() {
        let group = &mut entries[i / GROUP];
        group.mask |= 1 << (i % GROUP);
        group.reta[i % GROUP] = queue;
    }
    let _one = running.device.control();
    // SAFETY: the port is open; there are entries for `len` values.
    let code = unsafe { sys::rte_eth_dev_rss_reta_update(running.id(), entries.as_mut_ptr(), len) };
    running.device.answer("set the RSS table", code)
}

/// Reads the table that says which queue a hash leads to.
pub(super) fn rss_table(running: &Running) -> Result<Vec<u16>> {
    let len = usize::from(running.device.capabilities()?.rss_table_len);
    let all = sys::rte_eth_rss_reta_entry64 { mask: u64::MAX, reta: [0; GROUP] };
    let mut entries = vec![all; len.div_ceil(GROUP)];
    let _one = running.device.control();
    // SAFETY: the port is open; there is room for `len` values, which is at most 65535.
    let code =
        unsafe { sys::rte_eth_dev_rss_reta_query(running.id(), entries.as_mut_ptr(), len as u16) };
    running.device.answer("read the RSS table", code)?;
    Ok(entries.iter().flat_map(|group| group.reta).take(len).collect())
}

/// For each queue the descriptor that tells of packets.
fn interrupts(running: &Running, queues: u16, capabilities: &Capabilities) -> Result<Vec<RawFd>> {
    let _one = running.device.control();
    let descriptor = |queue| {
        // SAFETY: the port is open, and has the queue.
        let fd = unsafe { sys::rte_eth_dev_rx_intr_ctl_q_get_fd(running.id(), queue) };
        let lacking = || Unsupported {
            what: "descriptors that tell of packets".into(),
            backend: crate::BACKEND,
            why: format!("the driver {} has no receive interrupts", capabilities.driver).into(),
        };
        if fd < 0 { Err(Error::Unsupported(lacking())) } else { Ok(fd) }
    };
    (0..queues).map(descriptor).collect()
}
