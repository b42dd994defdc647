//! Files in, files out, and what is said about bad ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float64Array, Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Fields, Int32Type, Int64Type, Schema};
use tempfile::TempDir;

use super::*;

struct Input {
    dir: TempDir,
}

impl Input {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str, content: &str, schema: &str) -> Result<RecordBatch, IngestError> {
        let types = if schema.is_empty() { Vec::new() } else { parse_schema(schema)? };
        std::fs::write(self.path(name), content).unwrap();
        read_all(open(&self.path(name), &ReadOptions { types, ..ReadOptions::default() })?)
    }
}

fn read_all(source: Source) -> Result<RecordBatch, IngestError> {
    let schema = Arc::clone(&source.schema);
    let batches = source.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches).unwrap())
}

fn read(name: &str, content: &str) -> Result<RecordBatch, IngestError> {
    Input::new().read(name, content, "")
}

fn types(batch: &RecordBatch) -> Vec<String> {
    batch
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{}:{}", field.name(), field.data_type()))
        .collect()
}

#[test]
fn csv_types_are_inferred_and_nulls_are_empty() {
    let batch = read(
        "a.csv",
        "\u{feff}id,price,when,ok,note\n1,2,2024-01-01,true,\"a,\"\"b\"\"\nline\"\n2,2.5,,false,\n",
    )
    .unwrap();
    assert_eq!(
        types(&batch),
        ["id:Int64", "price:Float64", "when:Date32", "ok:Boolean", "note:Utf8"]
    );
    assert_eq!(batch.column(4).as_string::<i32>().value(0), "a,\"b\"\nline");
    assert!(batch.column(2).is_null(1) && batch.column(4).is_null(1));
}

#[test]
fn csv_rows_with_the_wrong_number_of_fields_are_placed() {
    let err = read("a.csv", "a,b\n1,2\n\"x\ny\",2,3\n").unwrap_err();
    assert_eq!((err.line_number(), err.kind()), (Some(3), ErrorKind::Value));
    assert!(err.to_string().ends_with("a.csv:3: the row has 3 fields, the header 2"), "{err}");
}

#[test]
fn a_surprise_after_the_sample_names_file_line_column_and_the_way_out() {
    let mut text = "id,width\n".to_owned();
    (0..20_000).for_each(|n| writeln!(text, "{n},{n}").unwrap());
    text.push_str("20000,wide\n");
    let input = Input::new();
    let err = input.read("a.csv", &text, "").unwrap_err();
    assert_eq!((err.line_number(), err.column_name()), (Some(20_002), Some("width")));
    assert!(
        err.to_string().contains("\"wide\" is not an integer")
            && err.to_string().contains("--schema 'width:text'"),
        "{err}"
    );
    let batch = input.read("a.csv", &text, "width:text").unwrap();
    assert_eq!((batch.num_rows(), types(&batch)[1].as_str()), (20_001, "width:Utf8"));
}

#[test]
fn given_types_must_be_columns_and_win_over_guesses() {
    let batch = Input::new().read("a.tsv", "a\tb\n007\t1\n", "b:int32").unwrap();
    assert_eq!(types(&batch), ["a:Utf8", "b:Int32"]);
    let err = Input::new().read("a.tsv", "a\tb\n1\t2\n", "c:int32").unwrap_err();
    assert!(err.to_string().contains("column \"c\"") && err.to_string().contains("a, b"), "{err}");
}

#[test]
fn a_file_with_all_item_columns_gets_their_kinds() {
    let names: Vec<_> = item_schema::CORE_COLUMNS.iter().map(|column| column.name).collect();
    let cells = names.iter().map(|name| match *name {
        "title" => "1999",
        "width" => "640",
        _ => "",
    });
    let text = format!("{}\n{}\n", names.join(","), cells.collect::<Vec<_>>().join(","));
    let batch = read("a.csv", &text).unwrap();
    assert_eq!(item_schema::detect_profile(&batch.schema()), item_schema::Profile::Items);
    assert_eq!(batch.column_by_name("title").unwrap().as_string::<i32>().value(0), "1999");
}

#[test]
fn csv_headers_that_mislead_are_refused() {
    assert!(read("a.csv", "").unwrap_err().to_string().contains("empty"));
    assert!(read("a.csv", "a,a\n1,2\n").unwrap_err().to_string().contains("two columns"));
    assert_eq!(types(&read("a.csv", "a,\n1,2\n").unwrap()), ["a:Int64", "column_2:Int64"]);
    assert_eq!(read("a.csv", "a,b\n").unwrap().num_rows(), 0);
}

