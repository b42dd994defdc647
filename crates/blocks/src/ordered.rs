//! The first passing rows in an order of the caller's, in bounded memory.

use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use filter::Pruned;
use service_error::ServiceError;

use crate::adapt::take_rows;
use crate::error::arrow_error;
use crate::find::{Position, judge_of};
use crate::read::{BlockReader, Reading};
use crate::rows::{BlockRows, Rows};

/// Memory of order columns that are looked at at once.
const STEP_BYTES: usize = 64 << 20;

/// A column to order by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderBy {
    /// Its name.
    pub column: String,
    /// The greatest first.
    pub descending: bool,
}

/// Columns of an order at most.
const COLUMNS_MAX: usize = 16;

impl OrderBy {
    /// Reads `width desc, title`. Empty: no order.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn parse(text: &str) -> Result<Vec<Self>, ServiceError> {
        let refuse = |why: String| {
            let message =
                format!("{why}; write columns and directions such as \"width desc, title\"");
            Err(ServiceError::invalid("order_by", message))
        };
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let mut found: Vec<Self> = Vec::new();
        for part in text.split(',') {
            let words: Vec<&str> = part.split_whitespace().collect();
            let (column, descending) = match words.as_slice() {
                [column] => (*column, false),
                [column, way] if way.eq_ignore_ascii_case("asc") => (*column, false),
                [column, way] if way.eq_ignore_ascii_case("desc") => (*column, true),
                _ => return refuse(format!("{:?} is no order", part.trim())),
            };
            let column = column.trim_matches('`').to_owned();
            if found.iter().any(|by| by.column == column) {
                return refuse(format!("{column:?} is there twice"));
            }
            found.push(Self { column, descending });
        }
        if found.len() > COLUMNS_MAX {
            return refuse(format!("{} columns are more than {COLUMNS_MAX}", found.len()));
        }
        Ok(found)
    }

    /// Refuses an order that the rows of a schema do not have.
    ///
    /// # Errors
    /// `InvalidArgument` naming the column that is not there or has no order.
    pub fn check(by: &[Self], dataset: &Schema) -> Result<(), ServiceError> {
        sort_fields(by, dataset).map(drop)
    }
}

/// The columns of an order, and how they sort.
fn sort_fields(
    by: &[OrderBy],
    dataset: &Schema,
) -> Result<(Vec<Field>, Vec<SortField>), ServiceError> {
    let (mut columns, mut fields) = (Vec::new(), Vec::new());
    for by in by {
        let field = dataset
            .field_with_name(&by.column)
            .map_err(|_| ServiceError::invalid("order_by", format!("no column {:?}", by.column)))?;
        let options = SortOptions { descending: by.descending, nulls_first: false };
        fields.push(SortField::new_with_options(field.data_type().clone(), options));
        columns.push(field.clone());
    }
    if !RowConverter::supports_fields(&fields) {
        return Err(ServiceError::invalid("order_by", "a column of this type has no order"));
    }
    Ok((columns, fields))
}

/// A row's place in an order: bytes of its order columns, then where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked {
    /// Compare as the order columns do.
    pub rank: Vec<u8>,
    /// Equal ranks stand in storage order.
    pub position: Position,
}

/// Which rows of an order.
#[derive(Debug, Clone)]
pub struct Ordering {
    /// The columns, the first counts most. Nulls come last.
    pub by: Vec<OrderBy>,
    /// Rows after this one only (before it, if `back`).
    pub after: Option<Ranked>,
    /// The last rows instead of the first ones.
    pub back: bool,
    /// Rows at most.
    pub limit: usize,
}

