//! SQL: over Flight SQL and over JSON.

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandGetDbSchemas, CommandGetTables, CommandPreparedStatementQuery, CommandStatementIngest,
    CommandStatementQuery, CommandStatementUpdate, DoPutPreparedStatementResult, DoPutUpdateResult,
    ProstMessageExt, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, PutResult};
use futures::{StreamExt, TryStreamExt};
use harness::{Session, data, get_all, put};
use identity_api::v1::TokenScope;
use options_api::v1::Role;
use prost::Message;
use serde_json::json;
use std::sync::Arc;
use tonic::{Code, Status};

use crate::refusal::well_formed;
use crate::stage::Stage;

fn command(message: &impl ProstMessageExt) -> FlightDescriptor {
    FlightDescriptor::new_cmd(message.as_any().encode_to_vec())
}

fn query(sql: &str) -> FlightDescriptor {
    command(&CommandStatementQuery { query: sql.to_owned(), transaction_id: None })
}

async fn rows(session: &Session, sql: &str) -> Result<RecordBatch, Status> {
    let batches = get_all(session, query(sql)).await?;
    Ok(batches.first().map_or_else(
        || RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
        |first| arrow::compute::concat_batches(&first.schema(), &batches).expect("one schema"),
    ))
}

/// The first column of the first row.
async fn number(session: &Session, sql: &str) -> i64 {
    let rows = rows(session, sql).await.unwrap_or_else(|err| panic!("{sql}: {err}"));
    rows.column(0).as_primitive::<Int64Type>().value(0)
}

/// Filters, groups, joins and versions agree with the rows that were put.
pub async fn queries(stage: &Stage) {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 1_000)]).await.unwrap();
    put(&stage.admin, &ns, "rows", vec![data::rows(1_000, 1_500)]).await.unwrap();
    let admin = &stage.admin;
    let table = format!("quarry.{ns}.rows");
    // Before the others: columns that were read twice are in memory, and no page of them is read.
    let plan = rows(admin, &format!("explain select id from {table} where id < 10")).await.unwrap();
    let plan: String = plan.column(1).as_string::<i32>().iter().flatten().collect();
    assert!(plan.contains("blocks read=1 skipped=1"), "{plan}");
    assert!(plan.contains("row_groups read=1 skipped=0"), "{plan}");
    assert!(plan.contains("pages read=1 skipped=0"), "{plan}");
    assert_eq!(number(admin, &format!("select count(*) from {table}")).await, 1_500);
    let fits = |id: &i64| data::width(*id) > 3_000 && data::is_favorite(*id);
    let filtered = format!("select count(*) from {table} where width > 3000 and is_favorite");
    let expected = (0..1_500).filter(fits).count();
    assert_eq!(number(admin, &filtered).await, i64::try_from(expected).unwrap());
    let like = format!("select count(*) from {table} where section like '%ame%' or score is null");
    let expected = (0..1_500).filter(|id| data::section(*id) == "games" || id % 7 == 0).count();
    assert_eq!(number(admin, &like).await, i64::try_from(expected).unwrap());
    let old = format!("select count(*) from {table} a join quarry.{ns}.\"rows@1\" b using (id)");
    assert_eq!(number(admin, &old).await, 1_000);
    let bounds = format!("select max(id) - min(id) from {table}");
    assert_eq!(number(admin, &bounds).await, 1_499);
    let grouped = format!(
        "select section, count(*) as n, avg(width) from {table} group by section order by section"
    );
    let grouped = rows(admin, &grouped).await.unwrap();
    let sections: Vec<_> = grouped.column(0).as_string::<i32>().iter().flatten().collect();
    assert_eq!(sections, ["doc", "games", "libs", "utils"]);
    assert_eq!(grouped.column(1).as_primitive::<Int64Type>().values(), &[375; 4]);
    let all = rows(admin, &format!("select * from {table} order by id")).await.unwrap();
    assert_eq!(all, data::rows(0, 1_500));
    let empty = rows(admin, &format!("select id from {table} where id < 0")).await.unwrap();
    assert_eq!(empty.num_rows(), 0);
}

async fn refusal(session: &Session, sql: &str) -> Status {
    let status = match rows(session, sql).await {
        Ok(rows) => panic!("{sql}: expected a refusal, got {rows:?}"),
        Err(status) => status,
    };
    well_formed(&status);
    status
}

