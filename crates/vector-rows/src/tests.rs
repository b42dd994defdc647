//! Batches of every kind.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
    FixedSizeListArray, Float16Array, Int32Array, ListArray, ListBuilder, StringArray,
    StringBuilder, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Float32Type as F32, Int32Type};
use half::f16;

use super::*;

fn halves() -> ArrayRef {
    let values: Vec<f16> = [1.0, 0.5, -2.0, 0.25].map(f16::from_f32).to_vec();
    let field = Arc::new(Field::new_list_field(DataType::Float16, true));
    Arc::new(FixedSizeListArray::new(field, 2, Arc::new(Float16Array::from(values)), None))
}

fn batch() -> RecordBatch {
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.values().append_value("a");
    tags.values().append_null();
    tags.append(true);
    tags.append(false);
    let words: DictionaryArray<Int32Type> = vec![Some("w"), None].into_iter().collect();
    let ids = FixedSizeBinaryArray::try_from_iter([[7_u8; 16], [8; 16]].iter()).unwrap();
    let decimals = Decimal128Array::from(vec![150, 25]).with_precision_and_scale(9, 2).unwrap();
    RecordBatch::try_from_iter_with_nullable([
        ("name", Arc::new(StringArray::from(vec!["x", "y"])) as ArrayRef, true),
        ("v", halves(), true),
        ("n", Arc::new(Int32Array::from(vec![Some(1), None])), true),
        ("big", Arc::new(UInt64Array::from(vec![u64::MAX, 1])), true),
        ("flag", Arc::new(BooleanArray::from(vec![true, false])), true),
        ("at", Arc::new(TimestampSecondArray::from(vec![1, 2])), true),
        ("day", Arc::new(Date32Array::from(vec![3, 4])), true),
        ("tags", Arc::new(tags.finish()), true),
        ("word", Arc::new(words), true),
        ("uid", Arc::new(ids), true),
        ("price", Arc::new(decimals), true),
        ("blob", Arc::new(BinaryArray::from(vec![&b"b"[..], b"c"])), true),
    ])
    .unwrap()
}

#[test]
fn rows_are_points_and_what_cannot_be_filtered_is_named() {
    let batch = batch();
    let (columns, left_out) = Columns::of(batch.schema_ref(), "name", "v", &[]).unwrap();
    assert_eq!(left_out, ["big", "price", "blob"]);
    let rows = columns.rows(&batch).unwrap();
    assert_eq!((rows[0].item_id.as_str(), rows[1].item_id.as_str()), ("x", "y"));
    assert_eq!(rows[1].vector, Ok(vec![-2.0, 0.25]));
    let payload = rows[0].payload.as_ref().unwrap();
    let text = |text: &str| Value::Text(text.to_owned());
    for (name, expected) in [
        ("n", Value::Int(1)),
        ("flag", Value::Bool(true)),
        ("at", Value::Time(1_000_000)),
        ("day", Value::Date(3)),
        ("tags", Value::List(vec![text("a")])),
        ("word", text("w")),
        ("uid", text("07070707-0707-0707-0707-070707070707")),
        ("name", text("x")),
    ] {
        assert_eq!(payload.get(name), Some(&expected), "{name}");
    }
    let second = rows[1].payload.as_ref().unwrap();
    assert!(["n", "tags", "word"].iter().all(|name| second.get(name).is_none()));
}

#[test]
fn ids_of_any_kind_are_text_and_only_named_columns_are_taken() {
    let batch = batch();
    let (columns, _) = Columns::of(batch.schema_ref(), "uid", "v", &["n".to_owned()]).unwrap();
    assert_eq!(columns.names(), ["n", "uid", "v"]);
    let rows = columns.rows(&batch).unwrap();
    assert_eq!(rows[0].item_id, "07070707-0707-0707-0707-070707070707");
    assert_eq!(rows[0].payload.as_ref().unwrap().fields().len(), 1);
    let (columns, _) = Columns::of(batch.schema_ref(), "n", "v", &["n".to_owned()]).unwrap();
    let rows = columns.rows(&batch).unwrap();
    assert_eq!((rows[0].item_id.as_str(), rows[1].item_id.as_str()), ("1", ""));
}

