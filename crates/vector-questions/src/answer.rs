//! Answers from an index: pure work on memory, without waiting for anything.

use std::collections::{HashMap, HashSet};

use ann::Answer;
use filter::Filter;
use roaring::RoaringBitmap;
use service_error::ServiceError;
use space_index::{Search, SpaceIndex};

use crate::{
    Ask, Diversity, Explain, Found, FusionMethod, Grouping, IndexFailure, Match, OwnedVector,
    SearchResult, fuse,
};

/// How often a search that was overtaken by writes is made again.
const AGAIN_MAX: usize = 3;
/// Searches that a grouping makes beyond the first [`ann::K_MAX`] hits.
const ROUNDS_MAX: usize = 32;

/// A question that needs only the index.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Near to a vector, but not these items.
    Near(OwnedVector, Vec<String>),
    /// Words of a column.
    Match(Match),
    /// What several find.
    Fusion(FusionMethod, Vec<Part>),
}

impl Plan {
    /// The hits that its parts hand on.
    #[must_use]
    pub fn prefetched(&self) -> usize {
        match self {
            Self::Fusion(_, parts) => {
                parts.iter().map(|part| part.k + part.plan.prefetched()).sum()
            }
            _ => 0,
        }
    }
}

/// A part of a fusion.
#[derive(Debug, Clone)]
pub struct Part {
    /// Where it stands in the request.
    pub field: String,
    /// What it asks.
    pub plan: Plan,
    /// How many it hands on.
    pub k: usize,
    /// Empty: all that the whole allows.
    pub filter: String,
    /// Of its ranks or scores.
    pub weight: f64,
}

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
///
/// While the search went through the index, points that it met may have been replaced or deleted:
/// what is not there at the end is not answered, and the search is made again.
///
/// # Errors
/// `InvalidArgument` for a filter, a column or a bound that does not fit; damage; `Cancelled` once
/// nobody waits.
pub fn answer(index: &SpaceIndex, plan: &Plan, ask: &Ask) -> Result<SearchResult, ServiceError> {
    let mut gone = 0;
    for _ in 0..AGAIN_MAX {
        let (result, met) = answer_once(index, plan, ask, gone)?;
        if met == 0 {
            return Ok(result);
        }
        gone = met;
    }
    answer_once(index, plan, ask, gone).map(|(result, _)| result)
}

/// An answer, and how many of what was found were not there; `more` than wanted are looked for.
fn answer_once(
    index: &SpaceIndex,
    plan: &Plan,
    ask: &Ask,
    more: usize,
) -> Result<(SearchResult, usize), ServiceError> {
    // Read first: the answer is at least as new.
    let token = index.cursor();
    let allowed = allowed(index, &ask.filter)?;
    let ranked = match (&ask.grouping, ask.diversity) {
        (Some(grouping), _) => grouped(index, plan, ask, grouping, allowed.as_deref())?,
        (None, Some(diversity)) => diverse(index, plan, ask, diversity, allowed.as_deref())?,
        (None, None) => {
            let k = ask.k + more;
            let ranked = rank(index, plan, ask, k, allowed.as_deref())?;
            match (&allowed, plan) {
                (Some(then), Plan::Near(..)) => with_newcomers(index, plan, ask, k, then, ranked)?,
                _ => ranked,
            }
        }
    };
    let group_column = ask.grouping.as_ref().map(|grouping| grouping.column.as_str());
    // Held to the end: of a replaced point either the old or the new one is live.
    let payload = index.payload();
    let mut found = Vec::with_capacity(ranked.hits.len());
    let mut gone = 0;
    for hit in &ranked.hits {
        let item_id = payload.item_id(hit.number).filter(|_| payload.live().contains(hit.number));
        let Some(item_id) = item_id else {
            gone += 1;
            continue;
        };
        found.push(Found {
            number: hit.number,
            item_id: item_id.into_owned(),
            distance: hit.distance,
            score: hit.score,
            payload: Vec::new(),
            vector: None,
            group: group_column.and_then(|column| payload.value(column, hit.number)),
        });
    }
    let short = match &ask.grouping {
        Some(grouping) => groups(&found, &payload, &grouping.column) < ask.k,
        None => {
            found.truncate(ask.k);
            found.len() < ask.k
        }
    };
    let explain = Explain {
        strategy: ranked.strategy,
        cardinality: ranked.cardinality,
        scanned: ranked.scanned,
        exact: ranked.exact,
        token,
        short,
    };
    Ok((SearchResult { found, explain }, gone))
}

