//! What a process has counted of one role, for the role's own history.

use prometheus::proto::{Metric, MetricFamily};

use crate::Telemetry;
use crate::process::{cpu_seconds, resident_bytes, threads};

/// Codes that are the server's fault, not the caller's.
const FAILURES: [&str; 5] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// Since the process started, unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counted {
    /// gRPC calls that have ended.
    pub requests: f64,
    /// Of these, those that failed by the server.
    pub failures: f64,
    /// Calls under way now.
    pub in_flight: f64,
    /// Of all calls together.
    pub seconds: f64,
    /// (seconds, calls that took at most so long), growing.
    pub durations: Vec<(f64, u64)>,
    /// Processor time of the process.
    pub cpu_seconds: f64,
    /// Resident memory of the process now.
    pub resident_bytes: f64,
    /// Threads of the process now.
    pub threads: f64,
}

impl Telemetry {
    /// What was counted of `role` so far.
    #[must_use]
    pub fn counted(&self, role: &str) -> Counted {
        let mut counted = Counted {
            cpu_seconds: cpu_seconds().unwrap_or_default(),
            resident_bytes: resident_bytes().map_or(0.0, |bytes| bytes as f64),
            threads: threads().map_or(0.0, |threads| threads as f64),
            ..Counted::default()
        };
        for family in self.registry.gather() {
            add(&mut counted, &family, role);
        }
        counted
    }
}

fn add(counted: &mut Counted, family: &MetricFamily, role: &str) {
    let of_role = family.get_metric().iter().filter(|metric| label(metric, "role") == Some(role));
    match family.name() {
        "quarry_rpc_requests_total" => {
            for metric in of_role {
                let calls = metric.get_counter().get_value();
                counted.requests += calls;
                if label(metric, "code").is_some_and(|code| FAILURES.contains(&code)) {
                    counted.failures += calls;
                }
            }
        }
        "quarry_rpc_in_flight" => {
            counted.in_flight += of_role.map(|metric| metric.get_gauge().get_value()).sum::<f64>();
        }
        "quarry_rpc_duration_seconds" => {
            for metric in of_role {
                let histogram = metric.get_histogram();
                counted.seconds += histogram.get_sample_sum();
                // The bucket without an end is not always written out.
                let all = (f64::INFINITY, histogram.get_sample_count());
                let buckets = histogram.get_bucket().iter();
                let buckets = buckets.map(|one| (one.upper_bound(), one.cumulative_count()));
                for (bound, calls) in buckets.filter(|one| one.0.is_finite()).chain([all]) {
                    match counted.durations.iter_mut().find(|(known, _)| *known == bound) {
                        Some((_, sum)) => *sum += calls,
                        None => counted.durations.push((bound, calls)),
                    }
                }
            }
            counted.durations.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        _ => {}
    }
}

fn label<'a>(metric: &'a Metric, name: &str) -> Option<&'a str> {
    metric.get_label().iter().find(|label| label.name() == name).map(|label| label.value())
}
