//! What the process itself uses.

use std::time::Instant;

use opentelemetry::metrics::Meter;

/// Registers gauges of memory, threads and uptime; they are read when asked.
pub fn observe(meter: &Meter) {
    let started = Instant::now();
    meter
        .f64_observable_gauge("process_uptime")
        .with_unit("s")
        .with_description("Time since the process started")
        .with_callback(move |gauge| gauge.observe(started.elapsed().as_secs_f64(), &[]))
        .build();
    meter
        .u64_observable_gauge("process_resident_memory")
        .with_unit("By")
        .with_description("Resident memory")
        .with_callback(|gauge| {
            if let Some(bytes) = resident_bytes() {
                gauge.observe(bytes, &[]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("process_threads")
        .with_description("Operating system threads")
        .with_callback(|gauge| {
            if let Some(threads) = threads() {
                gauge.observe(threads, &[]);
            }
        })
        .build();
}

/// Resident memory of this process.
pub fn resident_bytes() -> Option<u64> {
    Some(status_field("VmRSS:")? * 1024)
}

/// Threads of this process.
pub fn threads() -> Option<u64> {
    status_field("Threads:")
}

/// Processor time of this process, of user and system together. Linux counts
/// it to programs in hundredths of a second, whatever the kernel's own clock.
pub fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold spaces.
    let after = text.rsplit_once(')')?.1;
    let mut fields = after.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / 100.0)
}

/// A number from Linux' own account of the process; `None` elsewhere.
fn status_field(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
