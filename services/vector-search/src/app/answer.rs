//! Answers from an index: pure work on memory, without waiting for anything.

use std::collections::HashMap;

use ann::Answer;
use filter::Filter;
use roaring::RoaringBitmap;
use service_error::ServiceError;
use space_index::{Search, SpaceIndex};

use crate::app::points::filter_error;
use crate::app::question::{Part, Plan};
use crate::model::{
    Ask, Diversity, Explain, Found, Grouping, IndexFailure, OwnedVector, SearchResult, fuse,
};

/// What ranking found, before it has names.
#[derive(Debug, Default)]
struct Ranked {
    hits: Vec<Ranking>,
    strategy: String,
    cardinality: u64,
    scanned: u64,
    exact: bool,
}

#[derive(Debug, Clone, Copy)]
struct Ranking {
    number: u32,
    distance: Option<f32>,
    score: f64,
}

fn failed(error: space_index::IndexError) -> ServiceError {
    ServiceError::from(IndexFailure(&error))
}

/// Answers a question by an index.
pub(super) fn answer(
    index: &SpaceIndex,
    plan: &Plan,
    ask: &Ask,
) -> Result<SearchResult, ServiceError> {
    // Read first: the answer is at least as new.
    let token = index.cursor();
    let allowed = allowed(index, &ask.filter)?;
    let ranked = match (&ask.grouping, ask.diversity) {
        (Some(grouping), _) => grouped(index, plan, ask, grouping, allowed.as_deref())?,
        (None, Some(diversity)) => diverse(index, plan, ask, diversity, allowed.as_deref())?,
        (None, None) => rank(index, plan, ask, ask.k, allowed.as_deref())?,
    };
    let group_column = ask.grouping.as_ref().map(|grouping| grouping.column.as_str());
    let payload = index.payload();
    let mut found = Vec::with_capacity(ranked.hits.len());
    for hit in &ranked.hits {
        let Some(item_id) = payload.item_id(hit.number) else { continue };
        found.push(Found {
            number: hit.number,
            item_id: item_id.to_owned(),
            distance: hit.distance,
            score: hit.score,
            payload: Vec::new(),
            vector: None,
            group: group_column.and_then(|column| payload.value(column, hit.number)),
        });
    }
    let short = match &ask.grouping {
        Some(grouping) => groups(&found, &payload, &grouping.column) < ask.k,
        None => found.len() < ask.k,
    };
    let explain = Explain {
        strategy: ranked.strategy,
        cardinality: ranked.cardinality,
        scanned: ranked.scanned,
        exact: ranked.exact,
        token,
        short,
    };
    Ok(SearchResult { found, explain })
}

fn groups(found: &[Found], payload: &payload_index::PayloadIndex, column: &str) -> usize {
    let codes: std::collections::HashSet<Option<u32>> =
        found.iter().map(|hit| payload.group(column, hit.number)).collect();
    codes.len()
}

/// The points that a filter allows; nothing for an empty one.
pub(super) fn allowed(
    index: &SpaceIndex,
    filter: &str,
) -> Result<Option<space_index::Passing>, ServiceError> {
    if filter.trim().is_empty() {
        return Ok(None);
    }
    let schema = index.payload().schema();
    let parsed = Filter::parse_optional(filter, &schema).map_err(|error| filter_error(&error))?;
    parsed.map(|filter| index.passing(&filter).map_err(failed)).transpose()
}

