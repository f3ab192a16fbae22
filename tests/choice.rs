//! The backend that the features chose is the one that is documented.

use bypass_core::testing::needs::{Need, skip};
use bypass_io::prelude::*;
use bypass_io::{Bind, DefaultSocket, UdpOptions};

#[test]
fn the_default_socket_is_the_first_backend_that_is_built_in() {
    let kernel = cfg!(any(bypass_backend = "io-uring", bypass_backend = "packet"));
    let past_kernel = cfg!(any(feature = "xdp", feature = "dpdk")) && !kernel;
    let uring = cfg!(feature = "io-uring") && !cfg!(bypass_backend = "packet");
    let local = UdpOptions::new(([127, 0, 0, 1], 0).into());
    if past_kernel {
        // Not another one in its place, where it cannot be.
        let error = DefaultSocket::bind(&local).unwrap_err().to_string();
        assert!(error.contains("udp+uring://"), "{error}");
    } else if !uring || !skip(&[Need::IoUring]) {
        let socket = DefaultSocket::bind(&local).unwrap();
        assert_eq!(socket.caps().backend, if uring { "uring" } else { "socket" });
    }
}

#[test]
fn the_default_port_is_the_first_backend_that_is_built_in() {
    let uring = cfg!(bypass_backend = "io-uring");
    let backend = if cfg!(bypass_backend = "packet") {
        "PacketPort"
    } else if cfg!(all(feature = "xdp", not(bypass_backend = "dpdk"))) && !uring {
        "XdpPort"
    } else if cfg!(feature = "dpdk") && !uring {
        "QueuePair"
    } else if cfg!(feature = "io-uring") {
        "UringPort"
    } else {
        "PacketPort"
    };
    let port = std::any::type_name::<bypass_io::DefaultPort>();
    assert!(port.ends_with(&format!("::{backend}")), "{port} in place of {backend}");
}
