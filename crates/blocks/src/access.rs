//! Columns of an open block, out of memory or decoded. It waits for the object
//! store inside, so it runs on blocking threads.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use roaring::RoaringBitmap;
use service_error::ServiceError;
use tokio::runtime::Handle;

use crate::adapt::{conform, take_rows};
use crate::error::{arrow_error, damaged};
use crate::footer::BlockFile;
use crate::hot::{Hot, Indexed, Place};
use crate::plan::selection;
use crate::rows::Rows;
use crate::scan::{BlockScan, Pass, batch_rows};
use crate::tally::Tally;

/// Rows of a piece of a column that is decoded and kept for pages.
const PIECE_ROWS: usize = 512;
/// With this many rows wanted of a piece the whole piece is decoded.
const PIECE_ROWS_WANTED_MIN: usize = 4;
/// Rows in more ranges than this are read out of whole columns where those are small: the
/// decoder takes longer over its list of ranges than over the values.
const SCATTERED_RANGES: usize = 64;
/// A column is small with at most this many bytes a row in the file: numbers, dictionaries.
const SMALL_ROW_BYTES: usize = 10;
/// The most memory of columns of a row group that are decoded at once.
const WHOLE_BYTES_MAX: usize = 256 << 20;

/// One row group of an open block.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub file: Arc<BlockFile>,
    pub index: usize,
    /// Rows of the block before it.
    pub begin: u64,
    pub rows: usize,
}

/// The way to columns.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub hot: Hot,
    pub runtime: Handle,
    pub tally: Arc<Tally>,
}

impl Group {
    pub fn place(&self, column: usize) -> Place {
        Place { file: self.file.number(), group: self.index, column }
    }

    /// The columns of a schema that the file has, as it has them.
    pub fn own(&self, schema: &Schema) -> Vec<usize> {
        let own = self.file.metadata().schema();
        schema.fields().iter().filter_map(|field| own.index_of(field.name()).ok()).collect()
    }

    fn own_schema(&self, columns: &[usize]) -> SchemaRef {
        let own = self.file.metadata().schema();
        Arc::new(Schema::new(
            columns.iter().map(|column| own.field(*column).clone()).collect::<Vec<_>>(),
        ))
    }

    /// Whether all of a column takes little to decode and to keep.
    fn is_small(&self, column: usize) -> bool {
        let file = self.file.metadata().metadata();
        let leaves = file.file_metadata().schema_descr();
        let group = file.row_group(self.index);
        let bytes: i64 = (0..leaves.num_columns())
            .filter(|leaf| leaves.get_column_root_idx(*leaf) == column)
            .map(|leaf| group.column(leaf).uncompressed_size())
            .sum();
        usize::try_from(bytes).is_ok_and(|bytes| bytes <= self.rows.saturating_mul(SMALL_ROW_BYTES))
    }

    /// In the types that were asked for; what the file lacks is null.
    fn conformed(
        &self,
        columns: &[usize],
        arrays: Vec<ArrayRef>,
        rows: usize,
        schema: &SchemaRef,
    ) -> Result<RecordBatch, ServiceError> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let failed = |error| arrow_error(self.file.key(), error);
        let own = self.own_schema(columns);
        let batch = RecordBatch::try_new_with_options(own, arrays, &options).map_err(failed)?;
        conform(&batch, schema).map_err(failed)
    }
}

impl Access {
    /// Rows of a group in parts that take about so much memory each.
    pub fn steps(&self, group: &Group, rows: &Rows, schema: &Schema, bytes: usize) -> Vec<Rows> {
        let step = batch_rows(&group.file, Some(group.index), schema, bytes.min(WHOLE_BYTES_MAX));
        if rows.len() <= step {
            return vec![rows.clone()];
        }
        rows.numbers()
            .values()
            .chunks(step)
            .map(|part| {
                let part = part.iter().copied();
                // Ascending, as the numbers are.
                Rows::Set(RoaringBitmap::from_sorted_iter(part).unwrap_or_default())
            })
            .collect()
    }

