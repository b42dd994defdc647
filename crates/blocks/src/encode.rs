//! Batches into the bytes of a Parquet file, columns side by side.

use std::collections::HashSet;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering as AtomicOrdering};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{KeyValue, ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::checksums::{METADATA_KEY, PIECE_BYTES, SummingWriter};
use crate::keys::KeyCodec;
use crate::order::Order;

/// Values looked at to decide whether a dictionary pays.
const DICTIONARY_SAMPLE_ROWS: usize = 16_384;
/// Rows of a data page: what a point read decodes at least.
const PAGE_ROWS: usize = 8_192;
/// Bytes of a data page, about: a point read of a wide column decompresses it all.
const PAGE_BYTES: usize = 32 << 10;
/// Values after which it is asked whether a page is full.
const PAGE_ASKED_EVERY: usize = 256;
/// Text bounds in statistics are cut here.
const BOUND_BYTES_MAX: usize = 64;
const BLOOM_FALSE_POSITIVES: f64 = 0.01;
const UNIQUE_FALSE_POSITIVES: f64 = 0.000_1;

/// How pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Fast both ways.
    #[default]
    Lz4,
    /// As fast to write, slower to read; every reader of Parquet knows it.
    Snappy,
    /// About a third smaller, about a third slower.
    Zstd,
    /// None.
    None,
}

/// How a block is laid out.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub schema: SchemaRef,
    /// Index of the key column.
    pub key: Option<usize>,
    /// Columns that are looked up by value.
    pub blooms: Vec<String>,
    /// Columns whose filters are asked about many values at once.
    pub unique: Vec<String>,
    pub row_group_rows: usize,
    pub compression: Compression,
    /// Threads that encode columns.
    pub threads: usize,
}

/// What the footer holds, and how long the tail is that holds it.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub metadata: ParquetMetaData,
    /// Bytes from the table of checksums to the end of the file.
    pub tail_bytes: u64,
}

/// Writes all rows in `order`.
pub(crate) fn encode<W: Write + Send>(
    batches: &[RecordBatch],
    order: &Order,
    layout: &Layout,
    sink: &mut W,
) -> Result<Encoded> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let properties = properties(batches, layout)?;
    let (mut summing, data_end) = SummingWriter::new(&mut *sink);
    let schema = Arc::clone(&layout.schema);
    let writer = ArrowWriter::try_new(&mut summing, schema, Some(properties))?;
    let (mut file, factory) = writer.into_serialized_writer()?;
    let mut begin = 0;
    let mut index = 0;
    while begin < rows {
        let range = begin..(begin + layout.row_group_rows).min(rows);
        begin = range.end;
        let chunks = encode_row_group(batches, order, range, layout, &factory, index)?;
        let mut row_group = file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut row_group)?;
        }
        row_group.close()?;
        index += 1;
    }
    let data_bytes = file.bytes_written() as u64;
    file.write_all(&data_end.set(data_bytes))?;
    let place = format!("crc32/{PIECE_BYTES}@{data_bytes}");
    file.append_key_value_metadata(KeyValue::new(METADATA_KEY.to_owned(), place));
    let metadata = file.finish()?;
    drop(file);
    Ok(Encoded { metadata, tail_bytes: summing.finish()? })
}

/// One column's writers, and afterwards its chunks.
enum Slot {
    Todo(Vec<ArrowColumnWriter>),
    Done(Result<Vec<ArrowColumnChunk>>),
    Taken,
}

fn encode_row_group(
    batches: &[RecordBatch],
    order: &Order,
    range: Range<usize>,
    layout: &Layout,
    factory: &ArrowRowGroupWriterFactory,
    index: usize,
) -> Result<Vec<ArrowColumnChunk>> {
    let mut writers = factory.create_column_writers(index)?.into_iter();
    let slots: Vec<Mutex<Slot>> = layout
        .schema
        .fields()
        .iter()
        .map(|field| {
            Mutex::new(Slot::Todo(writers.by_ref().take(leaf_count(field.data_type())).collect()))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let column = next.fetch_add(1, AtomicOrdering::Relaxed);
            let Some(slot) = slots.get(column) else { return };
            let Ok(mut slot) = slot.lock() else { return };
            if let Slot::Todo(writers) = std::mem::replace(&mut *slot, Slot::Taken) {
                *slot = Slot::Done(encode_column(
                    batches,
                    order,
                    range.clone(),
                    layout,
                    column,
                    writers,
                ));
            }
        }
    };
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..layout.threads).map(|_| scope.spawn(work)).collect();
        work();
        // A panic leaves its slot undone, which is an error below.
        for helper in helpers {
            let _ = helper.join();
        }
    });
    let mut chunks = Vec::new();
    for slot in slots {
        match slot.into_inner() {
            Ok(Slot::Done(done)) => chunks.extend(done?),
            _ => return Err(ParquetError::General("a column could not be encoded".to_owned())),
        }
    }
    Ok(chunks)
}

