//! Answers that every client takes: gRPC's clients stop at 4 MiB.

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array};
use arrow_flight::encode::DictionaryHandling;
use catalog_api::v1::value::Kind;
use items_api::v1::analysis_service_client::AnalysisServiceClient;
use items_api::v1::edits_service_client::EditsServiceClient;
use items_api::v1::sql_service_client::SqlServiceClient;
use items_api::v1::{
    BatchGetItemsRequest, GetItemsAtRequest, Item, ListItemsRequest, RunQueryRequest,
    SampleItemsRequest,
};
use prost::Message;
use service_error::Code;

use super::*;

const CLIENT_BYTES: usize = 4 << 20;
const ROWS: i64 = 900;

/// Rows of about 20 kB each.
async fn wide() -> (House, Who) {
    let house = House::new().await;
    let who = Who::admin();
    let ids: Int64Array = (0..ROWS).collect();
    let texts: StringArray = (0..ROWS).map(|n| Some(format!("{n:>20000}"))).collect();
    let batch =
        RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef), ("t", Arc::new(texts))])
            .unwrap();
    house.put(&who, path("t"), &[batch]).await.unwrap();
    (house, who)
}

fn key(item: &Item) -> i64 {
    match item.values[0].kind {
        Some(Kind::IntValue(key)) => key,
        ref other => panic!("{other:?}"),
    }
}

