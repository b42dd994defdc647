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
            if let Some(kilobytes) = status_field("VmRSS:") {
                gauge.observe(kilobytes * 1024, &[]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("process_threads")
        .with_description("Operating system threads")
        .with_callback(|gauge| {
            if let Some(threads) = status_field("Threads:") {
                gauge.observe(threads, &[]);
            }
        })
        .build();
}

/// A number from Linux' own account of the process; `None` elsewhere.
fn status_field(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
