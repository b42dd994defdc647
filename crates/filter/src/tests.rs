//! Filters against a naive row-by-row twin, and what each type accepts.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
    Float64Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use proptest::prelude::*;

use crate::{ColumnRange, Filter, Pruned};

#[derive(Debug, Clone, Default)]
struct Row {
    i: Option<i32>,
    f: Option<f64>,
    s: Option<String>,
    b: Option<bool>,
    l: Option<Vec<Option<String>>>,
    j: Option<Document>,
}

/// A JSON text: `{"k": …, "n": {"m": …}, "t": […]}`.
#[derive(Debug, Clone, Default)]
struct Document {
    k: Option<String>,
    m: Option<i32>,
    t: Vec<String>,
}

impl Document {
    fn text(&self) -> String {
        serde_json::json!({ "x": [1, {"k": "no"}], "k": self.k, "n": {"m": self.m}, "t": self.t })
            .to_string()
    }
}

fn batch(rows: &[Row]) -> RecordBatch {
    let mut lists = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    for row in rows {
        match &row.l {
            Some(list) => lists.append_value(list.clone()),
            None => lists.append_null(),
        }
    }
    let i: Int32Array = rows.iter().map(|r| r.i).collect();
    let f: Float64Array = rows.iter().map(|r| r.f).collect();
    let s: StringArray = rows.iter().map(|r| r.s.clone()).collect();
    let b: BooleanArray = rows.iter().map(|r| r.b).collect();
    let j: StringArray = rows.iter().map(|r| r.j.as_ref().map(Document::text)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("i", Arc::new(i) as ArrayRef, true),
        ("f", Arc::new(f), true),
        ("s", Arc::new(s), true),
        ("b", Arc::new(b), true),
        ("l", Arc::new(lists.finish()), true),
        ("j_json", Arc::new(j), true),
    ])
    .unwrap()
}

