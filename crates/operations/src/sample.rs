//! Two counts of a role into what happened between them.

use std::time::Duration;

use telemetry::Counted;

use crate::Sample;

/// What happened between two counts that lie `span` apart. A counter that went
/// back (the process began anew) counts from nothing.
#[must_use]
pub fn rows_of(before: &Counted, now: &Counted, span: Duration) -> Vec<Sample> {
    let grown = |before: f64, now: f64| if now < before { now } else { now - before };
    let requests = grown(before.requests, now.requests);
    let mut rows = vec![
        Sample { metric: "rpc.requests", value: requests },
        Sample { metric: "rpc.failures", value: grown(before.failures, now.failures) },
        Sample { metric: "rpc.in_flight", value: now.in_flight },
        Sample {
            metric: "process.cpu_cores",
            value: grown(before.cpu_seconds, now.cpu_seconds) / span.as_secs_f64().max(0.001),
        },
        Sample { metric: "process.resident_bytes", value: now.resident_bytes },
        Sample { metric: "process.threads", value: now.threads },
    ];
    // Without a call there is no time that one took.
    if requests > 0.0 {
        let mean = grown(before.seconds, now.seconds) / requests;
        rows.push(Sample { metric: "rpc.seconds_mean", value: mean });
        let calls = between(&before.durations, &now.durations);
        for (metric, share) in [("rpc.seconds_p50", 0.5), ("rpc.seconds_p99", 0.99)] {
            rows.extend(quantile(&calls, share).map(|value| Sample { metric, value }));
        }
    }
    rows
}

fn between(before: &[(f64, u64)], now: &[(f64, u64)]) -> Vec<(f64, u64)> {
    let earlier = |bound: f64| before.iter().find(|(known, _)| *known == bound).map(|(_, n)| *n);
    now.iter()
        .map(|(bound, calls)| (*bound, calls.saturating_sub(earlier(*bound).unwrap_or(0))))
        .collect()
}

/// The time that `share` of the calls stayed below, between the bounds of its
/// bucket as if the calls in it were spread evenly.
fn quantile(calls: &[(f64, u64)], share: f64) -> Option<f64> {
    let all = calls.last().map(|(_, calls)| *calls).filter(|all| *all > 0)? as f64;
    let wanted = all * share;
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, calls) in calls {
        let calls = *calls as f64;
        if calls >= wanted {
            // The last bucket has no end.
            if !bound.is_finite() || calls <= below {
                return Some(low);
            }
            return Some(low + (bound - low) * (wanted - below) / (calls - below));
        }
        (low, below) = (*bound, calls);
    }
    Some(low)
}