    /// All columns of a schema for all rows of a group, kept in memory if there
    /// is room.
    pub fn whole(&self, group: &Group, schema: &SchemaRef) -> Result<RecordBatch, ServiceError> {
        let columns = group.own(schema);
        let mut arrays: Vec<Option<ArrayRef>> =
            columns.iter().map(|column| self.hot.whole(group.place(*column))).collect();
        let cold: Vec<usize> =
            columns.iter().zip(&arrays).filter(|(_, a)| a.is_none()).map(|(c, _)| *c).collect();
        self.tally.hot((columns.len() - cold.len()) as u64);
        if !cold.is_empty() {
            let found = self.decode(group, &cold, None)?;
            let mut found = cold.iter().zip(found.columns());
            for slot in arrays.iter_mut().filter(|slot| slot.is_none()) {
                if let Some((column, array)) = found.next() {
                    self.hot.put_whole(group.place(*column), Arc::clone(array));
                    *slot = Some(Arc::clone(array));
                }
            }
        }
        let arrays = arrays.into_iter().flatten().collect();
        group.conformed(&columns, arrays, group.rows, schema)
    }

    /// Whether all rows of the columns are in memory.
    pub fn is_whole(&self, group: &Group, schema: &Schema) -> bool {
        group.own(schema).iter().all(|column| self.hot.whole(group.place(*column)).is_some())
    }

    /// Whether every column was read all over before, of which note is taken.
    pub fn touched(&self, group: &Group, schema: &Schema) -> bool {
        let places = group.own(schema).into_iter().map(|column| group.place(column));
        // Not `all`: each is noted.
        places.filter(|place| !self.hot.touched(*place)).count() == 0
    }

    /// Whether a column can be judged without reading: it is in memory, or has
    /// an index by value.
    pub fn is_ready(&self, file: &BlockFile, group: usize, column: &str) -> bool {
        let Ok(column) = file.metadata().schema().index_of(column) else { return false };
        let place = Place { file: file.number(), group, column };
        self.hot.whole(place).is_some() || matches!(self.hot.index(place), Some(Indexed::Ready(_)))
    }