impl BlockReader {
    /// The first passing rows in an order, in that order.
    ///
    /// # Errors
    /// A column that has no order, `DataLoss` for a damaged block, or as the
    /// object store fails.
    pub async fn ordered<B, P>(
        &self,
        blocks: &[B],
        reading: &Reading,
        ordering: Ordering,
        prune: P,
    ) -> Result<Vec<Ranked>, ServiceError>
    where
        B: AsRef<BlockRows> + Sync,
        P: Fn(usize) -> Pruned + Sync,
    {
        let ranker = Arc::new(Ranker::new(&reading.schema, ordering)?);
        let filtered = reading.filter.is_some();
        let chosen: Vec<usize> =
            (0..blocks.len()).filter(|i| !filtered || prune(*i) != Pruned::None).collect();
        let steps = self.steps(blocks, &chosen, reading).await?;
        let (access, judge) = (self.access(&reading.tally), judge_of(reading)?);
        let ranking = Arc::clone(&ranker);
        // One for all, so that memory does not grow with the row groups.
        let shared = Arc::new(Mutex::new(Best::new(&ranker.ordering)));
        let joined = Arc::clone(&shared);
        let _: Vec<()> = self
            .spread(steps, move |step| {
                let mut best = Best::new(&ranking.ordering);
                let Some((group, rows)) = step.rows(&access, judge.as_ref())? else {
                    return Ok(());
                };
                for part in access.steps(&group, &rows, &ranking.schema, STEP_BYTES) {
                    let batch = access.rows(&group, &part, &ranking.schema)?;
                    let numbers = match &part {
                        Rows::All(_) => None,
                        part => Some(part.numbers()),
                    };
                    let row = |at: usize| {
                        let own = numbers.as_ref().map_or(at as u64, |n| u64::from(n.value(at)));
                        Position { block: step.block(), row: group.begin + own }
                    };
                    ranking.rank(&batch, row, &mut best)?;
                }
                let mut all = joined.lock().unwrap_or_else(PoisonError::into_inner);
                best.heap.into_vec().into_iter().for_each(|one| all.offer(one.0));
                Ok(())
            })
            .await?;
        let mut best = std::mem::replace(
            &mut *shared.lock().unwrap_or_else(PoisonError::into_inner),
            Best::new(&ranker.ordering),
        );
        if let Some(tail) = &reading.tail {
            let rows = reading.tail_rows()?;
            let numbers: arrow::array::UInt64Array = rows.clone().into();
            let batch = take_rows(tail, &numbers)
                .and_then(|batch| crate::adapt::conform(&batch, &ranker.schema))
                .map_err(|error| arrow_error("in memory", error))?;
            let row = |at: usize| Position { block: blocks.len(), row: rows[at] };
            ranker.rank(&batch, row, &mut best)?;
        }
        let mut all: Vec<Ranked> =
            best.heap.into_vec().into_iter().map(|candidate| candidate.0).collect();
        all.sort_unstable();
        Ok(all)
    }
}

/// Turns rows into ranks.
struct Ranker {
    schema: SchemaRef,
    fields: Vec<SortField>,
    ordering: Ordering,
}

impl Ranker {
    fn new(dataset: &Schema, ordering: Ordering) -> Result<Self, ServiceError> {
        let (columns, fields) = sort_fields(&ordering.by, dataset)?;
        Ok(Self { schema: Arc::new(Schema::new(columns)), fields, ordering })
    }

    fn rank(
        &self,
        batch: &RecordBatch,
        place: impl Fn(usize) -> Position,
        best: &mut Best,
    ) -> Result<(), ServiceError> {
        let failed = |error| arrow_error("in memory", error);
        let converter = RowConverter::new(self.fields.clone()).map_err(failed)?;
        let columns: Vec<ArrayRef> = batch.columns().to_vec();
        let ranks = converter.convert_columns(&columns).map_err(failed)?;
        for at in 0..ranks.num_rows() {
            let rank = ranks.row(at);
            let (rank, position) = (rank.data(), place(at));
            if self.ordering.after.as_ref().is_some_and(|after| {
                let order = (rank, position).cmp(&(after.rank.as_slice(), after.position));
                if self.ordering.back { order.is_ge() } else { order.is_le() }
            }) {
                continue;
            }
            if best.takes(rank, position) {
                best.offer(Ranked { rank: rank.to_vec(), position });
            }
        }
        Ok(())
    }
}

/// A candidate whose greatest is the one to drop.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate(Ranked, bool);

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let order = self.0.cmp(&other.0);
        if self.1 { order.reverse() } else { order }
    }
}

/// The best so far.
struct Best {
    heap: BinaryHeap<Candidate>,
    limit: usize,
    back: bool,
}

impl Best {
    fn new(ordering: &Ordering) -> Self {
        Self { heap: BinaryHeap::new(), limit: ordering.limit.max(1), back: ordering.back }
    }

    fn takes(&self, rank: &[u8], position: Position) -> bool {
        if self.heap.len() < self.limit {
            return true;
        }
        self.heap.peek().is_some_and(|Candidate(worst, back)| {
            let order = (rank, position).cmp(&(worst.rank.as_slice(), worst.position));
            if *back { order.is_gt() } else { order.is_lt() }
        })
    }

    fn offer(&mut self, ranked: Ranked) {
        if !self.takes(&ranked.rank, ranked.position) {
            return;
        }
        if self.heap.len() >= self.limit {
            self.heap.pop();
        }
        self.heap.push(Candidate(ranked, self.back));
    }
}