/// Nothing is written, no file is read, nobody sees what it may not see.
pub async fn refused(stage: &Stage) {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 10)]).await.unwrap();
    let (_, user) = stage.user(Role::User).await;
    let secret = format!("select * from quarry.{ns}.rows");
    assert_eq!(refusal(&user, &secret).await.code(), Code::NotFound);
    let anonymous = stage.platform.anonymous();
    assert_eq!(rows(&anonymous, "select 1").await.unwrap_err().code(), Code::Unauthenticated);
    let writes = [
        format!("insert into quarry.{ns}.rows values (1)"),
        format!("delete from quarry.{ns}.rows"),
        format!("drop table quarry.{ns}.rows"),
        "create external table x stored as csv location '/etc/passwd'".to_owned(),
        format!("copy (select * from quarry.{ns}.rows) to '/tmp/quarry-copied.csv'"),
        "set datafusion.execution.batch_size = 1".to_owned(),
    ];
    for sql in &writes {
        let status = refusal(&stage.admin, sql).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{sql}: {status:?}");
    }
    assert!(!std::path::Path::new("/tmp/quarry-copied.csv").exists());
    for sql in ["select * from '/etc/passwd'", "select * from \"/etc/passwd\"", "selec 1", ""] {
        let status = refusal(&stage.admin, sql).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{sql}: {status:?}");
    }
    let settings = refusal(&stage.admin, "select * from information_schema.df_settings").await;
    assert_eq!(settings.code(), Code::NotFound, "no more than a dataset of that name");
    let missing = format!("select nothing from quarry.{ns}.rows");
    let status = refusal(&stage.admin, &missing).await;
    assert!(status.message().contains("nothing"), "{status:?}");
    let update = CommandStatementUpdate { query: "delete from x".into(), transaction_id: None };
    let status = send(&stage.admin, command(&update), &[data::rows(0, 1)]).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let unknown = Any {
        type_url: "type.googleapis.com/arrow.flight.protocol.sql.CommandFormat".into(),
        value: Default::default(),
    };
    let unknown = FlightDescriptor::new_cmd(unknown.encode_to_vec());
    let status = stage.admin.flight().get_flight_info(unknown).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
}

/// A put with a descriptor of any kind; what the server said last.
async fn send(
    session: &Session,
    descriptor: FlightDescriptor,
    batches: &[RecordBatch],
) -> Result<PutResult, Status> {
    let schema = batches[0].schema();
    let batches: Vec<Result<RecordBatch, FlightError>> = batches.iter().cloned().map(Ok).collect();
    let messages = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_flight_descriptor(Some(descriptor))
        .build(futures::stream::iter(batches))
        .map(|message: Result<FlightData, FlightError>| message.expect("a batch that encodes"));
    let answers = session.flight().do_put(messages).await?.into_inner();
    let answers: Vec<PutResult> = answers.try_collect().await?;
    Ok(answers.into_iter().next_back().expect("an answer"))
}

async fn prepare(
    session: &Session,
    sql: &str,
) -> Result<ActionCreatePreparedStatementResult, Status> {
    let request =
        ActionCreatePreparedStatementRequest { query: sql.to_owned(), transaction_id: None };
    let action = Action {
        r#type: "CreatePreparedStatement".into(),
        body: request.as_any().encode_to_vec().into(),
    };
    let mut answer = session.flight().do_action(action).await?.into_inner();
    let body = answer.message().await?.expect("an answer").body;
    Ok(Any::decode(body).unwrap().unpack().unwrap().expect("a prepared statement"))
}

/// Prepared with parameters, bound to the caller, pinned to a snapshot.
pub async fn handles(stage: &Stage) {
    let (user, session) = stage.user(Role::User).await;
    let ns = stage.namespace_of(&session).await.name;
    put(&session, &ns, "rows", vec![data::rows(0, 100)]).await.unwrap();
    // A token that may only read may still give parameters.
    let reading = stage.token(&user.name, TokenScope::ReadOnly).await;
    let session = stage.platform.session(&reading);
    let sql = format!("select count(*) from quarry.{ns}.rows where id >= ? and section = ?");
    let prepared = prepare(&session, &sql).await.unwrap();
    let parameters = arrow::datatypes::Schema::try_from(arrow_flight::SchemaResult {
        schema: prepared.parameter_schema.clone(),
    });
    assert_eq!(parameters.unwrap().fields().len(), 2);
    let handle = prepared.prepared_statement_handle;
    let with =
        |handle| command(&CommandPreparedStatementQuery { prepared_statement_handle: handle });
    let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["games"]));
    let values = RecordBatch::try_from_iter([
        ("0", Arc::new(Int64Array::from(vec![40])) as ArrayRef),
        ("1", texts),
    ])
    .unwrap();
    let unbound = session.flight().get_flight_info(with(handle.clone())).await.unwrap_err();
    assert_eq!(unbound.code(), Code::InvalidArgument, "{unbound:?}");
    let answer = send(&session, with(handle.clone()), &[values]).await.unwrap();
    let bound = DoPutPreparedStatementResult::decode(answer.app_metadata).unwrap();
    let bound = bound.prepared_statement_handle.expect("a new handle");
    let info = session.flight().get_flight_info(with(bound.clone())).await.unwrap().into_inner();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    // More rows do not change what was asked.
    let owner = stage.platform.session(&stage.token(&user.name, TokenScope::Full).await);
    put(&owner, &ns, "rows", vec![data::rows(100, 200)]).await.unwrap();
    let read = harness::get_ticket(&session, ticket.clone()).await.unwrap();
    assert_eq!(read[0].column(0).as_primitive::<Int64Type>().value(0), 15);
    let (_, thief) = stage.user(Role::User).await;
    for stolen in [
        harness::get_ticket(&thief, ticket.clone()).await.map(drop),
        thief.flight().get_flight_info(with(bound)).await.map(drop),
    ] {
        assert_eq!(stolen.unwrap_err().code(), Code::PermissionDenied);
    }
    let changed = arrow_flight::Ticket { ticket: [ticket.ticket.as_ref(), b"x"].concat().into() };
    assert!(harness::get_ticket(&session, changed).await.is_err());
    let target = FlightDescriptor::new_path(vec![ns, "rows".into()]);
    let more = [data::rows(300, 301)];
    let written = send(&session, target, &more);
    assert_eq!(written.await.unwrap_err().code(), Code::PermissionDenied);
}

