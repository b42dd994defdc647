//! One order out of several.

use std::collections::HashMap;

/// Cormack, Clarke and Büttcher's constant.
const RRF_K: f64 = 60.0;

/// How lists become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusionMethod {
    /// By ranks.
    Rrf,
    /// By scores, each list's normalised by its mean and three deviations.
    Dbsf,
}

/// Fuses lists of (number, score), best first, each with a weight: best first, ties by number.
#[must_use]
pub fn fuse(method: FusionMethod, lists: &[(Vec<(u32, f64)>, f64)]) -> Vec<(u32, f64)> {
    let mut scores: HashMap<u32, f64> = HashMap::new();
    for (list, weight) in lists {
        match method {
            FusionMethod::Rrf => {
                for (rank, (number, _)) in list.iter().enumerate() {
                    *scores.entry(*number).or_default() += weight / (RRF_K + rank as f64 + 1.0);
                }
            }
            FusionMethod::Dbsf => {
                let (low, high) = bounds(list);
                for (number, score) in list {
                    let share = if high > low { (score - low) / (high - low) } else { 0.5 };
                    *scores.entry(*number).or_default() += weight * share.clamp(0.0, 1.0);
                }
            }
        }
    }
    let mut fused: Vec<(u32, f64)> = scores.into_iter().collect();
    fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    fused
}

fn bounds(list: &[(u32, f64)]) -> (f64, f64) {
    let count = list.len().max(1) as f64;
    let mean = list.iter().map(|(_, score)| score).sum::<f64>() / count;
    let spread = list.iter().map(|(_, score)| (score - mean).powi(2)).sum::<f64>() / count;
    let reach = 3.0 * spread.sqrt();
    (mean - reach, mean + reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(fused: &[(u32, f64)]) -> Vec<u32> {
        fused.iter().map(|hit| hit.0).collect()
    }

    #[test]
    fn what_both_find_comes_first() {
        let lists = [(vec![(1, 9.0), (2, 8.0), (3, 7.0)], 1.0), (vec![(2, 0.3), (4, 0.2)], 1.0)];
        for method in [FusionMethod::Rrf, FusionMethod::Dbsf] {
            assert_eq!(order(&fuse(method, &lists))[0], 2, "{method:?}");
        }
        let rrf = fuse(FusionMethod::Rrf, &lists);
        assert!((rrf[0].1 - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-12);
    }

    #[test]
    fn weights_count_and_one_list_stays_as_it_is() {
        let lists = [(vec![(1, 1.0), (2, 0.5)], 0.1), (vec![(2, 1.0), (1, 0.5)], 5.0)];
        assert_eq!(order(&fuse(FusionMethod::Rrf, &lists)), [2, 1]);
        assert_eq!(order(&fuse(FusionMethod::Dbsf, &lists)), [2, 1]);
        let one = [(vec![(5, 1.0), (3, 0.5)], 1.0)];
        assert_eq!(order(&fuse(FusionMethod::Dbsf, &one)), [5, 3]);
        assert!(fuse(FusionMethod::Rrf, &[]).is_empty());
    }
}
