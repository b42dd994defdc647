//! Images that look alike: groups of 64-bit likenesses that are close.

use std::collections::HashMap;

/// Bits in which two images that look alike differ at most.
pub const DISTANCE_MAX: u32 = 6;
/// Images with one eight-bit part in common that are compared with each other.
const BUCKET_MAX: usize = 2_000;

/// Groups of at least two, by position. Two values within the distance share
/// one of their eight bytes, so only those are compared.
pub fn groups(values: &[i64]) -> Vec<Vec<usize>> {
    let mut parents: Vec<usize> = (0..values.len()).collect();
    for byte in 0..8 {
        let mut buckets: HashMap<u8, Vec<usize>> = HashMap::new();
        for (at, value) in values.iter().enumerate() {
            buckets.entry(value.to_le_bytes()[byte]).or_default().push(at);
        }
        for bucket in buckets.into_values() {
            for (nth, a) in bucket.iter().enumerate() {
                for b in bucket[nth + 1..].iter().take(BUCKET_MAX) {
                    if (values[*a] ^ values[*b]).count_ones() <= DISTANCE_MAX {
                        let (a, b) = (root(&mut parents, *a), root(&mut parents, *b));
                        parents[a.max(b)] = a.min(b);
                    }
                }
            }
        }
    }
    let mut groups: HashMap<usize, Vec<usize>> = HashMap::new();
    for at in 0..values.len() {
        groups.entry(root(&mut parents, at)).or_default().push(at);
    }
    let mut groups: Vec<_> = groups.into_values().filter(|group| group.len() > 1).collect();
    groups.sort();
    groups
}

fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_ones_are_together_and_far_ones_apart() {
        let a = 0x0123_4567_89ab_cdef_i64;
        let values = [a, a ^ 0b11_1111, !a, a ^ (1 << 60), !a ^ 1];
        assert_eq!(groups(&values), vec![vec![0, 1, 3], vec![2, 4]]);
        assert!(groups(&[1]).is_empty());
    }
}
