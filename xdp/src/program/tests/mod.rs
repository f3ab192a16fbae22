//! The program run by the kernel on frames made here (`BPF_PROG_TEST_RUN`), without any interface.

mod frames;
mod model;

use bypass_core::testing::needs::{Need, skip};
use etherparse::PacketBuilder;
use libbpf_rs::{MapHandle, ProgramInput};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use self::model::Verdict;
use super::attach::Target;
use super::counters::Counters;
use super::filter::Filter;
use super::load::{Loaded, Variant};
use super::tables::FilterMaps;

/// `XDP_PASS`: no socket is in the map, so every frame goes to the kernel, and the counters tell why.
const PASS: u32 = 2;

/// The program in the kernel.
struct Bench {
    loaded: Loaded,
    filter: FilterMaps,
    counters: MapHandle,
}

impl Bench {
    fn new() -> Option<Self> {
        if skip(&[Need::Bpf]) {
            return None;
        }
        let variant = Variant { queues: 1, frags: false, hints: false };
        let loaded = Loaded::new(&Target::find("lo").unwrap(), variant).unwrap();
        let (filter, counters) = (loaded.filter_maps().unwrap(), loaded.map("counters").unwrap());
        Some(Self { loaded, filter, counters })
    }

    /// Runs the program on a frame, of at least 14 bytes, and tells what it counted.
    fn judge(&self, frame: &[u8]) -> Verdict {
        let before = Counters::read(&self.counters, 0).unwrap();
        let input = ProgramInput { data_in: Some(frame), ..ProgramInput::default() };
        let output = self.loaded.program().unwrap().test_run(input).unwrap();
        assert_eq!(output.return_value, PASS);
        let after = Counters::read(&self.counters, 0).unwrap();
        assert_eq!(after.total(), before.total() + 1, "each frame is counted once");
        if after.no_socket > before.no_socket {
            Verdict::Taken
        } else if after.passed > before.passed {
            Verdict::Passed
        } else if after.fragments > before.fragments {
            Verdict::Fragment
        } else {
            assert_eq!(after.malformed, before.malformed + 1);
            Verdict::Malformed
        }
    }
}

const US: [u8; 4] = [10, 0, 0, 2];
const THEM: [u8; 4] = [10, 0, 0, 1];
const US6: [u8; 16] = [0xfd, 0x66, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

fn ethernet() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
}

fn udp(port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    ethernet().ipv4(THEM, US, 64).udp(9, port).write(&mut frame, b"payload").unwrap();
    frame
}

fn udp6(port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    ethernet().ipv6(US6, US6, 64).udp(9, port).write(&mut frame, b"payload").unwrap();
    frame
}

fn tcp(port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    ethernet().ipv4(THEM, US, 64).tcp(9, port, 1, 1024).write(&mut frame, b"payload").unwrap();
    frame
}

/// Puts VLAN tags of these types behind the addresses.
fn tagged(mut frame: Vec<u8>, tags: &[u16]) -> Vec<u8> {
    for tag in tags.iter().rev() {
        let [high, low] = tag.to_be_bytes();
        frame.splice(12..12, [high, low, 0, 7]);
    }
    frame
}

