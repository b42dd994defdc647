//! Rows to put: a table with a key, a number, a text, a flag and a null now and then.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

/// `key` (unique), `width`, `score` (null in every seventh row), `section`, `is_favorite`.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("width", DataType::Int64, false),
        Field::new("score", DataType::Float64, true),
        Field::new("section", DataType::Utf8, false),
        Field::new("is_favorite", DataType::Boolean, false),
    ]))
}

/// The sections in turn.
pub const SECTIONS: [&str; 4] = ["games", "libs", "doc", "utils"];

/// Rows `from..to`; every value follows from the row's number.
pub fn rows(from: i64, to: i64) -> RecordBatch {
    let ids = || from..to;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids())),
        Arc::new(Int64Array::from_iter_values(ids().map(width))),
        Arc::new(ids().map(score).collect::<Float64Array>()),
        Arc::new(StringArray::from_iter_values(ids().map(section))),
        Arc::new(ids().map(|id| Some(is_favorite(id))).collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns that fit the schema")
}

/// Between 1,000 and 4,999.
pub fn width(id: i64) -> i64 {
    1_000 + (id * 7_919).rem_euclid(4_000)
}

fn score(id: i64) -> Option<f64> {
    (id % 7 != 0).then(|| id as f64 / 8.0)
}

/// One of [`SECTIONS`].
pub fn section(id: i64) -> &'static str {
    SECTIONS[usize::try_from(id.rem_euclid(4)).expect("below 4")]
}

/// True in every third row.
pub fn is_favorite(id: i64) -> bool {
    id % 3 == 0
}

/// Batches as one, so that two reads can be compared whatever their batches were.
pub fn joined(batches: &[RecordBatch]) -> RecordBatch {
    let schema = batches.first().map_or_else(schema, RecordBatch::schema);
    concat_batches(&schema, batches).expect("batches of one schema")
}

/// Rows of about 1 KiB that no codec makes smaller: `id` and `noise`.
pub fn noisy_rows(from: i64, to: i64) -> RecordBatch {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::try_from(from).expect("a row's number");
    let mut noise = || {
        let words = (0..64).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("{state:016x}")
        });
        words.collect::<String>()
    };
    let ids = Int64Array::from_iter_values(from..to);
    let texts = StringArray::from_iter_values((from..to).map(|_| noise()));
    let columns: Vec<(&str, ArrayRef)> = vec![("id", Arc::new(ids)), ("noise", Arc::new(texts))];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}
