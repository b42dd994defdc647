//! Queries over tables in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeListArray,
    Float64Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use async_trait::async_trait;
use filter::Filter;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use service_error::{Code, ServiceError};

use crate::*;

/// A table of batches, one part each.
struct InMemory {
    batches: Vec<RecordBatch>,
    reads: Arc<AtomicUsize>,
}

#[async_trait]
impl Snapshot for InMemory {
    fn known(&self) -> Known {
        let rows = self.batches.iter().map(|batch| batch.num_rows() as u64).sum();
        Known { row_count: Some(rows), ..Known::default() }
    }

    async fn survey(&self, _: Option<&Arc<Filter>>) -> Result<Survey, ServiceError> {
        let part = |(source, batch): (usize, &RecordBatch)| Part {
            source,
            rows: 0..batch.num_rows() as u64,
        };
        let parts: Vec<Part> = self.batches.iter().enumerate().map(part).collect();
        let count = parts.len() as u64;
        let row_count = parts.iter().map(|part| part.rows.end).sum();
        let blocks = Tally { read: count, total: count };
        Ok(Survey { parts, blocks, row_count, ..Survey::default() })
    }

    fn read(
        &self,
        parts: Vec<Part>,
        read: Read,
    ) -> BoxStream<'static, Result<RecordBatch, ServiceError>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let batches = parts.into_iter().map(|part| {
            let (from, to) = (part.rows.start as usize, part.rows.end as usize);
            let mut batch = self.batches[part.source].slice(from, to - from);
            if let Some(filter) = &read.filter {
                batch = filter_record_batch(&batch, &filter.evaluate(&batch).unwrap()).unwrap();
            }
            let columns = read.schema.fields().iter();
            let columns =
                columns.map(|field| batch.column_by_name(field.name()).unwrap().clone()).collect();
            let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(read.schema.clone(), columns, &rows).unwrap())
        });
        futures::stream::iter(batches.collect::<Vec<_>>()).boxed()
    }
}

fn engine(settings: EngineSettings) -> Engine {
    Engine::new(&EngineSettings { threads: 2, ..settings }).unwrap()
}

fn plain() -> Engine {
    engine(EngineSettings::default())
}

fn table(name: &str, batches: Vec<RecordBatch>) -> Table {
    let (dataset, version) = name.split_once('@').unwrap_or((name, ""));
    let name = TableName {
        namespace: "n".to_owned(),
        dataset: dataset.to_owned(),
        version: version.to_owned(),
    };
    let schema = batches[0].schema();
    Table::new(name, schema, Arc::new(InMemory { batches, reads: Arc::default() }))
}

/// `id` from 0, `width` of ten values, `name`, `score` with NaN, null and -0.
fn items(count: i64) -> RecordBatch {
    let ids: Int64Array = (0..count).collect();
    let widths: Int32Array =
        (0..count).map(|n| (n % 11 != 0).then_some((n % 10) as i32 * 100)).collect();
    let names: StringArray = (0..count).map(|n| Some(format!("item {n}_%"))).collect();
    let scores: Float64Array = (0..count)
        .map(|n| match n % 5 {
            0 => None,
            1 => Some(f64::NAN),
            2 => Some(-0.0),
            _ => Some(n as f64),
        })
        .collect();
    let flags: BooleanArray = (0..count).map(|n| (n % 7 != 0).then_some(n % 2 == 0)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("width", Arc::new(widths), true),
        ("name", Arc::new(names), true),
        ("score", Arc::new(scores), true),
        ("flag", Arc::new(flags), true),
    ])
    .unwrap()
}

async fn rows_of(
    engine: &Engine,
    sql: &str,
    tables: Vec<Table>,
) -> Result<RecordBatch, ServiceError> {
    let statement = Statement::parse(sql)?;
    let planned = engine.plan(&statement, tables, Parameters::default()).await?;
    let rows = engine.run(planned, 0)?;
    let batches: Vec<RecordBatch> = rows.batches.try_collect().await?;
    Ok(concat_batches(&rows.schema, &batches).unwrap())
}

async fn number(engine: &Engine, sql: &str, tables: Vec<Table>) -> i64 {
    let rows = rows_of(engine, sql, tables).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test]
