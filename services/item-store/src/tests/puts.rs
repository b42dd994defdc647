//! Puts: what comes back, and what is refused and leaves nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use futures::StreamExt;
use serde_json::json;
use service_error::Code;

use super::{House, Who, by_id, command, messages, path, rows};

#[tokio::test(flavor = "multi_thread")]
async fn a_table_comes_back_as_it_was() {
    let house = House::with(|settings| settings.blocks.rows_max = 30_000).await;
    let who = Who::admin();
    let batches: Vec<RecordBatch> = (0..10).map(|i| rows(i * 10_000..(i + 1) * 10_000)).collect();
    let done = house.put(&who, path("icons"), &batches).await.unwrap();
    assert_eq!(
        (&done["version"], &done["rows"], &done["dataset"]),
        (&json!(1), &json!(100_000), &json!("vision/icons"))
    );
    let found = house.get(&who, path("icons")).await.unwrap();
    assert_eq!(found.schema(), batches[0].schema());
    let whole = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    assert_eq!(by_id(&found), by_id(&whole));
    let info = house.info(&who, path("icons")).await.unwrap();
    assert_eq!(info.total_records, 100_000);
    assert!(info.total_bytes > 0 && info.ordered && info.endpoint[0].expiration_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_add_and_overwrites_replace() {
    let house = House::new().await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..100)]).await.unwrap();
    house.put(&who, path("t"), &[rows(100..200)]).await.unwrap();
    assert_eq!(house.get(&who, path("t")).await.unwrap().num_rows(), 200);
    let overwrite = command(json!({"dataset": "vision/t", "mode": "overwrite", "message": "anew"}));
    let done = house.put(&who, overwrite, &[rows(50..60)]).await.unwrap();
    assert_eq!(done["version"], 3);
    assert_eq!(house.get(&who, path("t")).await.unwrap(), by_id(&rows(50..60)));
    let before = command(json!({"dataset": "vision/t", "version": 2}));
    assert_eq!(house.get(&who, before).await.unwrap().num_rows(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_there_is_refused_and_nothing_is_stored() {
    let house = House::with(|settings| settings.blocks.rows_max = 1_000).await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..5_000)]).await.unwrap();
    for clash in
        [vec![rows(5_000..6_000), rows(4_999..5_000)], vec![rows(5_000..8_000), rows(5_000..5_001)]]
    {
        let error = house.put(&who, path("t"), &clash).await.unwrap_err();
        assert_eq!(error.code(), Code::AlreadyExists, "{error}");
        assert!(error.reason_is("KEY_EXISTS") && error.detail("key").is_some());
    }
    assert_eq!(house.get(&who, path("t")).await.unwrap().num_rows(), 5_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_appends_at_once_each_key_lands_once() {
    let house = Arc::new(House::new().await);
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..10)]).await.unwrap();
    let puts = (0..8u64).map(|i| {
        let (house, who) = (Arc::clone(&house), who.clone());
        // Neighbours share one key.
        tokio::spawn(async move {
            house.put(&who, path("t"), &[rows(100 + i * 10..111 + i * 10)]).await
        })
    });
    let mut landed = 0;
    for put in futures::future::join_all(puts).await {
        match put.unwrap() {
            Ok(_) => landed += 1,
            Err(error) => assert_eq!(error.code(), Code::AlreadyExists, "{error}"),
        }
    }
    // The fewest that leave no room for another one: the 2nd, 5th and 8th.
    assert!(landed >= 3, "{landed}");
    let found = house.get(&who, path("t")).await.unwrap();
    let ids: std::collections::HashSet<_> = found.column(0).as_fixed_size_binary().iter().collect();
    assert_eq!((ids.len(), found.num_rows()), (found.num_rows(), 10 + landed * 11));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_says_its_rows_must_bring_them() {
    let house = House::new().await;
    let who = Who::admin();
    for (said, sent) in [(json!(101), 100), (json!(99), 100), (json!("trailing"), 100)] {
        let put = command(json!({"dataset": "vision/t", "rows": said}));
        let error = house.put(&who, put, &[rows(0..sent)]).await.unwrap_err();
        assert!(error.reason_is("PUT_INCOMPLETE"), "{error}");
    }
    assert_eq!(house.info(&who, path("t")).await.unwrap_err().code(), Code::NotFound);
    let put = command(json!({"dataset": "vision/t", "rows": "trailing"}));
    let mut all = messages(put, &[rows(0..100)]).await;
    all.push(arrow_flight::FlightData {
        app_metadata: br#"{"rows":100}"#.as_slice().into(),
        ..Default::default()
    });
    assert_eq!(house.put_messages(&who, futures::stream::iter(all)).await.unwrap()["rows"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing() {
    let house = House::new().await;
    let who = Who::admin();
    let begun = futures::stream::iter(messages(path("t"), &[rows(0..100)]).await)
        .chain(futures::stream::pending());
    let mut answers = house.flight().do_put(house.by(&who, begun)).await.unwrap().into_inner();
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(200), answers.next()).await;
    assert!(waiting.is_err(), "the put ended by itself");
    assert_eq!(house.catalog.open_uploads(), 1);
    drop(answers);
    while house.catalog.open_uploads() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        (house.catalog.calls.count("CommitVersion"), house.catalog.abandoned_uploads()),
        (0, 1)
    );
    assert_eq!(house.app.collector().sweep().await.unwrap(), 1);
    assert_eq!(house.catalog.abandoned_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_put_is_one_put_and_another_one_is_refused() {
    let house = House::new().await;
    let who = Who::admin();
    let put = |name: &str| command(json!({"dataset": "vision/t", "idempotency_key": name}));
    house.put(&who, path("t"), &[rows(0..10)]).await.unwrap();
    let first = house.put(&who, put("k"), &[rows(10..20)]).await.unwrap();
    // The keys are there by now, and the put is the same one.
    let again = house.put(&who, put("k"), &[rows(10..20)]).await;
    assert_eq!(again.map(|done| done["version"].clone()).ok(), Some(first["version"].clone()));
    let other = house.put(&who, put("k"), &[rows(20..30)]).await.unwrap_err();
    assert!(other.reason_is("IDEMPOTENCY_KEY_REUSED"), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_the_catalog_is_asked_for_again() {
    let house = House::new().await;
    let who = Who::admin();
    house.catalog.calls.lose_answers("CommitVersion", 1);
    let done = house.put(&who, path("t"), &[rows(0..10)]).await.unwrap();
    assert_eq!(
        (done["version"].clone(), house.catalog.calls.count("CommitVersion")),
        (json!(1), 2)
    );
    assert_eq!(house.get(&who, path("t")).await.unwrap().num_rows(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_do_not_fit_are_named() {
    let house = House::new().await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..10)]).await.unwrap();
    let extra =
        RecordBatch::try_from_iter([("colour", Arc::new(Int64Array::from(vec![1])) as ArrayRef)])
            .unwrap();
    let error = house.put(&who, path("t"), &[extra]).await.unwrap_err();
    assert_eq!((error.field_name(), error.code()), (Some("colour"), Code::InvalidArgument));
    // A missing column is null, a wider number is taken if it fits.
    let ids = rows(10..11).column(0).clone();
    let part = RecordBatch::try_from_iter([
        ("width", Arc::new(Int64Array::from(vec![7])) as ArrayRef),
        ("id", ids),
    ]);
    house.put(&who, path("t"), &[part.unwrap()]).await.unwrap();
    let found = house
        .get(
            &who,
            command(json!({"dataset": "vision/t", "filter": "width = 7 AND section = null"})),
        )
        .await;
    assert_eq!(found.unwrap().num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn items_without_ids_get_them_and_ids_keep_their_spelling() {
    let house = House::new().await;
    let who = Who::admin();
    let title: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let batch = RecordBatch::try_from_iter([("title", title.clone())]).unwrap();
    let made = command(json!({"dataset": "vision/made", "profile": "items"}));
    house.put(&who, made.clone(), std::slice::from_ref(&batch)).await.unwrap();
    house.put(&who, made, &[batch]).await.unwrap();
    let found = house.get(&who, path("made")).await.unwrap();
    assert_eq!((found.num_rows(), found.num_columns()), (4, 15));
    assert_eq!(found.column_by_name("id").unwrap().null_count(), 0);

    let simple: ArrayRef = Arc::new(StringArray::from(vec![
        "01932d3e7b2a7c1f9f00000000000001",
        "01932d3e7b2a7c1f9f00000000000002",
    ]));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", simple.clone(), false),
        ("title", title, true),
    ])
    .unwrap();
    let items = command(json!({"dataset": "vision/simple", "profile": "items"}));
    house.put(&who, items.clone(), std::slice::from_ref(&batch)).await.unwrap();
    let found = house.get(&who, path("simple")).await.unwrap();
    assert_eq!(found.column_by_name("id").unwrap().as_string::<i32>(), simple.as_string::<i32>());
    // The same id in another spelling is the same key.
    let hyphens: ArrayRef =
        Arc::new(StringArray::from(vec!["01932D3E-7B2A-7C1F-9F00-000000000001"]));
    let error = house
        .put(&who, items, &[RecordBatch::try_from_iter([("id", hyphens)]).unwrap()])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_message_is_refused_with_advice_and_the_next_put_works() {
    let house = House::with(|settings| settings.flight.message_bytes_max = 100_000).await;
    let who = Who::admin();
    let error = house.put(&who, path("t"), &[rows(0..50_000)]).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().contains("max_chunksize"), "{error}");
    house.put(&who, path("t"), &[rows(0..500)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_put_makes_an_empty_dataset() {
    let house = House::new().await;
    let who = Who::admin();
    house.put(&who, path("empty"), &[rows(0..1).slice(0, 0)]).await.unwrap();
    let found = house.get(&who, path("empty")).await.unwrap();
    assert_eq!((found.num_rows(), found.schema()), (0, rows(0..1).schema()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_write_is_told_before_it_sends_rows() {
    let house = House::new().await;
    house.put(&Who::admin(), path("t"), &[rows(0..10)]).await.unwrap();
    let schema = messages(path("t"), &[rows(10..20)]).await.into_iter().take(1);
    let endless = futures::stream::iter(schema).chain(futures::stream::pending());
    let stranger = Who::user();
    let told = house.put_messages(&stranger, endless);
    let told = tokio::time::timeout(std::time::Duration::from_secs(10), told).await;
    assert_eq!(told.unwrap().unwrap_err().code(), Code::NotFound);
}

/// A client whose descriptor is a path says the mode in metadata.
#[tokio::test(flavor = "multi_thread")]
async fn the_mode_of_a_put_may_come_as_metadata() {
    let house = House::new().await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..300)]).await.unwrap();
    let put = async |at: usize, metadata: &str, range: std::ops::Range<u64>| {
        let batches = [rows(range.clone()), rows(range.end..range.end + 5)];
        let mut sent = messages(path("t"), &batches).await;
        sent[at].app_metadata = metadata.to_owned().into();
        house.put_messages(&who, futures::stream::iter(sent)).await
    };
    let total = async || house.get(&who, path("t")).await.unwrap().num_rows();
    // With the schema, or with the first rows, as pyarrow's writer sends it.
    put(0, r#"{"mode":"upsert"}"#, 0..300).await.unwrap();
    assert_eq!(total().await, 305);
    put(1, r#"{"mode":"overwrite"}"#, 0..20).await.unwrap();
    assert_eq!(total().await, 25);
    put(1, r#"{"mode":"delete"}"#, 0..10).await.unwrap();
    assert_eq!(total().await, 10);
    put(1, "batch 1", 1_000..1_010).await.unwrap();
    assert_eq!(total().await, 25, "a client's own mark");
    for (at, wrong) in [
        (0, r#"{"mode":"replace"}"#),
        (1, r#"{"mode":"replace"}"#),
        (1, r#"{"Mode":"upsert"}"#),
        (2, r#"{"mode":"overwrite"}"#),
    ] {
        let error = put(at, wrong, 2_000..2_010).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{wrong}: {error}");
        assert_eq!(total().await, 25, "{wrong}");
    }
}