/// The twin: a filter as a closed set of shapes, judged row by row.
#[derive(Debug, Clone)]
enum Twin {
    Int(&'static str, f64),
    Float(&'static str, f64),
    Text(&'static str, String),
    Contains(String),
    Prefix(String),
    Suffix(String),
    Flag(bool),
    Null(&'static str, bool),
    IntIn(Vec<i32>),
    Element(String),
    /// Some of, all of, none of.
    Elements(&'static str, Vec<String>),
    JsonText(&'static str, String),
    JsonNumber(&'static str, i32),
    JsonTag(String),
    JsonThere(bool),
    Not(Box<Twin>),
    And(Vec<Twin>),
    Or(Vec<Twin>),
}

fn ordered<T: PartialOrd>(op: &str, left: &T, right: &T) -> bool {
    match op {
        "=" => left == right,
        "!=" => left != right,
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        _ => left >= right,
    }
}

impl Twin {
    fn text(&self) -> String {
        let joined = |parts: &[Self], by: &str| {
            let parts: Vec<String> = parts.iter().map(Self::text).collect();
            format!("({})", parts.join(by))
        };
        match self {
            Self::Int(op, n) => format!("i {op} {n}"),
            Self::Float(op, n) => format!("f {op} {n}"),
            Self::Text(op, t) => format!("s {op} '{t}'"),
            Self::Contains(t) => format!("s:\"{t}\""),
            Self::Prefix(t) => format!("s = \"{t}*\""),
            Self::Suffix(t) => format!("s = \"*{t}\""),
            Self::Flag(b) => format!("b = {b}"),
            Self::Null(column, is) => format!("{column} {} null", if *is { "=" } else { "!=" }),
            Self::IntIn(list) => {
                let list: Vec<String> = list.iter().map(ToString::to_string).collect();
                format!("i IN ({})", list.join(", "))
            }
            Self::Element(t) => format!("l:\"{t}\""),
            Self::Elements(how, texts) => {
                let quoted: Vec<String> = texts.iter().map(|t| format!("\"{t}\"")).collect();
                match *how {
                    "any" => format!("l:({})", quoted.join(" OR ")),
                    "all" => format!("l:({})", quoted.join(" AND ")),
                    _ => format!("l:(NOT {})", quoted.join(" AND NOT ")),
                }
            }
            Self::JsonText(op, t) => format!("j_json.k {op} \"{t}\""),
            Self::JsonNumber(op, n) => format!("j_json.n.m {op} {n}"),
            Self::JsonTag(t) => format!("j_json.t:\"{t}\""),
            Self::JsonThere(is) => format!("j_json.k {} null", if *is { "!=" } else { "=" }),
            Self::Not(inner) => format!("NOT {}", inner.text()),
            Self::And(parts) => joined(parts, " AND "),
            Self::Or(parts) => joined(parts, " or "),
        }
    }

    fn judge(&self, row: &Row) -> Option<bool> {
        match self {
            Self::Int(op, n) => row.i.map(|i| ordered(op, &f64::from(i), n)),
            // NaN is above all numbers.
            Self::Float(op, _) if row.f.is_some_and(f64::is_nan) => {
                Some(["!=", ">", ">="].contains(op))
            }
            Self::Float(op, n) => row.f.map(|f| ordered(op, &f, n)),
            Self::Text(op, t) => row.s.as_ref().map(|s| ordered(op, s, t)),
            Self::Contains(t) => row.s.as_ref().map(|s| s.contains(t.as_str())),
            Self::Prefix(t) => row.s.as_ref().map(|s| s.starts_with(t.as_str())),
            Self::Suffix(t) => row.s.as_ref().map(|s| s.ends_with(t.as_str())),
            Self::Flag(b) => row.b.map(|found| found == *b),
            Self::Null(column, is) => {
                let null = match *column {
                    "i" => row.i.is_none(),
                    "f" => row.f.is_none(),
                    "s" => row.s.is_none(),
                    "l" => row.l.is_none(),
                    _ => row.b.is_none(),
                };
                Some(null == *is)
            }
            Self::IntIn(list) => row.i.map(|i| list.contains(&i)),
            Self::Elements(how, texts) => {
                let list = row.l.as_ref()?;
                let held = |t: &String| list.iter().flatten().any(|e| e == t);
                Some(match *how {
                    "any" => texts.iter().any(held),
                    "all" => texts.iter().all(held),
                    _ => !texts.iter().any(held),
                })
            }
            Self::JsonText(op, t) => row.j.as_ref()?.k.as_ref().map(|k| ordered(op, k, t)),
            Self::JsonNumber(op, n) => row.j.as_ref()?.m.map(|m| ordered(op, &m, n)),
            Self::JsonTag(t) => Some(row.j.as_ref()?.t.contains(t)),
            Self::JsonThere(is) => Some(row.j.as_ref().is_some_and(|j| j.k.is_some()) == *is),
            Self::Element(t) => row.l.as_ref().map(|l| l.iter().flatten().any(|e| e == t)),
            Self::Not(inner) => inner.judge(row).map(|answer| !answer),
            Self::And(parts) => {
                let answers: Vec<_> = parts.iter().map(|p| p.judge(row)).collect();
                if answers.contains(&Some(false)) {
                    Some(false)
                } else if answers.contains(&None) {
                    None
                } else {
                    Some(true)
                }
            }
            Self::Or(parts) => {
                let answers: Vec<_> = parts.iter().map(|p| p.judge(row)).collect();
                if answers.contains(&Some(true)) {
                    Some(true)
                } else if answers.contains(&None) {
                    None
                } else {
                    Some(false)
                }
            }
        }
    }
}

fn op() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="])
}

fn word() -> impl Strategy<Value = String> {
    "[ab]{0,3}"
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-4i32..5).prop_map(f64::from),
        (-8i32..9).prop_map(|n| f64::from(n) / 2.0),
        Just(1e12),
        Just(-1e12)
    ]
}

fn twin() -> impl Strategy<Value = Twin> {
    let leaf = prop_oneof![
        (op(), number()).prop_map(|(o, n)| Twin::Int(o, n)),
        (op(), number()).prop_map(|(o, n)| Twin::Float(o, n)),
        (op(), word()).prop_map(|(o, t)| Twin::Text(o, t)),
        word().prop_map(Twin::Contains),
        word().prop_map(Twin::Prefix),
        word().prop_map(Twin::Suffix),
        any::<bool>().prop_map(Twin::Flag),
        (prop::sample::select(vec!["i", "f", "s", "b", "l"]), any::<bool>())
            .prop_map(|(c, is)| Twin::Null(c, is)),
        prop::collection::vec(-5i32..5, 1..4).prop_map(Twin::IntIn),
        prop::collection::vec(-40i32..40, 20..30).prop_map(Twin::IntIn),
        word().prop_map(Twin::Element),
        (prop::sample::select(vec!["any", "all", "none"]), prop::collection::vec(word(), 1..3))
            .prop_map(|(how, texts)| Twin::Elements(how, texts)),
        (op(), word()).prop_map(|(o, t)| Twin::JsonText(o, t)),
        (op(), -4i32..5).prop_map(|(o, n)| Twin::JsonNumber(o, n)),
        word().prop_map(Twin::JsonTag),
        any::<bool>().prop_map(Twin::JsonThere),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|t| Twin::Not(Box::new(t))),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Twin::And),
            prop::collection::vec(inner, 1..4).prop_map(Twin::Or),
        ]
    })
}