fn encode_column(
    batches: &[RecordBatch],
    order: &Order,
    range: Range<usize>,
    layout: &Layout,
    column: usize,
    mut writers: Vec<ArrowColumnWriter>,
) -> Result<Vec<ArrowColumnChunk>> {
    let field = layout.schema.field(column);
    let mut write = |array: &ArrayRef| -> Result<()> {
        for (writer, leaf) in writers.iter_mut().zip(compute_leaves(field, array)?) {
            writer.write(&leaf)?;
        }
        Ok(())
    };
    match order {
        Order::Arrival => {
            let mut begin = 0;
            for batch in batches {
                let end = begin + batch.num_rows();
                let from = range.start.max(begin);
                let to = range.end.min(end);
                if from < to {
                    write(&batch.column(column).slice(from - begin, to - from))?;
                }
                begin = end;
            }
        }
        Order::Sorted(places) => {
            let arrays: Vec<&dyn Array> =
                batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            write(&interleave(&arrays, &places[range])?)?;
        }
    }
    writers.into_iter().map(ArrowColumnWriter::close).collect()
}

/// How many Parquet columns a type becomes.
fn leaf_count(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => leaf_count(field.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| leaf_count(field.data_type())).sum(),
        DataType::Dictionary(_, values) => leaf_count(values),
        _ => 1,
    }
}

fn properties(batches: &[RecordBatch], layout: &Layout) -> Result<WriterProperties> {
    let codec = match layout.compression {
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Snappy => Codec::SNAPPY,
        Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(1)?),
        Compression::None => Codec::UNCOMPRESSED,
    };
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("quarry ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(codec)
        .set_max_row_group_row_count(Some(layout.row_group_rows))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_write_batch_size(PAGE_ASKED_EVERY)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(BOUND_BYTES_MAX))
        .set_column_index_truncate_length(Some(BOUND_BYTES_MAX));
    if let Some(key) = layout.key {
        let column = leaves_before(&layout.schema, key);
        let column_idx = i32::try_from(column)
            .map_err(|_| ParquetError::General("too many columns".to_owned()))?;
        let sorting = SortingColumn { column_idx, descending: false, nulls_first: false };
        builder = builder.set_sorting_columns(Some(vec![sorting]));
    }
    for (index, field) in layout.schema.fields().iter().enumerate() {
        let path = ColumnPath::from(field.name().as_str());
        let is_unique = layout.unique.contains(field.name());
        let is_asked = is_unique || layout.blooms.contains(field.name());
        if is_asked && leaf_count(field.data_type()) == 1 {
            let most = if is_unique { UNIQUE_FALSE_POSITIVES } else { BLOOM_FALSE_POSITIVES };
            builder = with_bloom(builder, &path, layout.row_group_rows, most);
        }
        if !dictionary_pays(batches, index, field.data_type()) {
            builder = builder.set_column_dictionary_enabled(path, false);
        }
    }
    Ok(builder.build())
}

fn with_bloom(
    builder: WriterPropertiesBuilder,
    path: &ColumnPath,
    rows: usize,
    false_positives: f64,
) -> WriterPropertiesBuilder {
    builder
        .set_column_bloom_filter_enabled(path.clone(), true)
        .set_column_bloom_filter_fpp(path.clone(), false_positives)
        .set_column_bloom_filter_max_ndv(path.clone(), rows as u64)
}

fn leaves_before(schema: &Schema, column: usize) -> usize {
    schema.fields()[..column].iter().map(|field| leaf_count(field.data_type())).sum()
}

/// A dictionary of mostly different values costs time and saves nothing.
fn dictionary_pays(batches: &[RecordBatch], column: usize, data_type: &DataType) -> bool {
    let fits = matches!(data_type, DataType::Dictionary(_, _)) || data_type.is_nested();
    let Some(batch) = batches.iter().max_by_key(|batch| batch.num_rows()) else { return true };
    if fits || data_type == &DataType::Null || data_type == &DataType::Boolean {
        return true;
    }
    let sample = batch.column(column).slice(0, batch.num_rows().min(DICTIONARY_SAMPLE_ROWS));
    let Ok(rows) = KeyCodec::new(data_type).and_then(|codec| codec.rows(&sample)) else {
        return true;
    };
    let distinct: HashSet<&[u8]> = (0..rows.num_rows()).map(|i| rows.row(i).data()).collect();
    distinct.len() * 2 <= sample.len()
}
