//! The kernel, its processors, memory and clock.

use super::{Finding, Section, line, names};

const CPUS: &str = "/sys/devices/system/cpu";

pub(super) fn section() -> Section {
    let findings =
        vec![kernel(), processors(), isolation(), governor(), nodes(), huge_pages(), clock()];
    super::section("machine", findings)
}

fn kernel() -> Finding {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let machine = name.machine().to_string_lossy();
    Finding::good("kernel", format!("Linux {release} ({machine})"))
}

fn processors() -> Finding {
    match std::thread::available_parallelism() {
        Ok(count) => Finding::good("processors", format!("{count} for this process")),
        Err(error) => Finding::limited("processors", format!("cannot be counted: {error}")),
    }
}

/// `Documentation/admin-guide/kernel-parameters.txt`, `isolcpus`.
fn isolation() -> Finding {
    match line(format!("{CPUS}/isolated")).filter(|cpus| !cpus.is_empty()) {
        Some(cpus) => Finding::good("isolated processors", cpus),
        None => {
            Finding::limited("isolated processors", "none: others may run where a worker spins")
                .with_remedy(
                    "boot with isolcpus=... nohz_full=... rcu_nocbs=..., and pin workers there",
                )
        }
    }
}

fn governor() -> Finding {
    let subject = "frequency governor";
    let of = |cpu: &String| line(format!("{CPUS}/{cpu}/cpufreq/scaling_governor"));
    let mut names: Vec<_> = names(CPUS).iter().filter_map(of).collect();
    names.sort();
    names.dedup();
    match &names[..] {
        [] => Finding::good(subject, "none (a virtual machine, or fixed by the firmware)"),
        [name] if name == "performance" => Finding::good(subject, name),
        names => {
            let detail = format!("{}: the first packets find a slow core", names.join(", "));
            Finding::limited(subject, detail).with_remedy("cpupower frequency-set -g performance")
        }
    }
}

fn nodes() -> Finding {
    let nodes = names("/sys/devices/system/node");
    let count = nodes.iter().filter(|name| is_node(name)).count().max(1);
    Finding::good("NUMA nodes", count.to_string())
}

fn is_node(name: &str) -> bool {
    name.strip_prefix("node").is_some_and(|number| number.parse::<u32>().is_ok())
}

/// `Documentation/admin-guide/mm/hugetlbpage.rst`.
fn huge_pages() -> Finding {
    const POOLS: &str = "/sys/kernel/mm/hugepages";
    let pools: Vec<_> = names(POOLS)
        .into_iter()
        .filter_map(|name| {
            let count = |what| line(format!("{POOLS}/{name}/{what}"))?.parse::<u64>().ok();
            let (all, free) = (count("nr_hugepages")?, count("free_hugepages")?);
            let size = name.strip_prefix("hugepages-")?.to_owned();
            (all > 0).then(|| format!("{free} of {all} of {size} free"))
        })
        .collect();
    if pools.is_empty() {
        Finding::limited("huge pages", "none: packet memory takes small pages")
            .with_remedy("sysctl -w vm.nr_hugepages=512")
    } else {
        Finding::good("huge pages", pools.join(", "))
    }
}

fn clock() -> Finding {
    const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    match line(CURRENT) {
        // Those that the vDSO reads without a system call.
        Some(name)
            if ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"]
                .contains(&&*name) =>
        {
            Finding::good("clock source", name)
        }
        Some(name) => {
            Finding::limited("clock source", format!("{name}: reading the time is a system call"))
                .with_remedy(
                    "boot with clocksource=tsc, where the processor's counter is invariant",
                )
        }
        None => Finding::limited("clock source", "unknown"),
    }
}
