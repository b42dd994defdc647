//! A role that is ended and started again while clients go on: no stream is cut, and who asks
//! meanwhile is answered by the process that follows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::time::Duration;

use api::Stage;
use api::cases::path;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use futures::{StreamExt, TryStreamExt};
use harness::{Database, Role, Session, Setup, Topology, data, eventually, put, wait_for_doors};

/// A client's own patience: longer than a role needs to come back.
const PATIENCE: Duration = Duration::from_secs(60);
/// Each role in a process of its own, on Postgres; objects in the bucket of
/// `QUARRY_TEST_OBJECT_STORE_URL` (with its `AWS_…` variables) if there is one.
async fn split() -> Stage {
    wait_for_doors(PATIENCE);
    let mut setup = Setup::new(Topology::Split, Database::Postgres);
    if let Ok(url) = std::env::var("QUARRY_TEST_OBJECT_STORE_URL") {
        setup = setup.variable("QUARRY_OBJECT_STORE_URL", &url);
    }
    let platform = setup.start().await;
    let admin = platform.admin();
    Stage { platform, admin }
}

/// A stream that a role sends while it is told to stop comes to its end, and who asks next is
/// answered by the process that follows.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_outlives_the_stop_of_its_role() {
    let stage = split().await;
    let namespace = stage.namespace().await;
    let batches = (0..40).map(|b| data::noisy_rows(b * 1_000, (b + 1) * 1_000)).collect();
    put(&stage.admin, &namespace, "rows", batches).await.unwrap();
    let info = stage.admin.flight().get_flight_info(path(&namespace, "rows")).await.unwrap();
    let ticket = info.into_inner().endpoint[0].ticket.clone().unwrap();
    let answer = stage.admin.flight().do_get(ticket.clone()).await.unwrap().into_inner();
    let mut rows = FlightRecordBatchStream::new_from_flight_data(answer.map_err(FlightError::from));
    let first = rows.next().await.unwrap().unwrap().num_rows();
    let role = stage.platform.process(Role::ItemStore);
    let door = Session::new(role.operations(), None);
    let rest = async {
        // The role is on its way out, and its stream is still half unread.
        eventually("not ready", PATIENCE, async || {
            (door.get("/readyz").await.status != 200).then_some(())
        })
        .await;
        let rest: Vec<_> = rows.try_collect().await.expect("the stream goes on to its end");
        rest.iter().map(|batch| batch.num_rows()).sum::<usize>()
    };
    let next = async {
        let answer = stage.admin.apart().flight().do_get(ticket).await.unwrap().into_inner();
        let rows = FlightRecordBatchStream::new_from_flight_data(answer.map_err(FlightError::from));
        rows.try_fold(0, |sum, batch| async move { Ok(sum + batch.num_rows()) }).await.unwrap()
    };
    let (status, rest, next) = tokio::join!(role.cycle(), rest, next);
    assert!(status.success(), "{status}");
    assert_eq!((first + rest, next), (40_000, 40_000));
}
