//! Where it was measured.

use serde::Serialize;
use std::fs;

/// This machine, at this moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub memory_mib: u64,
    /// Of the last 1, 5 and 15 minutes, before the measurement.
    pub load_average: [f64; 3],
    /// What plays the processing units.
    pub tier: String,
    /// Of the interpreters that functions run on.
    pub versions: Vec<String>,
}

impl Machine {
    pub fn look() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let names = info.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let mut averages = load.split(' ').filter_map(|number| number.parse().ok());
        Self {
            cpu: names.map(|(_, name)| name.trim().to_owned()).next().unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            memory_mib: total.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) / 1024,
            load_average: std::array::from_fn(|_| averages.next().unwrap_or(0.0)),
            tier: "host processor only, nothing simulated".to_owned(),
            versions: Vec::new(),
        }
    }

    /// The same, where a unit of the namespace tier stands for a second PU.
    pub fn with_unit(&self) -> Self {
        Self {
            tier: "a second PU in the namespace tier: a part of this machine, one kernel".to_owned(),
            ..self.clone()
        }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let Self { cpu, cores, kernel, memory_mib, load_average: [load, ..], tier, versions } = self;
        let versions: String = versions.iter().map(|version| format!(", {version}")).collect();
        let memory = memory_mib.div_ceil(1024);
        format!("{cpu}, {cores} cores, {memory} GiB, Linux {kernel}{versions}; load {load} before; {tier}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told() {
        let machine = Machine::look();
        assert!(machine.cores > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty());
        assert!(machine.describe().contains(&machine.kernel));
    }
}
