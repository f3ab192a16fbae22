//! What UDP over layer 2 costs per datagram: the stack beside a hand-written floor, on a port that
//! costs next to nothing.

mod floor;
mod replay;

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bypass_core::udp::neighbours::Table;
use bypass_core::udp::{Config, UdpOverL2};
use bypass_core::{
    Buffer, Burst, Datagram as _, DatagramIo as _, Endpoint as _, MacAddr, PacketIo as _,
};

use crate::micro::{self, Case, INSTRUCTIONS, NANOSECONDS, Work};
use crate::paired::Plan;
use crate::report::{Fact, Report};
use crate::scenario::Options;
use floor::HEADERS;
use replay::{BURST, ReplayPort};

const PAYLOAD: [u8; 64] = [0x5a; 64];

pub(crate) const CASES: &[Case] = &[
    Case { name: "receive, UdpOverL2", prepare: receive_stack },
    Case { name: "receive, floor", prepare: receive_floor },
    Case { name: "receive, port alone", prepare: receive_port },
    Case { name: "send, UdpOverL2", prepare: send_stack },
    Case { name: "send, floor", prepare: send_floor },
    Case { name: "send, port alone", prepare: send_port },
    Case { name: "reply, UdpOverL2", prepare: reply_stack },
    Case { name: "reply, floor", prepare: reply_floor },
    Case { name: "reply, port alone", prepare: reply_port },
];

pub(crate) fn run(options: &Options) -> Result<Report> {
    let duration = Duration::from_millis(if options.quick { 5 } else { 100 });
    let mut report = Report::new(options.environment());
    for what in ["receive", "send", "reply"] {
        let cases = CASES.iter().map(|case| case.name).filter(|name| name.starts_with(what));
        let (subjects, peers): (Vec<_>, Vec<_>) =
            cases.partition(|name| name.ends_with("UdpOverL2"));
        let (stack, floor, port) = (subjects[0], peers[0], peers[1]);
        let plan = Plan { scenario: "udp_stack", subjects, peers, rounds: options.rounds };
        let runs = micro::run(&plan, CASES, duration)?;
        for (metric, net) in [(INSTRUCTIONS, NET_INSTRUCTIONS), (NANOSECONDS, NET_NANOSECONDS)] {
            report.rows.extend(runs.rows(&plan, metric));
            report.facts.extend(runs.facts(&plan, &[metric]));
            let alone = runs.median(port, metric).unwrap_or(f64::NAN);
            let with_port = runs.facts(&plan, &[metric]).into_iter();
            let with_port = with_port.filter(|fact| [stack, floor].contains(&fact.contestant));
            report.facts.extend(with_port.map(|fact| Fact {
                metric: net,
                value: fact.value - alone,
                min: fact.min - alone,
                max: fact.max - alone,
                ..fact
            }));
        }
    }
    report.notes.push(format!(
        "Datagrams of {} B over IPv4 in bursts of {BURST}, on a port that copies one frame out of \
         memory. The stack validates everything and counts drops by cause; the floor takes fixed \
         offsets and verifies the UDP checksum. Net: less what the port alone costs. Target: 2 × \
         the floor.",
        PAYLOAD.len(),
    ));
    Ok(report)
}

const NET_INSTRUCTIONS: &str = "net instructions per packet";
const NET_NANOSECONDS: &str = "net ns per packet";

/// Work of which one turn is `turn`.
fn work(mut turn: impl FnMut() -> Result<usize> + 'static) -> Result<Work> {
    Ok(Box::new(move |repeats| {
        let mut packets = 0;
        for _ in 0..repeats {
            packets += turn()? as u64;
        }
        Ok(packets)
    }))
}

/// The port, on which a datagram of the peer arrives again and again.
fn port() -> Result<ReplayPort> {
    let mut frame = vec![0; HEADERS];
    frame.extend_from_slice(&PAYLOAD);
    floor::send(&mut frame, &floor::template());
    floor::reply(&mut frame);
    Ok(ReplayPort::new(frame)?)
}

fn stack() -> Result<UdpOverL2<ReplayPort, Table>> {
    let config = Config::new(MacAddr(floor::MAC), floor::PORT)
        .address("10.0.0.1/24".parse()?)
        .neighbours(Table::new().with(floor::PEER.into(), MacAddr(floor::PEER_MAC)));
    Ok(UdpOverL2::new(port()?, config)?)
}