async fn queries_group_join_and_order() {
    let engine = plain();
    let both = || vec![table("a", vec![items(1_000)]), table("b@2", vec![items(10)])];
    assert_eq!(number(&engine, "select count(*) from quarry.n.a", both()).await, 1_000);
    let joined = "select count(*) from n.a join n.b@2 b on a.id = b.id where b.id > 3";
    assert_eq!(number(&engine, joined, both()).await, 6);
    let sql =
        "select width, count(*) as c, max(id) from n.a group by width order by width nulls first";
    let rows = rows_of(&engine, sql, both()).await.unwrap();
    assert_eq!(rows.num_rows(), 11);
    assert_eq!(rows.column(0).as_primitive::<Int32Type>().value(1), 0);
    let page =
        rows_of(&engine, "select id from n.a order by id desc limit 3", both()).await.unwrap();
    assert_eq!(page.column(0).as_primitive::<Int64Type>().values(), &[999, 998, 997]);
    let nothing = rows_of(&engine, "select id from n.a where id < 0", both()).await.unwrap();
    assert_eq!(nothing.num_rows(), 0);
}

/// Whatever goes down to the snapshot, the answer is what DataFusion makes of
/// all rows: an expression that hides the column keeps the predicate up.
#[tokio::test]
async fn what_goes_down_means_the_same_as_what_stays() {
    let engine = plain();
    let batch = items(2_000);
    for (down, stays) in [
        ("width > 300", "width + 0 > 300"),
        ("300 <= width", "300 <= width + 0"),
        ("not width > 300", "not width + 0 > 300"),
        ("width in (100, 200, 100)", "width + 0 in (100, 200)"),
        ("width not in (100, 200)", "width + 0 not in (100, 200)"),
        ("width between 200 and 400", "width + 0 between 200 and 400"),
        ("width not between 200 and 400", "width + 0 not between 200 and 400"),
        ("width is null or id = 3", "width + 0 is null or id + 0 = 3"),
        ("width is not null", "width + 0 is not null"),
        ("width = 2.5", "width + 0 = 2.5"),
        ("name like 'item 1%'", "concat(name, '') like 'item 1%'"),
        ("name like '%7_'", "concat(name, '') like '%7_'"),
        ("name like '%m 7%'", "concat(name, '') like '%m 7%'"),
        ("name not like '%9%'", "concat(name, '') not like '%9%'"),
        ("name like ''", "concat(name, '') like ''"),
        ("name like '%'", "concat(name, '') like '%'"),
        ("name = 'item 7_%'", "concat(name, '') = 'item 7_%'"),
        ("name > 'item 5'", "concat(name, '') > 'item 5'"),
        ("score > 100", "score + 0.0 > 100"),
        ("score >= 100 or score != 3", "score + 0.0 >= 100 or score + 0.0 != 3"),
        ("score <= 100", "score + 0.0 <= 100"),
        ("score not between 1 and 900", "score + 0.0 not between 1 and 900"),
        ("score = 'NaN'::double", "isnan(score)"),
        ("score < 'NaN'::double", "not isnan(score)"),
        ("score = 0", "abs(score) = 0"),
        ("score < 100 and id > 5", "score + 0.0 < 100 and id + 0 > 5"),
        ("flag", "flag = (1 = 1)"),
        ("not flag", "flag = (1 = 2)"),
        ("flag is true and width < 500", "coalesce(flag, 1 = 2) and width + 0 < 500"),
        ("flag or width < 500", "(flag = (1 = 1)) or width + 0 < 500"),
    ] {
        let tables = || vec![table("a", vec![batch.slice(0, 700), batch.slice(700, 1_300)])];
        let count = |filter: &str| format!("select count(*) from n.a where {filter}");
        let expected = number(&engine, &count(stays), tables()).await;
        assert_eq!(number(&engine, &count(down), tables()).await, expected, "{down}");
    }
}

