//! The index against the filter's own row-by-row answer.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringBuilder};
use proptest::prelude::*;

use super::*;
use crate::dictionary::array;

type Row = (Option<i64>, Option<f64>, Option<bool>, Option<String>, Option<Vec<String>>);

fn payload((n, x, flag, word, tags): &Row) -> Payload {
    let mut fields = Vec::new();
    fields.extend(n.map(|n| ("n".to_owned(), Value::Int(n))));
    fields.extend(x.map(|x| ("x".to_owned(), Value::Float(x))));
    fields.extend(flag.map(|flag| ("flag".to_owned(), Value::Bool(flag))));
    fields.extend(word.clone().map(|word| ("word".to_owned(), Value::Text(word))));
    let list = |tags: &Vec<String>| Value::List(tags.iter().cloned().map(Value::Text).collect());
    fields.extend(tags.as_ref().map(|tags| ("tags".to_owned(), list(tags))));
    Payload::new(fields).unwrap()
}

/// Rows with a first one that gives every column its type.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let word = prop::sample::select(vec!["a", "b", "ab", "", "Über"]);
    let row = (
        prop::option::of(-3_i64..4),
        prop::option::of(prop::sample::select(vec![0.0, -0.0, 1.5, f64::NAN, -7.0])),
        prop::option::of(any::<bool>()),
        prop::option::of(word.clone().prop_map(str::to_owned)),
        prop::option::of(prop::collection::vec(word.prop_map(str::to_owned), 0..3)),
    );
    let first = (Some(1), Some(1.5), Some(true), Some("a".to_owned()), Some(vec!["a".to_owned()]));
    prop::collection::vec(row, 0..40).prop_map(move |mut rows| {
        rows.insert(0, first.clone());
        rows
    })
}

fn leaf() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "n = 1",
        "n != 1",
        "n < 2",
        "n >= -1",
        "n IN (1, 3)",
        "n = null",
        "n != null",
        "n > 1.5",
        "x = 0",
        "x < 1",
        "x != 1.5",
        "flag",
        "flag = false",
        "word = \"a\"",
        "word = \"a*\"",
        "word:\"b\"",
        "word > \"a\"",
        "word IN (\"a\", \"b\")",
        "tags:\"a\"",
        "tags = null",
        "tags:*",
        "item_id = \"i3\"",
        "item_id IN (\"i1\", \"i2\")",
        "n < 99999999999999999999",
    ])
    .prop_map(str::to_owned)
}

fn filters() -> impl Strategy<Value = String> {
    leaf().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

fn batch(rows: &[Row]) -> RecordBatch {
    let column = |kind, values: Vec<Option<Value>>| -> ArrayRef {
        // A value of another kind is a null to the builder.
        let absent = if kind == Kind::Int { Value::Bool(true) } else { Value::Int(0) };
        array(kind, &values.into_iter().map(|v| v.unwrap_or(absent.clone())).collect::<Vec<_>>())
    };
    let mut tags = ListBuilder::new(StringBuilder::new());
    for row in rows {
        match &row.4 {
            Some(list) => {
                list.iter().for_each(|tag| tags.values().append_value(tag));
                tags.append(true);
            }
            None => tags.append(false),
        }
    }
    let ids: Vec<_> = (0..rows.len()).map(|at| Some(Value::Text(format!("i{at}")))).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("item_id", column(Kind::Text, ids), false),
        ("n", column(Kind::Int, rows.iter().map(|r| r.0.map(Value::Int)).collect()), true),
        ("x", column(Kind::Float, rows.iter().map(|r| r.1.map(Value::Float)).collect()), true),
        ("flag", column(Kind::Bool, rows.iter().map(|r| r.2.map(Value::Bool)).collect()), true),
        (
            "word",
            column(Kind::Text, rows.iter().map(|r| r.3.clone().map(Value::Text)).collect()),
            true,
        ),
        ("tags", Arc::new(tags.finish()) as ArrayRef, true),
    ])
    .unwrap()
}

