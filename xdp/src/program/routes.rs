//! Whether the machine is reached through an interface.

use std::fs;

use super::error::ProgramError;
use super::filter::Filter;
use super::uppers;

/// Refuses a filter that would cut the machine off, unless that is wanted.
pub(super) fn check(interface: &str, filter: &Filter, force: bool) -> Result<(), ProgramError> {
    if force || !filter.takes_all_ip() || !has_default_route(interface) {
        return Ok(());
    }
    Err(ProgramError::DefaultRoute { interface: interface.to_owned() })
}

/// Whether a default route of the calling thread's namespace leads through an interface, or through one
/// that receives through it (`proc_pid_net(5)`: `route`, `ipv6_route`).
fn has_default_route(interface: &str) -> bool {
    let read = |file: &str| {
        // Absent where the kernel has no IPv6: no route then.
        fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default()
    };
    let (v4, v6) = (read("route"), read("ipv6_route"));
    // Where the kernel does not say, there is the interface itself.
    let names = uppers::of(interface).unwrap_or_else(|_| vec![interface.to_owned()]);
    names.iter().any(|name| in_ipv4(&v4, name) || in_ipv6(&v6, name))
}

/// Columns: interface, destination, gateway, flags, references, use, metric, mask.
fn in_ipv4(table: &str, interface: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        matches!(columns[..], [name, "00000000", _, _, _, _, _, "00000000", ..] if name == interface)
    })
}

/// Columns: destination, its length, source, its length, gateway, metric, references, use, flags,
/// interface. The kernel keeps a default route that leads nowhere, through `lo`.
fn in_ipv6(table: &str, interface: &str) -> bool {
    table.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        interface != "lo"
            && columns.get(1) == Some(&"00")
            && columns.first().is_some_and(|to| to.bytes().all(|digit| digit == b'0'))
            && columns.last() == Some(&interface)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_default_route_s_interface_is_named() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
                     wan0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     lan0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert!(in_ipv4(table, "wan0"));
        assert!(!in_ipv4(table, "lan0"));
        let zero = "0".repeat(32);
        let six = format!(
            "fe800000000000000000000000000000 40 {zero} 00 {zero} 00000100 1 0 00000001 lan0\n\
             {zero} 00 {zero} 00 fe80000000000000000000000000000a 00000400 1 0 00000003 wan0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n"
        );
        assert!(in_ipv6(&six, "wan0"));
        assert!(!in_ipv6(&six, "lan0"));
        assert!(!in_ipv6(&six, "lo"));
    }
}
