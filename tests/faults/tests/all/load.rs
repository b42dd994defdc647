//! Slow readers and open streams in numbers, and the answer to a small question stays quick.

use std::time::{Duration, Instant};

use api::cases::path;
use arrow_flight::FlightData;
use catalog_api::v1::{CreateNamespaceRequest, GetNamespaceRequest};
use futures::stream;
use harness::{Database, Platform, Session, Topology, data, put};
use items_api::v1::CountItemsRequest;
use tonic::Streaming;

const SLOW_READERS: usize = 40;
const OPEN_STREAMS: usize = 300;
const STREAMS_PER_CONNECTION: usize = 50;
const CALLS: usize = 400;
const P99_MAX: Duration = Duration::from_millis(50);
const ROWS: i64 = 30_000;

/// A reader that took one message and takes no more.
async fn slow_reader(session: &Session) -> Streaming<FlightData> {
    let session = session.apart();
    let info = session.flight().get_flight_info(path("load", "rows")).await.unwrap().into_inner();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut stream = session.flight().do_get(ticket).await.unwrap().into_inner();
    stream.message().await.unwrap().expect("a first message");
    stream
}

/// An upload that was begun and says nothing; its task ends with the test.
fn open_stream(session: &Session) -> tokio::task::JoinHandle<()> {
    let mut media = session.media();
    tokio::spawn(async move {
        if let Ok(answers) = media.upload_media(stream::pending()).await {
            let mut answers = answers.into_inner();
            while let Ok(Some(_)) = answers.message().await {}
        }
    })
}

/// The 99th percentile of one small call after another, alternating between two services.
async fn p99(session: &Session) -> Duration {
    let mut took = Vec::with_capacity(CALLS);
    for call in 0..CALLS {
        let begin = Instant::now();
        if call % 2 == 0 {
            let get = GetNamespaceRequest { name: "load".into() };
            session.namespaces().get_namespace(get).await.unwrap();
        } else {
            let count = CountItemsRequest {
                namespace: "load".into(),
                dataset: "rows".into(),
                ..Default::default()
            };
            assert_eq!(session.items().count_items(count).await.unwrap().into_inner().count, ROWS);
        }
        took.push(begin.elapsed());
    }
    took.sort_unstable();
    took[CALLS * 99 / 100]
}

async fn stays_quick(topology: Topology) {
    let platform = Platform::start(topology, Database::Sqlite).await;
    let admin = platform.admin();
    let request = CreateNamespaceRequest { name: "load".into(), ..Default::default() };
    admin.namespaces().create_namespace(request).await.unwrap();
    let batches = (0..ROWS / 1_000).map(|b| data::noisy_rows(b * 1_000, (b + 1) * 1_000)).collect();
    put(&admin, "load", "rows", batches).await.unwrap();
    let alone = p99(&admin).await;
    let mut readers = Vec::with_capacity(SLOW_READERS);
    for _ in 0..SLOW_READERS {
        readers.push(slow_reader(&admin).await);
    }
    let mut streams = Vec::with_capacity(OPEN_STREAMS);
    for _ in 0..OPEN_STREAMS / STREAMS_PER_CONNECTION {
        let session = admin.apart();
        streams.extend((0..STREAMS_PER_CONNECTION).map(|_| open_stream(&session)));
    }
    // The streams' first messages are on their way before the small calls begin.
    let _settled = p99(&admin).await;
    let open = streams.iter().filter(|stream| !stream.is_finished()).count();
    let loaded = p99(&admin).await;
    eprintln!(
        "{topology:?}: p99 {alone:?} alone, {loaded:?} with {open} streams and {SLOW_READERS} readers"
    );
    assert_eq!(open, OPEN_STREAMS, "streams that ended by themselves");
    assert!(loaded < P99_MAX, "p99 {loaded:?}; alone {alone:?}");
    // Every reader still gets its rest.
    for mut reader in readers.into_iter().take(3) {
        while reader.message().await.unwrap().is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process() {
    stays_quick(Topology::OneProcess).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn split() {
    stays_quick(Topology::Split).await;
}
