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
    /// Of the time in which processors had work while it was measured, the share that a hypervisor gave to others. With more than
    /// some hundredths, times are the host's.
    pub stolen: f64,
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
            ..Self::default()
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
        let Self { cpu, cores, kernel, memory_mib, load_average: [load, ..], stolen, tier, versions } = self;
        let versions: String = versions.iter().map(|version| format!(", {version}")).collect();
        let memory = memory_mib.div_ceil(1024);
        let stolen = if *stolen >= 0.005 { format!(", {:.0} % stolen", stolen * 100.0) } else { String::new() };
        format!("{cpu}, {cores} cores, {memory} GiB, Linux {kernel}{versions}; load {load} before{stolen}; {tier}")
    }
}

/// What the processors have done since the machine started, in ticks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticks {
    busy: u64,
    stolen: u64,
}

impl Ticks {
    pub fn look() -> Self {
        Self::of(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn of(stat: &str) -> Self {
        let all = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        let mut numbers = all.split_whitespace().map(|number| number.parse().unwrap_or(0));
        let [user, nice, system, _idle, _waiting, irq, softirq, stolen] =
            std::array::from_fn(|_| numbers.next().unwrap_or(0));
        Self { busy: user + nice + system + irq + softirq, stolen }
    }

    /// Which share was stolen since then.
    pub fn stolen_since(self, before: Self) -> f64 {
        let stolen = self.stolen.saturating_sub(before.stolen) as f64;
        let busy = self.busy.saturating_sub(before.busy) as f64;
        if stolen > 0.0 { stolen / (busy + stolen) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_a_share_of_what_was_wanted() {
        let before = Ticks::of("cpu  10 0 10 500 3 0 0 5 0 0\ncpu0 1 2 3\n");
        let after = Ticks::of("cpu  40 10 30 900 3 5 5 35 0 0\n");
        assert_eq!(after.stolen_since(before), 0.3);
        assert_eq!(before.stolen_since(after), 0.0);
        assert_eq!(after.stolen_since(after), 0.0);
        let machine = |stolen| Machine { stolen, ..Machine::default() }.describe();
        assert!(machine(0.3).contains("30 % stolen") && !machine(0.0).contains("stolen"));
    }

    #[test]
    fn this_machine_is_told() {
        let machine = Machine::look();
        assert!(machine.cores > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty());
        assert!(machine.describe().contains(&machine.kernel));
    }
}