    /// The columns of a schema for chosen rows of a group, ascending.
    pub fn rows(
        &self,
        group: &Group,
        rows: &Rows,
        schema: &SchemaRef,
    ) -> Result<RecordBatch, ServiceError> {
        if let Rows::All(_) = rows {
            return self.whole(group, schema);
        }
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(schema)));
        }
        if self.is_whole(group, schema) {
            let whole = self.whole(group, schema)?;
            return pick(group, &whole, rows);
        }
        let ranges = rows.ranges();
        let wanted: usize = ranges.iter().map(ExactSizeIterator::len).sum();
        let pieces = pieces_of(&ranges);
        let dense = wanted >= pieces.len() * PIECE_ROWS_WANTED_MIN || pieces.len() <= 2;
        let few = pieces.len() * PIECE_ROWS * 2 <= group.rows;
        if dense && few {
            return self.by_piece(group, &ranges, &pieces, schema);
        }
        self.scattered(group, rows, &ranges, schema)
    }

    /// Rows far apart: out of whole columns what is small, in memory, or read
    /// like this again and again; of others by ranges.
    fn scattered(
        &self,
        group: &Group,
        rows: &Rows,
        ranges: &[Range<usize>],
        schema: &SchemaRef,
    ) -> Result<RecordBatch, ServiceError> {
        let columns = group.own(schema);
        let wide = ranges.len() > SCATTERED_RANGES;
        let all_over = wide && pieces_of(ranges).len() * 2 > group.rows / PIECE_ROWS;
        let (whole, parts): (Vec<usize>, Vec<usize>) = columns.iter().partition(|column| {
            let place = group.place(**column);
            (wide && group.is_small(**column))
                || self.hot.whole(place).is_some()
                || (all_over && self.hot.touched(place))
        });
        let mut arrays: Vec<(usize, ArrayRef)> = Vec::with_capacity(columns.len());
        if !whole.is_empty() {
            let found = pick(group, &self.whole(group, &group.own_schema(&whole))?, rows)?;
            arrays.extend(whole.into_iter().zip(found.columns().iter().cloned()));
        }
        if !parts.is_empty() {
            let found = self.decode(group, &parts, Some(ranges))?;
            arrays.extend(parts.into_iter().zip(found.columns().iter().cloned()));
        }
        let place = |column: usize| columns.iter().position(|own| *own == column);
        arrays.sort_by_key(|(column, _)| place(*column));
        let arrays = arrays.into_iter().map(|(_, array)| array).collect();
        let wanted = ranges.iter().map(ExactSizeIterator::len).sum();
        group.conformed(&columns, arrays, wanted, schema)
    }

    /// Rows out of pieces that are kept.
    fn by_piece(
        &self,
        group: &Group,
        ranges: &[Range<usize>],
        pieces: &[usize],
        schema: &SchemaRef,
    ) -> Result<RecordBatch, ServiceError> {
        let failed = |error| arrow_error(group.file.key(), error);
        let columns = group.own(schema);
        let mut found = Vec::with_capacity(pieces.len());
        for (piece, batch) in pieces.iter().zip(self.pieces(group, &columns, pieces)?) {
            let begin = piece * PIECE_ROWS;
            let end = begin + batch.num_rows();
            let from = ranges.partition_point(|range| range.end <= begin);
            let here: Vec<Range<usize>> = ranges[from..]
                .iter()
                .take_while(|range| range.start < end)
                .map(|range| range.start.max(begin) - begin..range.end.min(end) - begin)
                .collect();
            if let [only] = here.as_slice() {
                found.push(batch.slice(only.start, only.len()));
            } else {
                let numbers: UInt32Array = here
                    .into_iter()
                    .flatten()
                    .map(|row| u32::try_from(row).unwrap_or(u32::MAX))
                    .collect::<Vec<_>>()
                    .into();
                found.push(take_rows(&batch, &numbers).map_err(failed)?);
            }
        }
        let batch = match found.as_slice() {
            [only] => only.clone(),
            many => concat_batches(&group.own_schema(&columns), many).map_err(failed)?,
        };
        group.conformed(&columns, batch.columns().to_vec(), batch.num_rows(), schema)
    }

    /// Pieces of some columns, as the file has them. What is not in memory is read at
    /// once: piece by piece each would ask the object store for the page around it.
    fn pieces(
        &self,
        group: &Group,
        columns: &[usize],
        pieces: &[usize],
    ) -> Result<Vec<RecordBatch>, ServiceError> {
        let rows_of = |piece: usize| {
            let begin = piece * PIECE_ROWS;
            begin..(begin + PIECE_ROWS).min(group.rows)
        };
        let known = |column: usize, piece: usize| {
            let (place, rows) = (group.place(column), rows_of(piece));
            self.hot
                .piece(place, piece)
                .or_else(|| self.hot.whole(place).map(|whole| whole.slice(rows.start, rows.len())))
        };
        let mut arrays: Vec<Vec<Option<ArrayRef>>> = pieces
            .iter()
            .map(|piece| columns.iter().map(|column| known(*column, *piece)).collect())
            .collect();
        self.tally.hot(arrays.iter().flatten().flatten().count() as u64);
        let cold: Vec<usize> =
            (0..pieces.len()).filter(|at| arrays[*at].iter().any(Option::is_none)).collect();
        if !cold.is_empty() {
            let lacks = |column: usize| cold.iter().any(|at| arrays[*at][column].is_none());
            let lacking: Vec<usize> = (0..columns.len()).filter(|at| lacks(*at)).collect();
            let read: Vec<usize> = lacking.iter().map(|at| columns[*at]).collect();
            let ranges: Vec<Range<usize>> = cold.iter().map(|at| rows_of(pieces[*at])).collect();
            let found = self.decode(group, &read, Some(&ranges))?;
            let mut begin = 0;
            for (at, range) in cold.iter().zip(&ranges) {
                let part = part(group, &found, begin..begin + range.len())?;
                begin += range.len();
                for (column, array) in lacking.iter().zip(part.columns()) {
                    let place = group.place(columns[*column]);
                    self.hot.put_piece(place, pieces[*at], Arc::clone(array));
                    arrays[*at][*column] = Some(Arc::clone(array));
                }
            }
        }
        let schema = group.own_schema(columns);
        let batch = |(piece, arrays): (&usize, Vec<Option<ArrayRef>>)| {
            let options = RecordBatchOptions::new().with_row_count(Some(rows_of(*piece).len()));
            let arrays = arrays.into_iter().flatten().collect();
            RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options)
                .map_err(|error| arrow_error(group.file.key(), error))
        };
        pieces.iter().zip(arrays).map(batch).collect()
    }

    /// Decodes columns of the file's own for some rows, or all.
    pub fn decode(
        &self,
        group: &Group,
        columns: &[usize],
        ranges: Option<&[Range<usize>]>,
    ) -> Result<RecordBatch, ServiceError> {
        let schema = group.own_schema(columns);
        let rows = group.rows as u64;
        let chosen = ranges.map(|ranges| {
            let ranges: Vec<Range<u64>> =
                ranges.iter().map(|range| range.start as u64..range.end as u64).collect();
            selection(&ranges, 0, rows)
        });
        let wanted = ranges
            .map_or(group.rows, |ranges| ranges.iter().map(ExactSizeIterator::len).sum::<usize>());
        self.tally.decoded(columns.len() as u64);
        let pass = Pass {
            row_groups: vec![group.index],
            selection: chosen,
            schema: Arc::clone(&schema),
            batch_bytes: WHOLE_BYTES_MAX,
            batch_rows: Some(wanted),
        };
        let mut scan = BlockScan::new(Arc::clone(&group.file), pass, self)?;
        let mut batches = Vec::new();
        while let Some(batch) = scan.next_batch()? {
            batches.push(batch);
        }
        let found = match batches.as_slice() {
            [only] => only.clone(),
            [] => RecordBatch::new_empty(schema),
            many => concat_batches(&schema, many)
                .map_err(|error| arrow_error(group.file.key(), error))?,
        };
        if found.num_rows() != wanted && !columns.is_empty() {
            let why = format!("{} rows where {wanted} should be", found.num_rows());
            return Err(damaged(group.file.key(), why));
        }
        Ok(found)
    }
}

