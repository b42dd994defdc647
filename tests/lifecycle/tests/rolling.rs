//! A rolling restart: each role in a process of its own gives way to the next one, one role
//! after another, while clients go on. No call fails, no stream that has an end is cut.
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
    for name in composed() {
        assert!(platform.variables().contains_key(name), "compose.yaml sets {name} as well");
    }
    let admin = platform.admin();
    Stage { platform, admin }
}

/// What `deploy/compose.yaml` sets for every role, but for the address, which is a flag here.
fn composed() -> impl Iterator<Item = &'static str> {
    let text = include_str!("../../../deploy/compose.yaml");
    let settings = text.split("environment: &settings").nth(1).expect("settings");
    let lines = settings.lines().skip(1).take_while(|line| line.starts_with("    "));
    let names = lines.filter_map(|line| line.trim().split_once(": ").map(|(name, _)| name));
    names.filter(|name| *name != "QUARRY_LISTEN")
}

/// Between the beginnings of two restarts: a platform is rolled, not shaken.
const TURN: Duration = Duration::from_secs(5);

/// Cases that speak on a raw stream of an agent, message by message, and whom else they
/// speak through: a role that goes ends the stream, and an agent comes again, as the
/// other cases' agents do. Beside these all other roles are restarted.
const RAW: [&str; 3] = [
    "agent: a hostile one is refused",
    "agent: its own locations alone",
    "agent: goes on after each message",
];
const RAW_PATH: [Role; 2] = [Role::FileIndexer, Role::Gateway];

/// The next process of a role takes over: ready before the one before it is told to go, as
/// in a cluster (`maxUnavailable: 0`).
async fn hand_over(stage: &Stage, role: Role) {
    let status = stage.platform.process(role).hand_over().await;
    assert!(status.success(), "{role:?} ended with {status}");
}

/// Hands over role after role until it is told to stop, each at least once.
async fn roll(stage: &Stage, roles: &[Role], stop: &AtomicBool) -> usize {
    let mut tick = tokio::time::interval(TURN);
    let mut turns = 0;
    for role in roles.iter().cycle() {
        tick.tick().await;
        hand_over(stage, *role).await;
        turns += 1;
        if stop.load(Ordering::SeqCst) && turns >= roles.len() {
            break;
        }
    }
    turns
}

/// Runs the wanted cases while roles are restarted; answers what failed.
async fn cases_while_rolled(
    stage: &Stage,
    roles: &[Role],
    wanted: impl Fn(&str) -> bool,
) -> Vec<String> {
    let stop = AtomicBool::new(false);
    let cases = async {
        let failures = api::run_cases(stage, wanted).await;
        stop.store(true, Ordering::SeqCst);
        failures
    };
    let (failures, turns) = tokio::join!(cases, roll(stage, roles, &stop));
    println!("{turns} restarts");
    failures
}

/// All that the platform promises holds while it is rolled: every case of the table.
#[tokio::test(flavor = "multi_thread")]
async fn every_case_while_each_role_is_restarted() {
    let bucket = Bucket::start();
    let stage = split(&bucket).await;
    let wanted = std::env::var("QUARRY_TEST_CASE").unwrap_or_default();
    let is_raw = |name: &str| RAW.contains(&name);
    let most = |name: &str| name.contains(&wanted) && !is_raw(name);
    let mut failures = cases_while_rolled(&stage, &Role::ALL, most).await;
    let others: Vec<_> = Role::ALL.into_iter().filter(|role| !RAW_PATH.contains(role)).collect();
    let rest = |name: &str| name.contains(&wanted) && is_raw(name);
    failures.extend(cases_while_rolled(&stage, &others, rest).await);
    assert!(failures.is_empty(), "while roles were restarted:\n  {}", failures.join("\n  "));
}

/// Restarts role after role, each once, as plain processes: the public door is handed over,
/// every other role is away until it is there again.
async fn restart_in_place(stage: &Stage) {
    for role in Role::ALL {
        match role {
            Role::Gateway => hand_over(stage, role).await,
            _ => {
                let status = stage.platform.process(role).cycle().await;
                assert!(status.success(), "{role:?} ended with {status}");
            }
        }
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
        restart_in_place(&stage).await;
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