/// Frames and filters whose verdicts stand here, so that the model cannot be wrong in the same way.
#[test]
fn frames_are_judged_as_the_table_says() {
    let Some(mut bench) = Bench::new() else { return };
    let filter = Filter::new()
        .udp([4000])
        .tcp([80])
        .udp_at("10.0.0.2/32".parse().unwrap(), [53])
        .tcp_at("10.0.0.0/24".parse().unwrap(), [22])
        .udp_at("fd66::/64".parse().unwrap(), [53])
        .to("10.0.1.0/24".parse().unwrap())
        .to("fd67::/16".parse().unwrap())
        .ether_type(0x88f7);
    bench.filter.set(&filter).unwrap();

    let mut to_another = udp(53);
    to_another[33] = 3;
    let mut to_net = udp(1);
    to_net[32] = 1;
    let mut icmp_to_net = to_net.clone();
    icmp_to_net[23] = 1;
    let mut fragment_to_net = to_net.clone();
    fragment_to_net[20] = 0x20;
    let mut first = udp(4000);
    first[20] = 0x20;
    let mut last = udp(4000);
    last[21] = 1;
    let mut unbreakable = udp(4000);
    unbreakable[20] = 0x40;
    let mut version = udp(4000);
    version[14] = 0x65;
    let mut words = udp(4000);
    words[14] = 0x44;
    let mut options = udp(4000);
    options[14] = 0x46;
    options.splice(34..34, [1, 1, 1, 1]);
    let mut ptp = udp(1);
    ptp[12..14].copy_from_slice(&[0x88, 0xf7]);
    let mut arp = udp(1);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut to_net6 = udp6(1);
    to_net6[38..40].copy_from_slice(&[0xfd, 0x67]);
    let mut elsewhere6 = udp6(53);
    elsewhere6[38..40].copy_from_slice(&[0xfd, 0x65]);

    use Verdict::*;
    let table: &[(&str, Vec<u8>, Verdict)] = &[
        ("UDP port", udp(4000), Taken),
        ("UDP port over IPv6", udp6(4000), Taken),
        ("another UDP port", udp(4001), Passed),
        ("a UDP port of TCP's", udp(80), Passed),
        ("TCP port", tcp(80), Taken),
        ("a TCP port of UDP's", tcp(4000), Passed),
        ("port at the address", udp(53), Taken),
        ("port at another address", to_another, Passed),
        ("port that the shorter prefix names", tcp(22), Taken),
        ("port at the IPv6 prefix", udp6(53), Taken),
        ("port at another IPv6 prefix", elsewhere6, Passed),
        ("any port to the prefix", to_net, Taken),
        ("any protocol to the prefix", icmp_to_net, Taken),
        ("fragments to the prefix", fragment_to_net, Taken),
        ("IPv6 prefix", to_net6, Taken),
        ("first fragment", first, Fragment),
        ("last fragment", last, Fragment),
        ("do not fragment", unbreakable, Taken),
        ("IP version", version, Malformed),
        ("IP header length", words, Malformed),
        ("IP options", options, Taken),
        ("EtherType", ptp.clone(), Taken),
        ("EtherType in a VLAN", tagged(ptp, &[0x8100]), Taken),
        ("ARP", arp, Passed),
        ("one VLAN tag", tagged(udp(4000), &[0x8100]), Taken),
        ("two VLAN tags", tagged(udp(4000), &[0x88a8, 0x8100]), Taken),
        ("three VLAN tags", tagged(udp(4000), &[0x88a8, 0x8100, 0x8100]), Passed),
        ("cut in its VLAN tag", tagged(udp(4000), &[0x8100])[..16].to_vec(), Malformed),
        ("cut in its IP header", udp(4000)[..33].to_vec(), Malformed),
        ("cut in its ports", udp(4000)[..37].to_vec(), Malformed),
        ("cut behind its ports", udp(4000)[..38].to_vec(), Taken),
        ("cut in its IPv6 header", udp6(4000)[..53].to_vec(), Malformed),
    ];
    for (what, frame, verdict) in table {
        assert_eq!(bench.judge(frame), *verdict, "{what}");
        assert_eq!(model::judge(&filter, frame), *verdict, "the model about: {what}");
    }
}

#[test]
fn an_empty_filter_takes_nothing_and_everything_takes_all() {
    let Some(mut bench) = Bench::new() else { return };
    let frames = [udp(4000), tcp(80), udp6(1), vec![0; 14], vec![0xff; 60]];
    for frame in &frames {
        assert_eq!(bench.judge(frame), Verdict::Passed);
    }
    bench.filter.set(&Filter::everything()).unwrap();
    for frame in &frames {
        assert_eq!(bench.judge(frame), Verdict::Taken);
    }
}

#[test]
fn the_program_judges_as_the_model_does() {
    let Some(mut bench) = Bench::new() else { return };
    let strategy = (frames::filter(), proptest::collection::vec(frames::frame(), 1..40));
    let seen = std::cell::RefCell::new([0u32; 4]);
    let bench = std::cell::RefCell::new(&mut bench);
    TestRunner::default()
        .run(&strategy, |(filter, frames)| {
            let bench = &mut *bench.borrow_mut();
            bench.filter.set(&filter).unwrap();
            for frame in frames {
                let verdict = bench.judge(&frame);
                prop_assert_eq!(verdict, model::judge(&filter, &frame), "{:02x?}", frame);
                seen.borrow_mut()[verdict as usize] += 1;
            }
            Ok(())
        })
        .unwrap();
    // A generator that misses a verdict would prove nothing about it.
    assert!(seen.borrow().iter().all(|times| *times > 50), "{seen:?}");
}

#[test]
fn a_filter_that_does_not_fit_leaves_the_old_one_in_force() {
    let Some(mut bench) = Bench::new() else { return };
    bench.filter.set(&Filter::new().udp([4000])).unwrap();
    let too_many = (0..3000).fold(Filter::new(), |filter, i| {
        filter.to(ipnet::IpNet::new(std::net::Ipv4Addr::from(i).into(), 32).unwrap())
    });
    bench.filter.set(&too_many).unwrap_err();
    assert_eq!(bench.judge(&udp(4000)), Verdict::Taken);
}

/// Many processors judge packets while the filter changes: the old and the new filter both take the
/// packet, by different rules, so not one may pass.
#[test]
fn no_packet_is_judged_by_half_a_filter() {
    let Some(bench) = Bench::new() else { return };
    let Bench { loaded, mut filter, counters } = bench;
    let by_port = Filter::new().udp([4000]).tcp([1]).to("192.0.2.0/24".parse().unwrap());
    let by_address = Filter::new().to("10.0.0.2/32".parse().unwrap()).udp([1]);
    filter.set(&by_port).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let frame = udp(4000);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut input = ProgramInput { data_in: Some(&frame), ..Default::default() };
                    input.repeat = 1000;
                    loaded.program().unwrap().test_run(input).unwrap();
                }
            });
        }
        for _ in 0..20 {
            filter.set(&by_address).unwrap();
            filter.set(&by_port).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let counted = Counters::read(&counters, 0).unwrap();
    assert!(counted.no_socket > 1000, "{counted:?}");
    assert_eq!(counted.total(), counted.no_socket, "{counted:?}");
}
