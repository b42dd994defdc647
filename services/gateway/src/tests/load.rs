//! A busy door.

use std::time::{Duration, Instant};

use arrow_flight::Ticket;
use catalog_api::v1::ListNamespacesRequest;
use futures::future::try_join_all;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::rig::{Rig, known, reason};
use crate::Settings;

#[tokio::test]
async fn a_full_door_says_so_at_once_and_stays_healthy() {
    for over_sockets in [false, true] {
        let rig =
            Rig::new(Settings { in_flight_max: 1, ..Settings::default() }, over_sockets).await;
        let ticket = Ticket { ticket: "hang".into() };
        let mut open = rig.flight().do_get(known(ticket)).await.unwrap().into_inner();
        assert!(open.message().await.unwrap().is_some());
        let status = rig
            .namespaces()
            .list_namespaces(known(ListNamespacesRequest::default()))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        let answer = rig.get("/v1/namespaces").await;
        assert_eq!((answer.status().as_u16(), reason(&answer)), (503, "OVERLOADED".to_owned()));
        HealthClient::new(rig.door.clone()).check(HealthCheckRequest::default()).await.unwrap();
        drop(open);
        rig.seen.dropped.cancelled().await;
        // The place is given back with the body, a moment after the role knew.
        while rig.get("/v1/namespaces").await.status() != 200 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn whoever_is_nobody_holds_a_share_of_the_places_only() {
    let rig = Rig::new(Settings { in_flight_max: 32, ..Settings::default() }, false).await;
    let mut watched = Vec::new();
    let full = loop {
        let mut health = HealthClient::new(rig.door.clone());
        match health.watch(HealthCheckRequest::default()).await {
            Ok(stream) => watched.push(stream),
            Err(status) => break status,
        }
    };
    assert_eq!((full.code(), watched.len()), (Code::Unavailable, 2));
    rig.namespaces().list_namespaces(known(ListNamespacesRequest::default())).await.unwrap();
    HealthClient::new(rig.door.clone()).check(HealthCheckRequest::default()).await.unwrap();
}

/// With HTTP/2's default windows three such readers stop everything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_and_open_streams_hold_nobody_up() {
    let rig = Rig::new(Settings::default(), true).await;
    let open = async |ticket: &'static str| {
        let request = known(Ticket { ticket: ticket.into() });
        let mut client = rig.flight().max_decoding_message_size(16 << 20);
        let mut stream = client.do_get(request).await?.into_inner();
        // One message, and then nothing more is read.
        stream.message().await?;
        Ok::<_, tonic::Status>(stream)
    };
    let slow = try_join_all((0..40).map(|_| open("endless"))).await.unwrap();
    let idle = try_join_all((0..300).map(|_| open("hang"))).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        rig.namespaces().list_namespaces(known(ListNamespacesRequest::default())).await.unwrap();
        times.push(started.elapsed());
    }
    let mut whole =
        rig.flight().do_get(known(Ticket { ticket: "rows".into() })).await.unwrap().into_inner();
    while whole.message().await.unwrap().is_some() {}
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 < Duration::from_secs(1), "p99 of a unary call: {p99:?}");
    assert_eq!((slow.len(), idle.len()), (40, 300));
}
