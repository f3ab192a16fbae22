//! Packets of the feed as tshark reads them: what leaves a port of ours, dissected by other hands.

use std::path::Path;
use std::process::Command;

use bypass_core::backend::memory::{LinkOptions, link};
use bypass_core::testing::needs::{Need, skip};
use bypass_io::MacAddr;
use bypass_io::prelude::*;
use bypass_io::udp::neighbours::Table;
use bypass_io::udp::{Config, UdpOverL2};
use zerocopy::IntoBytes as _;

use crate::day::Day;
use crate::formats::{SESSION, messages, packet};
use crate::mold::{FIRST, Header, split};

const FEED: u16 = 26_400;

/// Sends payloads over UDP in user space, and writes the frames that leave to a capture file.
fn capture(payloads: &[Vec<u8>], file: &Path) {
    let (near, far) = link(&LinkOptions::default()).unwrap();
    let peer = MacAddr([2, 0, 0, 0, 0, 2]);
    let to = "10.0.0.2".parse().unwrap();
    let config = Config::new(MacAddr([2, 0, 0, 0, 0, 1]), 9000)
        .address("10.0.0.1/24".parse().unwrap())
        .neighbours(Table::new().with(to, peer));
    let mut socket = UdpOverL2::new(near.open().unwrap(), config).unwrap();
    let mut wire = far.open().unwrap();
    // The header of a file of Ethernet frames: magic, version 2.4, longest 65535, link type 1.
    let mut pcap = Vec::new();
    for word in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 0xffff, 1] {
        pcap.extend(word.to_le_bytes());
    }
    let (mut out, mut frames) = (Burst::with_capacity(1), Burst::with_capacity(8));
    for (second, payload) in (1_u32..).zip(payloads) {
        assert!(socket.compose(payload, (to, FEED).into(), &mut out).unwrap());
        assert_eq!(socket.send(&mut out).unwrap(), 1);
        socket.flush().unwrap();
        assert_eq!(wire.recv(&mut frames).unwrap(), 1);
        for frame in frames.iter() {
            let length = frame.data().len() as u32;
            for word in [second, 0, length, length] {
                pcap.extend(word.to_le_bytes());
            }
            pcap.extend(frame.data());
        }
        frames.clear();
    }
    std::fs::write(file, pcap).unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn tshark_finds_the_same_packets_and_messages() {
    if skip(&[Need::Tool("tshark")]) {
        return;
    }
    let day = Day::generate(11, 400);
    let end = FIRST + day.len();
    let (mut payloads, mut expected, mut next) = (Vec::new(), Vec::new(), FIRST);
    while next < end {
        // Of many lengths, full ones among them.
        let (bytes, count) = packet(&day, next, end.min(next + 1 + next % 50));
        let all = messages(&day);
        let some = &all[(next - FIRST) as usize..][..usize::from(count)];
        let lengths: Vec<String> = some.iter().map(|message| message.len().to_string()).collect();
        let data: Vec<String> = some.iter().map(|message| hex(message)).collect();
        let numbers: Vec<String> =
            (next..next + u64::from(count)).map(|number| number.to_string()).collect();
        expected.push(format!(
            "1|{}|{next}|{count}|{}|{}|{}",
            String::from_utf8_lossy(&SESSION),
            numbers.join(","),
            lengths.join(","),
            data.join(",")
        ));
        assert!(split(&bytes[Header::LEN..]).is_some());
        payloads.push(bytes);
        next += u64::from(count);
    }
    for (header, count) in
        [(Header::heartbeat(SESSION, end), 0), (Header::end(SESSION, end), 65535)]
    {
        payloads.push(header.as_bytes().to_vec());
        let session = String::from_utf8_lossy(&SESSION);
        expected.push(format!("1|{session}|{end}|{count}|||"));
    }
    let file = std::env::temp_dir().join(format!("market-{}.pcap", std::process::id()));
    capture(&payloads, &file);
    let fields = ["session", "sequence", "count", "msgseq", "msglen", "msgdata"];
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&file).args(["-o", "udp.check_checksum:TRUE"]);
    tshark.args([
        "-d",
        &format!("udp.port=={FEED},moldudp64"),
        "-T",
        "fields",
        "-E",
        "separator=|",
    ]);
    tshark.args(["-e", "udp.checksum.status"]);
    for field in fields {
        tshark.args(["-e", &format!("moldudp64.{field}")]);
    }
    let output = tshark.output().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said, expected);
}
