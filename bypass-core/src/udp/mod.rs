//! UDP, IPv4/IPv6, ARP and NDP in user space, over any packet queue.