#[test]
fn an_unclosed_quote_or_a_huge_cell_stops_at_the_limit() {
    let input = Input::new();
    let path = input.path("a.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    file.write_all(b"a,b\n1,2\n3,\"").unwrap();
    (0..5000).for_each(|_| file.write_all(&[b'x'; 1024]).unwrap());
    file.flush().unwrap();
    let options = ReadOptions {
        limits: Limits { row_bytes_max: 1 << 20, ..Limits::default() },
        ..ReadOptions::default()
    };
    let err = open(&path, &options).unwrap_err();
    assert_eq!((err.kind(), err.line_number()), (ErrorKind::Limit, Some(3)));
    assert!(err.to_string().contains("1 MiB"), "{err}");
    std::fs::copy(&path, input.path("a.jsonl")).unwrap();
    let err = open(&input.path("a.jsonl"), &options).unwrap_err();
    assert!(matches!(err.kind(), ErrorKind::Limit | ErrorKind::Format));
}

#[test]
fn an_open_quote_at_the_end_is_an_error_not_a_cell() {
    for (content, line) in
        [("id,x\n1,a\n2,\"b\n3,c\n", 3), ("id,x\n1,\"", 2), ("id,x\n1,\"\n.", 2), ("\"id", 1)]
    {
        let error = read("a.csv", content).unwrap_err().to_string();
        assert!(
            error.contains(&format!("a.csv:{line}")) && error.contains("never closed"),
            "{error}"
        );
    }
    for content in ["x\n.", "x\n.\n", "x\n\".\"", "x\r\n\".\"\r\n\r\n", "x\r.\r", "x\n\n.\n\n"] {
        let batch = read("a.csv", content).unwrap();
        assert_eq!(batch.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some(".")]);
    }
}

#[test]
fn text_that_is_not_utf8_is_placed() {
    let input = Input::new();
    std::fs::write(input.path("a.csv"), b"a,b\n1,2\n1,caf\xe9\n").unwrap();
    let err = open(&input.path("a.csv"), &ReadOptions::default()).unwrap_err();
    assert!(err.to_string().contains(":3:") && err.to_string().contains("UTF-8"), "{err}");
}

#[test]
fn json_lines_and_arrays_give_the_same_rows() {
    let lines = "{\"b\":1,\"a\":{\"x\":[1,2]}}\n\n{\"a\":null,\"c\":\"t\"}\n";
    let array = "[ {\"b\":1,\"a\":{\"x\":[1,2]}} ,\n{\"a\":null,\"c\":\"t\"}]\n";
    let sequence = "{\"b\":1,\n\"a\":{\"x\":[1,2]}}{\"a\":null,\"c\":\"t\"}";
    let first = read("a.jsonl", lines).unwrap();
    assert_eq!(types(&first).len(), 3);
    assert_eq!(first.schema().field(0).name(), "b");
    assert_eq!(read("a.json", array).unwrap(), first);
    assert_eq!(read("a.json", sequence).unwrap(), first);
}

#[test]
fn json_faults_are_placed() {
    for (name, content, line, says) in [
        ("a.jsonl", "{\"a\":1}\n{\"a\":\n{\"a\":3}\n", 2, "not JSON"),
        ("a.jsonl", "{\"a\":1}\n[1]\n", 2, "must be an object"),
        ("a.json", "[{\"a\":1},\n{\"a\":2}\n", 3, "ends inside its array"),
        ("a.json", "[{\"a\":1}\n{\"a\":2}]", 2, "comma"),
        ("a.json", "[{\"a\":1}]\nx", 2, "follows"),
        ("a.json", "[{\"a\":1},\n 7]", 2, "in braces"),
        ("a.json", "[{\"a\":1},\n{\"a\":\"}", 2, "inside the row"),
        ("a.json", "[{\"a\":1},\n{\"a\":1,\n\"a\":2}]", 3, "twice"),
    ] {
        let err = read(name, content).unwrap_err();
        assert_eq!(err.line_number(), Some(line), "{content:?}: {err}");
        assert!(err.to_string().contains(says), "{content:?}: {err}");
    }
}

#[test]
fn json_surprises_after_the_sample_are_errors_not_roundings() {
    let mut text = String::new();
    (0..10_001).for_each(|n| writeln!(text, "{{\"n\":{n}}}").unwrap());
    let err = read("a.jsonl", &format!("{text}{{\"n\":1.5}}\n")).unwrap_err();
    assert_eq!((err.line_number(), err.column_name()), (Some(10_002), Some("n")));
    let err = read("a.jsonl", &format!("{text}{{\"n\":1,\"late\":2}}\n")).unwrap_err();
    assert!(err.to_string().contains("\"late\"") && err.to_string().contains("--schema"), "{err}");
    let batch = Input::new()
        .read("a.jsonl", &format!("{text}{{\"n\":1,\"late\":2}}\n"), "late:int32")
        .unwrap();
    assert_eq!(batch.column(1).as_primitive::<Int32Type>().value(10_001), 2);
}

