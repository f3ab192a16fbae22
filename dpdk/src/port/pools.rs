//! What drivers want of the pools that they receive into, and do not check.

use bypass_core::{Error, Result};

use super::PortOptions;
use super::device::Device;
use crate::mempool::Mempool;

/// The driver whose packets lie in memory that it shares with the kernel.
pub(crate) const AF_XDP: &str = "net_af_xdp";

/// Mbufs of a pool that each of its receiving queues keeps with the kernel
/// (`XSK_RING_CONS__DEFAULT_NUM_DESCS` of libxdp).
const POSTED: u32 = 2048;

/// Refuses pools with which a port would lose packets.
pub(super) fn check(device: &Device, driver: &str, options: &PortOptions) -> Result<()> {
    let used: Vec<&Mempool> = options.pools.iter().take(usize::from(options.rx_queues)).collect();
    let refused = |value: String, why: String| Err(Error::config("pools", value, why));
    for pool in used {
        let room = usize::from(pool.data_room());
        if device.makes > room {
            let why = format!(
                "{} makes packets of {} bytes, which its driver takes to have room: take pools of a larger \
                 `data_room`, or give it a smaller `size`",
                device.name(),
                device.makes
            );
            return refused(format!("{room} bytes"), why);
        }
        if pool.is_packed() && !device.is_virtual {
            let why = "a device that reads memory itself wants no mbuf across the bounds of a page: make the \
                       pool without `MempoolOptions::packed`";
            return refused("packed".to_owned(), why.to_owned());
        }
        if driver == AF_XDP {
            of_af_xdp(pool, options)?;
        }
    }
    Ok(())
}

/// The driver keeps 2048 mbufs for each queue with the kernel, and takes a pool for as long as its mbufs
/// together (`xdp_umem_configure` in `rte_eth_af_xdp.c`, before DPDK 24.11). Mbufs that lie beyond are no
/// memory that the kernel knows: it drops packets that are sent in them, and once all that are posted for
/// receiving are such, nothing is received any more. None of that is said.
fn of_af_xdp(pool: &Mempool, options: &PortOptions) -> Result<()> {
    let pools: Vec<_> = options.pools.iter().map(Mempool::as_ptr).collect();
    let posted = POSTED * queues_of(pool.as_ptr(), &pools, options.rx_queues);
    if pool.size() <= posted {
        let why = format!("{AF_XDP} keeps {posted} of them to receive into: take twice as many");
        return Err(Error::config("pools", format!("{} mbufs", pool.size()), why));
    }
    let (taken, extent) = pool.extent();
    if cfg!(not(dpdk_24_11)) && extent > taken {
        let value = format!("mbufs over {extent} bytes");
        let why = format!(
            "{AF_XDP} takes the pool for the {taken} bytes of its mbufs without gaps, and would lose what \
             lies beyond: make the pool with `MempoolOptions::packed`"
        );
        return Err(Error::config("pools", value, why));
    }
    Ok(())
}

/// How many of so many queues have this pool, where each has the next one of `pools`, in turns. The same may
/// be in it more than once.
fn queues_of<P: PartialEq>(pool: P, pools: &[P], queues: u16) -> u32 {
    let in_turns = pools.iter().cycle().take(queues.into());
    in_turns.map(|other| u32::from(*other == pool)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_counted_by_their_pool() {
        assert_eq!(queues_of('a', &['a'], 2), 2);
        assert_eq!(queues_of('a', &['a', 'a'], 2), 2, "named twice, it is one pool");
        assert_eq!(queues_of('a', &['a', 'b'], 3), 2);
        assert_eq!(queues_of('b', &['a', 'b'], 3), 1);
        assert_eq!(queues_of('b', &['a', 'b'], 1), 0);
    }
}
