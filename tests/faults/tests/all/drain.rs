//! SIGTERM in the middle of a read: the stream finishes, the door closes, the process ends well.

use std::time::Duration;

use api::cases::path;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use catalog_api::v1::{CreateNamespaceRequest, ListNamespacesRequest};
use futures::{StreamExt, TryStreamExt};
use harness::{Database, Platform, Role, Session, Topology, data, eventually, put};

const ROWS: i64 = 40_000;

async fn drains(topology: Topology) {
    let mut platform = Platform::start(topology, Database::Sqlite).await;
    let admin = platform.admin();
    let request = CreateNamespaceRequest { name: "drain".into(), ..Default::default() };
    admin.namespaces().create_namespace(request).await.unwrap();
    let batches = (0..ROWS / 1_000).map(|b| data::noisy_rows(b * 1_000, (b + 1) * 1_000)).collect();
    put(&admin, "drain", "rows", batches).await.unwrap();
    let info = admin.flight().get_flight_info(path("drain", "rows")).await.unwrap().into_inner();
    assert_eq!(info.total_records, ROWS);
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let answer = admin.flight().do_get(ticket).await.unwrap().into_inner();
    let mut rows = FlightRecordBatchStream::new_from_flight_data(answer.map_err(FlightError::from));
    let first = rows.next().await.unwrap().unwrap();
    platform.process(Role::Gateway).terminate();
    let operations = platform.operations_url(Role::Gateway);
    let door = Session::new(operations.trim_start_matches("http://").parse().unwrap(), None);
    eventually("not ready", Duration::from_secs(5), async || {
        (door.get("/readyz").await.status != 200).then_some(())
    })
    .await;
    let rest: Vec<_> = rows.try_collect().await.expect("the stream goes on to its end");
    let read = first.num_rows() + rest.iter().map(|batch| batch.num_rows()).sum::<usize>();
    assert_eq!(read, usize::try_from(ROWS).unwrap());
    let status = platform.process_mut(Role::Gateway).ended().await;
    assert!(status.success(), "{status}\n{}", platform.logs());
    let late = admin.apart().namespaces().list_namespaces(ListNamespacesRequest::default()).await;
    assert!(late.is_err(), "the door is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process() {
    drains(Topology::OneProcess).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn split() {
    drains(Topology::Split).await;
}