/// Schemas and tables are those that the caller may see.
pub async fn metadata(stage: &Stage) {
    let (_, user) = stage.user(Role::User).await;
    let own = stage.namespace_of(&user).await.name;
    let others = stage.namespace().await;
    put(&user, &own, "mine", vec![data::rows(0, 3)]).await.unwrap();
    put(&stage.admin, &others, "theirs", vec![data::rows(0, 3)]).await.unwrap();
    let schemas = get_all(&user, command(&CommandGetDbSchemas::default())).await.unwrap();
    let names: Vec<String> = schemas
        .iter()
        .flat_map(|batch| batch.column(1).as_string::<i32>().iter().flatten())
        .map(str::to_owned)
        .collect();
    assert!(names.contains(&own) && !names.contains(&others), "{names:?}");
    let tables = CommandGetTables { include_schema: true, ..Default::default() };
    let tables = get_all(&user, command(&tables)).await.unwrap();
    let rows: Vec<(String, Vec<u8>)> = tables
        .iter()
        .flat_map(|batch| {
            let names = batch.column(2).as_string::<i32>().iter().flatten();
            let schemas = batch.column(4).as_binary::<i32>().iter().flatten();
            names.map(str::to_owned).zip(schemas.map(<[u8]>::to_vec)).collect::<Vec<_>>()
        })
        .collect();
    let mine = rows.iter().find(|(name, _)| name == "mine").expect("my table");
    assert!(!rows.iter().any(|(name, _)| name == "theirs"));
    let schema = arrow::datatypes::Schema::try_from(arrow_flight::SchemaResult {
        schema: mine.1.clone().into(),
    });
    assert_eq!(schema.unwrap().fields(), data::schema().fields());
}

/// An ingest is a put: created, appended to, replaced, or refused.
pub async fn ingest(stage: &Stage) {
    let ns = stage.namespace().await;
    let into = |exists: TableExistsOption, absent: TableNotExistOption| {
        command(&CommandStatementIngest {
            table_definition_options: Some(TableDefinitionOptions {
                if_not_exist: absent as i32,
                if_exists: exists as i32,
            }),
            table: "rows".into(),
            schema: Some(ns.clone()),
            ..Default::default()
        })
    };
    use TableExistsOption::{Append, Fail as FailIfThere, Replace};
    use TableNotExistOption::{Create, Fail as FailIfNot};
    let admin = &stage.admin;
    let absent = send(admin, into(Append, FailIfNot), &[data::rows(0, 5)]).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound, "{absent:?}");
    let made = send(admin, into(FailIfThere, Create), &[data::rows(0, 5)]).await.unwrap();
    assert_eq!(DoPutUpdateResult::decode(made.app_metadata).unwrap().record_count, 5);
    let again = send(admin, into(FailIfThere, Create), &[data::rows(5, 9)]).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists, "{again:?}");
    let count = format!("select count(*) from quarry.{ns}.rows");
    send(admin, into(Append, FailIfNot), &[data::rows(5, 9)]).await.unwrap();
    assert_eq!(number(admin, &count).await, 9);
    send(admin, into(Replace, Create), &[data::rows(0, 2)]).await.unwrap();
    assert_eq!(number(admin, &count).await, 2);
    let (_, viewer) = stage.user(Role::Viewer).await;
    let denied = send(&viewer, into(Append, Create), &[data::rows(0, 1)]).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
}

/// A query over JSON: a line for each batch of rows, with typed values.
pub async fn over_json(stage: &Stage) {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 1_200)]).await.unwrap();
    let sql = format!("select id, section, score from quarry.{ns}.rows order by id");
    let answer = stage.admin.post("/v1/sql", &json!({ "query": sql })).await;
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/x-ndjson"));
    let lines: Vec<serde_json::Value> =
        answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<_> = lines.iter().map(|line| line.get("result").unwrap_or(line)).collect();
    assert_eq!(lines[0]["columns"][1]["name"], "section", "{}", lines[0]);
    let count: usize = lines.iter().filter_map(|line| line["rows"].as_array()).map(Vec::len).sum();
    assert_eq!(count, 1_200);
    let values = &lines[1]["rows"][1]["values"];
    assert_eq!(values[0]["int_value"], "1", "{values}");
    assert_eq!(values[1]["string_value"], "libs", "{values}");
    let wrong = stage.admin.post("/v1/sql", &json!({ "query": "selec 1" })).await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let denied = stage.admin.post("/v1/sql", &json!({ "query": "drop table a.b" })).await;
    assert_eq!(denied.status, 403, "{denied:?}");
}