fn index(rows: &[Row], gap: u32) -> PayloadIndex {
    let mut index = PayloadIndex::default();
    for (at, row) in rows.iter().enumerate() {
        let number = 7 + u32::try_from(at).unwrap() * gap;
        assert!(index.insert(number, &format!("i{at}"), &payload(row)).is_empty());
    }
    index
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_bitmap_is_what_row_by_row_says(rows in rows(), text in filters(), gap in 1_u32..4) {
        let built = index(&rows, gap);
        let filter = Filter::parse(&text, &built.schema()).unwrap();
        let stored = PayloadIndex::from_bytes(&built.to_bytes()).unwrap();
        let naive = filter.evaluate(&batch(&rows)).unwrap();
        let expected: Vec<u32> =
            (0..rows.len()).filter(|at| naive.value(*at)).map(|at| 7 + u32::try_from(at).unwrap() * gap).collect();
        for index in [&built, &stored] {
            let found: Vec<u32> = index.passing(&filter).unwrap().iter().collect();
            prop_assert_eq!(&found, &expected, "{}", text);
        }
    }

    #[test]
    fn payloads_survive_their_bytes(rows in rows()) {
        for row in &rows {
            let payload = payload(row);
            let back = Payload::from_bytes(&payload.to_bytes()).unwrap();
            prop_assert_eq!(payload.to_bytes(), back.to_bytes());
        }
    }

    #[test]
    fn damaged_bytes_are_an_error_and_no_panic(rows in rows(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let bytes = index(&rows, 1).to_bytes();
        let mut flipped = bytes.clone();
        let at = at.index(bytes.len());
        flipped[at] ^= 1 << bit;
        prop_assert!(PayloadIndex::from_bytes(&flipped).is_err());
        prop_assert!(PayloadIndex::from_bytes(&bytes[..at]).is_err());
        let payload = payload(&rows[0]).to_bytes();
        let _ = Payload::from_bytes(&payload[..at.min(payload.len())]);
    }
}

#[test]
fn a_column_keeps_its_type_and_a_deleted_point_is_gone() {
    let text = |text: &str| Payload::new(vec![("c".into(), Value::Text(text.into()))]).unwrap();
    let mut index = PayloadIndex::default();
    index.insert(1, "one", &text("x"));
    let number = Payload::new(vec![("c".into(), Value::Int(1))]).unwrap();
    let refused = index.insert(2, "two", &number);
    assert_eq!(refused.len(), 1);
    assert!(refused[0].to_string().contains("Utf8"), "{}", refused[0]);
    index.insert(3, "three", &text("x"));
    let filter = Filter::parse("c = \"x\"", &index.schema()).unwrap();
    assert_eq!(index.passing(&filter).unwrap().len(), 2);
    index.remove(1);
    assert_eq!(index.passing(&filter).unwrap().iter().collect::<Vec<_>>(), [3]);
    let facets = index.facets("c", index.live(), 10).unwrap();
    assert_eq!(facets.counts, [(Value::Text("x".into()), 1)]);
    assert_eq!(index.item_id(3).as_deref(), Some("three"));
    assert_eq!(index.item_id(4), None);
}

#[test]
fn many_values_are_scanned_and_few_have_bitmaps() {
    let mut index = PayloadIndex::default();
    for number in 0..5_000_u32 {
        let fields = vec![
            ("wide".to_owned(), Value::Int(i64::from(number))),
            ("narrow".to_owned(), Value::Int(i64::from(number % 7))),
        ];
        index.insert(number, &number.to_string(), &Payload::new(fields).unwrap());
    }
    let count =
        |text: &str| index.passing(&Filter::parse(text, &index.schema()).unwrap()).unwrap().len();
    assert_eq!(count("wide < 4500 AND wide >= 4000"), 500);
    assert_eq!(count("NOT wide = 17"), 4_999);
    assert_eq!(count("narrow = 3"), 714);
    let back = PayloadIndex::from_bytes(&index.to_bytes()).unwrap();
    assert_eq!(back.to_bytes(), index.to_bytes());
    assert_eq!(back.value("wide", 4_999), Some(Value::Int(4_999)));
    assert_eq!(index.facets("wide", index.live(), 3).unwrap().distinct, 5_000);
}

/// Ids of every form: as UUIDs are usually written, as they may be too, and other texts.
const IDS: [&str; 8] = [
    "01932d3e-7b2a-7c1f-9f00-0123456789ab",
    "01932D3E-7B2A-7C1F-9F00-0123456789AB",
    "01932d3e7b2a7c1f9f000123456789ab",
    "{01932d3e-7b2a-7c1f-9f00-0123456789ab}",
    "00000000-0000-0000-0000-000000000000",
    "59999",
    "Über ein Bild",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];

fn of_ids() -> PayloadIndex {
    let mut index = PayloadIndex::default();
    for (at, id) in (0..).zip(IDS) {
        index.insert(7 + at * 3, id, &Payload::default());
    }
    index
}

#[test]
fn ids_are_answered_as_they_came() {
    let index = of_ids();
    let back = PayloadIndex::from_bytes(&index.to_bytes()).unwrap();
    for index in [&index, &back] {
        for (at, id) in (0..).zip(IDS) {
            assert_eq!(index.item_id(7 + at * 3).as_deref(), Some(id));
            assert_eq!(index.item_id(8 + at * 3), None, "between");
            let filter = format!("item_id = {id:?}");
            let filter = Filter::parse(&filter, &index.schema()).unwrap();
            let passing = index.passing(&filter).unwrap();
            assert_eq!(passing.iter().collect::<Vec<_>>(), [7 + at * 3], "{id}");
        }
    }
    assert_eq!(back.to_bytes(), index.to_bytes());
    assert_eq!(index.item_id(6), None);
}

#[test]
fn ids_of_uuids_take_their_bytes() {
    let mut index = PayloadIndex::default();
    let (rows, id) = (20_000_u32, |number: u32| uuid::Uuid::from_u128(u128::from(number) << 64));
    for number in 0..rows {
        index.insert(number, &id(number + 1).to_string(), &Payload::default());
    }
    let back = PayloadIndex::from_bytes(&index.to_bytes()).unwrap();
    for (index, most) in [(&index, 24.5), (&back, 22.0)] {
        let each = index.memory_bytes() as f64 / f64::from(rows);
        assert!(each <= most, "{each} bytes an id");
        assert_eq!(index.item_id(rows - 1).unwrap(), id(rows).to_string());
        assert_eq!(index.item_id(rows), None);
    }
}

/// As they were before UUIDs were told apart.
#[test]
fn bytes_of_the_version_before_are_read() {
    let index = of_ids();
    let mut out = Writer::default();
    out.count(0);
    out.numbers(&[7]);
    let spaced = IDS.iter().enumerate().flat_map(|(at, id)| {
        let between = if at == 0 { 0 } else { 2 };
        std::iter::repeat_n(0, between).chain([u32::try_from(id.len()).unwrap()])
    });
    out.numbers(&spaced.collect::<Vec<_>>());
    out.text(&IDS.concat());
    out.raw(&column::bitmap_bytes(index.live()));
    let body = out.finish();
    let sum = crc32fast::hash(&body).to_le_bytes();
    let old = [b"QPAYL001".as_slice(), &sum, &body].concat();
    let read = PayloadIndex::from_bytes(&old).unwrap();
    assert_eq!(read.to_bytes(), index.to_bytes());
    for at in 0..old.len() {
        assert!(PayloadIndex::from_bytes(&old[..at]).is_err(), "cut to {at}");
    }
    // Columns, ids and points have not changed since the one after it.
    let second = [b"QPAYL002".as_slice(), &sum, &body].concat();
    assert_eq!(PayloadIndex::from_bytes(&second).unwrap().to_bytes(), index.to_bytes());
    let later = [b"QPAYL004".as_slice(), &sum, &body].concat();
    assert!(matches!(PayloadIndex::from_bytes(&later), Err(PayloadError::Damaged(_))));
}

#[test]
fn an_empty_list_is_one_whenever_it_came() {
    let list = |tags: &[&str]| {
        let tags = tags.iter().map(|tag| Value::Text((*tag).to_owned())).collect();
        Payload::new(vec![("l".into(), Value::List(tags))]).unwrap()
    };
    let mut index = PayloadIndex::default();
    let before = index.memory_bytes();
    index.insert(1, "e", &list(&[]));
    assert!(index.memory_bytes() > before && index.column_type("l").is_none());
    let mut other = PayloadIndex::from_bytes(&index.to_bytes()).unwrap();
    for index in [&mut index, &mut other] {
        index.insert(2, "f", &list(&["a"]));
        index.insert(3, "g", &list(&[]));
        index.insert(4, "h", &Payload::default());
        let null = Filter::parse("l = null", &index.schema()).unwrap();
        assert_eq!(index.passing(&null).unwrap().iter().collect::<Vec<_>>(), [4]);
        assert_eq!(index.value("l", 1), Some(Value::List(Vec::new())));
    }
    assert_eq!(other.to_bytes(), index.to_bytes());
    // In a column of another type it is a null, as it is when it comes later.
    let mut index = PayloadIndex::default();
    index.insert(1, "e", &list(&[]));
    index.insert(2, "f", &Payload::new(vec![("l".into(), Value::Int(1))]).unwrap());
    index.insert(3, "g", &list(&[]));
    let null = Filter::parse("l = null", &index.schema()).unwrap();
    assert_eq!(index.passing(&null).unwrap().iter().collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn the_points_of_items_are_found_by_their_ids() {
    let mut index = of_ids();
    index.remove(10);
    for (at, id) in (0..).zip(IDS).filter(|(at, _)| *at != 1) {
        let found = index.numbers_of(["none", id].into_iter());
        assert_eq!(found.iter().collect::<Vec<_>>(), [7 + at * 3], "{id}");
    }
    assert!(index.numbers_of(["", IDS[1]].into_iter()).is_empty(), "it was removed");
}