fn list(order_by: &str, token: &str) -> ListItemsRequest {
    ListItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        order_by: order_by.into(),
        page_size: 10_000,
        page_token: token.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_shorter_than_a_message_both_ways() {
    let (house, who) = wide().await;
    for order in ["", "id", "id desc"] {
        let (mut keys, mut token, mut pages) = (Vec::new(), String::new(), 0);
        let last = loop {
            // Not the client of this house, which takes more.
            let mut client = items_api::v1::items_service_client::ItemsServiceClient::new(
                house.transport.clone(),
            );
            let page = client.list_items(house.by(&who, list(order, &token))).await;
            let page = page.unwrap().into_inner();
            assert!(page.encoded_len() < CLIENT_BYTES, "{} bytes", page.encoded_len());
            keys.extend(page.items.iter().map(key));
            pages += 1;
            if page.next_page_token.is_empty() {
                break page;
            }
            token = page.next_page_token;
        };
        let mut expected: Vec<i64> = (0..ROWS).collect();
        if order == "id desc" {
            expected.reverse();
        }
        assert_eq!(keys, expected, "{order}");
        assert!((4..=9).contains(&pages), "{pages} pages");
        let (mut back, mut token) = (Vec::new(), last.previous_page_token);
        while !token.is_empty() {
            let page = house.items().list_items(house.by(&who, list(order, &token))).await;
            let page = page.unwrap().into_inner();
            assert!(page.encoded_len() < CLIENT_BYTES);
            back.extend(page.items.iter().map(key).rev());
            token = page.previous_page_token;
        }
        back.reverse();
        assert_eq!(back, expected[..back.len()], "{order}");
        assert_eq!(back.len() + last.items.len(), expected.len(), "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_one_answer_is_refused_with_advice() {
    let (house, who) = wide().await;
    let mut edits = EditsServiceClient::new(house.transport.clone());
    let get = |keys: Vec<String>, columns: &[&str]| {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        house.by(
            &who,
            BatchGetItemsRequest {
                namespace: "vision".into(),
                dataset: "t".into(),
                keys,
                columns,
                ..Default::default()
            },
        )
    };
    let keys: Vec<String> = (0..ROWS).rev().map(|key| key.to_string()).collect();
    let error: ServiceError =
        edits.batch_get_items(get(keys.clone(), &[])).await.unwrap_err().into();
    assert_eq!((error.code(), error.reason_text()), (Code::ResourceExhausted, "ANSWER_TOO_LARGE"));
    let few = edits.batch_get_items(get(keys[..150].to_vec(), &[])).await.unwrap().into_inner();
    assert!(few.items.iter().all(|found| found.item.is_some() && found.revision.len() == 16));
    let narrow = edits.batch_get_items(get(keys.clone(), &["id"])).await.unwrap().into_inner();
    assert_eq!(narrow.items.len(), keys.len());
    for (asked, found) in keys.iter().zip(&narrow.items) {
        assert_eq!(*asked, key(found.item.as_ref().unwrap()).to_string());
    }
    // A revision is of the whole row, however few columns are shown.
    assert_eq!(narrow.items[3].revision, few.items[3].revision);
    // One row a thousand times is no small answer.
    let again = vec!["7".to_owned(); 1_000];
    let error: ServiceError = edits.batch_get_items(get(again, &[])).await.unwrap_err().into();
    assert!(error.reason_is("ANSWER_TOO_LARGE"), "{error}");

    let mut analysis = AnalysisServiceClient::new(house.transport.clone());
    let at = |positions: Vec<i64>| {
        let (namespace, dataset) = ("vision".into(), "t".into());
        house.by(&who, GetItemsAtRequest { namespace, dataset, positions, ..Default::default() })
    };
    for positions in [(0..ROWS).collect::<Vec<_>>(), vec![5; 10_000]] {
        let error = analysis.get_items_at(at(positions)).await.unwrap_err();
        assert!(ServiceError::from(error).reason_is("ANSWER_TOO_LARGE"));
    }
    let some = analysis.get_items_at(at(vec![9, 2, 9, 700])).await.unwrap().into_inner();
    assert_eq!(some.items.iter().map(key).collect::<Vec<_>>(), [9, 2, 9, 700]);
    let sample = SampleItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        size: 500,
        ..Default::default()
    };
    let error = analysis.sample_items(house.by(&who, sample)).await.unwrap_err();
    assert!(ServiceError::from(error).reason_is("ANSWER_TOO_LARGE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_answer_in_messages_that_fit() {
    let (house, who) = wide().await;
    let query = RunQueryRequest { query: "select * from quarry.vision.t order by id".into() };
    let mut client = SqlServiceClient::new(house.transport.clone());
    let answers = client.run_query(house.by(&who, query)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.try_collect().await.unwrap();
    assert!(answers.iter().all(|answer| answer.encoded_len() < CLIENT_BYTES));
    let keys: Vec<i64> = answers.iter().flat_map(|answer| answer.rows.iter().map(key)).collect();
    assert_eq!(keys, (0..ROWS).collect::<Vec<_>>());
}

/// A table that is kept is streamed again in batches that share one large dictionary.
#[tokio::test(flavor = "multi_thread")]
async fn large_dictionaries_are_streamed_again_in_few_messages() {
    let house = House::with(|settings| settings.blocks.row_group_rows = 1 << 20).await;
    let who = Who::admin();
    let texts: StringArray = (0..131_072).map(|n| Some(format!("{n:>40}"))).collect();
    let keys: Int32Array = (0..131_072).collect();
    let words = DictionaryArray::new(keys, Arc::new(texts) as ArrayRef);
    let ids: Int64Array = (0..131_072).collect();
    let batch =
        RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef), ("w", Arc::new(words))])
            .unwrap();
    // As it is: the encoder would send plain texts.
    let sent: Vec<FlightData> = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(path("t")))
        .with_schema(batch.schema())
        .with_dictionary_handling(DictionaryHandling::Resend)
        .with_max_flight_data_size(usize::MAX)
        .build(futures::stream::iter([Ok(batch.clone())]))
        .try_collect()
        .await
        .unwrap();
    house.put_messages(&who, futures::stream::iter(sent)).await.unwrap();
    for time in 0..3 {
        let info = house.info(&who, path("t")).await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let answer = house.flight().do_get(house.by(&who, ticket)).await.unwrap().into_inner();
        let messages: Vec<FlightData> = answer.try_collect().await.unwrap();
        let longest = messages.iter().map(Message::encoded_len).max().unwrap();
        assert!(longest < CLIENT_BYTES, "{longest} bytes in get {time}");
        assert!(messages.len() < 80, "{} messages in get {time}", messages.len());
        let got = house.get(&who, path("t")).await.unwrap();
        assert_eq!(got.schema(), batch.schema());
        let plain = |batch: &RecordBatch| {
            let plain = arrow::compute::cast(batch.column(1), &arrow::datatypes::DataType::Utf8);
            plain.unwrap().as_string::<i32>().clone()
        };
        assert_eq!(plain(&got), plain(&batch));
    }
}
