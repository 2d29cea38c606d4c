//! Figures of the process, as Prometheus' own clients name them. Source: `proc(5)`.

use super::figures::whole;
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fs;
use std::sync::atomic::AtomicU64;

/// Memory, files, processor time.
pub(super) struct Process {
    resident_memory_bytes: Gauge,
    open_fds: Gauge,
    cpu_seconds: Counter<f64, AtomicU64>,
}

impl Process {
    pub(super) fn new(registry: &mut Registry) -> Process {
        let process = Process {
            resident_memory_bytes: Gauge::default(),
            open_fds: Gauge::default(),
            cpu_seconds: Counter::default(),
        };
        let at = registry.sub_registry_with_prefix("process");
        let (memory, files) = (process.resident_memory_bytes.clone(), process.open_fds.clone());
        at.register("resident_memory_bytes", "Resident memory", memory);
        at.register("open_fds", "Open file descriptors", files);
        at.register("cpu_seconds", "Processor time", process.cpu_seconds.clone());
        process
    }
}

/// Reads them; what cannot be read stays as it was.
pub(super) fn read(process: &Process) {
    let value = |var| sysconf(var).ok().flatten();
    if let Ok(statm) = fs::read_to_string("/proc/self/statm")
        && let Some(pages) = statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok())
        && let Some(page) = value(SysconfVar::PAGE_SIZE)
    {
        process.resident_memory_bytes.set(pages.saturating_mul(page));
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // The listing itself is one.
        process.open_fds.set(whole(files.count()).saturating_sub(1));
    }
    if let Ok(stat) = fs::read_to_string("/proc/self/stat")
        && let Some(ticks) = ticks(&stat)
        && let Some(second) = value(SysconfVar::CLK_TCK)
    {
        #[expect(clippy::cast_precision_loss, reason = "seconds of 285 million years")]
        let now = ticks as f64 / second as f64;
        process.cpu_seconds.inc_by((now - process.cpu_seconds.get()).max(0.0));
    }
}

/// `utime` and `stime`, behind the name of the program, which may hold anything.
fn ticks(stat: &str) -> Option<i64> {
    let (_, behind) = stat.rsplit_once(") ")?;
    let mut fields = behind.split(' ').skip(11).map(|field| field.parse::<i64>().ok());
    Some(fields.next()?? + fields.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_whatever_the_program_is_called() {
        let stat = "1 (a) b (c)) S 2 3 4 5 6 7 8 9 10 11 100 23 14 15 16";
        assert_eq!(ticks(stat), Some(123));
        assert_eq!(ticks("1 (a"), None);
    }

    #[test]
    fn the_process_has_memory_and_files() {
        let mut registry = Registry::default();
        let process = Process::new(&mut registry);
        read(&process);
        assert!(process.resident_memory_bytes.get() > 0);
        assert!(process.open_fds.get() >= 3);
    }
}