#[test]
fn a_bad_row_is_its_own_error() {
    let lists = ListArray::from_iter_primitive::<F32, _, _>([
        Some(vec![Some(1.0), Some(2.0)]),
        Some(vec![Some(1.0), None]),
        None,
        Some(vec![]),
    ]);
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", ids, true),
        ("v", Arc::new(lists) as ArrayRef, true),
    ])
    .unwrap();
    let (columns, _) = Columns::of(batch.schema_ref(), "id", "v", &[]).unwrap();
    let rows = columns.rows(&batch.slice(0, 4)).unwrap();
    assert_eq!(rows[0].vector, Ok(vec![1.0, 2.0]));
    assert!(rows[1].vector.is_err() && rows[2].vector.is_err());
    assert_eq!(rows[3].vector, Ok(vec![]));
    let rows = columns.rows(&batch.slice(3, 1)).unwrap();
    assert_eq!((rows[0].item_id.as_str(), rows.len()), ("d", 1));
}

#[test]
fn columns_that_do_not_fit_are_refused_by_name() {
    let batch = batch();
    let schema = batch.schema_ref();
    let error = |id: &str, vector: &str, payload: &[&str]| {
        let payload: Vec<String> = payload.iter().map(|name| (*name).to_owned()).collect();
        Columns::of(schema, id, vector, &payload).unwrap_err().to_string()
    };
    assert!(error("nope", "v", &[]).contains("there are name, v"));
    assert!(error("name", "n", &[]).contains("Int32"));
    for never in ["blob", "price"] {
        assert!(error("name", "v", &[never]).contains(never));
    }
    assert!(error("v", "v", &[]).contains("ids are"), "a list tells no items apart");
    assert!(error("blob", "v", &[]).contains("ids are"));
    let of_payload = Columns::of_payload(schema, "tags", &[]);
    assert!(matches!(of_payload, Err(RowsError::NoIds(name, _)) if name == "tags"));
    let of_texts = Columns::of_texts(schema, "v", "name", &[]);
    assert!(matches!(of_texts, Err(RowsError::NoIds(..))));
}

/// As numbers and times of payload they would be other ones, which filters would find.
#[test]
fn values_that_payload_does_not_have_are_errors_of_their_rows() {
    let nanos = [1_600_000_000_000_000_000, 1_600_000_000_000_000_001];
    let mut lists = ListBuilder::new(arrow::array::UInt64Builder::new());
    for list in [[1, 2], [3, u64::MAX]] {
        lists.values().append_slice(&list);
        lists.append(true);
    }
    let large = i64::MAX.unsigned_abs();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef, true),
        ("u", Arc::new(UInt64Array::from(vec![large, large + 1])), true),
        ("ns", Arc::new(TimestampNanosecondArray::from(nanos.to_vec())), true),
        ("us", Arc::new(lists.finish()), true),
        ("s", Arc::new(TimestampSecondArray::from(vec![7, i64::MAX])), true),
    ])
    .unwrap();
    let (columns, left_out) = Columns::of_payload(batch.schema_ref(), "id", &[]).unwrap();
    assert_eq!(left_out, ["u", "ns", "us"]);
    assert!(columns.payload_rows(&batch).unwrap()[1].payload.is_err(), "beyond microseconds");
    let micros = Value::Time(1_600_000_000_000_000);
    let list = Value::List(vec![Value::Int(1), Value::Int(2)]);
    for (name, first) in [("u", Value::Int(i64::MAX)), ("ns", micros), ("us", list)] {
        let named = [name.to_owned()];
        let (columns, _) = Columns::of_payload(batch.schema_ref(), "id", &named).unwrap();
        let rows = columns.payload_rows(&batch).unwrap();
        assert_eq!(rows[0].payload.as_ref().unwrap().get(name), Some(&first));
        let wrong = rows[1].payload.as_ref().unwrap_err();
        assert!(wrong.contains(&format!("{name:?}")), "{wrong}");
    }
}