fn row() -> impl Strategy<Value = Row> {
    let float = prop_oneof![
        (-4i32..5).prop_map(|n| f64::from(n) / 2.0),
        Just(f64::NAN),
        Just(-0.0),
        Just(f64::INFINITY)
    ];
    let list = prop::collection::vec(prop::option::of(word()), 0..3);
    let document =
        (prop::option::of(word()), prop::option::of(-4i32..5), prop::collection::vec(word(), 0..3))
            .prop_map(|(k, m, t)| Document { k, m, t });
    (
        prop::option::of(-4i32..5),
        prop::option::of(float),
        prop::option::of(word()),
        prop::option::of(any::<bool>()),
        prop::option::of(list),
        prop::option::of(document),
    )
        .prop_map(|(i, f, s, b, l, j)| Row { i, f, s, b, l, j })
}

/// The statistics that a Parquet writer would keep: NaN is in no bound.
fn range(rows: &[Row], column: &str) -> Option<ColumnRange> {
    let single = |array: ArrayRef| array.is_valid(0).then_some(array);
    let nulls = |count: usize| Some(count as u64);
    Some(match column {
        "i" => ColumnRange {
            min: single(Arc::new(Int32Array::from(vec![rows.iter().filter_map(|r| r.i).min()]))),
            max: single(Arc::new(Int32Array::from(vec![rows.iter().filter_map(|r| r.i).max()]))),
            null_count: nulls(rows.iter().filter(|r| r.i.is_none()).count()),
        },
        "f" => {
            let values = || rows.iter().filter_map(|r| r.f).filter(|f| !f.is_nan());
            ColumnRange {
                min: single(Arc::new(Float64Array::from(vec![values().reduce(f64::min)]))),
                max: single(Arc::new(Float64Array::from(vec![values().reduce(f64::max)]))),
                null_count: nulls(rows.iter().filter(|r| r.f.is_none()).count()),
            }
        }
        "s" => ColumnRange {
            min: single(Arc::new(StringArray::from(vec![
                rows.iter().filter_map(|r| r.s.clone()).min(),
            ]))),
            max: single(Arc::new(StringArray::from(vec![
                rows.iter().filter_map(|r| r.s.clone()).max(),
            ]))),
            null_count: nulls(rows.iter().filter(|r| r.s.is_none()).count()),
        },
        "b" => ColumnRange {
            null_count: nulls(rows.iter().filter(|r| r.b.is_none()).count()),
            ..ColumnRange::default()
        },
        _ => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn evaluate_equals_the_twin_and_prune_never_lies(twin in twin(), rows in prop::collection::vec(row(), 1..12)) {
        let batch = batch(&rows);
        let filter = Filter::parse(&twin.text(), &batch.schema()).unwrap();
        let expected: Vec<bool> = rows.iter().map(|row| twin.judge(row) == Some(true)).collect();
        let found: Vec<bool> = filter.evaluate(&batch).unwrap().iter().map(|v| v.unwrap()).collect();
        prop_assert_eq!(&found, &expected, "{}", twin.text());
        match filter.prune(Some(rows.len() as u64), |column| range(&rows, column)) {
            Pruned::None => prop_assert!(!expected.contains(&true), "{}", twin.text()),
            Pruned::All => prop_assert!(!expected.contains(&false), "{}", twin.text()),
            Pruned::Maybe => {}
        }
    }

    #[test]
    fn no_words_panic(words in prop::collection::vec(prop::sample::select(vec![
        "i", "f", "s", "b", "l", "j_json", ".", "k", "=", "!=", "<", ">=", ":", "(", ")", ",", "-", "*",
        "AND", "OR", "NOT", "IN", "null", "true", "1", "-2.5e3", "'a*'", "\"*\"", "2024-01-31", "`i`",
    ]), 0..24)) {
        let rows = [Row::default(), Row { j: Some(Document::default()), ..Row::default() }];
        let batch = batch(&rows);
        let text = words.join(" ");
        match Filter::parse(&text, &batch.schema()) {
            Ok(filter) => {
                let all = filter.evaluate(&batch).unwrap();
                // The parts together are the whole.
                let parts = filter.conjuncts();
                let together: Vec<bool> = (0..batch.num_rows())
                    .map(|row| parts.iter().all(|part| part.evaluate(&batch).unwrap().value(row)))
                    .collect();
                prop_assert_eq!(all.values().iter().collect::<Vec<_>>(), together, "{}", text);
            }
            Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.column)),
        }
    }

    #[test]
    fn no_text_panics(text in "[a-z0-9 \"'().,<>=!:*`\\\\-]{0,40}") {
        let _ = Filter::parse(&text, &batch(&[Row::default()]).schema());
    }
}

