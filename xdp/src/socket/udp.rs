//! [`XdpOptions`] for the datagrams of one UDP endpoint.

use bypass_core::backend::socket::UdpOptions;
use bypass_core::udp::{Beside, IpNet};
use bypass_core::{Error, Result};

use super::{NapiBusyPoll, Receive, RingSizes, XdpOptions};
use crate::program::{Filter, Hints};
use crate::ring::MAX_SIZE;
use crate::umem::UmemOptions;

/// The larger of the two sizes of chunks.
const LARGE_CHUNK: u32 = 4096;

impl XdpOptions {
    /// What an endpoint beside the kernel
    /// ([`beside_kernel`](bypass_core::udp::UdpOverL2::beside_kernel)) has to receive: datagrams to its
    /// port, at its addresses and groups. Everything else stays with the kernel.
    ///
    /// Half of the `pool` is posted for receiving; a `recv_buffer` comes on top, in chunks, of which
    /// all are posted. `timestamps` are the device's, where it makes any; a device that cannot be asked
    /// is refused. Where the MTU asks for it, chunks have 4096 bytes; what is longer than one comes in
    /// segments.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a `recv_buffer` beyond all measure; as
    /// [`busy_poll_micros`](UdpOptions::busy_poll_micros).
    pub fn beside_kernel(options: &UdpOptions, beside: &Beside) -> Result<Self> {
        let mut xdp = Self::new(&*beside.station.interface);
        let to_port = |filter: Filter, &to| filter.udp_at(IpNet::from(to), [beside.port]);
        xdp.receive = Receive::Filter(beside.destinations.iter().fold(Filter::new(), to_port));

        let umem = |pool| UmemOptions { pool, ..UmemOptions::default() };
        let mut pool = options.pool.clone();
        pool.rx_reserve = pool.rx_reserve.max(pool.chunks / 2);
        let longest = beside.station.mtu.saturating_add(super::interface::OVERHEAD);
        let room = |pool: &_| umem(Clone::clone(pool)).rx_room();
        if longest > room(&pool) {
            pool.chunk_size = LARGE_CHUNK;
        }
        if let Some(bytes) = options.recv_buffer {
            let chunks = u32::try_from(bytes.div_ceil(pool.chunk_size as usize)).ok();
            let sum = |n: u32| n.checked_add(chunks?);
            let sums = sum(pool.chunks).zip(sum(pool.rx_reserve));
            let (all, posted) =
                sums.filter(|(_, posted)| *posted <= MAX_SIZE).ok_or_else(|| {
                    let why =
                        format!("no more than {MAX_SIZE} chunks of packet memory can be posted");
                    Error::config("recv_buffer", bytes, why)
                })?;
            (pool.chunks, pool.rx_reserve) = (all, posted);
        }
        let least = RingSizes::default();
        if pool.rx_reserve > MAX_SIZE {
            let why = format!("no more than {MAX_SIZE} chunks can be posted");
            return Err(Error::config("rx_reserve", pool.rx_reserve, why));
        }
        let ring = pool.rx_reserve.next_power_of_two();
        xdp.rings = RingSizes { rx: ring.max(least.rx), fill: ring.max(least.fill), ..least };
        xdp.multi_buffer = longest > room(&pool);
        xdp.umem = umem(pool);
        xdp.send_buffer = options.send_buffer;
        xdp.hints = if options.timestamps { Hints::Require } else { Hints::Off };
        xdp.busy_poll = options
            .busy_poll_micros()?
            .filter(|micros| *micros > 0)
            .map(|micros| NapiBusyPoll { micros, ..NapiBusyPoll::default() });
        Ok(xdp)
    }
}