async fn plan_of(engine: &Engine, sql: &str, tables: Vec<Table>) -> String {
    let rows = rows_of(engine, sql, tables).await.unwrap();
    let plans = rows.column(1).as_string::<i32>();
    plans.iter().flatten().collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_plan_says_what_is_read() {
    let engine = plain();
    let tables = || vec![table("a", vec![items(100)])];
    let sql = "explain select name from n.a where width > 300 and abs(score) > 1 limit 5";
    let plan = plan_of(&engine, sql, tables()).await;
    assert!(plan.contains("SnapshotScan: quarry.n.a, columns=["), "{plan}");
    assert!(plan.contains("filter=\"width\" > 300"), "{plan}");
    assert!(plan.contains("blocks read=1 skipped=0"), "{plan}");
    assert!(plan.contains("FilterExec: abs(score"), "{plan}");
    let sql = "explain select name from n.a where width > 300 limit 5";
    let plan = plan_of(&engine, sql, tables()).await;
    assert!(plan.contains("limit=5") && !plan.contains("FilterExec"), "{plan}");
    let analyzed = plan_of(&engine, "explain analyze select sum(id) from n.a", tables()).await;
    assert!(analyzed.contains("output_rows=100"), "{analyzed}");
}

#[tokio::test]
async fn a_count_reads_nothing() {
    let engine = plain();
    let mut counted = table("a", vec![items(100)]);
    let reads = Arc::new(AtomicUsize::new(0));
    counted.snapshot = Arc::new(InMemory { batches: vec![items(100)], reads: Arc::clone(&reads) });
    assert_eq!(number(&engine, "select count(*) from n.a", vec![counted]).await, 100);
    assert_eq!(reads.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn every_type_comes_back_as_it_is() {
    let engine = plain();
    let decimals = Decimal128Array::from(vec![Some(150), None]).with_precision_and_scale(9, 2);
    let words: DictionaryArray<Int32Type> = vec![Some("a"), None].into_iter().collect();
    let times = TimestampMicrosecondArray::from(vec![Some(1), None]).with_timezone("Europe/Berlin");
    let vectors = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        vec![Some(vec![Some(1), Some(2)]), None],
        2,
    );
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None]));
    let structs = StructArray::from(vec![(
        Arc::new(Field::new("t", DataType::Utf8, true)),
        Arc::clone(&texts),
    )]);
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("decimal", Arc::new(decimals.unwrap()) as ArrayRef, true),
        ("word", Arc::new(words), true),
        ("time", Arc::new(times), true),
        ("vector", Arc::new(vectors), true),
        ("struct", Arc::new(structs), true),
        ("text", texts, true),
    ])
    .unwrap();
    let read = rows_of(&engine, "select * from n.a", vec![table("a", vec![batch.clone()])]).await;
    assert_eq!(read.unwrap(), batch);
    let sql = "select upper(text) u, word, \"struct\"['t'] t, substr(text, 1) s from n.a where word = 'a'";
    let read = rows_of(&engine, sql, vec![table("a", vec![batch])]).await.unwrap();
    let types: Vec<DataType> =
        read.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    assert!(types.iter().all(|found| !matches!(found, DataType::Utf8View)), "{types:?}");
    assert_eq!(read.num_rows(), 1);
}

#[tokio::test]
async fn parameters_are_typed_and_counted() {
    let engine = plain();
    let tables = || vec![table("a", vec![items(100)])];
    let statement = Statement::parse("select id from n.a where width = ? and name like ?").unwrap();
    let described = engine.describe(&statement, tables()).await.unwrap();
    let types: Vec<_> =
        described.parameters.fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types, [DataType::Int32, DataType::Utf8]);
    let given = RecordBatch::try_from_iter([
        ("0", Arc::new(Int64Array::from(vec![300, 400])) as ArrayRef),
        ("1", Arc::new(StringArray::from(vec!["%3%", "item 4%"]))),
    ])
    .unwrap();
    let runs = parameter_rows(std::slice::from_ref(&given)).unwrap();
    let planned = engine.plan(&statement, tables(), runs[0].clone()).await.unwrap();
    let found: Vec<RecordBatch> =
        engine.run(planned, 0).unwrap().batches.try_collect().await.unwrap();
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 9);
    let error = engine.plan(&statement, tables(), Parameters::default()).await.unwrap_err();
    assert!(error.reason_is("SQL_PARAMETERS"), "{error}");
}

