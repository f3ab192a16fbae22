//! What nearly every application needs: `use bypass_io::prelude::*`.

pub use crate::{
    Adaptive, Block, Buffer, Burst, BusyPoll, Datagram, DatagramIo, DatagramIoExt, Endpoint, Frame,
    Interest, PacketIo, PacketIoExt, Ready, Result, WaitStrategy,
};
