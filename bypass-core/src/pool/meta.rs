//! [`FrameMeta`] and [`DatagramMeta`]: what makes the buffer of a pool a frame, or a datagram.

use super::{Kind, PoolBuf};
use crate::datagram::{Datagram, RecvMeta, Transmit};
use crate::{Frame, RxMeta, TxMeta, Unsupported};

/// What travels beside a frame in a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// What was learned on receive.
    pub rx: RxMeta,
    /// What is asked for on send.
    pub tx: TxMeta,
}

/// What travels beside a datagram in a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramMeta {
    /// What was learned on receive.
    pub recv: RecvMeta,
    /// Where it goes.
    pub transmit: Transmit,
}

impl<K: Kind<Meta = FrameMeta>> Frame for PoolBuf<K> {
    fn rx_meta(&self) -> RxMeta {
        self.meta().rx
    }

    fn set_tx_meta(&mut self, tx: TxMeta) -> Result<(), Unsupported> {
        let lacking = tx.offloads().difference(self.shared().tx_offloads);
        if !lacking.is_empty() {
            return Err(Unsupported {
                what: format!("send offload {lacking:?}").into(),
                backend: K::BACKEND,
                why: "the endpoint's `caps().tx_offloads` lists those that it has".into(),
            });
        }
        self.set_meta(FrameMeta { tx, ..self.meta() });
        Ok(())
    }
}

impl<K: Kind<Meta = DatagramMeta>> Datagram for PoolBuf<K> {
    fn recv_meta(&self) -> RecvMeta {
        self.meta().recv
    }

    fn transmit(&self) -> Transmit {
        self.meta().transmit
    }

    fn set_transmit(&mut self, transmit: Transmit) {
        self.set_meta(DatagramMeta { transmit, ..self.meta() });
    }
}
