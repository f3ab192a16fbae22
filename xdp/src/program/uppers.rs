//! Interfaces that receive through another one: the VLANs and macvlans on it, the bridge or bond that it
//! belongs to (`rtnetlink(7)`).

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Names of the interfaces of the calling thread's namespace that receive through this one, and its own.
pub(super) fn of(interface: &str) -> io::Result<Vec<String>> {
    let links: Vec<Link> = links()?.into_iter().map(Link::new).collect();
    let mut found: Vec<&Link> = links.iter().filter(|link| link.name == interface).collect();
    let mut next = 0;
    while let Some(&lower) = found.get(next) {
        next += 1;
        for link in &links {
            let is_above = link.on == Some(lower.index) || lower.part_of == Some(link.index);
            if is_above && !found.iter().any(|known| known.index == link.index) {
                found.push(link);
            }
        }
    }
    Ok(found.into_iter().map(|link| link.name.clone()).collect())
}

struct Link {
    index: u32,
    name: String,
    /// The interface that it is made on, if that is in the same namespace.
    on: Option<u32>,
    /// The bridge, bond or the like that it belongs to.
    part_of: Option<u32>,
}

impl Link {
    fn new(message: LinkMessage) -> Self {
        let mut link =
            Self { index: message.header.index, name: String::new(), on: None, part_of: None };
        let mut is_elsewhere = false;
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Link(index) => link.on = Some(index),
                LinkAttribute::Controller(index) => link.part_of = Some(index),
                LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
                _ => {}
            }
        }
        link.on = link.on.filter(|_| !is_elsewhere);
        link
    }
}

/// All interfaces of the calling thread's namespace.
fn links() -> io::Result<Vec<LinkMessage>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let what = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(what));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let mut links = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(io::Error::other)?;
            let len = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(len..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(links),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    links.push(link)
                }
                _ => {}
            }
        }
    }
}