fn one(field: &str, data_type: DataType) -> Schema {
    Schema::new(vec![Field::new(field, data_type, true)])
}

fn passing(text: &str, name: &str, array: ArrayRef) -> Vec<usize> {
    let batch = RecordBatch::try_from_iter_with_nullable([(name, array, true)]).unwrap();
    let mask = Filter::parse(text, &batch.schema()).unwrap().evaluate(&batch).unwrap();
    (0..mask.len()).filter(|i| mask.value(*i)).collect()
}

#[test]
fn a_literal_of_the_wrong_type_is_pointed_at() {
    let schema = Schema::new(vec![
        Field::new("width", DataType::Int32, true),
        Field::new("title", DataType::Utf8, true),
        Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
        Field::new("meta_json", DataType::Utf8, true),
    ]);
    for (text, column, word) in [
        ("width = \"x\"", 9, "number"),
        ("title = 5", 9, "text"),
        ("title = \"a\" AND width > true", 25, "number"),
        ("wdth = 5", 1, "no column"),
        ("tags = \"a\"", 8, "tags:value"),
        ("width < null", 9, "order"),
        ("width", 1, "compare"),
        ("width.x = 1", 1, "no field"),
        ("width IN (1, null)", 14, "null"),
        ("tags:(\"a\" OR 5)", 14, "text"),
        ("tags:(\"a\" OR", 13, "value"),
        ("meta_json.a.b < null", 17, "order"),
        ("title.a = 1", 1, "no field"),
    ] {
        let error = Filter::parse(text, &schema).unwrap_err();
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.message.contains(word), "{text}: {error}");
    }
}

#[test]
fn uuids_are_found_with_and_without_hyphens() {
    let id = uuid::Uuid::from_u128(0x0193_2d3e_7b2a_7c1f_9f00_0000_0000_0001);
    let array = FixedSizeBinaryArray::try_from_iter([[0u8; 16], *id.as_bytes()].iter()).unwrap();
    let array: ArrayRef = Arc::new(array);
    assert_eq!(passing(&format!("id = \"{id}\""), "id", array.clone()), [1]);
    assert_eq!(passing(&format!("id IN ('{}')", id.simple()), "id", array.clone()), [1]);
    let error =
        Filter::parse("id = \"nonsense\"", &one("id", DataType::FixedSizeBinary(16))).unwrap_err();
    assert!(error.message.contains("UUID"), "{error}");
    let key =
        Filter::equals(&one("id", DataType::FixedSizeBinary(16)), "id", &id.to_string()).unwrap();
    assert_eq!(key.required_values().len(), 1);
}

#[test]
fn times_compare_across_units_and_zones() {
    let micros =
        TimestampMicrosecondArray::from(vec![Some(0), Some(1_500_000), None]).with_timezone("UTC");
    let array: ArrayRef = Arc::new(micros);
    assert_eq!(passing("at > \"1970-01-01T02:00:00+02:00\"", "at", array.clone()), [1]);
    assert_eq!(passing("at >= 1970-01-01", "at", array.clone()), [0, 1]);
    assert_eq!(passing("at < 1970-01-01T00:00:01.5000001Z", "at", array.clone()), [0, 1]);
    assert_eq!(passing("at != '1970-01-01T00:00:00.0000001Z'", "at", array.clone()), [0, 1]);
    assert_eq!(passing("at = null", "at", array), [2]);
}

