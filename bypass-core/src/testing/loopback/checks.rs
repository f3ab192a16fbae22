//! The checks.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::SystemTime;

use super::Sockets;
use super::tools::{compose, counter, learn, open, receive, std_socket, take};
use crate::{Buffer, Burst, Clock, Datagram, DatagramIo, DropCause, Ecn, Transmit};

/// One property, which panics where it does not hold.
pub(super) type Check<D> = fn(Sockets<'_, D>);

/// Every check and its name.
pub(super) fn all<D: DatagramIo>() -> Vec<(&'static str, Check<D>)> {
    vec![
        (
            "coalesced_datagrams_arrive_as_they_were_sent",
            coalesced_datagrams_arrive_as_they_were_sent::<D>,
        ),
        ("switched_off_nothing_is_coalesced", switched_off_nothing_is_coalesced::<D>),
        (
            "a_train_arrives_whole_and_can_be_sent_back_whole",
            a_train_arrives_whole_and_can_be_sent_back_whole::<D>,
        ),
        (
            "the_longest_train_fits_behind_the_kernels_header",
            the_longest_train_fits_behind_the_kernels_header::<D>,
        ),
        (
            "a_wildcard_socket_knows_where_a_datagram_was_sent_to_and_replies_from_there",
            a_wildcard_socket_knows_where_a_datagram_was_sent_to_and_replies_from_there::<D>,
        ),
        ("datagrams_are_stamped_when_asked", datagrams_are_stamped_when_asked::<D>),
        (
            "a_datagram_longer_than_a_buffer_is_counted_and_never_handed_out",
            a_datagram_longer_than_a_buffer_is_counted_and_never_handed_out::<D>,
        ),
        ("what_the_kernel_drops_is_counted", what_the_kernel_drops_is_counted::<D>),
        (
            "errors_from_the_network_are_counted_and_stop_nothing",
            errors_from_the_network_are_counted_and_stop_nothing::<D>,
        ),
        ("congestion_marks_travel_both_families", congestion_marks_travel_both_families::<D>),
        ("datagrams_outlive_their_endpoint", datagrams_outlive_their_endpoint::<D>),
    ]
}

fn coalesced_datagrams_arrive_as_they_were_sent<D: DatagramIo>(sockets: Sockets<'_, D>) {
    let mut socket = open(sockets, "127.0.0.1:0", |_| {});
    let (receiver, to) = std_socket();
    // One train alone (through the ring), then two trains and an empty datagram (several messages).
    let alone: Vec<Vec<u8>> = (0..30u8).map(|i| vec![i; 100]).chain([vec![30; 7]]).collect();
    let mixed: Vec<Vec<u8>> = (0..40u8)
        .map(|i| vec![i; if i < 20 { 100 } else { 300 }])
        .chain([vec![40; 50], vec![], vec![41; 7]])
        .collect();
    let mut buffer = [0; 2048];
    for payloads in [&alone, &mixed] {
        let mut burst = compose(&mut socket, to, payloads.iter().map(Vec::as_slice));
        assert_eq!(socket.send(&mut burst).unwrap(), payloads.len());
        for payload in payloads {
            let (len, from) = take(&receiver, &mut buffer);
            assert_eq!((&buffer[..len], from), (payload.as_slice(), socket.local_addr()));
        }
    }
    let stats = socket.stats();
    let sent = || alone.iter().chain(&mixed);
    assert_eq!(stats.tx_packets, sent().count() as u64);
    assert_eq!(stats.tx_bytes, sent().map(|payload| payload.len() as u64).sum::<u64>());
    assert_eq!(counter(&socket, "coalesced_messages"), 3);
    assert_eq!(counter(&socket, "coalesced_datagrams"), 31 + 41);
}

fn switched_off_nothing_is_coalesced<D: DatagramIo>(sockets: Sockets<'_, D>) {
    let mut socket = open(sockets, "127.0.0.1:0", |udp| udp.coalesce = false);
    let (_receiver, to) = std_socket();
    let mut burst = compose(&mut socket, to, [&b"same"[..]; 10]);
    assert_eq!(socket.send(&mut burst).unwrap(), 10);
    assert_eq!(counter(&socket, "coalesced_messages"), 0);
}

fn a_train_arrives_whole_and_can_be_sent_back_whole<D: DatagramIo>(sockets: Sockets<'_, D>) {
    let (mut client, mut server) =
        (open(sockets, "127.0.0.1:0", |_| {}), open(sockets, "127.0.0.1:0", |udp| udp.gro = true));
    let payloads: Vec<_> = (0..30u8).map(|i| [i; 1000]).collect();
    let to = server.local_addr();
    let mut burst = compose(&mut client, to, payloads.iter().map(|payload| &payload[..]));
    client.send(&mut burst).unwrap();
    let mut trains = receive(&mut server, 1);
    assert_eq!(trains[0].recv_meta().segment_size, Some(1000));
    assert_eq!(trains[0].data(), payloads.concat());
    assert_eq!((server.stats().rx_packets, server.stats().rx_bytes), (30, 30_000));
    trains[0].reply();
    assert_eq!(server.send(&mut trains).unwrap(), 1);
    assert_eq!(server.stats().tx_packets, 30);
    let back = receive(&mut client, 30);
    assert!(back.iter().map(Buffer::data).eq(payloads.iter()), "cut again, in order");
}

fn the_longest_train_fits_behind_the_kernels_header<D: DatagramIo>(sockets: Sockets<'_, D>) {
    let (mut client, mut server) =
        (open(sockets, "127.0.0.1:0", |_| {}), open(sockets, "127.0.0.1:0", |udp| udp.gro = true));
    assert_eq!(server.caps().max_len, 65_507);
    let to = server.local_addr();
    let mut burst = compose(&mut client, to, [&[7; 1472][..]; 44]);
    client.send(&mut burst).unwrap();
    let trains = receive(&mut server, 1);
    assert_eq!(trains.iter().map(|train| train.data().len()).sum::<usize>(), 44 * 1472);
    assert_eq!(server.stats().drops.total(), 0);
}

fn a_wildcard_socket_knows_where_a_datagram_was_sent_to_and_replies_from_there<D: DatagramIo>(
    sockets: Sockets<'_, D>,
) {
    for wildcard in ["0.0.0.0:0", "[::]:0"] {
        let mut server = open(sockets, wildcard, |udp| udp.timestamps = true);
        let port = server.local_addr().port();
        let (client, _) = std_socket();
        for last in [1, 2] {
            let at = SocketAddr::from(([127, 0, 0, last], port));
            client.send_to(b"ping", at).unwrap();
            let mut burst = receive(&mut server, 1);
            let meta = burst[0].recv_meta();
            assert_eq!(meta.local, Some(at.ip()), "{wildcard}");
            assert_eq!(meta.remote, Some(client.local_addr().unwrap()), "as IPv4, not mapped");
            assert!(meta.timestamp.is_some(), "there was room for everything that is told");
            burst[0].reply();
            assert_eq!(server.send(&mut burst).unwrap(), 1);
            let (_, from) = take(&client, &mut [0; 16]);
            assert_eq!(from, at, "{wildcard}");
        }
    }
    let (mut server, mut client) =
        (open(sockets, "[::]:0", |_| {}), open(sockets, "[::1]:0", |_| {}));
    let to = SocketAddr::from(("::1".parse::<IpAddr>().unwrap(), server.local_addr().port()));
    let meta = learn(&mut client, &mut server, Transmit::to(to));
    assert_eq!((meta.local, meta.remote), (Some(to.ip()), Some(client.local_addr())));
}

fn datagrams_are_stamped_when_asked<D: DatagramIo>(sockets: Sockets<'_, D>) {
    let (mut a, mut b) = (
        open(sockets, "127.0.0.1:0", |_| {}),
        open(sockets, "127.0.0.1:0", |udp| udp.timestamps = true),
    );
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let (before, to) = (now(), Transmit::to(b.local_addr()));
    let stamp = learn(&mut a, &mut b, to).timestamp.unwrap();
    assert_eq!(stamp.clock, Clock::Realtime);
    assert!((before..=now()).contains(&u128::from(stamp.nanos)));
    let back = Transmit::to(a.local_addr());
    assert_eq!(learn(&mut b, &mut a, back).timestamp, None);
}

fn a_datagram_longer_than_a_buffer_is_counted_and_never_handed_out<D: DatagramIo>(
    sockets: Sockets<'_, D>,
) {
    let mut socket = open(sockets, "127.0.0.1:0", |_| {});
    let room = socket.caps().max_len;
    let (client, _) = std_socket();
    for len in [room + 1, room, room + 1000, 3] {
        client.send_to(&vec![1; len], socket.local_addr()).unwrap();
    }
    let burst = receive(&mut socket, 2);
    let lengths: Vec<_> = burst.iter().map(|datagram| datagram.data().len()).collect();
    assert_eq!(lengths, [room, 3]);
    let stats = socket.stats();
    assert_eq!((stats.drops[DropCause::RxTruncated], stats.rx_packets), (2, 2));
    assert_eq!(stats.frames.unwrap().held, 2);
}

fn what_the_kernel_drops_is_counted<D: DatagramIo>(sockets: Sockets<'_, D>) {
    let mut socket = open(sockets, "127.0.0.1:0", |udp| udp.recv_buffer = Some(4096));
    let (client, _) = std_socket();
    for i in 0..500_u32 {
        client.send_to(&i.to_ne_bytes(), socket.local_addr()).unwrap();
    }
    assert!(socket.stats().drops[DropCause::RxQueueFull] > 0);
    let mut burst = Burst::with_capacity(512);
    while socket.recv(&mut burst).unwrap() > 0 {}
    let stats = socket.stats();
    assert_eq!(stats.rx_packets + stats.drops.total(), 500, "{stats:?}");
}

fn errors_from_the_network_are_counted_and_stop_nothing<D: DatagramIo>(sockets: Sockets<'_, D>) {
    let (closed, nobody) = std_socket();
    drop(closed);
    let mut socket = open(sockets, "127.0.0.1:0", |udp| udp.peer = Some(nobody));
    // The answer to each datagram (ICMP port unreachable) is there before the next; whichever of
    // receiving and sending comes first meets it.
    for _ in 0..5 {
        let mut burst = compose(&mut socket, nobody, [&b"anybody?"[..]]);
        assert_eq!(socket.send(&mut burst).unwrap(), 1);
        assert_eq!(socket.recv(&mut Burst::with_capacity(1)).unwrap(), 0);
    }
    assert_eq!(counter(&socket, "pending_errors"), 5);
    assert_eq!(socket.stats().tx_packets, 5);
    let back = UdpSocket::bind(nobody).unwrap();
    back.send_to(b"here", socket.local_addr()).unwrap();
    assert_eq!(receive(&mut socket, 1)[0].data(), b"here");
}

fn datagrams_outlive_their_endpoint<D: DatagramIo>(sockets: Sockets<'_, D>) {
    let mut socket = open(sockets, "127.0.0.1:0", |_| {});
    let (client, _) = std_socket();
    client.send_to(b"still here", socket.local_addr()).unwrap();
    let burst = receive(&mut socket, 1);
    drop(socket);
    assert_eq!(burst[0].data(), b"still here");
}

fn congestion_marks_travel_both_families<D: DatagramIo>(sockets: Sockets<'_, D>) {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let mut a = open(sockets, address, |_| {});
        let mut b = open(sockets, address, |_| {});
        for ecn in [Ecn::NotCapable, Ecn::Ect0, Ecn::Ect1, Ecn::Congestion] {
            let mut transmit = Transmit::to(b.local_addr());
            transmit.ecn = ecn;
            let meta = learn(&mut a, &mut b, transmit);
            assert_eq!((meta.ecn, meta.remote), (ecn, Some(a.local_addr())), "{address}");
        }
    }
}
