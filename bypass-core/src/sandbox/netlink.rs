//! The two requests to rtnetlink(7) that a sandbox needs.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::Interface;
use crate::{Error, Result};

pub(super) struct Netlink(Socket);

impl Netlink {
    pub(super) fn open() -> Result<Self> {
        let connected = Socket::new(NETLINK_ROUTE).and_then(|mut socket| {
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Self(socket))
        });
        connected.map_err(|error| Error::os("open a netlink socket", error))
    }

    /// Brings an interface up.
    pub(super) fn set_up(&mut self, name: &str) -> Result<()> {
        let mut link = named(name);
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(link), 0, || format!("bring {name} up"))
    }

    /// Makes two interfaces joined by a cable.
    pub(super) fn add_veth(&mut self, [a, b]: &[Interface; 2]) -> Result<()> {
        let end = |interface: &Interface| {
            let mut link = named(&interface.name);
            link.attributes.push(LinkAttribute::Address(interface.mac.0.to_vec()));
            link
        };
        let mut link = end(a);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(end(b)))),
        ]));
        let attempt = || format!("make the veth pair {} and {}", a.name, b.name);
        self.request(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL, attempt)
    }

    fn request(
        &mut self,
        payload: RouteNetlinkMessage,
        flags: u16,
        attempt: impl Fn() -> String,
    ) -> Result<()> {
        let failed = |error| Error::os(attempt(), error);
        let mut message = NetlinkMessage::from(payload);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0).map_err(failed)?;
        let (answer, _) = self.0.recv_from_full().map_err(failed)?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
            .map_err(|error| failed(std::io::Error::other(error)))?;
        match answer.payload {
            NetlinkPayload::Error(refused) if refused.code.is_some() => {
                Err(failed(refused.to_io()))
            }
            _ => Ok(()),
        }
    }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}