#[tokio::test]
async fn values_decide_the_type_of_what_is_computed_from_them() {
    let engine = plain();
    let statement = Statement::parse("select ? + 1 x").unwrap();
    let given = RecordBatch::try_from_iter([(
        "$1",
        Arc::new(arrow::array::Float64Array::from(vec![1.5])) as ArrayRef,
    )])
    .unwrap();
    let run = parameter_rows(std::slice::from_ref(&given)).unwrap().swap_remove(0);
    let planned = engine.plan(&statement, Vec::new(), run).await.unwrap();
    let batches: Vec<RecordBatch> =
        engine.run(planned, 0).unwrap().batches.try_collect().await.unwrap();
    let sum = batches[0].column(0).as_primitive::<arrow::datatypes::Float64Type>().value(0);
    assert!((sum - 2.5).abs() < 1e-9, "{sum}");
}

#[tokio::test]
async fn values_of_one_parameter_have_one_type() {
    let union = |values: Vec<ArrayRef>| -> RecordBatch {
        let fields: arrow::datatypes::UnionFields = values
            .iter()
            .enumerate()
            .map(|(id, values)| {
                let name = format!("v{id}");
                (id as i8, Arc::new(Field::new(name, values.data_type().clone(), true)))
            })
            .collect();
        let ids: Vec<i8> = (0..values.len() as i8).collect();
        let places = vec![0i32; values.len()];
        let union =
            arrow::array::UnionArray::try_new(fields, ids.into(), Some(places.into()), values);
        RecordBatch::try_from_iter([("$1", Arc::new(union.unwrap()) as ArrayRef)]).unwrap()
    };
    let int: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let float: ArrayRef = Arc::new(Float64Array::from(vec![2.5]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let runs = parameter_rows(&[union(vec![int.clone(), float])]).unwrap();
    let engine = plain();
    let statement = Statement::parse("select ? + 1 x").unwrap();
    let mut sums = Vec::new();
    for run in runs {
        let planned = engine.plan(&statement, Vec::new(), run).await.unwrap();
        let batches: Vec<RecordBatch> =
            engine.run(planned, 0).unwrap().batches.try_collect().await.unwrap();
        sums.push(batches[0].column(0).as_primitive::<arrow::datatypes::Float64Type>().value(0));
    }
    assert_eq!(sums, [2.0, 3.5]);
    let error = parameter_rows(&[union(vec![int, text])]).unwrap_err();
    assert!(error.message().contains("Int64, Utf8"), "{error}");
}

#[tokio::test]
async fn rows_come_in_an_order_within_memory() {
    let engine = engine(EngineSettings { memory_bytes_max: 24 << 20, ..EngineSettings::default() });
    let batches: Vec<RecordBatch> = (0..40).map(|_| items(10_000)).collect();
    let schema = batches[0].schema();
    let by = |column: &str, descending| SortBy { column: column.to_owned(), descending };
    let filter = Filter::parse("width >= 500", &schema).unwrap();
    let wide: usize =
        batches.iter().map(|batch| filter.evaluate(batch).unwrap().true_count()).sum();
    let sorted = Sorted {
        columns: vec!["id".into(), "name".into()],
        by: vec![by("width", true), by("id", false)],
        limit: None,
    };
    let filtered = table("a", batches).filtered(Some(Arc::new(filter)));
    let planned = engine.plan_sorted(filtered.clone(), &sorted).await.unwrap();
    assert_eq!(planned.schema.fields().len(), 2);
    let rows = engine.run(planned, 0).unwrap().batches;
    let ids: Vec<i64> = rows
        .map_ok(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .try_concat()
        .await
        .unwrap();
    assert_eq!(ids.len(), wide);
    let rank = |id: i64| (-(id % 10), id);
    assert!(ids.windows(2).all(|pair| rank(pair[0]) <= rank(pair[1])));
    let top = Sorted { limit: Some(3), ..sorted };
    let planned = engine.plan_sorted(filtered, &top).await.unwrap();
    let rows = engine.run(planned, 0).unwrap().batches;
    let three: Vec<RecordBatch> = rows.try_collect().await.unwrap();
    assert_eq!(three.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
}

#[tokio::test]
async fn what_a_query_may_not_do_is_refused() {
    let engine = plain();
    let tables = || vec![table("a", vec![items(3)])];
    for (sql, code) in [
        ("select * from n.missing", Code::InvalidArgument),
        ("select missing from n.a", Code::InvalidArgument),
        ("select * from '/etc/passwd'", Code::InvalidArgument),
        ("select * from \"/etc/passwd\"", Code::InvalidArgument),
        ("select * from \"file:///etc/passwd\"", Code::InvalidArgument),
        ("select * from read_csv('/etc/passwd')", Code::InvalidArgument),
        ("select * from information_schema.df_settings", Code::InvalidArgument),
        ("select * from information_schema.tables", Code::InvalidArgument),
        ("select id into n.b from n.a", Code::PermissionDenied),
        ("with x as (insert into n.a values (1)) select * from x", Code::PermissionDenied),
        ("select repeat('x', 2000000000)", Code::Unimplemented),
        ("select repeat(repeat('x', 900), 900)", Code::Unimplemented),
        ("select lpad(name, id) from n.a", Code::Unimplemented),
        ("select range(0, 1000000000000)", Code::Unimplemented),
        ("select id / 0 from n.a", Code::InvalidArgument),
        ("select cast(name as int) from n.a", Code::InvalidArgument),
    ] {
        let error = rows_of(&engine, sql, tables()).await.unwrap_err();
        assert_eq!(error.code(), code, "{sql}: {error}");
        assert!(!error.message().contains("Backtrace"), "{error}");
    }
    assert_eq!(number(&engine, "select count(*) from range(0, 10)", Vec::new()).await, 10);
    assert_eq!(
        rows_of(&engine, "select repeat('ab', 3) x", Vec::new()).await.unwrap().num_rows(),
        1
    );
}

#[tokio::test]
async fn a_query_ends_with_its_time_or_its_stream() {
    let engine =
        engine(EngineSettings { time_max: Duration::from_millis(300), ..Default::default() });
    let endless = "select count(*) from range(0, 4000000000) a, range(0, 4000000000) b";
    let error = rows_of(&engine, endless, Vec::new()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    let engine = plain();
    let statement = Statement::parse("select * from range(0, 400000000000)").unwrap();
    let planned = engine.plan(&statement, Vec::new(), Parameters::default()).await.unwrap();
    let mut rows = engine.run(planned, 0).unwrap();
    rows.batches.next().await.unwrap().unwrap();
    let share = engine.inner().shares.of(0);
    let each = EngineSettings::default().queries_max / 2;
    assert_eq!(share.available_permits(), each - 1);
    drop(rows);
    let all = u32::try_from(each).unwrap();
    let back = tokio::time::timeout(Duration::from_secs(10), share.acquire_many(all)).await;
    assert!(back.is_ok(), "the query runs on without its stream");
}

#[tokio::test]
async fn memory_is_bounded_and_spills() {
    let dir = tempfile::tempdir().unwrap();
    let small = EngineSettings {
        memory_bytes_max: 24 << 20,
        spill_dir: Some(dir.path().to_owned()),
        ..EngineSettings::default()
    };
    let engine_small = engine(small.clone());
    // Batches of their own: a slice would count as all that it is cut from.
    let batch = |from: u64| {
        let names: StringArray =
            (from..from + 10_000).map(|n| Some(format!("{:060}", (n * 7_919) % 400_009))).collect();
        RecordBatch::try_from_iter([("name", Arc::new(names) as ArrayRef)]).unwrap()
    };
    let big = || vec![table("a", (0..40).map(|at| batch(at * 10_000)).collect())];
    let sorted = rows_of(&engine_small, "select name from n.a order by name", big()).await.unwrap();
    assert_eq!(sorted.num_rows(), 400_000);
    let names = sorted.column(0).as_string::<i32>();
    assert!((1..names.len()).all(|at| names.value(at - 1) <= names.value(at)));
    let nowhere = engine(EngineSettings { spill_bytes_max: 0, ..small });
    let error = rows_of(&nowhere, "select name from n.a order by name", big()).await.unwrap_err();
    assert!(error.reason_is("SQL_TOO_LARGE"), "{error}");
}

#[tokio::test]
async fn a_bound_on_rows_is_kept_by_every_reader() {
    let engine = plain();
    let batches: Vec<RecordBatch> = (0..4).map(|_| items(100_000)).collect();
    for (sql, expected) in [
        ("select id from n.a limit 7", 7),
        ("select id from n.a where width >= 0 limit 150000", 150_000),
        ("select id from n.a limit 5 offset 3", 5),
        ("select id from n.a", 400_000),
    ] {
        let rows = rows_of(&engine, sql, vec![table("a", batches.clone())]).await.unwrap();
        assert_eq!(rows.num_rows(), expected, "{sql}");
    }
    let empty = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let none = table("a", vec![RecordBatch::new_empty(empty)]);
    assert_eq!(rows_of(&engine, "select * from n.a", vec![none]).await.unwrap().num_rows(), 0);
}

/// So many rows, in batches of a thousand.
fn numbers(batches: i64) -> Table {
    let batch = |at: i64| {
        let numbers: Int64Array = (at * 1_000..(at + 1) * 1_000).collect();
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef)]).unwrap()
    };
    let batches: Vec<RecordBatch> = (0..batches).map(batch).collect();
    let name = TableName { namespace: "a".into(), dataset: "n".into(), version: String::new() };
    let schema = batches[0].schema();
    Table::new(name, schema, Arc::new(InMemory { batches, reads: Arc::default() }))
}

async fn all_of(engine: &Engine, asker: u128) -> Result<usize, ServiceError> {
    let statement = Statement::parse("select n from quarry.a.n").unwrap();
    let planned = engine.plan(&statement, vec![numbers(100)], Parameters::default()).await.unwrap();
    let batches: Vec<RecordBatch> = engine.run(planned, asker)?.batches.try_collect().await?;
    Ok(batches.iter().map(RecordBatch::num_rows).sum())
}

async fn unread(engine: &Engine, asker: u128) -> Rows {
    let statement = Statement::parse("select n from quarry.a.n").unwrap();
    let planned = engine.plan(&statement, vec![numbers(100)], Parameters::default()).await.unwrap();
    let mut rows = engine.run(planned, asker).unwrap();
    // It has begun, and then nobody reads on.
    rows.batches.next().await.unwrap().unwrap();
    rows
}

#[tokio::test]
async fn unread_results_stop_nobody_else() {
    let engine = engine(EngineSettings { queries_max: 2, ..Default::default() });
    let first = unread(&engine, 1).await;
    assert_eq!(all_of(&engine, 2).await.unwrap(), 100_000);
    let second = unread(&engine, 3).await;
    assert_eq!(all_of(&engine, 2).await.unwrap(), 100_000, "every slot was taken once");
    let rest: Vec<RecordBatch> = first.batches.try_collect().await.unwrap();
    let rest: usize = rest.iter().map(RecordBatch::num_rows).sum();
    assert!(rest > 90_000, "{rest}: what was not read waits");
    drop(second);
}

#[tokio::test]
async fn one_asker_has_half_of_the_slots_and_time_runs_while_nobody_reads() {
    let time_max = Duration::from_secs(2);
    let engine = engine(EngineSettings { queries_max: 4, time_max, ..Default::default() });
    let kept = [unread(&engine, 1).await, unread(&engine, 1).await];
    let begun = std::time::Instant::now();
    assert_eq!(all_of(&engine, 2).await.unwrap(), 100_000);
    // Its own wait until their time is over, though nobody looks at them.
    let waited = loop {
        match all_of(&engine, 1).await {
            Ok(rows) => break rows,
            Err(error) => assert_eq!(error.code(), Code::DeadlineExceeded, "{error}"),
        }
    };
    assert_eq!(waited, 100_000);
    assert!(begun.elapsed() >= time_max / 2, "{:?}", begun.elapsed());
    // The time of both is over then: the second may have begun much later than the first.
    tokio::time::sleep_until((begun + time_max).into()).await;
    for rows in kept {
        let error = rows.batches.try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    }
}
