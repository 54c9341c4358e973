//! What machine this is: without that, no figure means anything.

use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

/// The machine, as far as it matters for a measurement. Displays as one line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Machine {
    /// The processor's own name.
    pub processor: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Whether a hypervisor lies below it.
    pub virtual_machine: bool,
    /// The cpufreq governor of the first core, where the kernel scales frequencies.
    pub governor: Option<String>,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let virtual_machine = field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
        Self {
            processor: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            virtual_machine,
            governor: line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores, Linux {}", self.processor, self.cores, self.kernel)?;
        if self.virtual_machine {
            f.write_str(", a virtual machine")?;
        }
        if let Some(governor) = &self.governor {
            write!(f, ", governor {governor}")?;
        }
        Ok(())
    }
}

/// Time of the machine's processors since it was started, and how much of it a hypervisor took for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// All of it, in ticks of `USER_HZ`.
    pub total: u64,
    /// What was stolen: the processor had something to do and was not there.
    pub stolen: u64,
}

impl Ticks {
    /// Up to now; zero where the kernel does not say (`/proc/stat`, proc(5)).
    #[must_use]
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
        // The first eight add up to all time: what guests get is counted in them.
        Self { total: ticks.iter().take(8).sum(), stolen: ticks.get(7).copied().unwrap_or(0) }
    }

    /// The share of the time since `earlier` that was stolen, from 0 to 1; `None` where no time has passed.
    #[must_use]
    pub fn stolen_since(self, earlier: Self) -> Option<f64> {
        let total = self.total.checked_sub(earlier.total).filter(|total| *total > 0)?;
        Some(self.stolen.saturating_sub(earlier.stolen) as f64 / total as f64)
    }
}

fn line_of(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_a_share_of_all_time() {
        let at = |total, stolen| Ticks { total, stolen };
        assert_eq!(at(300, 30).stolen_since(at(100, 20)), Some(0.05));
        assert_eq!(at(100, 20).stolen_since(at(100, 20)), None);
        assert!(Ticks::now().total > 0);
    }

    #[test]
    fn it_says_which_kernel_and_how_many_cores() {
        let machine = Machine::here();
        assert!(machine.cores >= 1 && !machine.kernel.is_empty());
        assert!(machine.to_string().contains(&format!("Linux {}", machine.kernel)));
    }
}
