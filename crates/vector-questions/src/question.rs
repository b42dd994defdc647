//! What is asked and what is answered.

use payload_index::Value;
use service_error::ServiceError;

use crate::{FusionMethod, OwnedVector, Stop};

/// Hits when the request names no number.
pub const K_DEFAULT: usize = 10;
/// Queries of one fusion.
pub const PREFETCH_MAX: usize = 8;
/// Fusions within fusions.
pub const DEPTH_MAX: usize = 4;
/// Searches that one question is made of.
pub const SEARCHES_MAX: usize = 64;
/// Hits that all queries of one question's fusions hand on together.
pub const PREFETCHED_MAX: usize = 100_000;
/// Items and vectors of one recommendation.
pub const RECOMMENDED_MAX: usize = 1_000;
/// Candidates among which diversity chooses.
const CANDIDATES_MAX: usize = 1_000;

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// At most about a second behind.
    #[default]
    Eventual,
    /// At least this change.
    AtLeast(i64),
    /// Every change that was acknowledged before.
    Strong,
}

/// What is near to what.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// Near to a vector.
    Vector(OwnedVector),
    /// Near to an item, which is left out.
    Item(String),
    /// Near to what the embedder makes of a text.
    Text(String),
    /// Near to what the embedder makes of an image file.
    Image(Vec<u8>),
    /// Near to some, far from others.
    Recommend(Recommend),
    /// Words of a text column.
    Match(Match),
    /// What several questions find.
    Fusion(FusionMethod, Vec<Prefetch>),
}

/// Near to the first, far from the second.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recommend {
    /// Items to be near to.
    pub positive_items: Vec<String>,
    /// Items to be far from.
    pub negative_items: Vec<String>,
    /// Vectors to be near to.
    pub positive_vectors: Vec<OwnedVector>,
    /// Vectors to be far from.
    pub negative_vectors: Vec<OwnedVector>,
}

impl Recommend {
    /// Items and vectors of all four.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positive_items.len()
            + self.negative_items.len()
            + self.positive_vectors.len()
            + self.negative_vectors.len()
    }

    /// Whether it names nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Words of a text column.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The column.
    pub column: String,
    /// The words.
    pub text: String,
}

impl Question {
    /// The searches that it is made of.
    #[must_use]
    pub fn searches(&self) -> usize {
        match self {
            Self::Fusion(_, parts) => parts.iter().map(|part| part.question.searches()).sum(),
            _ => 1,
        }
    }

    /// The hits that queries of its fusions hand on.
    #[must_use]
    pub fn prefetched(&self) -> usize {
        match self {
            Self::Fusion(_, parts) => {
                parts.iter().map(|part| part.k + part.question.prefetched()).sum()
            }
            _ => 0,
        }
    }

    /// Refuses a tree of fusions, or a recommendation in it, that is more work than one question
    /// may be.
    ///
    /// # Errors
    /// `InvalidArgument` naming the fusion or the recommendation below `field`.
    pub fn check(&self, field: &str) -> Result<(), ServiceError> {
        self.check_recommended(field)?;
        let wrong = |message: String| {
            let field = format!("{field}.fusion");
            Err(ServiceError::invalid(&field, message).reason("FUSION_TOO_LARGE"))
        };
        let (searches, prefetched) = (self.searches(), self.prefetched());
        if searches > SEARCHES_MAX {
            return wrong(format!("is {searches} searches in all; at most {SEARCHES_MAX}"));
        }
        if prefetched > PREFETCHED_MAX {
            let message = format!("its k add up to {prefetched} hits; at most {PREFETCHED_MAX}");
            return wrong(message);
        }
        Ok(())
    }

    fn check_recommended(&self, field: &str) -> Result<(), ServiceError> {
        match self {
            Self::Recommend(recommend) if recommend.len() > RECOMMENDED_MAX => {
                let message = format!(
                    "has {} items and vectors in all; at most {RECOMMENDED_MAX}",
                    recommend.len()
                );
                let field = format!("{field}.recommend");
                Err(ServiceError::invalid(&field, message).reason("RECOMMEND_TOO_LARGE"))
            }
            Self::Fusion(_, parts) => {
                parts.iter().try_for_each(|part| part.question.check_recommended(&part.field))
            }
            _ => Ok(()),
        }
    }
}

/// A question whose answer is fused with others.
#[derive(Debug, Clone, PartialEq)]
pub struct Prefetch {
    /// Where it stands in the request.
    pub field: String,
    /// What is asked.
    pub question: Question,
    /// How many hits it hands on.
    pub k: usize,
    /// Beside the whole question's filter; empty: none.
    pub filter: String,
    /// How much it counts.
    pub weight: f64,
}

/// Different ones among the near.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Diversity {
    /// 0: only different, 1: only near.
    pub lambda: f64,
    /// How many near ones to choose from.
    pub candidates: usize,
}

/// Hits by the value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// The column.
    pub column: String,
    /// Hits of a group.
    pub size: usize,
}

/// How many, which, how.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// How many hits, or groups.
    pub k: usize,
    /// Empty: all points.
    pub filter: String,
    /// The least score.
    pub threshold: Option<f64>,
    /// The greatest distance.
    pub distance_max: Option<f64>,
    /// Compare with every point that passes.
    pub exact: bool,
    /// Breadth of the walk.
    pub ef: Option<usize>,
    /// How fresh.
    pub consistency: Consistency,
    /// Hits carry their payload.
    pub with_payload: bool,
    /// Hits carry their vector.
    pub with_vector: bool,
    /// Different ones.
    pub diversity: Option<Diversity>,
    /// In groups.
    pub grouping: Option<Grouping>,
    /// Ends the work when nobody waits.
    pub stop: Stop,
}

