//! Raw sockets of the kernel (AF_PACKET).

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::{Finding, Section};
use crate::Error;

pub(super) fn section() -> Section {
    let attempt = "open an AF_PACKET socket";
    let made = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None);
    let finding = match made {
        Ok(_) => Finding::good("sockets", "frames of any interface, with copies"),
        Err(errno) => Finding::missing(
            "sockets",
            Error::privileged(attempt, "CAP_NET_RAW", errno).to_string(),
        ),
    };
    super::section("packet", vec![finding])
}
