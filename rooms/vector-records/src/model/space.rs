//! Spaces and who owns them.

use ann::{Element, Metric, Settings};
use service_error::ServiceError;
use uuid::Uuid;
use vector_questions::bad_index;

use super::no_nul;

/// Longest name of an embedder, in bytes.
const EMBEDDER_BYTES_MAX: usize = 256;

/// What a space belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The namespace's id.
    pub namespace: Uuid,
    /// The dataset's id; nothing: the namespace itself.
    pub dataset: Option<Uuid>,
    /// Its names.
    pub namespace_name: String,
    /// Empty: the namespace itself.
    pub dataset_name: String,
    /// Every authenticated caller may read it.
    pub public: bool,
}

/// A space to be made.
#[derive(Debug, Clone)]
pub struct NewSpace {
    /// Its name.
    pub name: String,
    /// What its vectors are.
    pub vectors: Settings,
    /// Empty: the first embedding says.
    pub embedder: String,
}

/// A space as its row has it.
#[derive(Debug, Clone)]
pub struct Space {
    /// Its id.
    pub id: Uuid,
    /// Whose it is; `public` is not stored.
    pub owner: Owner,
    /// Its name.
    pub name: String,
    /// What its vectors are.
    pub vectors: Settings,
    /// Empty: not known yet.
    pub embedder: String,
    /// Points in it.
    pub points: i64,
    /// Its newest change.
    pub seq: i64,
    /// Of its rows.
    pub epoch: i64,
    /// Up to which change the object store has a snapshot.
    pub snapshot_seq: i64,
    /// Postgres has an HNSW index of its rows.
    pub sql_indexed: bool,
    /// When it was made.
    pub created_at: i64,
    /// By whom.
    pub created_by: Uuid,
}

impl NewSpace {
    /// A space of these numbers, with defaults where the request says nothing.
    ///
    /// # Errors
    /// A dimension, metric or element that do not go together.
    pub fn new(
        name: &str,
        dimension: i32,
        metric: Option<Metric>,
        element: Option<Element>,
        embedder: &str,
    ) -> Result<Self, ServiceError> {
        let element = element.unwrap_or(match metric {
            Some(Metric::Hamming | Metric::Jaccard) => Element::Bit,
            _ => Element::F32,
        });
        let metric = metric.unwrap_or(match element {
            Element::Bit => Metric::Hamming,
            _ => Metric::Cosine,
        });
        let dimension = u32::try_from(dimension)
            .map_err(|_| ServiceError::invalid("dimension", "is negative"))?;
        // What both databases hold: pgvector's own limits.
        let max = if element == Element::Bit { 64_000 } else { 16_000 };
        if dimension == 0 || dimension > max {
            let message = format!("{dimension} is not within 1 and {max}");
            return Err(ServiceError::invalid("dimension", message));
        }
        let vectors =
            Settings::new(metric, element, dimension).map_err(|error| bad_index(&error))?;
        check_embedder(embedder)?;
        Ok(Self { name: name.to_owned(), vectors, embedder: embedder.to_owned() })
    }
}

/// Checks the name of an embedder.
///
/// # Errors
/// `InvalidArgument` for `embedder`.
pub fn check_embedder(name: &str) -> Result<(), ServiceError> {
    if name.len() > EMBEDDER_BYTES_MAX {
        let message = format!("is longer than {EMBEDDER_BYTES_MAX} bytes");
        return Err(ServiceError::invalid("embedder", message));
    }
    no_nul("embedder", name)
}

/// A metric as rows have it.
#[must_use]
pub const fn metric_code(metric: Metric) -> i16 {
    match metric {
        Metric::Cosine => 1,
        Metric::L2 => 2,
        Metric::InnerProduct => 3,
        Metric::L1 => 4,
        Metric::Hamming => 5,
        Metric::Jaccard => 6,
    }
}

/// An element as rows have it.
#[must_use]
pub const fn element_code(element: Element) -> i16 {
    match element {
        Element::F32 => 1,
        Element::F16 => 2,
        Element::I8 => 3,
        Element::Bit => 4,
    }
}

/// The settings that a row says.
#[must_use]
pub fn settings_of_codes(metric: i16, element: i16, dimension: i32) -> Option<Settings> {
    let metric = [
        Metric::Cosine,
        Metric::L2,
        Metric::InnerProduct,
        Metric::L1,
        Metric::Hamming,
        Metric::Jaccard,
    ]
    .into_iter()
    .find(|known| metric_code(*known) == metric)?;
    let element = [Element::F32, Element::F16, Element::I8, Element::Bit]
        .into_iter()
        .find(|known| element_code(*known) == element)?;
    Settings::new(metric, element, u32::try_from(dimension).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn defaults_follow_from_each_other() {
        let made = |metric, element| {
            let space = NewSpace::new("s", 8, metric, element, "").unwrap();
            (space.vectors.metric(), space.vectors.element())
        };
        assert_eq!(made(None, None), (Metric::Cosine, Element::F32));
        assert_eq!(made(Some(Metric::Jaccard), None), (Metric::Jaccard, Element::Bit));
        assert_eq!(made(None, Some(Element::Bit)), (Metric::Hamming, Element::Bit));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (dimension, metric, element) in [
            (0, None, None),
            (-1, None, None),
            (16_001, None, None),
            (64_001, Some(Metric::Hamming), None),
            (8, Some(Metric::Hamming), Some(Element::F32)),
            (8, Some(Metric::Cosine), Some(Element::Bit)),
        ] {
            assert!(NewSpace::new("s", dimension, metric, element, "").is_err(), "{dimension}");
        }
    }

    #[test]
    fn rows_give_back_what_was_written() {
        for settings in [
            Settings::new(Metric::L1, Element::I8, 7).unwrap(),
            Settings::new(Metric::Hamming, Element::Bit, 70).unwrap(),
        ] {
            let dimension = i32::try_from(settings.dimension()).unwrap();
            let codes = (metric_code(settings.metric()), element_code(settings.element()));
            assert!(settings_of_codes(codes.0, codes.1, dimension).unwrap().same_space(&settings));
        }
        assert!(settings_of_codes(9, 1, 3).is_none());
    }
}
