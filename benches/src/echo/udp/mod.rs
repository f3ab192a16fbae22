//! UDP: 64 datagrams of one client under way.

mod client;
mod servers;

use super::Scenario;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "echo",
    spinning: "echo, spinning",
    servers: servers::SERVERS,
    connect: client::Client::connect,
    loses: true,
    traffic: "64 datagrams of 64 B under way.",
    loopback: "Loopback delivers within the send, so the server pays for the client's receive path and the \
               client for the server's.",
};

const _: () = assert!(client::PAYLOAD == 64 && client::WINDOW == 64);
