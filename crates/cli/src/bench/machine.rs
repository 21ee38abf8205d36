//! Where a measurement was made, as far as Linux tells.

use serde::{Deserialize, Serialize};
use std::fs;

/// The machine, the kernel and the tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// When the measurement began, in UTC.
    pub(crate) date: String,
    /// CPU model.
    pub(crate) cpu: String,
    /// CPUs that the process may use.
    pub(crate) cpus: usize,
    /// Whether a hypervisor runs below; `None` if nothing says so or otherwise.
    pub(crate) virtual_machine: Option<bool>,
    /// Name and release of the kernel.
    pub(crate) kernel: String,
    /// How the kernel chooses a CPU's frequency.
    pub(crate) governor: Option<String>,
    /// The compiler that the tool was built with.
    pub(crate) compiler: String,
    /// Whether the tool was built for speed.
    pub(crate) optimised: bool,
    /// The revision of the source that it was built from.
    pub(crate) revision: String,
}

impl Machine {
    /// This one, now.
    pub(crate) fn here() -> Self {
        let info = read("/proc/cpuinfo").unwrap_or_default();
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
        Self {
            date: now.to_string().replace('T', " ").replace('Z', " UTC"),
            cpu: cpu(&info),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            virtual_machine: virtual_machine(&info),
            kernel: kernel(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            compiler: env!("VCMDQ_COMPILER").to_owned(),
            optimised: !cfg!(debug_assertions),
            revision: env!("VCMDQ_REVISION").to_owned(),
        }
    }

    /// Its CPUs.
    pub(crate) fn in_short(&self) -> String {
        let plural = if self.cpus == 1 { "" } else { "s" };
        let kind = match self.virtual_machine {
            Some(true) => ", in a virtual machine",
            _ => "",
        };
        format!("{}, {} CPU{plural}{kind}", self.cpu, self.cpus)
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

fn kernel() -> String {
    let part = |name| read(&format!("/proc/sys/kernel/{name}"));
    let release = part("osrelease").unwrap_or_else(|| "unknown release".to_owned());
    let system = part("ostype").unwrap_or_else(|| std::env::consts::OS.to_owned());
    format!("{system} {release} ({})", std::env::consts::ARCH)
}

/// x86 has a name; Arm has numbers for implementer and part.
fn cpu(info: &str) -> String {
    if let Some(model) = field(info, "model name") {
        return model.to_owned();
    }
    match (field(info, "CPU implementer"), field(info, "CPU part")) {
        (Some(implementer), Some(part)) => format!("Arm implementer {implementer}, part {part}"),
        _ => format!("unknown {} CPU", std::env::consts::ARCH),
    }
}

/// x86 CPUs have a flag for it; others do not say.
fn virtual_machine(info: &str) -> Option<bool> {
    let flags = field(info, "flags")?;
    Some(flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| key.trim() == name)?;
    Some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x86_says_model_and_hypervisor() {
        let info = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor sse\n";
        assert_eq!(cpu(info), "AMD EPYC");
        assert_eq!(virtual_machine(info), Some(true));
        assert_eq!(virtual_machine("flags : fpu"), Some(false));
    }

    #[test]
    fn arm_says_numbers() {
        let info = "CPU implementer\t: 0x41\nCPU part\t: 0xd4f\n";
        assert_eq!(cpu(info), "Arm implementer 0x41, part 0xd4f");
        assert_eq!(virtual_machine(info), None);
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_date() {
        let machine = Machine::here();
        assert!(machine.date.ends_with(" UTC"), "{}", machine.date);
        assert!(machine.cpus >= 1 && !machine.kernel.is_empty());
        assert!(machine.compiler.starts_with("rustc") || machine.compiler == "unknown");
    }
}
