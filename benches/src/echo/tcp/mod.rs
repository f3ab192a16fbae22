//! TCP: 64 connections of one client, each with a message under way.

mod client;
mod servers;

use super::Scenario;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "echo_tcp",
    spinning: "echo_tcp, spinning",
    servers: servers::SERVERS,
    connect: client::Client::connect,
    loses: false,
    traffic: "64 connections with a message of 64 B under way on each.",
    loopback: "Over loopback the client's receive path is part of what the server pays.",
};

const _: () = assert!(client::MESSAGE == 64 && client::CONNECTIONS == 64);