fn groups(found: &[Found], payload: &payload_index::PayloadIndex, column: &str) -> usize {
    let codes: HashSet<Option<u32>> =
        found.iter().map(|hit| payload.group(column, hit.number)).collect();
    codes.len()
}

/// A filter that cannot be understood.
#[must_use]
pub fn filter_error(error: &filter::FilterError) -> ServiceError {
    filter_error_of("filter", error)
}

fn filter_error_of(field: &str, error: &filter::FilterError) -> ServiceError {
    ServiceError::invalid(field, error).reason("FILTER_INVALID").with("column", error.column)
}

/// The points that a filter allows; nothing for an empty one.
///
/// # Errors
/// A filter that does not fit the columns.
pub fn allowed(
    index: &SpaceIndex,
    filter: &str,
) -> Result<Option<space_index::Passing>, ServiceError> {
    allowed_by(index, filter, "filter")
}

fn allowed_by(
    index: &SpaceIndex,
    filter: &str,
    field: &str,
) -> Result<Option<space_index::Passing>, ServiceError> {
    if filter.trim().is_empty() {
        return Ok(None);
    }
    // The same text means the same until something changes.
    if let Some(known) = index.kept(filter) {
        return Ok(Some(known));
    }
    let schema = index.payload().schema();
    let parsed = Filter::parse(filter, &schema).map_err(|error| filter_error_of(field, &error))?;
    index.passing_as(filter, &parsed).map(Some).map_err(failed)
}

fn rank(
    index: &SpaceIndex,
    plan: &Plan,
    ask: &Ask,
    k: usize,
    allowed: Option<&RoaringBitmap>,
) -> Result<Ranked, ServiceError> {
    // Each search of a fusion, each look farther of a grouping.
    ask.stop.check()?;
    match plan {
        Plan::Near(vector, excluded) => near(index, vector, excluded, ask, k, allowed),
        Plan::Match(_) | Plan::Fusion(..) if ask.distance_max.is_some() => {
            let message = "is of a search by vector alone; bound a match or a fusion by threshold";
            Err(ServiceError::invalid("distance_max", message))
        }
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

/// The nearest of what was found and of the points that pass since `then`: of one that was replaced
/// before the search began, but after it was known what passes, neither version was looked at.
fn with_newcomers(
    index: &SpaceIndex,
    plan: &Plan,
    ask: &Ask,
    k: usize,
    then: &RoaringBitmap,
    mut ranked: Ranked,
) -> Result<Ranked, ServiceError> {
    let now = allowed(index, &ask.filter)?;
    let newcomers = now.map_or_else(RoaringBitmap::new, |now| &*now - then);
    if newcomers.is_empty() {
        return Ok(ranked);
    }
    let more = rank(index, plan, ask, k, Some(&newcomers))?;
    ranked.scanned += more.scanned;
    ranked.hits.extend(more.hits);
    let payload = index.payload();
    let key = |hit: &Ranking| (hit.distance.unwrap_or_default(), payload.item_id(hit.number));
    ranked.hits.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
    });
    drop(payload);
    ranked.hits.truncate(k);
    Ok(ranked)
}

