//! Searches: who may, how fresh, from where.

use std::sync::Arc;

use caller::Caller;
use options_api::v1::Level;
use payload_index::Facets;
use service_error::ServiceError;
use space_index::SpaceIndex;
use vector_questions::{Plan, allowed, answer};

use crate::app::App;
use crate::app::live::Slot;
use crate::model::{Address, Ask, Consistency, OwnedVector, Question, SearchResult, Space, Stop};

/// The most queries of a batch.
const QUERIES_MAX: usize = 1_000;
/// The most hits that all queries of a batch ask for together.
const BATCH_HITS_MAX: usize = 500_000;
/// The most searches that all queries of a batch are made of.
const BATCH_SEARCHES_MAX: usize = 4_000;
/// The most bytes of an answer's items, payload and vectors.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Points times dimensions beyond which even a walk is done away from the serving threads.
const INLINE_MAX: u64 = 400_000_000;
/// Hits of a fusion's parts beyond which it is done there too.
const INLINE_PREFETCHED: usize = 400;
/// The most hits whose payload or vector is looked up at once.
const LOOKED_UP: usize = 1_000;

/// How many have each value of a column.
#[derive(Debug, Clone)]
pub struct FacetAnswer {
    /// Values and counts.
    pub facets: Facets,
    /// Points that pass the filter.
    pub cardinality: u64,
}

impl App {
    /// Answers one question.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field; `NotFound`; `Unavailable` for an index that cannot
    /// be fresh enough.
    pub async fn search(
        &self,
        caller: &Caller,
        address: &Address,
        question: impl FnOnce(&Space) -> Result<Question, ServiceError>,
        ask: Ask,
    ) -> Result<(Arc<Space>, SearchResult), ServiceError> {
        let action = "quarry.vectors.v1.SearchService/Search";
        let space = self.space_for(caller, Level::Read, address, action).await?;
        ask.check()?;
        let ask = Ask { stop: Stop::default(), ..ask };
        let _waiting = ask.stop.while_held();
        let plan = self.plan(&space, question(&space)?).await?;
        let mut results = self.answered(&space, vec![plan], &ask).await?;
        let mut result = results.pop().unwrap_or_default();
        self.look_up(&space, &ask, &mut result, &mut 0).await?;
        Ok((space, result))
    }

    /// Answers many questions of one shape.
    ///
    /// # Errors
    /// As [`Self::search`]; one bad question fails all.
    pub async fn search_batch(
        &self,
        caller: &Caller,
        address: &Address,
        questions: impl FnOnce(&Space) -> Result<Vec<Question>, ServiceError>,
        ask: Ask,
    ) -> Result<(Arc<Space>, Vec<SearchResult>), ServiceError> {
        let action = "quarry.vectors.v1.SearchService/SearchBatch";
        let space = self.space_for(caller, Level::Read, address, action).await?;
        ask.check()?;
        let questions = questions(&space)?;
        if questions.is_empty() || questions.len() > QUERIES_MAX {
            let message = format!("{} queries; a batch has 1 to {QUERIES_MAX}", questions.len());
            return Err(ServiceError::invalid("queries", message));
        }
        if questions.len() * ask.k > BATCH_HITS_MAX {
            let message = format!(
                "{} queries × k = {} are more than {BATCH_HITS_MAX} hits; ask in several batches",
                questions.len(),
                ask.k
            );
            return Err(ServiceError::invalid("queries", message).reason("BATCH_TOO_LARGE"));
        }
        demand_bounded(&questions)?;
        let ask = Ask { stop: Stop::default(), ..ask };
        let _waiting = ask.stop.while_held();
        let mut plans = Vec::with_capacity(questions.len());
        for question in questions {
            plans.push(self.plan(&space, question).await?);
        }
        let mut results = self.answered(&space, plans, &ask).await?;
        let mut bytes = 0;
        for result in &mut results {
            self.look_up(&space, &ask, result, &mut bytes).await?;
        }
        Ok((space, results))
    }

    async fn answered(
        &self,
        space: &Arc<Space>,
        plans: Vec<Plan>,
        ask: &Ask,
    ) -> Result<Vec<SearchResult>, ServiceError> {
        let Some(index) = self.index_at(space, ask.consistency).await? else {
            if let Consistency::AtLeast(seq) = ask.consistency {
                self.demand_token(space, seq).await?;
            }
            let mut results = Vec::with_capacity(plans.len());
            for plan in &plans {
                results.push(self.answer_from_rows(space, plan, ask).await?);
            }
            return Ok(results);
        };
        let quick = plans.len() == 1
            && !ask.exact
            && ask.k <= 100
            && plans[0].prefetched() <= INLINE_PREFETCHED
            && index.len() * u64::from(space.vectors.dimension()) <= INLINE_MAX;
        let (answered, plans) = if quick {
            (plans.iter().map(|plan| answer(&index, plan, ask)).collect(), plans)
        } else {
            let (owned, index) = (ask.clone(), Arc::clone(&index));
            super::blocking(move || (answer_all(&index, &plans, &owned), plans)).await?
        };
        self.or_from_rows(space, (&index, answered), &plans, ask).await
    }

    /// Answers from the rows if the index turned out to be damaged, which it is made anew for.
    async fn or_from_rows(
        &self,
        space: &Arc<Space>,
        (index, answered): (&Arc<SpaceIndex>, Result<Vec<SearchResult>, ServiceError>),
        plans: &[Plan],
        ask: &Ask,
    ) -> Result<Vec<SearchResult>, ServiceError> {
        match answered {
            Err(error) if error.reason_is("INDEX_DAMAGED") => {
                if let Some(Slot::Ready(live)) = self.live.slot(space.id)
                    && Arc::ptr_eq(&live.index, index)
                {
                    let damage = space_index::IndexError::Damaged {
                        path: self.live.dir(space.id),
                        what: error.to_string(),
                    };
                    self.replace_damaged(&live, &damage).await;
                }
                let mut results = Vec::with_capacity(plans.len());
                for plan in plans {
                    results.push(self.answer_from_rows(space, plan, ask).await?);
                }
                Ok(results)
            }
            answered => answered,
        }
    }