/// Rows of what was decoded that are kept apart from the rest of it.
fn part(
    group: &Group,
    found: &RecordBatch,
    rows: Range<usize>,
) -> Result<RecordBatch, ServiceError> {
    if rows.len() == found.num_rows() {
        return Ok(found.clone());
    }
    // A slice would hold the memory of all.
    let number = |row: usize| u32::try_from(row).unwrap_or(u32::MAX);
    let numbers = UInt32Array::from_iter_values(rows.map(number));
    take_rows(found, &numbers).map_err(|error| arrow_error(group.file.key(), error))
}

/// The pieces that ranges touch, each once.
fn pieces_of(ranges: &[Range<usize>]) -> Vec<usize> {
    let mut pieces: Vec<usize> = Vec::new();
    for range in ranges {
        let (first, last) = (range.start / PIECE_ROWS, (range.end - 1) / PIECE_ROWS);
        let from = pieces.last().map_or(first, |last| first.max(last + 1));
        pieces.extend(from..=last);
    }
    pieces
}

/// Rows of a whole group.
pub(crate) fn pick(
    group: &Group,
    whole: &RecordBatch,
    rows: &Rows,
) -> Result<RecordBatch, ServiceError> {
    let failed = |error| arrow_error(group.file.key(), error);
    match rows {
        Rows::All(_) => Ok(whole.clone()),
        Rows::Range(range) => Ok(whole.slice(range.start, range.len())),
        Rows::Mask(mask) => match mask.set_slices().take(2).collect::<Vec<_>>().as_slice() {
            [(start, end)] => Ok(whole.slice(*start, end - start)),
            _ => {
                let mask = BooleanArray::new(mask.clone(), None);
                filter_record_batch(whole, &mask).map_err(failed)
            }
        },
        Rows::Set(_) => take_rows(whole, &rows.numbers()).map_err(failed),
    }
}
