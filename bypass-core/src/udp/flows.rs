//! [`FlowCache`]: headers kept ready for the flows that were sent last.

use std::net::{IpAddr, SocketAddr};

use super::datagram::Plan;
use super::wire::Template;
use crate::Transmit;

/// A small table of fixed size; each flow has one place, which it shares with others.
#[derive(Debug)]
pub(super) struct FlowCache {
    places: Box<[Option<CachedFlow>]>,
}

/// The headers of a flow, and what they are the answer to.
#[derive(Debug)]
pub(super) struct CachedFlow {
    pub(super) key: Plan,
    /// They hold as long as the neighbours say nothing else.
    pub(super) generation: u64,
    /// The longest payload.
    pub(super) max_payload: usize,
    pub(super) template: Template,
}

impl FlowCache {
    pub(super) fn new(places: usize) -> Self {
        Self { places: (0..places.next_power_of_two()).map(|_| None).collect() }
    }

    /// Headers for what is sent this way, if they are there and still hold.
    #[inline(always)]
    pub(super) fn get(&self, key: &Plan, generation: u64) -> Option<&CachedFlow> {
        match &self.places[self.place(key)] {
            Some(flow) if flow.generation == generation && is_same(&flow.key, key) => Some(flow),
            _ => None,
        }
    }

    /// Keeps headers, instead of those that had the place.
    pub(super) fn insert(&mut self, flow: CachedFlow) -> &CachedFlow {
        let place = self.place(&flow.key);
        self.places[place].insert(flow)
    }

    /// What tells flows apart best are the low bits of address and port.
    #[inline(always)]
    fn place(&self, key: &Plan) -> usize {
        let destination = match key {
            Plan::To(destination) => *destination,
            Plan::As(Transmit { destination: Some(destination), .. }) => *destination,
            _ => return 0,
        };
        let address = match destination.ip() {
            IpAddr::V4(ip) => ip.to_bits(),
            IpAddr::V6(ip) => ip.to_bits() as u32,
        };
        let mixed = (u64::from(address) << 16 ^ u64::from(destination.port()))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.places.len() - 1)
    }
}

/// `==`, which is too large to be inlined, with what nearly all keys are told apart by in front.
#[inline(always)]
fn is_same(a: &Plan, b: &Plan) -> bool {
    match (a, b) {
        (Plan::To(SocketAddr::V4(a)), Plan::To(SocketAddr::V4(b))) => a == b,
        _ => a == b,
    }
}