fn rank_part(
    index: &SpaceIndex,
    part: &Part,
    ask: &Ask,
    allowed_all: Option<&RoaringBitmap>,
) -> Result<Ranked, ServiceError> {
    let own = allowed_by(index, &part.filter, &format!("{}.filter", part.field))?;
    let both = match (allowed_all, &own) {
        (Some(all), Some(own)) => Some(all & &**own),
        _ => None,
    };
    let narrowed = both.as_ref().or(own.as_deref()).or(allowed_all);
    // The threshold is of the fused score.
    let stop = ask.stop.clone();
    let bare = Ask { exact: ask.exact, ef: ask.ef, stop, ..Ask::default() };
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
    let excluded: HashSet<&str> = excluded.iter().map(String::as_str).collect();
    // So many more are asked for, while so many can be; else the search is of the others alone.
    let is_beyond = !excluded.is_empty() && k + excluded.len() > ann::K_MAX;
    let others = is_beyond.then(|| without(index, &excluded, allowed));
    let wanted = if is_beyond { k } else { k + excluded.len() }.min(ann::K_MAX);
    let allowed = others.as_ref().map(|(others, _)| others).or(allowed);
    let mut search = search_of(index, vector, ask, wanted);
    let mut answer = if ask.exact && wanted < ann::K_MAX {
        // One more shows whether the last one has its like beyond.
        let more = Search { k: wanted + 1, ..search };
        index.search(&more, allowed).map_err(failed)?
    } else {
        index.search(&search, allowed).map_err(failed)?
    };
    if let Some(beyond) = answer.hits.get(wanted).map(|hit| hit.distance)
        && answer.hits[wanted - 1].distance == beyond
    {
        (search.k, search.distance_max) = (ann::K_MAX, Some(beyond));
        answer.hits = index.search(&search, allowed).map_err(failed)?.hits;
    }
    // Numbers say when a point was written: of equals the item decides.
    let payload = index.payload();
    answer.hits.sort_by(|a, b| match a.distance == b.distance {
        true => payload.item_id(a.number).cmp(&payload.item_id(b.number)),
        false => a.distance.total_cmp(&b.distance),
    });
    drop(payload);
    answer.hits.truncate(wanted);
    answer.matching += others.map_or(0, |(_, left_out)| left_out);
    Ok(ranked(index, answer, &excluded, (ask.threshold, k)))
}

/// What is allowed but not of these items, and how many points were left out.
fn without(
    index: &SpaceIndex,
    excluded: &HashSet<&str>,
    allowed: Option<&RoaringBitmap>,
) -> (RoaringBitmap, u64) {
    let payload = index.payload();
    let all = allowed.map_or_else(|| payload.live().clone(), |allowed| allowed & payload.live());
    let others = &all - payload.numbers_of(excluded.iter().copied());
    let left_out = all.len() - others.len();
    (others, left_out)
}

/// What is asked of the vectors.
fn search_of<'a>(index: &SpaceIndex, vector: &'a OwnedVector, ask: &Ask, k: usize) -> Search<'a> {
    let settings = &index.settings().vectors;
    // A little farther than the threshold: scores are compared as they are answered.
    let by_score = ask.threshold.map(|score| {
        let distance = settings.metric().distance_of_score(score as f32, settings.dimension());
        distance + (distance.abs() + 1.0) * 1e-5
    });
    let by_distance = ask.distance_max.map(|distance| distance as f32);
    let distance_max = match (by_score, by_distance) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Search { vector: vector.as_vector(), k, ef: ask.ef, exact: ask.exact, distance_max }
}

