//! The network interfaces of the calling thread's namespace.

use std::fs::read_to_string;

/// Those that were asked for, or all but the loopback one.
pub(super) fn chosen(asked: &[String]) -> Vec<String> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    let table = read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let names = table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    names.filter(|name| name != "lo").collect()
}

/// Whether a default route leads through an interface: `proc_net_route(5)`, and for IPv6 the columns of
/// `rt6_info_route` in the kernel's `net/ipv6/route.c`.
pub(super) fn has_default_route(interface: &str) -> bool {
    let v4 = read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    let v6 = read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let v4 = v4.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let v6 = v6.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    v4.into_iter().any(|route| is_default_v4(&route, interface))
        || v6.into_iter().any(|route| is_default_v6(&route, interface))
}

/// Interface, destination, ..., mask in the eighth column.
fn is_default_v4(route: &[&str], interface: &str) -> bool {
    matches!(route, [name, "00000000", _, _, _, _, _, "00000000", ..] if *name == interface)
}

/// Destination, its prefix's length, ..., the interface in the tenth column. The kernel's own entry for
/// what has no route is on `lo`.
fn is_default_v6(route: &[&str], interface: &str) -> bool {
    matches!(route, [_, "00", _, _, _, _, _, _, _, name] if *name == interface && interface != "lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_told_from_others() {
        let columns = |line: &'static str| line.split_whitespace().collect::<Vec<_>>();
        let default = columns("eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0");
        let half = columns("eth0 00000000 0100000A 0003 0 0 0 00000080 0 0 0");
        assert!(is_default_v4(&default, "eth0"));
        assert!(!is_default_v4(&default, "eth1") && !is_default_v4(&half, "eth0"));
        let zeros = "00000000000000000000000000000000";
        let default = format!("{zeros} 00 {zeros} 00 {zeros} 00000400 1 0 00000003 eth0");
        let other = format!("{zeros} 40 {zeros} 00 {zeros} 00000400 1 0 00000003 eth0");
        assert!(is_default_v6(&default.split(' ').collect::<Vec<_>>(), "eth0"));
        assert!(!is_default_v6(&other.split(' ').collect::<Vec<_>>(), "eth0"));
    }
}
