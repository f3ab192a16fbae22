//! The bindings: what is taken from DPDK's headers, and how.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use bypass_build_support::Found;

/// Functions. Those of newer versions are simply not there in older ones.
const FUNCTIONS: &[&str] = &[
    // What this crate adds.
    "bypass_.*",
    // The environment.
    "rte_eal_(init|cleanup|process_type|has_hugepages|has_pci|iova_mode|get_runtime_dir)",
    "rte_eal_(hotplug_add|hotplug_remove|mp_wait_lcore|remote_launch|wait_lcore|get_lcore_state)",
    "rte_(strerror|version)",
    // Lcores and threads.
    "rte_(lcore_count|lcore_index|lcore_is_enabled|lcore_has_role|lcore_to_cpu_id)",
    "rte_(lcore_to_socket_id|get_next_lcore|get_main_lcore|socket_count|socket_id|socket_id_by_idx)",
    "rte_thread_(register|unregister)",
    "rte_lcore_(callback_register|callback_unregister|iterate)",
    "rte_get_(timer_hz|tsc_hz)",
    // Logs and telemetry.
    "rte_(openlog_stream|log_get_stream|log_set_global_level|log_get_global_level|log_set_level)",
    "rte_log_(get_level|set_level_pattern|set_level_regexp|register|cur_msg_loglevel)",
    "rte_log_(cur_msg_logtype|can_log|list_types|dump)",
    "rte_pdump_(init|uninit|enable|disable)",
    // Memory.
    "rte_(malloc|malloc_socket|zmalloc|zmalloc_socket|free|malloc_get_socket_stats|malloc_virt2iova)",
    "rte_(mem_virt2iova|mem_lock_page|extmem_register|extmem_unregister|dev_dma_map|dev_dma_unmap)",
    "rte_memzone_(reserve|reserve_aligned|free|lookup)",
    // Devices.
    "rte_dev_(probe|remove|is_probed|name|bus|event_callback_register|event_callback_unregister)",
    "rte_dev_(event_monitor_start|event_monitor_stop|iterator_init|iterator_next|devargs|driver)",
    "rte_(driver_name|bus_name)",
    // Pools and mbufs.
    "rte_mempool_.*",
    "rte_pktmbuf_.*",
    "rte_mbuf_.*",
    "rte_ring_(create|free|lookup|count|free_count|get_memsize)",
    // Ports.
    "rte_eth_.*",
    "rte_flow_(validate|create|destroy|flush|query|isolate|get_aged_flows)",
];

/// Families of functions that the above would bring, with types by the dozen: of no use here, or
/// still experimental.
const NOT: &[&str] = &[
    "rte_eth_(cman|dcb|fec|hairpin|iterator|representor|speed_lanes|vhost)_.*",
    "rte_eth_dev_(get_vec_intr|priority|pfc|vlan|conf_get|rss_algo|map_aggr).*",
    "rte_eth_(ip_reassembly|buffer_split|tx_hairpin|rx_hairpin|rx_avail|timesync|macaddrs|mirror)_.*",
    "rte_mempool_(event|walk|dump|list_dump|register_ops|op_|check_cookies|contig).*",
];

/// Constants and variables.
const VARIABLES: &[&str] = &[
    "BYPASS_.*",
    "bypass_const_.*",
    "RTE_(MAX_LCORE|MAX_ETHPORTS|MAX_QUEUES_PER_PORT|MAX_NUMA_NODES|CACHE_LINE_SIZE)",
    "RTE_(ETHDEV_RXTX_CALLBACKS|IOVA_IN_MBUF)",
    "RTE_PKTMBUF_HEADROOM",
    "RTE_MEMPOOL_.*",
    "RTE_MBUF_.*",
    "RTE_ETH_.*",
    "RTE_ETHER_.*",
    "RTE_FLOW_.*",
    "RTE_PTYPE_.*",
    "RTE_LOG_.*",
    "RTE_LOGTYPE_.*",
    "RTE_DEV_NAME_MAX_LEN",
    "LCORE_ID_ANY",
    "SOCKET_ID_ANY",
    "RTE_PDUMP_FLAG_.*",
    "rte_eth_fp_ops",
    "rte_mempool_ops_table",
];

/// Types beyond those that the above need.
const TYPES: &[&str] = &[
    "rte_flow_item_(eth|vlan|ipv4|ipv6|udp|tcp|icmp|vxlan|mark)",
    "rte_flow_action_(queue|rss|mark|count|jump)",
    "rte_flow_query_count",
    "rte_pktmbuf_pool_private",
    "rte_(ether|vlan|ipv4|ipv6|udp|tcp|icmp|vxlan)_hdr",
];