fn ranked(
    index: &SpaceIndex,
    answer: Answer,
    excluded: &HashSet<&str>,
    (threshold, k): (Option<f64>, usize),
) -> Ranked {
    let settings = &index.settings().vectors;
    let payload = index.payload();
    let is_excluded = |number: u32| {
        !excluded.is_empty() && payload.item_id(number).is_some_and(|id| excluded.contains(&*id))
    };
    let score = |distance: f32| settings.metric().score(distance, settings.dimension());
    let least = threshold.map(|threshold| threshold as f32);
    let hits = answer
        .hits
        .iter()
        .filter(|hit| !is_excluded(hit.number))
        .map(|hit| (hit, score(hit.distance)))
        .filter(|(_, score)| least.is_none_or(|least| *score >= least))
        .take(k)
        .map(|(hit, score)| Ranking {
            number: hit.number,
            distance: Some(hit.distance),
            score: f64::from(score),
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

/// Groups as hits fill them, best first.
#[derive(Debug, Default)]
struct Groups {
    all: Vec<(u32, Vec<Ranking>)>,
}

impl Groups {
    fn take(&mut self, hits: &[Ranking], group: impl Fn(u32) -> Option<u32>, ask: (usize, usize)) {
        let (count, size) = ask;
        for hit in hits {
            let Some(code) = group(hit.number) else { continue };
            match self.all.iter().position(|(known, _)| *known == code) {
                Some(at) if self.all[at].1.len() < size => self.all[at].1.push(*hit),
                None if self.all.len() < count => self.all.push((code, vec![*hit])),
                _ => {}
            }
        }
    }

    fn codes(&self, is_wanted: impl Fn(usize) -> bool) -> Vec<u32> {
        let wanted = self.all.iter().filter(|(_, members)| is_wanted(members.len()));
        wanted.map(|(code, _)| *code).collect()
    }

    /// The points that can still fill them.
    fn open(
        &self,
        payload: &payload_index::PayloadIndex,
        (count, grouping): (usize, &Grouping),
        allowed: Option<&RoaringBitmap>,
    ) -> RoaringBitmap {
        let column = grouping.column.as_str();
        let mut open = payload.valued(column) & payload.live();
        if let Some(allowed) = allowed {
            open &= allowed;
        }
        if self.all.len() == count {
            open &= payload.of_groups(column, &self.codes(|members| members < grouping.size));
        } else {
            open -= payload.of_groups(column, &self.codes(|members| members == grouping.size));
        }
        for hit in self.all.iter().flat_map(|(_, members)| members) {
            open.remove(hit.number);
        }
        open
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
    let wanted = (ask.k, grouping.size);
    let group = |number: u32| index.payload().group(&grouping.column, number);
    let mut reach = (ask.k * grouping.size * 4).clamp(1, ann::K_MAX);
    let mut groups = Groups::default();
    let mut whole = rank(index, plan, ask, reach, allowed)?;
    let mut hits = std::mem::take(&mut whole.hits);
    for _ in 0..ROUNDS_MAX {
        let is_all = hits.len() < reach;
        groups.take(&hits, group, wanted);
        let is_full = groups.all.len() == ask.k
            && groups.all.iter().all(|(_, members)| members.len() == grouping.size);
        if is_full || is_all {
            break;
        }
        // First farther; then, since nothing reaches farther, past what is full.
        let narrowed = (reach == ann::K_MAX)
            .then(|| groups.open(&index.payload(), (ask.k, grouping), allowed));
        if narrowed.is_none() {
            reach = (reach * 4).min(ann::K_MAX);
            groups = Groups::default();
        }
        let next = rank(index, plan, ask, reach, narrowed.as_ref().or(allowed))?;
        whole.scanned += next.scanned;
        whole.exact &= next.exact;
        hits = next.hits;
    }
    whole.hits = groups.all.into_iter().flat_map(|(_, members)| members).collect();
    Ok(whole)
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
        ask.stop.check()?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, Ordering};

    use ann::{Element, Metric, Settings};
    use payload_index::Payload;
    use space_index::{Change, Point, SpaceSettings};

    use super::*;

    const ITEMS: u32 = 40;

    fn version(number: u32, item: u32) -> Point {
        Point {
            number,
            item_id: format!("i{item}"),
            vector: [item as f32, 1.0].iter().flat_map(|value| value.to_le_bytes()).collect(),
            payload: Payload::default(),
        }
    }

    #[test]
    fn work_ends_when_nobody_waits() {
        let vectors = Settings::new(Metric::L2, Element::F32, 2).unwrap();
        let settings = SpaceSettings { space: Default::default(), epoch: 0, vectors };
        let index = SpaceIndex::empty(settings, std::path::Path::new("."));
        index.load(&[version(1, 1)]).unwrap();
        let leaf = Plan::Near(OwnedVector::Floats(vec![0.0, 0.0]), Vec::new());
        let part = Part {
            field: "query.fusion.prefetch[0]".into(),
            plan: leaf.clone(),
            k: 1,
            filter: String::new(),
            weight: 1.0,
        };
        let fusion = Plan::Fusion(FusionMethod::Rrf, vec![part.clone(), part.clone()]);
        assert_eq!(fusion.prefetched(), 2);
        let ask = Ask { k: 1, ..Ask::default() };
        let waiting = ask.stop.while_held();
        assert_eq!(answer(&index, &fusion, &ask).unwrap().found.len(), 1);
        drop(waiting);
        for plan in [&fusion, &leaf] {
            let error = answer(&index, plan, &ask).unwrap_err();
            assert_eq!(error.code(), service_error::Code::Cancelled, "{error}");
        }
        let wrong = Part { filter: "nothing = 1".into(), ..part };
        let wrong = Plan::Fusion(FusionMethod::Rrf, vec![wrong]);
        let error = answer(&index, &wrong, &Ask { k: 1, ..Ask::default() }).unwrap_err();
        assert_eq!(error.field_name(), Some("query.fusion.prefetch[0].filter"), "{error}");
    }

    #[test]
    fn what_is_left_out_is_made_up_for() {
        let vectors = Settings::new(Metric::L2, Element::F32, 2).unwrap();
        let settings = SpaceSettings { space: Default::default(), epoch: 0, vectors };
        let index = SpaceIndex::empty(settings, std::path::Path::new("."));
        let points = ann::K_MAX as u32 + 40;
        index.load(&(1..=points).map(|item| version(item, item)).collect::<Vec<_>>()).unwrap();
        let out: Vec<String> = (1..=30).map(|item| format!("i{item}")).collect();
        for (k, filter) in [(ann::K_MAX, ""), (ann::K_MAX - 10, "item_id != \"i31\""), (5, "")] {
            for exact in [false, true] {
                let ask = Ask { k, exact, filter: filter.into(), ..Ask::default() };
                let plan = Plan::Near(OwnedVector::Floats(vec![0.0, 0.0]), out.clone());
                let result = answer(&index, &plan, &ask).unwrap();
                assert_eq!((result.found.len(), result.explain.short), (k, false), "{filter}");
                let first = if filter.is_empty() { "i31" } else { "i32" };
                assert_eq!(result.found[0].item_id, first);
                let passing = points - u32::from(!filter.is_empty());
                assert_eq!(result.explain.cardinality, u64::from(passing), "{filter}");
            }
        }
    }

    #[test]
    fn points_that_pass_since_are_looked_at_too() {
        let vectors = Settings::new(Metric::L2, Element::F32, 2).unwrap();
        let settings = SpaceSettings { space: Default::default(), epoch: 0, vectors };
        let index = SpaceIndex::empty(settings, std::path::Path::new("."));
        index.load(&(1..=9).map(|item| version(item, item)).collect::<Vec<_>>()).unwrap();
        let plan = Plan::Near(OwnedVector::Floats(vec![0.0, 1.0]), Vec::new());
        let ask = Ask { k: 3, filter: "item_id >= \"i\"".into(), ..Ask::default() };
        let then = allowed(&index, &ask.filter).unwrap().unwrap();
        let changes = [(1, 2), (2, 7)].map(|(at, item)| Change {
            seq: at,
            removed: Some(item),
            point: Some(version(item + 20, item)),
        });
        index.apply(&changes).unwrap();
        let numbers = |ranked: &Ranked| ranked.hits.iter().map(|hit| hit.number).collect();
        let ranked = rank(&index, &plan, &ask, 3, Some(&then)).unwrap();
        let found: Vec<u32> = numbers(&ranked);
        assert_eq!(found, [1, 3, 4], "the old version is not there, the new one not allowed");
        let found: Vec<u32> =
            numbers(&with_newcomers(&index, &plan, &ask, 3, &then, ranked).unwrap());
        assert_eq!(found, [1, 22, 3]);
    }

    /// All items are written again and again, many in one batch, while they are searched for.
    #[test]
    fn a_point_that_is_replaced_meanwhile_is_found_once() {
        let vectors = Settings::new(Metric::L2, Element::F32, 2).unwrap();
        let settings = SpaceSettings { space: Default::default(), epoch: 0, vectors };
        let index = SpaceIndex::empty(settings, std::path::Path::new("."));
        index.load(&(0..ITEMS).map(|item| version(item + 1, item)).collect::<Vec<_>>()).unwrap();
        let plan = Plan::Near(OwnedVector::Floats(vec![0.0, 0.0]), Vec::new());
        let done = AtomicBool::new(false);
        let (mut searches, mut whole) = (0, 0);
        std::thread::scope(|scope| {
            let write = || {
                for round in 1..400 {
                    let changes: Vec<Change> = (0..ITEMS)
                        .map(|item| {
                            let number = round * ITEMS + item + 1;
                            let point = Some(version(number, item));
                            Change { seq: i64::from(number), removed: Some(number - ITEMS), point }
                        })
                        .collect();
                    index.apply(&changes).unwrap();
                }
                done.store(true, Ordering::Release);
            };
            scope.spawn(write);
            while !done.load(Ordering::Acquire) {
                for filter in ["", "item_id >= \"i\""] {
                    let ask = Ask { k: 200, filter: filter.into(), ..Ask::default() };
                    let found = answer(&index, &plan, &ask).unwrap().found;
                    let items: BTreeSet<&str> =
                        found.iter().map(|hit| hit.item_id.as_str()).collect();
                    assert_eq!(items.len(), found.len(), "one is there twice");
                    searches += 1;
                    whole += usize::from(found.len() == ITEMS as usize);
                }
            }
        });
        assert!(searches > 20 && whole * 2 > searches, "{whole} of {searches} found all");
    }
}
