//! The smallest program that receives, as the README has it.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use bypass_core::{Buffer, Burst, Endpoint, Interest, PacketIo};
use bypass_xdp::program::Filter;
use bypass_xdp::{Receive, XdpOptions};

fn main() -> bypass_core::Result<()> {
    let mut options = XdpOptions::new("eth1");
    options.receive = Receive::Filter(Filter::new().udp([4000]));
    let mut port = options.open()?;
    let mut burst = Burst::with_capacity(64);
    loop {
        port.wait(Interest::RX, None)?;
        port.recv(&mut burst)?;
        for frame in burst.iter() {
            println!("{} bytes", frame.data().len());
        }
        burst.clear();
    }
}
