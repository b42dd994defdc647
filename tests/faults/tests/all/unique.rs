//! Two item stores whose writers all bring the same values to a unique column, one of them
//! stopped at any moment: no value is there twice, and each is whose it was said to be.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::history::{int, text};
use crate::replicas::{NAMESPACE, STOPPED, both, pass, rounds};
use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightDescriptor;
use futures::stream;
use harness::{Put, Role, Session, get_all};
use items_api::v1::CreateItemRequest;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const CODES: &str = "codes";
const WRITERS: i64 = 6;

fn row(id: i64, code: &str) -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] = [
        ("id", Arc::new(Int64Array::from(vec![id]))),
        ("code", Arc::new(StringArray::from(vec![code]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

async fn append(session: &Session, id: i64, code: &str) -> Result<(), Status> {
    let rows = row(id, code);
    let put = Put::to(NAMESPACE, CODES, rows.schema())
        .option("mode", "append")
        .option("unique_columns", vec!["code"]);
    put.send(session, stream::iter(vec![rows])).await.map(drop)
}

async fn create(session: &Session, id: i64, code: &str) -> Result<(), Status> {
    let request = CreateItemRequest {
        namespace: NAMESPACE.into(),
        dataset: CODES.into(),
        cells: HashMap::from([("id".to_owned(), int(id)), ("code".to_owned(), text(code))]),
        ..Default::default()
    };
    session.edits().create_item(request).await.map(drop)
}

/// Brings the code that all bring until somebody has it, then the next one; answers what was
/// acknowledged.
async fn bring(
    session: Session,
    writer: i64,
    (newest, ids): (Arc<AtomicI64>, Arc<AtomicI64>),
    going: Arc<AtomicBool>,
) -> HashMap<String, i64> {
    let mut mine = HashMap::new();
    while going.load(Ordering::Relaxed) {
        let id = ids.fetch_add(1, Ordering::Relaxed);
        let number = newest.load(Ordering::Relaxed);
        let code = format!("c{number}");
        let outcome = match (number + writer) % 4 {
            0 => append(&session, id, &code).await,
            _ => create(&session, id, &code).await,
        };
        match outcome {
            Ok(()) => drop(mine.insert(code, id)),
            Err(status) if status.code() == Code::AlreadyExists => {
                let info = status.get_details_error_info().unwrap();
                assert_eq!(info.reason, "VALUE_EXISTS", "{status:?}");
                assert_eq!(info.metadata["value"], code, "{status:?}");
            }
            // Its server was stopped while it held the fence, and the other one settled it:
            // nothing of it is there.
            Err(status) if status.code() == Code::FailedPrecondition => {
                let info = status.get_details_error_info().unwrap();
                assert_eq!(info.reason, "UPLOAD_ABORTED", "{status:?}");
                continue;
            }
            // It waited too long for the one that was stopped: nobody knows what became of it.
            Err(status) => {
                let lost = [Code::Aborted, Code::Unavailable, Code::DeadlineExceeded];
                assert!(lost.contains(&status.code()), "{status:?}");
                continue;
            }
        }
        let _ = newest.compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed);
    }
    mine
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_there_once_and_whose_it_was_said_to_be() {
    let (platform, replica) = both("1").await;
    let doors = [platform.admin(), replica.admin()];
    append(&doors[0], 0, "c0").await.unwrap();
    let numbers = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicI64::new(1)));
    let mut known = HashMap::from([("c0".to_owned(), 0)]);
    for round in 0..rounds() {
        let going = Arc::new(AtomicBool::new(true));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let session = doors[writer as usize % 2].apart();
                tokio::spawn(bring(session, writer, numbers.clone(), Arc::clone(&going)))
            })
            .collect();
        pass(Duration::from_millis(900 + (round * 389) % 900)).await;
        let stopped =
            if round % 2 == 0 { platform.process(Role::ItemStore) } else { &replica.item_store };
        stopped.suspend();
        pass(STOPPED).await;
        stopped.go_on();
        pass(Duration::from_millis(900)).await;
        going.store(false, Ordering::Relaxed);
        for writer in writers {
            for (code, id) in writer.await.unwrap() {
                let before = known.insert(code.clone(), id);
                assert_eq!(before, None, "{code} was given to {id}, too");
            }
        }
        for door in &doors {
            let path = FlightDescriptor::new_path(vec![NAMESPACE.into(), CODES.into()]);
            let mut found: HashMap<String, i64> = HashMap::new();
            for batch in get_all(door, path).await.unwrap() {
                let ids = batch.column(0).as_primitive::<Int64Type>().values();
                let codes = batch.column(1).as_string::<i32>();
                for (id, code) in ids.iter().zip(codes.iter().flatten()) {
                    let before = found.insert(code.to_owned(), *id);
                    assert_eq!(before, None, "{code} is of {id}, too");
                }
            }
            for (code, id) in &known {
                assert_eq!(found.get(code), Some(id), "{code} was said to be {id}'s");
            }
        }
    }
    println!("{} stops, {} values", rounds(), known.len());
    assert!(known.len() > 5, "too few to mean anything");
}
