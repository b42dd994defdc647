//! Questions from the wire.

use service_error::ServiceError;
use vector_records::model::{
    Consistency, DEPTH_MAX, FusionMethod, Match, OwnedVector, PREFETCH_MAX, Prefetch, Question,
    Recommend, Space, no_nul,
};
use vectors_api::v1 as wire;
use vectors_api::v1::query::Kind;

/// Hits that a part of a fusion hands on when it does not say.
const PREFETCH_K: usize = 100;

/// What a query asks.
///
/// # Errors
/// `InvalidArgument` naming the field below `field`.
pub fn question_from_wire(
    space: &Space,
    field: &str,
    query: Option<wire::Query>,
) -> Result<Question, ServiceError> {
    let question = question(space, field, query, 0)?;
    question.check(field)?;
    Ok(question)
}

fn question(
    space: &Space,
    field: &str,
    query: Option<wire::Query>,
    depth: usize,
) -> Result<Question, ServiceError> {
    let kind = query.and_then(|query| query.kind).ok_or_else(|| {
        ServiceError::invalid(
            field,
            "is empty: give a vector, item_id, text, image, recommend, match or fusion",
        )
    })?;
    let not_empty = |name: &str, text: String| {
        let field = format!("{field}.{name}");
        if text.trim().is_empty() {
            return Err(ServiceError::invalid(&field, "is empty"));
        }
        no_nul(&field, &text)?;
        Ok(text)
    };
    Ok(match kind {
        Kind::Vector(given) => Question::Vector(vector(space, &format!("{field}.vector"), given)?),
        Kind::ItemId(item) => Question::Item(not_empty("item_id", item)?),
        Kind::Text(text) => Question::Text(not_empty("text", text)?),
        Kind::Image(bytes) => Question::Image(bytes),
        Kind::Match(words) => Question::Match(Match {
            column: not_empty("match.column", words.column)?,
            text: not_empty("match.text", words.text)?,
        }),
        Kind::Recommend(recommend) => {
            let vectors = |given: Vec<wire::Vector>| {
                let one = |given| vector(space, &format!("{field}.recommend"), given);
                given.into_iter().map(one).collect::<Result<Vec<_>, _>>()
            };
            for (name, items) in [
                ("positive_item_ids", &recommend.positive_item_ids),
                ("negative_item_ids", &recommend.negative_item_ids),
            ] {
                let named = format!("{field}.recommend.{name}");
                items.iter().try_for_each(|item| no_nul(&named, item))?;
            }
            Question::Recommend(Recommend {
                positive_items: recommend.positive_item_ids,
                negative_items: recommend.negative_item_ids,
                positive_vectors: vectors(recommend.positive_vectors)?,
                negative_vectors: vectors(recommend.negative_vectors)?,
            })
        }
        Kind::Fusion(fusion) => of_fusion(space, field, fusion, depth)?,
    })
}

fn of_fusion(
    space: &Space,
    field: &str,
    fusion: wire::Fusion,
    depth: usize,
) -> Result<Question, ServiceError> {
    let wrong = |message: String| ServiceError::invalid(&format!("{field}.fusion"), message);
    if depth == DEPTH_MAX {
        return Err(wrong(format!("is nested more than {DEPTH_MAX} deep")));
    }
    if fusion.prefetch.is_empty() || fusion.prefetch.len() > PREFETCH_MAX {
        let message = format!("has {} queries; 1 to {PREFETCH_MAX}", fusion.prefetch.len());
        return Err(wrong(message));
    }
    let method = match wire::FusionMethod::try_from(fusion.method) {
        Ok(wire::FusionMethod::Unspecified | wire::FusionMethod::Rrf) => FusionMethod::Rrf,
        Ok(wire::FusionMethod::Dbsf) => FusionMethod::Dbsf,
        Err(_) => return Err(wrong(format!("knows no method {}", fusion.method))),
    };
    let mut parts = Vec::with_capacity(fusion.prefetch.len());
    for (at, part) in fusion.prefetch.into_iter().enumerate() {
        let within = format!("{field}.fusion.prefetch[{at}]");
        let k = k_from_wire(&format!("{within}.k"), part.k, PREFETCH_K)?;
        if !part.weight.is_finite() || part.weight < 0.0 {
            return Err(ServiceError::invalid(&format!("{within}.weight"), "is no weight"));
        }
        parts.push(Prefetch {
            question: question(space, &within, part.query, depth + 1)?,
            field: within,
            k,
            filter: part.filter,
            weight: if part.weight == 0.0 { 1.0 } else { part.weight },
        });
    }
    Ok(Question::Fusion(method, parts))
}

/// A number of hits; `default` for 0.
///
/// # Errors
/// `InvalidArgument` beyond what an index answers.
pub fn k_from_wire(field: &str, k: i32, default: usize) -> Result<usize, ServiceError> {
    match usize::try_from(k) {
        Ok(0) => Ok(default),
        Ok(k) if k <= ann::K_MAX => Ok(k),
        _ => {
            let message = format!("{k} is not within 1 and {}", ann::K_MAX);
            Err(ServiceError::invalid(field, message).reason("K_OUT_OF_RANGE"))
        }
    }
}

fn vector(space: &Space, field: &str, given: wire::Vector) -> Result<OwnedVector, ServiceError> {
    let vector = OwnedVector::new(given.values, given.bits, &space.vectors, field)?;
    vector.stored(&space.vectors, field)?;
    Ok(vector)
}

/// How fresh an answer must be.
///
/// # Errors
/// `InvalidArgument` for a token that is none.
pub fn consistency_from_wire(
    consistency: Option<wire::Consistency>,
) -> Result<Consistency, ServiceError> {
    use wire::consistency::Kind;
    Ok(match consistency.and_then(|consistency| consistency.kind) {
        None | Some(Kind::Eventual(_) | Kind::Strong(false)) => Consistency::Eventual,
        Some(Kind::Strong(true)) => Consistency::Strong,
        Some(Kind::AtLeast(seq)) if seq >= 0 => Consistency::AtLeast(seq),
        Some(Kind::AtLeast(seq)) => {
            return Err(ServiceError::invalid(
                "consistency.at_least",
                format!("{seq} is no token of a write"),
            ));
        }
    })
}