#[test]
fn decimals_dictionaries_and_wide_integers_compare_exactly() {
    let decimals = Decimal128Array::from(vec![150, 151]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(passing("d > 1.505", "d", Arc::new(decimals)), [1]);
    let wide = UInt64Array::from(vec![u64::MAX, 1]);
    assert_eq!(passing("u = 18446744073709551615", "u", Arc::new(wide)), [0]);
    let words: DictionaryArray<Int32Type> =
        vec![Some("games"), None, Some("web")].into_iter().collect();
    let words: ArrayRef = Arc::new(words);
    assert_eq!(passing("section = \"games\"", "section", words.clone()), [0]);
    assert_eq!(passing("NOT section = \"games\"", "section", words.clone()), [2]);
    assert_eq!(passing("section:'e'", "section", words), [0, 2]);
}

#[test]
fn structs_and_lists_are_reached() {
    let inner: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let fields = vec![Field::new("x", DataType::Int32, true)].into();
    let nulls = arrow::buffer::NullBuffer::from(vec![true, true, false]);
    let shape: ArrayRef = Arc::new(StructArray::new(fields, vec![inner], Some(nulls)));
    assert_eq!(passing("shape.x >= 2", "shape", shape.clone()), [1]);
    assert_eq!(passing("shape.x = null", "shape", shape), [2]);
    let numbers = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), Some(2)]),
        None,
        Some(vec![]),
    ]);
    let numbers: ArrayRef = Arc::new(numbers.slice(0, 3));
    assert_eq!(passing("n:2", "n", numbers.clone()), [0]);
    assert_eq!(passing("NOT n:2", "n", numbers.clone()), [2]);
    assert_eq!(passing("n:*", "n", numbers), [0, 2]);
}

#[test]
fn json_is_reached_by_path_and_by_element() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![
        Some(r#"{"camera":{"iso":400,"name":"b\u0061r"},"tags":["sea","boat"],"ok":true}"#),
        Some(r#"{"camera":{"iso":"400"},"tags":[],"ok":null}"#),
        Some("[\"sea\"]"),
        Some("no json"),
        None,
    ]));
    let found = |text: &str| passing(text, "m_json", texts.clone());
    assert_eq!(found("m_json.camera.iso >= 400"), [0]);
    assert_eq!(found("m_json.camera.iso = \"400\""), [1]);
    assert_eq!(found("m_json.camera.name = \"bar\""), [0]);
    assert_eq!(found("m_json.camera.name = \"*r\""), [0]);
    assert_eq!(found("m_json.tags:\"sea\""), [0]);
    assert_eq!(found("m_json:\"sea\""), [2]);
    assert_eq!(found("m_json:\"camera\""), [0, 1]);
    assert_eq!(found("NOT m_json:\"sea\""), [0, 1, 3]);
    assert_eq!(found("m_json.ok = true"), [0]);
    assert_eq!(found("m_json.ok = null"), [1, 2, 3, 4]);
    assert_eq!(found("m_json.ok:*"), [0]);
    assert_eq!(found("m_json.camera.iso IN (400, 500)"), [0]);
    assert_eq!(found("m_json = \"no*\""), [3]);
}

#[test]
fn equal_filters_have_one_spelling() {
    let schema = batch(&[Row::default()]).schema();
    let spell = |text: &str| Filter::parse(text, &schema).unwrap().canonical().to_owned();
    assert_eq!(spell("i>3 and s='x'"), spell("  (i > 3.0) AND s = \"x\""));
    assert_eq!(spell("i IN (2, 1, 1)"), spell("i IN (1,2)"));
    assert_ne!(spell("i > 3"), spell("i >= 3"));
    assert_eq!(
        Filter::parse("i = 1 AND (s = 'a' OR i = 2)", &schema).unwrap().columns(),
        ["i", "s"]
    );
}

#[test]
fn required_values_are_those_that_every_passing_row_has() {
    let schema = batch(&[Row::default()]).schema();
    let count = |text: &str| Filter::parse(text, &schema).unwrap().required_values().len();
    assert_eq!(count("i = 1 AND s = 'a'"), 2);
    assert_eq!(count("i = 1 OR s = 'a'"), 0);
    assert_eq!(count("NOT i = 1"), 0);
}
