//! The same image in two splits: what is learnt is then tested.

use std::collections::HashMap;

use crate::Sample;
use crate::findings::{FindingKind, Findings};

/// Bits in which two images that look alike differ at most.
const DISTANCE_MAX: u32 = 6;
/// Images with one eight-bit part in common that are compared with one another.
const BUCKET_MAX: usize = 2_000;

/// Reports samples that are in more than one split: by their bytes, and by
/// their pixels where those were looked at.
pub fn leaks(samples: &[Sample], findings: &mut Findings) {
    let mut by_content: HashMap<[u8; 32], Vec<&Sample>> = HashMap::new();
    for sample in samples.iter().filter(|sample| sample.split.is_some()) {
        by_content.entry(sample.content).or_default().push(sample);
    }
    let mut same: Vec<&Vec<&Sample>> =
        by_content.values().filter(|group| is_across(group)).collect();
    same.sort_by(|a, b| a[0].path.cmp(&b[0].path));
    for group in same {
        tell(group[0], group, FindingKind::Leaked, "the same bytes", findings);
    }
    // One of each content: what is the same was told above.
    let mut unlike: Vec<&Sample> = by_content.values().map(|group| group[0]).collect();
    unlike.retain(|sample| sample.likeness.is_some());
    unlike.sort_by(|a, b| a.path.cmp(&b.path));
    near(&unlike, findings);
}

fn is_across(group: &[&Sample]) -> bool {
    group.iter().any(|sample| sample.split != group[0].split)
}

fn tell(first: &Sample, group: &[&Sample], kind: FindingKind, what: &str, findings: &mut Findings) {
    let split = |sample: &Sample| sample.split.clone().unwrap_or_default();
    for other in group.iter().filter(|other| other.split != first.split) {
        let message = format!("{what} in {} as {} in {}", split(first), other.path, split(other));
        findings.add(kind, &first.path, message);
    }
}

/// Two values within the distance share one of their eight bytes.
fn near(samples: &[&Sample], findings: &mut Findings) {
    let value = |at: usize| samples[at].likeness.unwrap_or_default();
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for byte in 0..8 {
        let mut buckets: HashMap<u8, Vec<usize>> = HashMap::new();
        for at in 0..samples.len() {
            buckets.entry(value(at).to_le_bytes()[byte]).or_default().push(at);
        }
        for bucket in buckets.into_values() {
            for (nth, a) in bucket.iter().enumerate() {
                for b in bucket[nth + 1..].iter().take(BUCKET_MAX) {
                    let is_near = (value(*a) ^ value(*b)).count_ones() <= DISTANCE_MAX;
                    if is_near && samples[*a].split != samples[*b].split {
                        pairs.push((*a, *b));
                    }
                }
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    for (a, b) in pairs {
        tell(samples[a], &[samples[b]], FindingKind::NearLeaked, "looks alike", findings);
    }
}