fn receive_stack() -> Result<Work> {
    let (mut stack, mut burst) = (stack()?, Burst::with_capacity(BURST));
    work(move || {
        let count = stack.recv(&mut burst)?;
        for datagram in burst.iter() {
            black_box((datagram.recv_meta().remote, datagram.data()));
        }
        burst.clear();
        Ok(count)
    })
}

fn receive_floor() -> Result<Work> {
    let (mut port, mut burst) = (port()?, Burst::with_capacity(BURST));
    work(move || {
        port.recv(&mut burst)?;
        let mut count = 0;
        for frame in burst.iter() {
            count += usize::from(black_box(floor::receive(frame.data())).is_some());
        }
        burst.clear();
        Ok(count)
    })
}

fn receive_port() -> Result<Work> {
    let (mut port, mut burst) = (port()?, Burst::with_capacity(BURST));
    work(move || {
        let count = port.recv(&mut burst)?;
        for frame in burst.iter() {
            black_box(frame.data());
        }
        burst.clear();
        Ok(count)
    })
}

fn send_stack() -> Result<Work> {
    let (mut stack, mut burst) = (stack()?, Burst::with_capacity(BURST));
    let peer = SocketAddr::from((floor::PEER, floor::PEER_PORT));
    work(move || {
        stack.alloc(&mut burst, BURST);
        for datagram in burst.iter_mut() {
            datagram.fill(black_box(&PAYLOAD))?;
            datagram.send_to(peer);
        }
        let count = stack.send(&mut burst)?;
        stack.flush()?;
        Ok(count)
    })
}

fn send_floor() -> Result<Work> {
    let (mut port, mut burst) = (port()?, Burst::with_capacity(BURST));
    let template = floor::template();
    work(move || {
        port.alloc(&mut burst, BURST);
        for frame in burst.iter_mut() {
            frame.fill(black_box(&PAYLOAD))?;
            frame.prepend(HEADERS)?;
            floor::send(frame.data_mut(), &template);
        }
        let count = port.send(&mut burst)?;
        port.flush()?;
        Ok(count)
    })
}

fn send_port() -> Result<Work> {
    let (mut port, mut burst) = (port()?, Burst::with_capacity(BURST));
    work(move || {
        port.alloc(&mut burst, BURST);
        for frame in burst.iter_mut() {
            frame.fill(black_box(&PAYLOAD))?;
        }
        let count = port.send(&mut burst)?;
        port.flush()?;
        Ok(count)
    })
}

fn reply_stack() -> Result<Work> {
    let (mut stack, mut burst) = (stack()?, Burst::with_capacity(BURST));
    work(move || {
        stack.recv(&mut burst)?;
        burst.iter_mut().for_each(|datagram| datagram.reply());
        let count = stack.send(&mut burst)?;
        stack.flush()?;
        Ok(count)
    })
}

fn reply_floor() -> Result<Work> {
    let (mut port, mut burst) = (port()?, Burst::with_capacity(BURST));
    work(move || {
        port.recv(&mut burst)?;
        burst.retain(|frame| floor::receive(frame.data()).is_some());
        burst.iter_mut().for_each(|frame| floor::reply(frame.data_mut()));
        let count = port.send(&mut burst)?;
        port.flush()?;
        Ok(count)
    })
}

fn reply_port() -> Result<Work> {
    let (mut port, mut burst) = (port()?, Burst::with_capacity(BURST));
    work(move || {
        port.recv(&mut burst)?;
        let count = port.send(&mut burst)?;
        port.flush()?;
        Ok(count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_moves_all_of_its_packets() {
        for case in CASES {
            let packets = (case.prepare)().unwrap()(50).unwrap();
            assert_eq!(packets, 50 * BURST as u64, "{}", case.name);
        }
    }

    #[test]
    fn stack_and_floor_send_the_same_bytes() {
        let (mut stack, mut burst) = (stack().unwrap(), Burst::with_capacity(1));
        stack.alloc(&mut burst, 1);
        burst[0].fill(&PAYLOAD).unwrap();
        burst[0].send_to(SocketAddr::from((floor::PEER, floor::PEER_PORT)));
        stack.send(&mut burst).unwrap();
        stack.flush().unwrap();
        let mut expected = vec![0; HEADERS];
        expected.extend_from_slice(&PAYLOAD);
        floor::send(&mut expected, &floor::template());
        assert_eq!(stack.port().sent, expected);
    }
}
