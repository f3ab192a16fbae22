//! [`Sender`]: what makes frames, at the far end of the cable.

use anyhow::Result;
use bypass_core::{Buffer as _, Burst, Endpoint as _, PacketIo as _};
use bypass_xdp::{Receive, XdpFrame, XdpOptions, XdpPort};

use super::rig::Rig;

/// A port of ours that only sends. The kernel takes what it sends all the way to the near end's socket
/// within the call: on a veth pair, receiving is the work of the core that sends.
pub(crate) struct Sender {
    port: XdpPort,
    burst: Burst<XdpFrame>,
    frame: Vec<u8>,
}

impl Sender {
    /// Sends copies of the far end's frame.
    pub(crate) fn open(rig: &Rig) -> Result<Self> {
        let mut options = XdpOptions::new(&*rig.far.name);
        options.receive = Receive::Nothing;
        options.umem.pool.rx_reserve = 1;
        let port = options.open()?;
        let burst = Burst::with_capacity(options.umem.pool.chunks as usize);
        Ok(Self { port, burst, frame: rig.far()?.frame.to_vec() })
    }

    /// Sends up to `count` frames, as many as the kernel takes, and returns how many.
    pub(crate) fn send(&mut self, count: usize) -> Result<usize> {
        let waiting = self.burst.len();
        self.port.alloc(&mut self.burst, count.saturating_sub(waiting));
        for frame in &mut self.burst[waiting..] {
            frame.fill(&self.frame)?;
        }
        let sent = self.port.send(&mut self.burst)?;
        self.port.flush()?;
        Ok(sent)
    }
}
