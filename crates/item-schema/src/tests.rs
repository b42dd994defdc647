//! The profile's columns against the data that people bring.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use uuid::Uuid;

use super::*;

fn core_fields() -> Vec<Field> {
    CORE_COLUMNS.iter().map(ItemColumn::field).collect()
}

#[test]
fn an_empty_items_dataset_has_core_and_small_columns() {
    let schema = items_schema(None).unwrap();
    assert_eq!(schema.fields().len(), 23);
    assert!(!schema.field_with_name("id").unwrap().is_nullable());
    assert!(schema.field_with_name("dataset_id").unwrap().is_nullable());
    assert_eq!(schema.field_with_name("width").unwrap().data_type(), &DataType::Int32);
    assert_eq!(detect_profile(&schema), Profile::Items);
    assert_eq!(default_key(&schema), Some("id"));
}

#[test]
fn all_core_columns_make_items_and_one_missing_makes_a_table() {
    let mut fields = core_fields();
    assert_eq!(detect_profile(&Schema::new(fields.clone())), Profile::Items);
    fields.remove(3);
    assert_eq!(detect_profile(&Schema::new(fields)), Profile::Table);
}

#[test]
fn other_types_of_the_same_kind_are_items_too() {
    let retyped = core_fields().into_iter().map(|field| match field.name().as_str() {
        "id" => field.with_data_type(DataType::FixedSizeBinary(16)),
        "title" => field.with_data_type(DataType::LargeUtf8),
        "width" => field.with_data_type(DataType::UInt64),
        "created_at" => field.with_data_type(DataType::Timestamp(TimeUnit::Nanosecond, None)),
        _ => field,
    });
    let schema = Schema::new(retyped.collect::<Vec<_>>());
    assert_eq!(detect_profile(&schema), Profile::Items);
    let kept = items_schema(Some(&schema)).unwrap();
    assert_eq!(*kept, schema, "nothing is added to or changed in whole items");
}

#[test]
fn user_columns_come_first_and_missing_core_columns_follow() {
    let user = Schema::new(vec![
        Field::new("section", DataType::Utf8, true),
        Field::new("id", DataType::Utf8, false),
    ]);
    let schema = items_schema(Some(&user)).unwrap();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names[..4], ["section", "id", "dataset_id", "external_id"]);
    assert_eq!(names.len(), 16);
}

#[test]
fn a_well_known_column_of_a_wrong_type_is_named() {
    let user = Schema::new(vec![Field::new("width", DataType::Utf8, true)]);
    let error = items_schema(Some(&user)).unwrap_err();
    assert_eq!(error.column.as_deref(), Some("width"));
    assert!(error.to_string().contains("a whole number, not Utf8"), "{error}");
}

#[test]
fn keys_need_an_order() {
    let float_id = Schema::new(vec![Field::new("id", DataType::Float64, false)]);
    assert_eq!(default_key(&float_id), None);
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int8, true)));
    assert!(!is_orderable(&list) && is_orderable(&DataType::Int64));
    assert!(!is_storable(&DataType::Struct(Vec::<Field>::new().into())));
    assert!(!is_storable(&DataType::Decimal128(5, -2)) && !is_storable(&DataType::Decimal32(5, 6)));
    assert!(is_storable(&DataType::Decimal128(5, 5)) && is_storable(&DataType::Decimal256(60, 0)));
}

#[test]
fn ids_come_as_text_or_bytes() {
    let id = Uuid::now_v7();
    assert_eq!(parse_id(&id.hyphenated().to_string()).unwrap(), id);
    assert_eq!(parse_id(&id.simple().to_string().to_uppercase()).unwrap(), id);
    assert_eq!(parse_id_bytes(id.as_bytes()).unwrap(), id);
    assert!(new_id() < new_id());
    for wrong in ["", "7", "icon-1", "{01932d3e-7b2a-7c1f-9f00-000000000000}"] {
        assert!(parse_id(wrong).unwrap_err().to_string().contains("UUID"), "{wrong}");
    }
    assert!(parse_id_bytes(b"short").unwrap_err().message.contains("5 bytes"));
}

#[test]
fn a_schema_crosses_the_wire_with_its_metadata() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    let metadata = HashMap::from([("pandas".to_owned(), "{}".to_owned())]);
    let fields =
        vec![Field::new("tags", list, true), Field::new("n", DataType::Decimal128(9, 2), false)];
    let schema = Schema::new_with_metadata(fields, metadata);
    assert_eq!(schema_from_ipc(&schema_to_ipc(&schema).unwrap()).unwrap(), schema);
}

#[test]
fn bytes_that_are_no_schema_are_refused() {
    let good = schema_to_ipc(&items_schema(None).unwrap()).unwrap();
    assert!(schema_from_ipc(b"").is_err());
    assert!(schema_from_ipc(&good[..good.len() / 2]).is_err());
    assert!(schema_from_ipc(&vec![0; SCHEMA_BYTES_MAX + 1]).is_err());
    for at in (0..good.len()).step_by(3) {
        let mut bent = good.clone();
        bent[at] ^= 0x55;
        // Refused or another schema, but no panic gets out.
        drop(schema_from_ipc(&bent));
    }
}