fn every_type() -> RecordBatch {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    let inner = Fields::from(vec![
        Field::new("x", DataType::Int64, true),
        Field::new("y", DataType::Utf8, true),
    ]);
    let parts: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
        Arc::new(StringArray::from(vec!["a", "é\"", "\n,"])),
    ];
    let nested = StructArray::new(inner, parts, Some(vec![true, true, false].into()));
    let moments =
        TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None, Some(-1)]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(i64::MIN)]))),
        ("f", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(-1e300)]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("t", Arc::new(StringArray::from(vec![Some("x\ty, \"z\"\r\n"), None, Some("007")]))),
        ("d", Arc::new(Date32Array::from(vec![Some(19_000), None, Some(-1)]))),
        ("s", Arc::new(moments.with_timezone("UTC"))),
        (
            "m",
            Arc::new(
                Decimal128Array::from(vec![Some(12345), None, Some(-1)])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
        ),
        (
            "u",
            Arc::new(
                FixedSizeBinaryArray::try_from_iter([[7_u8; 16], [0; 16], [255; 16]].into_iter())
                    .unwrap(),
            ),
        ),
        ("l", Arc::new(list)),
        ("n", Arc::new(nested)),
    ];
    nullable(columns)
}

fn nullable(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let schema = Schema::new(
        columns
            .iter()
            .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
            .collect::<Vec<_>>(),
    );
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect())
        .unwrap()
}

fn write(path: &std::path::Path, format: Format, batches: &[RecordBatch], schema: &SchemaRef) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = Writer::new(path, format, schema, Box::new(file)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
}

#[test]
fn every_format_comes_back_equal() {
    let input = Input::new();
    let batch = every_type();
    for format in Format::ALL.into_iter().filter(|format| *format != Format::Images) {
        let path = input.path(&format!("a.{}", format.name()));
        write(&path, format, &[batch.clone(), batch.clone()], &batch.schema());
        let expected = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        let source = open(&path, &ReadOptions { expected, ..ReadOptions::default() }).unwrap();
        assert_eq!(source.format, format);
        let twice = concat_batches(&batch.schema(), [&batch, &batch]).unwrap();
        assert_eq!(read_all(source).unwrap(), twice, "{}", format.name());
    }
}

#[test]
fn no_rows_are_rows_too() {
    let input = Input::new();
    let batch = read("a.csv", "a,b\n1,2\n").unwrap();
    for format in [Format::Csv, Format::Tsv, Format::Parquet, Format::Arrow] {
        let path = input.path(&format!("empty.{}", format.name()));
        write(&path, format, &[], &batch.schema());
        let back = read_all(open(&path, &ReadOptions::default()).unwrap()).unwrap();
        assert_eq!((back.num_rows(), back.num_columns()), (0, 2), "{}", format.name());
    }
    let path = input.path("empty.json");
    write(&path, Format::Json, &[], &batch.schema());
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), "[]");
    assert!(open(&path, &ReadOptions::default()).unwrap_err().to_string().contains("no columns"));
}

#[test]
fn types_of_a_binary_file_cannot_be_given() {
    let input = Input::new();
    let batch = read("a.csv", "a\n1\n").unwrap();
    write(&input.path("a.parquet"), Format::Parquet, std::slice::from_ref(&batch), &batch.schema());
    let options = ReadOptions { types: parse_schema("a:text").unwrap(), ..ReadOptions::default() };
    assert_eq!(open(&input.path("a.parquet"), &options).unwrap_err().kind(), ErrorKind::Schema);
}

#[test]
fn a_large_file_streams_in_bounded_batches_with_progress() {
    let input = Input::new();
    let path = input.path("a.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    writeln!(file, "id,name,score,at").unwrap();
    for n in 0..300_000_u32 {
        writeln!(file, "{n},name {n},{}.5,2024-01-01 00:00:{:02}", n % 100, n % 60).unwrap();
    }
    file.flush().unwrap();
    let source = open(&path, &ReadOptions::default()).unwrap();
    let (total, progress) = (source.total(), source.progress());
    let mut rows = 0;
    for batch in source {
        let batch = batch.unwrap();
        assert!(
            batch.num_rows() <= rows::BATCH_ROWS_MAX && batch.get_array_memory_size() < 16 << 20
        );
        rows += batch.num_rows();
    }
    assert_eq!(rows, 300_000);
    assert_eq!(Amount::Bytes(progress()), total);
}

proptest::proptest! {
    #[test]
    fn any_text_survives_csv_and_json(cells in proptest::collection::vec(".{1,40}", 1..20)) {
        let input = Input::new();
        let batch = RecordBatch::try_from_iter([("t", Arc::new(StringArray::from(cells)) as ArrayRef)]).unwrap();
        for format in [Format::Csv, Format::Tsv, Format::Jsonl, Format::Json] {
            let path = input.path(&format!("a.{}", format.name()));
            write(&path, format, std::slice::from_ref(&batch), &batch.schema());
            let types = parse_schema("t:text").unwrap();
            let back = read_all(open(&path, &ReadOptions { types, ..ReadOptions::default() }).unwrap()).unwrap();
            proptest::prop_assert_eq!(back.column(0), batch.column(0));
        }
    }

    #[test]
    fn no_bytes_panic_a_reader(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let input = Input::new();
        for format in Format::ALL {
            let path = input.path("a");
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(source) = open(&path, &ReadOptions { format: Some(format), ..ReadOptions::default() }) {
                source.for_each(drop);
            }
        }
    }
}