impl Ask {
    /// Checks what needs no space.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field and its bounds.
    pub fn check(&self) -> Result<(), ServiceError> {
        if self.k == 0 || self.k > ann::K_MAX {
            let message = format!("{} is not within 1 and {}", self.k, ann::K_MAX);
            return Err(ServiceError::invalid("k", message).reason("K_OUT_OF_RANGE"));
        }
        if self.ef.is_some_and(|ef| ef == 0 || ef > ann::EF_MAX) {
            let message = format!("is not within 1 and {}", ann::EF_MAX);
            return Err(ServiceError::invalid("ef", message));
        }
        for (field, value) in [("threshold", self.threshold), ("distance_max", self.distance_max)] {
            if value.is_some_and(f64::is_nan) {
                return Err(ServiceError::invalid(field, "is not a number"));
            }
        }
        if let Some(diversity) = self.diversity {
            if !(0.0..=1.0).contains(&diversity.lambda) {
                return Err(ServiceError::invalid("diversity.lambda", "is not within 0 and 1"));
            }
            if diversity.candidates > CANDIDATES_MAX || self.k > CANDIDATES_MAX {
                let message = format!("more than {CANDIDATES_MAX}");
                return Err(ServiceError::invalid("diversity.candidates", message));
            }
        }
        let size = self.grouping.as_ref().map_or(1, |grouping| grouping.size);
        if size == 0 || size.saturating_mul(self.k) > ann::K_MAX {
            let message = format!("k × size is not within 1 and {}", ann::K_MAX);
            return Err(ServiceError::invalid("grouping.size", message));
        }
        if self.diversity.is_some() && self.grouping.is_some() {
            return Err(ServiceError::invalid("grouping", "does not go with diversity"));
        }
        Ok(())
    }
}

/// One hit.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its point's number.
    pub number: u32,
    /// Whose it is.
    pub item_id: String,
    /// Nothing where no vector was compared.
    pub distance: Option<f32>,
    /// More is better.
    pub score: f64,
    /// If asked for.
    pub payload: Vec<(String, Value)>,
    /// If asked for.
    pub vector: Option<OwnedVector>,
    /// The group's value.
    pub group: Option<Value>,
}

/// How an answer was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explain {
    /// By which way.
    pub strategy: String,
    /// Points that pass the filter.
    pub cardinality: u64,
    /// Vectors that were compared.
    pub scanned: u64,
    /// Certainly the nearest.
    pub exact: bool,
    /// As of which change.
    pub token: i64,
    /// Fewer than asked for.
    pub short: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchResult {
    /// The best first.
    pub found: Vec<Found>,
    /// How.
    pub explain: Explain,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_tree_of_fusions_is_bounded_as_a_whole() {
        let fusion = |of: &Question, parts: usize, k: usize| {
            let part = Prefetch {
                field: String::new(),
                question: of.clone(),
                k,
                filter: String::new(),
                weight: 1.0,
            };
            Question::Fusion(FusionMethod::Rrf, vec![part; parts])
        };
        let leaf = Question::Item("i".into());
        let (flat, two) = (fusion(&leaf, 8, 100), fusion(&fusion(&leaf, 8, 100), 8, 100));
        for good in [&leaf, &flat, &two] {
            good.check("query").unwrap();
        }
        assert_eq!((two.searches(), two.prefetched()), (64, 8 * 100 + 64 * 100));
        for bad in [fusion(&two, 2, 1), fusion(&fusion(&leaf, 8, 10_000), 2, 1)] {
            let error = bad.check("queries[3]").unwrap_err();
            assert_eq!(error.field_name(), Some("queries[3].fusion"), "{error}");
            assert!(error.reason_is("FUSION_TOO_LARGE"));
        }
    }

    #[test]
    fn a_recommendation_is_bounded_wherever_it_stands() {
        let of = |items: usize, vectors: usize| {
            Question::Recommend(Recommend {
                positive_items: vec!["i".into(); items],
                negative_items: vec!["j".into(); items],
                positive_vectors: vec![OwnedVector::Floats(vec![1.0]); vectors],
                negative_vectors: Vec::new(),
            })
        };
        of(250, 500).check("query").unwrap();
        let error = of(250, 501).check("queries[3]").unwrap_err();
        assert_eq!(error.field_name(), Some("queries[3].recommend"), "{error}");
        assert!(error.reason_is("RECOMMEND_TOO_LARGE"), "{error}");
        let part = Prefetch {
            field: "query.fusion.prefetch[0]".into(),
            question: of(501, 0),
            k: 1,
            filter: String::new(),
            weight: 1.0,
        };
        let error = Question::Fusion(FusionMethod::Rrf, vec![part]).check("query").unwrap_err();
        assert_eq!(error.field_name(), Some("query.fusion.prefetch[0].recommend"), "{error}");
    }

    #[test]
    fn bounds_are_named() {
        let good = Ask { k: 10, ..Ask::default() };
        good.check().unwrap();
        for (ask, field) in [
            (Ask { k: 0, ..good.clone() }, "k"),
            (Ask { k: 10_001, ..good.clone() }, "k"),
            (Ask { ef: Some(0), ..good.clone() }, "ef"),
            (Ask { threshold: Some(f64::NAN), ..good.clone() }, "threshold"),
            (
                Ask { diversity: Some(Diversity { lambda: 1.5, candidates: 9 }), ..good.clone() },
                "diversity.lambda",
            ),
            (
                Ask {
                    grouping: Some(Grouping { column: "c".into(), size: 1_001 }),
                    ..good.clone()
                },
                "grouping.size",
            ),
        ] {
            assert_eq!(ask.check().unwrap_err().field_name(), Some(field));
        }
    }
}
