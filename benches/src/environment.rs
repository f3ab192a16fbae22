//! [`Environment`]: the machine and the command that figures are from.

use std::fs;

use serde::{Deserialize, Serialize};

/// Where and how figures were taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Environment {
    pub(crate) kernel: String,
    cpu: String,
    cores: usize,
    /// What the processors belong to: a virtual machine, whose time others share, or not.
    platform: String,
    /// The frequency governor of the first processor, if the kernel has a say.
    governor: Option<String>,
    /// Whether the kernel guards against its processors' flaws, which makes system calls dear.
    mitigations: String,
    /// What the packets went over, with its driver, where there were any.
    pub(crate) network: Option<String>,
    /// Runnable tasks over the last minute when the run began: above 0, something else was using
    /// the machine.
    load: f64,
    /// What repeats the run.
    pub(crate) command: String,
}

impl Environment {
    pub(crate) fn read(command: String) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let of = |key| {
            let value = |line: &str| Some(line.strip_prefix(key)?.split_once(": ")?.1.to_owned());
            cpuinfo.lines().find_map(value)
        };
        let load = first("/proc/loadavg").and_then(|line| line.split(' ').next()?.parse().ok());
        let is_guest =
            of("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
        Self {
            kernel: first("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            cpu: of("model name").unwrap_or_else(unknown),
            cores,
            platform: platform(is_guest),
            governor: first("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            mitigations: mitigations(),
            network: None,
            load: load.unwrap_or(f64::NAN),
            command,
        }
    }

    /// The machine in one line, for tables and captions.
    pub(crate) fn describe(&self) -> String {
        let Self { kernel, cpu, cores, platform, mitigations, load, .. } = self;
        let governor = match &self.governor {
            Some(name) => format!("governor {name}"),
            None => "no frequency governor".to_owned(),
        };
        let network = match &self.network {
            Some(network) => format!("; network: {network}"),
            None => String::new(),
        };
        format!(
            "{cpu}, {cores} cores, {platform}; Linux {kernel}; {governor}; mitigations: {mitigations}\
             {network}; load {load:.2} at the start"
        )
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The first line of a file, if there is one.
fn first(file: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.lines().next()?.trim().to_owned()).filter(|line| !line.is_empty())
}

fn platform(is_guest: bool) -> String {
    if !is_guest {
        return "bare metal".to_owned();
    }
    // Guests of KVM and Hyper-V may take the time from their host.
    let clocks = first("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    let by_clock = || {
        let clocks = clocks?;
        let known = [("kvm-clock", "KVM"), ("hyperv", "Hyper-V")];
        known.into_iter().find(|(clock, _)| clocks.contains(clock)).map(|(_, name)| name.to_owned())
    };
    let host = first("/sys/hypervisor/type").or_else(by_clock);
    let host = host.or_else(|| first("/sys/class/dmi/id/sys_vendor"));
    format!("virtual machine ({})", host.unwrap_or_else(|| "whose is unknown".to_owned()))
}

/// How many of the flaws that the kernel knows of it guards against, and how many it leaves open.
fn mitigations() -> String {
    let folder = "/sys/devices/system/cpu/vulnerabilities";
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let states: Vec<String> =
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
    let count = |word: &str| states.iter().filter(|state| state.contains(word)).count();
    match (count("Mitigation"), count("Vulnerable")) {
        _ if states.is_empty() => unknown(),
        (0, 0) => "none needed".to_owned(),
        (0, open) => format!("off ({open} flaws open)"),
        (guarded, 0) => format!("on ({guarded})"),
        (guarded, open) => format!("{guarded} on, {open} flaws open"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_this_machine() {
        let environment = Environment::read("bench".to_owned());
        assert!(!environment.kernel.is_empty() && environment.cores >= 1);
        let said = environment.describe();
        let uname = nix::sys::utsname::uname().unwrap();
        assert!(said.contains(&*uname.release().to_string_lossy()), "{said}");
    }

    #[test]
    fn what_packets_go_over_is_said_where_there_are_any() {
        let mut environment = Environment::read("bench".to_owned());
        assert!(!environment.describe().contains("network"));
        environment.network = Some("veth pair".to_owned());
        assert!(environment.describe().contains("network: veth pair"));
    }
}
