//! What is asked for, and what the device has: nothing here talks to it.

use bypass_core::{Buffer as _, Error, Result, Unsupported};

use super::{Capabilities, Features, PortOptions, RssTypes};
use crate::mbuf::Mbuf;
use crate::mempool::Mempool;

/// What to ask of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) features: Features,
    pub(super) rss: RssTypes,
    pub(super) fallbacks: Vec<String>,
}

/// An Ethernet header and a VLAN tag.
const L2: usize = 18;

pub(super) fn negotiate(options: &PortOptions, device: &Capabilities) -> Result<Plan> {
    check(options, device)?;
    let mut fallbacks = Vec::new();
    let lacking = options.require - device.features;
    if !lacking.is_empty() {
        return Err(Error::Unsupported(unsupported(lacking.names(), device)));
    }
    let missing = (options.prefer - options.require) - device.features;
    if !missing.is_empty() {
        fallbacks.push(format!(
            "preferred {}, which {} does not have",
            missing.names(),
            device.driver
        ));
    }
    let mut features = options.require | (options.prefer & device.features);
    let room = options.pools.iter().map(|pool| usize::from(pool.data_room())).min().unwrap_or(0);
    let mtu = options.mtu.unwrap_or(device.mtu);
    if usize::from(mtu) + L2 > room && !features.contains(Features::RX_SCATTER) {
        if !device.features.contains(Features::RX_SCATTER) {
            let why = format!(
                "an mbuf of the pool has room for {room} bytes, a packet has up to {}, and {} cannot \
                 scatter one over several: take a larger `data_room` or a smaller MTU",
                usize::from(mtu) + L2,
                device.driver,
            );
            return Err(Error::config("mtu", mtu, why));
        }
        features |= Features::RX_SCATTER;
        fallbacks.push(format!(
            "packets of more than {room} bytes arrive in chains of mbufs; a larger `data_room` avoids it"
        ));
    }
    let rss = negotiate_rss(options, device, &mut fallbacks)?;
    Ok(Plan { features, rss, fallbacks })
}

fn negotiate_rss(
    options: &PortOptions,
    device: &Capabilities,
    fallbacks: &mut Vec<String>,
) -> Result<RssTypes> {
    let Some(rss) = &options.rss else { return Ok(RssTypes::empty()) };
    let granted = rss.types & device.rss;
    if granted.is_empty() {
        return Err(Error::Unsupported(unsupported(format!("RSS by {:?}", rss.types), device)));
    }
    if granted != rss.types {
        let missing = rss.types - granted;
        fallbacks
            .push(format!("RSS by {missing:?} was asked for, {} has {granted:?}", device.driver));
    }
    let wanted = usize::from(device.rss_key_len);
    if let Some(key) = rss.key.as_ref().filter(|key| key.len() != wanted) {
        let why = format!("the key of {} has {wanted} bytes", device.driver);
        return Err(Error::config("rss.key", format!("{} bytes", key.len()), why));
    }
    if let Some(table) = &rss.table {
        if table.is_empty() || table.len() > usize::from(device.rss_table_len) {
            let why =
                format!("the table of {} has 1 to {} entries", device.driver, device.rss_table_len);
            return Err(Error::config("rss.table", format!("{} entries", table.len()), why));
        }
        if let Some(queue) = table.iter().find(|&&queue| queue >= options.rx_queues) {
            let why = format!("there are {} receiving queues, from 0", options.rx_queues);
            return Err(Error::config("rss.table", queue, why));
        }
    }
    Ok(granted)
}

fn check(options: &PortOptions, device: &Capabilities) -> Result<()> {
    for (setting, asked, most) in [
        ("rx_queues", options.rx_queues, device.rx_queues),
        ("tx_queues", options.tx_queues, device.tx_queues),
    ] {
        if asked > most {
            let why = format!("{} has {most}", device.driver);
            return Err(Error::config(setting, asked, why));
        }
    }
    if options.rx_queues == 0 && options.tx_queues == 0 {
        return Err(Error::config("rx_queues", 0, "a port without any queue is of no use"));
    }
    if device.driver == "net_ring" && options.tx_queues > options.rx_queues {
        let why = "what is sent to a queue of a net_ring comes back by the receiving queue of the same \
                   number: have as many of them";
        return Err(Error::config("tx_queues", options.tx_queues, why));
    }
    if options.pools.is_empty() {
        return Err(Error::config("pools", "none", "received packets must lie somewhere"));
    }
    let has_no_room = |pool: &&Mempool| usize::from(pool.data_room()) < Mbuf::SHORTEST_RECEIVED;
    if let Some(pool) = options.pools.iter().find(has_no_room) {
        let why = "its mbufs have no room for an Ethernet header; it is for clones";
        return Err(Error::config("pools", pool.name(), why));
    }
    if let Some(mtu) = options.mtu.filter(|mtu| !(device.min_mtu..=device.max_mtu).contains(mtu)) {
        let why = format!("{} takes {} to {}", device.driver, device.min_mtu, device.max_mtu);
        return Err(Error::config("mtu", mtu, why));
    }
    Ok(())
}

fn unsupported(what: String, device: &Capabilities) -> Unsupported {
    Unsupported {
        what: what.into(),
        backend: crate::BACKEND,
        why: format!(
            "the driver {} does not have it; it has {}",
            device.driver,
            device.features.names()
        )
        .into(),
    }
}