    async fn demand_token(&self, space: &Arc<Space>, seq: i64) -> Result<(), ServiceError> {
        let newest = self.store.newest(space).await?;
        if newest >= seq {
            return Ok(());
        }
        let message =
            format!("no change {seq} in space {} yet; its newest is {newest}", space.name);
        Err(ServiceError::invalid("consistency.at_least", message).reason("TOKEN_UNKNOWN"))
    }

    /// Payload and vectors of the hits, from their rows; `bytes` counts the answer's.
    async fn look_up(
        &self,
        space: &Arc<Space>,
        ask: &Ask,
        result: &mut SearchResult,
        bytes: &mut usize,
    ) -> Result<(), ServiceError> {
        *bytes += result.found.iter().map(|hit| hit.item_id.len()).sum::<usize>();
        is_answerable(*bytes)?;
        if !ask.with_payload && !ask.with_vector {
            return Ok(());
        }
        for some in result.found.chunks_mut(LOOKED_UP) {
            let numbers: Vec<u32> = some.iter().map(|hit| hit.number).collect();
            let points = self.store.points_numbered(space, &numbers).await?;
            for point in &points {
                *bytes += if ask.with_payload { point.payload.to_bytes().len() } else { 0 };
                *bytes += if ask.with_vector { point.vector.len() } else { 0 };
            }
            is_answerable(*bytes)?;
            let by_number: std::collections::HashMap<u32, _> =
                points.into_iter().map(|point| (point.number, point)).collect();
            for hit in some {
                // Replaced meanwhile: the hit stays, without what is no longer there.
                let Some(point) = by_number.get(&hit.number) else { continue };
                if ask.with_payload {
                    hit.payload = point.payload.fields().to_vec();
                }
                if ask.with_vector {
                    hit.vector = Some(OwnedVector::of_stored(&space.vectors, &point.vector));
                }
            }
        }
        Ok(())
    }

    /// Counts the values of a column.
    ///
    /// # Errors
    /// `InvalidArgument` for a column or filter that does not fit; `ResourceExhausted` for a
    /// space that is too large to be counted in its rows while it has no index.
    pub async fn facets(
        &self,
        caller: &Caller,
        address: &Address,
        (column, filter): (&str, &str),
        limit: usize,
    ) -> Result<FacetAnswer, ServiceError> {
        let action = "quarry.vectors.v1.SearchService/FacetPoints";
        let space = self.space_for(caller, Level::Read, address, action).await?;
        let Some(index) = self.index_at(&space, Consistency::Strong).await? else {
            return self.facets_of_rows(&space, (column, filter), limit).await;
        };
        let allowed = allowed(&index, filter)?;
        let payload = index.payload();
        let among = allowed.as_deref().unwrap_or_else(|| payload.live());
        let facets = payload.facets(column, among, limit).ok_or_else(|| {
            let columns = payload.summary().into_iter();
            no_column(column, columns.map(|summary| summary.name))
        })?;
        let cardinality = among.intersection_len(payload.live());
        Ok(FacetAnswer { facets, cardinality })
    }
}

/// Refuses a batch whose fusions are together more work than a batch may be.
fn demand_bounded(questions: &[Question]) -> Result<(), ServiceError> {
    let searches: usize = questions.iter().map(Question::searches).sum();
    let prefetched: usize = questions.iter().map(Question::prefetched).sum();
    if searches > BATCH_SEARCHES_MAX || prefetched > BATCH_HITS_MAX {
        let message = format!(
            "their fusions are {searches} searches for {prefetched} hits; at most {BATCH_SEARCHES_MAX} for {BATCH_HITS_MAX}: ask in several batches"
        );
        return Err(ServiceError::invalid("queries", message).reason("BATCH_TOO_LARGE"));
    }
    Ok(())
}

/// A column that is not there, beside those that are.
pub(super) fn no_column(name: &str, columns: impl Iterator<Item = String>) -> ServiceError {
    let names: Vec<String> = columns.collect();
    ServiceError::invalid("column", format!("no column {name:?}; there are {}", names.join(", ")))
}

fn is_answerable(bytes: usize) -> Result<(), ServiceError> {
    if bytes <= ANSWER_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "the answer has more than {ANSWER_BYTES_MAX} bytes; ask for fewer hits, or without payload and vectors"
    );
    Err(ServiceError::exhausted(message).reason("ANSWER_TOO_LARGE"))
}

/// Answers all, on several threads where each is a plain walk.
fn answer_all(
    index: &SpaceIndex,
    plans: &[Plan],
    ask: &Ask,
) -> Result<Vec<SearchResult>, ServiceError> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let each = plans.len().div_ceil(threads.min(plans.len()).max(1));
    if each == plans.len() {
        return plans.iter().map(|plan| answer(index, plan, ask)).collect();
    }
    std::thread::scope(|scope| {
        let answer_some = |some: &[Plan]| -> Result<Vec<SearchResult>, ServiceError> {
            some.iter().map(|plan| answer(index, plan, ask)).collect()
        };
        let running: Vec<_> =
            plans.chunks(each).map(|some| scope.spawn(move || answer_some(some))).collect();
        let mut all = Vec::with_capacity(plans.len());
        for one in running {
            let some = one
                .join()
                .map_err(|_| ServiceError::internal("a thread that searched was cut short"))?;
            all.extend(some?);
        }
        Ok(all)
    })
}
