//! A rolling restart: each role in a process of its own is ended and started again, one
//! after another, while clients go on. No call that may be repeated fails, no stream is cut.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::Stage;
use api::cases::path;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use catalog_api::v1::{CreateNamespaceRequest, ListNamespacesRequest};
use futures::{StreamExt, TryStreamExt};
use harness::{
    Bucket, Database, Role, Session, Setup, Topology, data, eventually, put, wait_for_doors,
};

/// A client's own patience: longer than a role needs to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each role in a process of its own, on Postgres, objects in `bucket`.
async fn split(bucket: &Bucket) -> Stage {
    wait_for_doors(PATIENCE);
    let mut setup = Setup::new(Topology::Split, Database::Postgres);
    for (name, value) in bucket.variables() {
        setup = setup.variable(name, &value);
    }
    let platform = setup.variable("QUARRY_START__SHARE_PORTS", "true").start().await;
    let admin = platform.admin();
    Stage { platform, admin }
}

/// Restarts role after role, each once. The public door is handed over from process to
/// process, every other role is away until it is there again.
async fn roll(stage: &Stage) {
    for role in Role::ALL {
        let process = stage.platform.process(role);
        let status = match role {
            Role::Gateway => process.hand_over().await,
            _ => process.cycle().await,
        };
        assert!(status.success(), "{role:?} ended with {status}");
    }
}

/// Calls that may be repeated, made all the time: none fails, whoever is restarted.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_under_load() {
    let bucket = Bucket::start();
    let stage = split(&bucket).await;
    let stop = AtomicBool::new(false);
    let namespace = stage.namespace().await;
    put(&stage.admin, &namespace, "rows", vec![data::rows(0, 1_000)]).await.unwrap();
    let load = futures::future::join_all((0..8).map(|worker| {
        let (stage, stop, namespace) = (&stage, &stop, namespace.as_str());
        // Some have a connection of their own, some share one.
        let session = if worker < 4 { stage.admin.apart() } else { stage.admin.clone() };
        async move { calls(&session, namespace, worker, stop).await }
    }));
    let rolled = async {
        roll(&stage).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (made, ()) = tokio::join!(load, rolled);
    let made: usize = made.into_iter().sum();
    println!("{made} calls, {} restarts", Role::ALL.len());
    assert!(made > 100, "{made} calls are no load");
}

async fn calls(session: &Session, namespace: &str, worker: usize, stop: &AtomicBool) -> usize {
    let mut made = 0;
    while !stop.load(Ordering::SeqCst) {
        match worker % 4 {
            0 => {
                let list = ListNamespacesRequest::default();
                session.namespaces().list_namespaces(list).await.unwrap();
            }
            1 => {
                let info = session.flight().get_flight_info(path(namespace, "rows")).await;
                let ticket = info.unwrap().into_inner().endpoint[0].ticket.clone().unwrap();
                let answer = session.flight().do_get(ticket).await.unwrap().into_inner();
                let rows = answer.map_err(FlightError::from);
                let rows: Vec<_> = FlightRecordBatchStream::new_from_flight_data(rows)
                    .try_collect()
                    .await
                    .unwrap();
                assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1_000);
            }
            2 => {
                let path = format!("/v1/namespaces/{namespace}");
                let answer = session.get(&path).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
            _ => {
                let name = api::unique("load");
                let request = CreateNamespaceRequest { name, ..Default::default() };
                session.namespaces().create_namespace(request).await.unwrap();
            }
        }
        made += 1;
    }
    made
}

/// A stream that a role sends while it is told to stop comes to its end, and who asks next is
/// answered by the process that follows.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_outlives_the_stop_of_its_role() {
    let bucket = Bucket::start();
    let stage = split(&bucket).await;
    let namespace = stage.namespace().await;
    let batches = (0..40).map(|b| data::noisy_rows(b * 1_000, (b + 1) * 1_000)).collect();
    put(&stage.admin, &namespace, "rows", batches).await.unwrap();
    for role in [Role::ItemStore, Role::Gateway] {
        let info = stage.admin.flight().get_flight_info(path(&namespace, "rows")).await.unwrap();
        let ticket = info.into_inner().endpoint[0].ticket.clone().unwrap();
        let answer = stage.admin.flight().do_get(ticket.clone()).await.unwrap().into_inner();
        let mut rows =
            FlightRecordBatchStream::new_from_flight_data(answer.map_err(FlightError::from));
        let first = rows.next().await.unwrap().unwrap().num_rows();
        let process = stage.platform.process(role);
        let door = Session::new(process.operations(), None);
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
            let rows =
                FlightRecordBatchStream::new_from_flight_data(answer.map_err(FlightError::from));
            rows.try_fold(0, |sum, batch| async move { Ok(sum + batch.num_rows()) }).await.unwrap()
        };
        let stopped = async {
            match role {
                Role::Gateway => process.hand_over().await,
                _ => process.cycle().await,
            }
        };
        let (status, rest, next) = tokio::join!(stopped, rest, next);
        assert!(status.success(), "{status}");
        assert_eq!((first + rest, next), (40_000, 40_000));
    }
}
