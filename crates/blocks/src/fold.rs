//! Looking at all passing rows of some columns, row group by row group, on as
//! many threads as one operation may use.

use std::any::Any;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use filter::Pruned;
use service_error::ServiceError;

use crate::access::{Access, Group};
use crate::adapt::conform;
use crate::coded::Coded;
use crate::error::arrow_error;
use crate::find::judge_of;
use crate::hot::Place;
use crate::read::{BlockReader, Reading};
use crate::rows::{BlockRows, Rows};

/// Memory of columns that are looked at at once.
const STEP_BYTES: usize = 64 << 20;

/// What is made of a row group may be kept for the next who asks the same.
#[derive(Debug, Clone, Copy)]
pub struct Keep<'a, T> {
    /// Tells apart what is made of the same columns.
    pub name: &'a str,
    /// Bytes that it takes.
    pub bytes: BytesOf<T>,
}

impl BlockReader {
    /// What `look` makes of the passing rows of each row group, the tail last;
    /// where all rows of a group pass that are not deleted, of what was kept. A
    /// first column that was asked for as a dictionary ([`crate::first_coded`]) comes as
    /// its plain values where they are many.
    ///
    /// # Errors
    /// As `look`, `DataLoss` for a damaged block, or as the object store fails.
    pub async fn each_group<B, P, T, F>(
        &self,
        blocks: &[B],
        reading: &Reading,
        prune: P,
        schema: &SchemaRef,
        keep: Option<Keep<'_, T>>,
        look: F,
    ) -> Result<Vec<Arc<T>>, ServiceError>
    where
        B: AsRef<BlockRows> + Sync,
        P: Fn(usize) -> Pruned + Sync,
        T: Send + Sync + 'static,
        F: Fn(&RecordBatch) -> Result<T, ServiceError> + Send + Sync + 'static,
    {
        let filtered = reading.filter.is_some();
        let chosen: Vec<usize> =
            (0..blocks.len()).filter(|i| !filtered || prune(*i) != Pruned::None).collect();
        reading.tally.blocks(chosen.len() as u64, (blocks.len() - chosen.len()) as u64);
        let steps = self.steps(blocks, &chosen, reading).await?;
        let (access, judge) = (self.access(&reading.tally), judge_of(reading)?);
        let wanted = Coded::new(schema);
        let kept = keep.map(|keep| (name_of(keep.name, schema), keep.bytes));
        let look = Arc::new(look);
        let looking = Arc::clone(&look);
        let found = self
            .spread(steps, move |step| {
                let Some((group, rows)) = step.rows(&access, judge.as_ref())? else {
                    return Ok(Vec::new());
                };
                let kept = kept.as_ref().and_then(|(name, bytes)| {
                    Some((name_for(name, &group, &rows, filtered)?, *bytes))
                });
                looked(&access, &group, &rows, &wanted, kept.as_ref(), looking.as_ref())
            })
            .await?;
        let mut all: Vec<Arc<T>> = found.into_iter().flatten().collect();
        if let Some(tail) = passing_tail(reading, schema)? {
            all.push(Arc::new(look(&tail)?));
        }
        Ok(all)
    }
}

/// Under which name a look at these rows of a group is kept: all of them, or all that are not
/// deleted, which many reads find alike. `None`: rows that a filter chose.
fn name_for(name: &Arc<str>, group: &Group, rows: &Rows, filtered: bool) -> Option<Arc<str>> {
    if rows.len() == group.rows {
        return Some(Arc::clone(name));
    }
    if filtered {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    for range in rows.ranges() {
        hasher.update(&(range.start as u64).to_le_bytes());
        hasher.update(&(range.end as u64).to_le_bytes());
    }
    Some(format!("{name}\n{}", hasher.finalize().to_hex()).into())
}

/// How much memory a thing takes.
pub type BytesOf<T> = fn(&T) -> usize;

/// A look at one group, step by step where its columns are large.
fn looked<T, F>(
    access: &Access,
    group: &Group,
    rows: &Rows,
    wanted: &Coded,
    kept: Option<&(Arc<str>, BytesOf<T>)>,
    look: &F,
) -> Result<Vec<Arc<T>>, ServiceError>
where
    T: Send + Sync + 'static,
    F: Fn(&RecordBatch) -> Result<T, ServiceError>,
{
    let place = Place { column: 0, ..group.place(0) };
    if let Some((name, _)) = kept
        && let Some(known) = access.hot.kept(place, name)
        && let Ok(known) = known.downcast::<Vec<Arc<T>>>()
    {
        access.tally.index();
        return Ok(known.as_ref().clone());
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for step in access.steps(group, rows, wanted.schema(), STEP_BYTES) {
        found.push(Arc::new(look(&wanted.rows(access, group, &step)?)?));
    }
    if let Some((name, bytes)) = kept {
        let size: usize = found.iter().map(|one| bytes(one)).sum();
        let value: Arc<dyn Any + Send + Sync> = Arc::new(found.clone());
        access.hot.put_kept(place, name, value, size);
    }
    Ok(found)
}

/// The passing rows of the tail in a schema's columns.
pub(crate) fn passing_tail(
    reading: &Reading,
    schema: &SchemaRef,
) -> Result<Option<RecordBatch>, ServiceError> {
    let Some(tail) = &reading.tail else { return Ok(None) };
    let failed = |error| arrow_error("in memory", error);
    let rows = match &reading.filter {
        Some(filter) => {
            let mask = filter.evaluate(tail).map_err(failed)?;
            filter_record_batch(tail, &mask).map_err(failed)?
        }
        None => tail.clone(),
    };
    conform(&rows, schema).map(Some).map_err(failed)
}

/// Columns by name and type: what is kept of one is not taken for another.
fn name_of(name: &str, schema: &SchemaRef) -> Arc<str> {
    let mut all = name.to_owned();
    for field in schema.fields() {
        all.push_str(&format!("\n{:?} {}", field.name(), field.data_type()));
    }
    all.into()
}