/// Too clever for Rust's layouts (bit fields in packed unions), or of no use to it.
const OPAQUE: &[&str] = &[
    // Reached by offset; see layout.h.
    "rte_mbuf",
    "rte_arp_hdr",
    "rte_arp_ipv4",
    "rte_l2tpv2_.*",
    "rte_gtp_psc_.*",
];

const BLOCKED: &[&str] = &[
    // Thread-local: a plain `extern` variable would be another thing.
    "per_lcore_.*",
    // `FILE`, which Rust has from libc.
    "FILE",
    "_IO_FILE",
];

/// What the names of macros start with whose values the bindings' generator cannot compute, because
/// they are made with `RTE_BIT64`.
const BITS: &[&str] = &[
    "RTE_ETH_RX_OFFLOAD_",
    "RTE_ETH_TX_OFFLOAD_",
    "RTE_ETH_RSS_",
    "RTE_ETH_LINK_SPEED_",
    "RTE_ETH_DEV_CAPA_",
    "RTE_ETH_DEV_INTR_",
    "RTE_MBUF_F_",
];

/// The prefix of the constants that stand for such macros in C.
const STANDS_FOR: &str = "bypass_const_";

/// Writes `bindings.rs`.
pub(crate) fn make(dpdk: &Found, out: &Path) -> Result<(), Box<dyn Error>> {
    libclang()?;
    // In memory: cargo is told of every file that is read, and one that was just written would have this done
    // again by every build.
    let headers = format!("#include \"c/wrapper.h\"\n{}", bit_constants(dpdk));
    let mut builder = bindgen::builder()
        .header_contents("headers.h", &headers)
        .clang_args(&dpdk.c_flags)
        .wrap_unsafe_ops(true)
        .use_core()
        .ctypes_prefix("libc")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_debug(false)
        .derive_default(false)
        // Written for doxygen: Rust would take the indented parts for examples to compile.
        .generate_comments(false)
        .raw_line("use libc::FILE;")
        .parse_callbacks(Box::new(Names))
        // Another version of DPDK is another build.
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .formatter(bindgen::Formatter::Rustfmt);
    builder = FUNCTIONS.iter().fold(builder, bindgen::Builder::allowlist_function);
    builder = VARIABLES.iter().fold(builder, bindgen::Builder::allowlist_var);
    builder = NOT.iter().fold(builder, bindgen::Builder::blocklist_function);
    builder = TYPES.iter().fold(builder, bindgen::Builder::allowlist_type);
    builder = OPAQUE.iter().fold(builder, bindgen::Builder::opaque_type);
    builder = BLOCKED.iter().fold(builder, bindgen::Builder::blocklist_item);
    builder.generate()?.write_to_file(out.join("bindings.rs"))?;
    Ok(())
}

/// Whether the bindings can be made, before the generator panics because they cannot.
fn libclang() -> Result<(), Box<dyn Error>> {
    std::panic::set_hook(Box::new(|_| ()));
    let loaded = std::panic::catch_unwind(bindgen::clang_version);
    drop(std::panic::take_hook());
    loaded.map(drop).map_err(|_| {
        "feature `dpdk` needs libclang: run `apt-get install libclang-dev` (Fedora: `dnf install \
         clang-devel`, Arch: `pacman -S clang`) or build without `dpdk`"
            .into()
    })
}

/// C constants for the macros in [`BITS`] that this version of DPDK has.
fn bit_constants(dpdk: &Found) -> String {
    let macros = cc::Build::new().flags(&dpdk.c_flags).flag("-dM").file("c/wrapper.h").expand();
    let macros = String::from_utf8_lossy(&macros);
    let mut names: Vec<_> = macros
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .filter(|(name, value)| {
            BITS.iter().any(|prefix| name.starts_with(prefix))
                && !name.contains('(')
                && !value.is_empty()
        })
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.iter().fold(String::new(), |mut text, name| {
        let _infallible =
            writeln!(text, "static const uint64_t {STANDS_FOR}{name} = (uint64_t)({name});");
        text
    })
}

#[derive(Debug)]
struct Names;

impl bindgen::callbacks::ParseCallbacks for Names {
    fn item_name(&self, item: bindgen::callbacks::ItemInfo<'_>) -> Option<String> {
        item.name.strip_prefix(STANDS_FOR).map(str::to_owned)
    }

    fn will_parse_macro(&self, name: &str) -> bindgen::callbacks::MacroParsingBehavior {
        use bindgen::callbacks::MacroParsingBehavior::{Default, Ignore};
        // Some of them can be computed, as `u32`; one of each is enough.
        if BITS.iter().any(|prefix| name.starts_with(prefix)) { Ignore } else { Default }
    }
}
