//! Each type takes what it should and refuses the rest.
#![allow(clippy::unwrap_used, reason = "tests")]

use arrow::array::AsArray;
use arrow::datatypes::{Decimal128Type, Int8Type, TimestampMicrosecondType, UInt64Type};
use arrow::util::display::array_value_to_string;

use super::*;

fn column(kind: DataType) -> Column {
    Column::new(&Arc::new(Field::new("c", kind, true))).unwrap()
}

fn refused(kind: DataType, text: &str) -> String {
    column(kind).append_text(text).unwrap_err()
}

#[test]
fn numbers_are_range_checked_not_wrapped() {
    let mut cells = column(DataType::Int8);
    cells.append_text("-128").unwrap();
    cells.append_json(&Json::Int(127)).unwrap();
    cells.append_null();
    let array = cells.finish().unwrap();
    assert_eq!(array.as_primitive::<Int8Type>().values()[..2], [-128, 127]);
    assert!(array.is_null(2));
    assert!(refused(DataType::Int8, "128").contains("outside -128…127"));
    assert!(refused(DataType::UInt16, "-1").contains("unsigned"));
    assert!(
        column(DataType::Int32)
            .append_json(&Json::Float(1.5))
            .unwrap_err()
            .contains("not an integer")
    );
}

#[test]
fn large_unsigned_numbers_survive() {
    let mut cells = column(DataType::UInt64);
    cells.append_text("18446744073709551615").unwrap();
    cells.append_json(&Json::Int(3)).unwrap();
    assert_eq!(cells.finish().unwrap().as_primitive::<UInt64Type>().values()[..], [u64::MAX, 3]);
}

#[test]
fn decimals_keep_every_digit_or_refuse() {
    let mut cells = column(DataType::Decimal128(10, 2));
    cells.append_text("12.30").unwrap();
    cells.append_json(&Json::Float(0.5)).unwrap();
    assert_eq!(cells.finish().unwrap().as_primitive::<Decimal128Type>().values()[..], [1230, 50]);
    assert!(refused(DataType::Decimal128(10, 2), "1.005").contains("2 digits after the point"));
    assert!(refused(DataType::Decimal128(4, 2), "12345").contains("decimal of 4"));
}

#[test]
fn timestamps_take_offsets_and_refuse_lost_digits() {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut cells = column(micros.clone());
    for text in ["2024-05-01T12:00:00.5+02:00", "2024-05-01 10:00:00.5", "2024-05-01"] {
        cells.append_text(text).unwrap();
    }
    let array = cells.finish().unwrap();
    assert_eq!(array.data_type(), &micros);
    let values = array.as_primitive::<TimestampMicrosecondType>();
    assert_eq!(values.value(0), values.value(1));
    assert_eq!(values.value(2) % 86_400_000_000, 0);
    assert!(refused(micros, "2024-05-01 10:00:00.123456789").contains("finer"));
    assert!(refused(DataType::Date32, "01/02/2024").contains("YYYY-MM-DD"));
}

#[test]
fn dates_before_the_epoch_count_back() {
    let mut cells = column(DataType::Date32);
    cells.append_text("1969-12-31").unwrap();
    assert_eq!(array_value_to_string(&cells.finish().unwrap(), 0).unwrap(), "1969-12-31");
}

#[test]
fn uuids_are_taken_with_and_without_hyphens() {
    let mut cells = column(DataType::FixedSizeBinary(16));
    cells.append_text("018f3c5e-7c2a-7b11-8c3d-0123456789ab").unwrap();
    cells.append_text("018f3c5e7c2a7b118c3d0123456789ab").unwrap();
    let array = cells.finish().unwrap();
    let values = array.as_fixed_size_binary();
    assert_eq!(values.value(0), values.value(1));
    assert!(refused(DataType::FixedSizeBinary(16), "018f").contains("16 bytes"));
}

#[test]
fn nested_cells_come_from_json_in_either_form() {
    let inner = Fields::from(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    let kind = DataType::List(Arc::new(Field::new("item", DataType::Struct(inner), true)));
    let mut cells = column(kind.clone());
    cells.append_text(r#"[{"a":1,"b":"x"},{"b":null},null]"#).unwrap();
    cells.append_null();
    cells.append_text("[]").unwrap();
    let array = cells.finish().unwrap();
    assert_eq!(array.data_type(), &kind);
    assert_eq!(array.as_list::<i32>().value(0).len(), 3);
    assert!(array.is_null(1) && !array.is_null(2));
    assert!(refused(kind.clone(), r#"[{"c":1}]"#).contains("no field \"c\""));
    assert!(refused(kind, "7").contains("not a list"));
}

#[test]
fn fixed_lists_check_their_length() {
    let kind = DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), 3);
    let mut cells = column(kind.clone());
    cells.append_text("[1, 2.5, 3]").unwrap();
    cells.append_null();
    let array = cells.finish().unwrap();
    assert_eq!((array.data_type(), array.len(), array.null_count()), (&kind, 2, 1));
    assert!(refused(kind, "[1,2]").contains("2 entries, its type 3"));
}

#[test]
fn text_takes_any_value_and_long_ones_are_cut_in_messages() {
    let mut cells = column(DataType::Utf8);
    cells.append_json(&Json::Int(7)).unwrap();
    cells.append_json(&Json::List(vec![Json::Text("é".to_owned()), Json::Null])).unwrap();
    let array = cells.finish().unwrap();
    assert_eq!(array.as_string::<i32>().value(0), "7");
    assert_eq!(array.as_string::<i32>().value(1), r#"["é",null]"#);
    assert!(refused(DataType::Int64, &"é".repeat(500)).len() < 200);
}