fn rank(
    index: &SpaceIndex,
    plan: &Plan,
    ask: &Ask,
    k: usize,
    allowed: Option<&RoaringBitmap>,
) -> Result<Ranked, ServiceError> {
    match plan {
        Plan::Near(vector, excluded) => near(index, vector, excluded, ask, k, allowed),
        Plan::Match(words) => {
            let live = index.payload().live().clone();
            let among = allowed.map_or_else(|| live.clone(), |allowed| allowed & &live);
            let found = index.payload().search_text(&words.column, &words.text, k, &among);
            let found = found.ok_or_else(|| {
                let message = format!("space has no text column {:?}", words.column);
                ServiceError::invalid("query.match.column", message)
            })?;
            let hits = found
                .into_iter()
                .map(|(number, score)| Ranking { number, distance: None, score: f64::from(score) })
                .filter(|hit| ask.threshold.is_none_or(|least| hit.score >= least))
                .collect();
            Ok(Ranked {
                hits,
                strategy: "bm25".to_owned(),
                cardinality: among.len(),
                scanned: 0,
                exact: true,
            })
        }
        Plan::Fusion(method, parts) => {
            let mut lists = Vec::with_capacity(parts.len());
            let mut whole = Ranked { exact: true, ..Ranked::default() };
            let mut distances: HashMap<u32, f32> = HashMap::new();
            for part in parts {
                let ranked = rank_part(index, part, ask, allowed)?;
                whole.cardinality = whole.cardinality.max(ranked.cardinality);
                whole.scanned += ranked.scanned;
                whole.exact &= ranked.exact;
                let near = |hit: &Ranking| Some((hit.number, hit.distance?));
                distances.extend(ranked.hits.iter().filter_map(near));
                let list = ranked.hits.iter().map(|hit| (hit.number, hit.score)).collect();
                lists.push((list, part.weight));
            }
            let fused = fuse(*method, &lists).into_iter();
            whole.hits = fused
                .map(|(number, score)| Ranking {
                    number,
                    distance: distances.get(&number).copied(),
                    score,
                })
                .filter(|hit| ask.threshold.is_none_or(|least| hit.score >= least))
                .take(k)
                .collect();
            whole.strategy = "fusion".to_owned();
            Ok(whole)
        }
    }
}

fn rank_part(
    index: &SpaceIndex,
    part: &Part,
    ask: &Ask,
    allowed_all: Option<&RoaringBitmap>,
) -> Result<Ranked, ServiceError> {
    let own = allowed(index, &part.filter)?;
    let both = match (allowed_all, &own) {
        (Some(all), Some(own)) => Some(all & &**own),
        _ => None,
    };
    let narrowed = both.as_ref().or(own.as_deref()).or(allowed_all);
    // The threshold is of the fused score.
    let bare = Ask { exact: ask.exact, ef: ask.ef, ..Ask::default() };
    rank(index, &part.plan, &bare, part.k, narrowed)
}

fn near(
    index: &SpaceIndex,
    vector: &OwnedVector,
    excluded: &[String],
    ask: &Ask,
    k: usize,
    allowed: Option<&RoaringBitmap>,
) -> Result<Ranked, ServiceError> {
    let wanted = (k + excluded.len()).min(ann::K_MAX);
    let search = search_of(index, vector, ask, wanted);
    let answer = index.search(&search, allowed).map_err(failed)?;
    Ok(ranked(index, answer, excluded, k))
}

/// What is asked of the vectors.
pub(super) fn search_of<'a>(
    index: &SpaceIndex,
    vector: &'a OwnedVector,
    ask: &Ask,
    k: usize,
) -> Search<'a> {
    let settings = &index.settings().vectors;
    let by_score = ask
        .threshold
        .map(|score| settings.metric().distance_of_score(score as f32, settings.dimension()));
    let by_distance = ask.distance_max.map(|distance| distance as f32);
    let distance_max = match (by_score, by_distance) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Search { vector: vector.as_vector(), k, ef: ask.ef, exact: ask.exact, distance_max }
}

fn ranked(index: &SpaceIndex, answer: Answer, excluded: &[String], k: usize) -> Ranked {
    let settings = &index.settings().vectors;
    let payload = index.payload();
    let is_excluded = |number: u32| {
        !excluded.is_empty()
            && payload.item_id(number).is_some_and(|id| excluded.iter().any(|other| other == id))
    };
    let hits = answer
        .hits
        .iter()
        .filter(|hit| !is_excluded(hit.number))
        .take(k)
        .map(|hit| Ranking {
            number: hit.number,
            distance: Some(hit.distance),
            score: f64::from(settings.metric().score(hit.distance, settings.dimension())),
        })
        .collect();
    Ranked {
        hits,
        strategy: answer.strategy.name().to_owned(),
        cardinality: answer.matching,
        scanned: answer.scanned,
        exact: answer.exact,
    }
}

/// Whole groups, best first: looks farther until there are enough.
fn grouped(
    index: &SpaceIndex,
    plan: &Plan,
    ask: &Ask,
    grouping: &Grouping,
    allowed: Option<&RoaringBitmap>,
) -> Result<Ranked, ServiceError> {
    let has = index.payload().column_type(&grouping.column);
    if has.is_none_or(|column_type| column_type.list) {
        let message = format!("space has no column {:?} of single values", grouping.column);
        return Err(ServiceError::invalid("grouping.column", message));
    }
    let mut reach = (ask.k * grouping.size * 4).clamp(1, ann::K_MAX);
    loop {
        let mut ranked = rank(index, plan, ask, reach, allowed)?;
        let is_all = ranked.hits.len() < reach || reach == ann::K_MAX;
        let payload = index.payload();
        let mut groups: Vec<(u32, Vec<Ranking>)> = Vec::new();
        for hit in &ranked.hits {
            let Some(code) = payload.group(&grouping.column, hit.number) else { continue };
            match groups.iter_mut().find(|(known, _)| *known == code) {
                Some((_, members)) if members.len() < grouping.size => members.push(*hit),
                Some(_) => {}
                None => groups.push((code, vec![*hit])),
            }
        }
        groups.truncate(ask.k);
        let full = groups.len() == ask.k
            && groups.iter().all(|(_, members)| members.len() == grouping.size);
        if full || is_all {
            ranked.hits = groups.into_iter().flat_map(|(_, members)| members).collect();
            return Ok(ranked);
        }
        reach = (reach * 4).min(ann::K_MAX);
    }
}

/// Maximal marginal relevance: each next hit is near to the query and far from those before.
fn diverse(
    index: &SpaceIndex,
    plan: &Plan,
    ask: &Ask,
    diversity: Diversity,
    allowed: Option<&RoaringBitmap>,
) -> Result<Ranked, ServiceError> {
    let reach = diversity.candidates.max(ask.k);
    let mut ranked = rank(index, plan, ask, reach, allowed)?;
    let settings = &index.settings().vectors;
    let mut left: Vec<(Ranking, OwnedVector)> = Vec::with_capacity(ranked.hits.len());
    for hit in &ranked.hits {
        if let Some(floats) = index.vector(hit.number).map_err(failed)? {
            left.push((*hit, OwnedVector::of_floats(settings, floats)));
        }
    }
    let mut closest = vec![f64::NEG_INFINITY; left.len()];
    let mut taken: Vec<Ranking> = Vec::with_capacity(ask.k);
    while taken.len() < ask.k && !left.is_empty() {
        let worth = |at: usize| {
            let other = if taken.is_empty() { 0.0 } else { closest[at] };
            diversity.lambda * left[at].0.score - (1.0 - diversity.lambda) * other
        };
        let best = (0..left.len()).max_by(|a, b| worth(*a).total_cmp(&worth(*b)).then(b.cmp(a)));
        let Some(best) = best else { break };
        let (hit, vector) = left.swap_remove(best);
        closest.swap_remove(best);
        for (at, (_, other)) in left.iter().enumerate() {
            let distance = settings.distance(vector.as_vector(), other.as_vector());
            let distance = distance.map_err(|error| failed(error.into()))?;
            let score = f64::from(settings.metric().score(distance, settings.dimension()));
            closest[at] = closest[at].max(score);
        }
        taken.push(hit);
    }
    ranked.hits = taken;
    ranked.strategy.push_str("+mmr");
    Ok(ranked)
}
