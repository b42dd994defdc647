//! Events: all of them, in order, watched and sent.

use std::sync::{Arc, Mutex};

use futures::StreamExt;

use super::*;

#[tokio::test]
async fn every_change_is_an_event_and_a_watch_goes_on_from_its_cursor() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        house.alias(&ana, "m", "prod", "1").await.unwrap();
        let request = wire::ListEventsRequest { namespace: "ml".into(), ..Default::default() };
        let listed = house.events().list_events(house.by(&ana, request)).await.unwrap();
        let listed = listed.into_inner();
        let kinds: Vec<_> = listed.events.iter().map(wire::Event::kind).collect();
        use wire::EventKind as Kind;
        assert_eq!(
            kinds,
            [Kind::ModelCreated, Kind::VersionCreated, Kind::VersionReady, Kind::AliasSet]
        );
        assert!(listed.events.windows(2).all(|pair| pair[0].seq < pair[1].seq));

        let watch = wire::WatchEventsRequest { after: listed.next, ..Default::default() };
        let mut watched =
            house.events().watch_events(house.by(&ana, watch)).await.unwrap().into_inner();
        house.version(&ana, "m").await;
        let batch = watched.next().await.unwrap().unwrap();
        assert_eq!((batch.events[0].kind(), batch.events[0].version), (Kind::VersionCreated, 2));
        drop(watched);
        house.version(&ana, "m").await;
        let watch = wire::WatchEventsRequest { after: batch.next, ..Default::default() };
        let mut again =
            house.events().watch_events(house.by(&ana, watch)).await.unwrap().into_inner();
        assert_eq!(again.next().await.unwrap().unwrap().events[0].version, 3);

        let nobody = wire::ListEventsRequest::default();
        let hidden = house.events().list_events(house.by(&Who::user(), nobody)).await.unwrap();
        assert!(hidden.into_inner().events.is_empty());
    })
    .await;
}

pub(super) type Received = Arc<Mutex<Vec<(String, String)>>>;

/// An address that keeps what it gets, and refuses the first of it.
pub(super) async fn receiver() -> (String, Received) {
    let received = Received::default();
    let keep = Arc::clone(&received);
    let take = move |headers: axum::http::HeaderMap, body: String| {
        let keep = Arc::clone(&keep);
        async move {
            let mut kept = keep.lock().unwrap();
            let signature = headers.get("x-mlflow-signature");
            let signature = signature.and_then(|text| text.to_str().ok()).unwrap_or_default();
            kept.push((signature.to_owned(), body));
            if kept.len() == 1 {
                axum::http::StatusCode::BAD_GATEWAY
            } else {
                axum::http::StatusCode::OK
            }
        }
    };
    let app = axum::Router::new().route("/hook", axum::routing::post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, received)
}

#[tokio::test]
async fn a_webhook_gets_every_event_in_order_though_it_failed_once() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let (url, received) = receiver().await;
        let request = wire::CreateWebhookRequest {
            namespace: "ml".into(),
            name: "ci".into(),
            url,
            kinds: vec![
                wire::EventKind::ModelCreated.into(),
                wire::EventKind::VersionCreated.into(),
                wire::EventKind::AliasSet.into(),
            ],
            secret: "s3cret".into(),
            ..Default::default()
        };
        let made = house.events().create_webhook(house.by(&ana, request)).await.unwrap();
        let made = made.into_inner().webhook.unwrap();
        assert!(made.has_secret);
        house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        house.alias(&ana, "m", "prod", "1").await.unwrap();
        eventually(async || {
            house.store.deliveries_waiting().await.unwrap() == 0
                && received.lock().unwrap().len() >= 4
        })
        .await;
        let received = received.lock().unwrap().clone();
        let bodies: Vec<serde_json::Value> =
            received.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect();
        let words: Vec<_> = bodies
            .iter()
            .map(|body| (body["entity"].as_str().unwrap(), body["action"].as_str().unwrap()))
            .collect();
        assert_eq!(
            words,
            [
                ("registered_model", "created"),
                ("registered_model", "created"),
                ("model_version", "created"),
                ("model_version_alias", "created"),
            ]
        );
        assert_eq!(
            bodies[3]["data"],
            serde_json::json!({"name": "m", "alias": "prod", "version": "1"})
        );
        assert!(received.iter().all(|(signature, _)| signature.starts_with("v1,")));
        let list = wire::ListDeliveriesRequest {
            namespace: "ml".into(),
            id: made.id,
            ..Default::default()
        };
        let found = house.events().list_deliveries(house.by(&ana, list)).await.unwrap();
        let found = found.into_inner().deliveries;
        assert_eq!(found.iter().map(|of| of.attempts).collect::<Vec<_>>(), [1, 1, 2]);
    })
    .await;
}

#[tokio::test]
async fn a_disabled_webhook_is_sent_nothing_until_it_is_active_again() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let (url, received) = receiver().await;
        let request = wire::CreateWebhookRequest {
            namespace: "ml".into(),
            name: "ci".into(),
            url,
            kinds: vec![wire::EventKind::ModelCreated.into(), wire::EventKind::AliasSet.into()],
            ..Default::default()
        };
        let made = house.events().create_webhook(house.by(&ana, request)).await.unwrap();
        let id = made.into_inner().webhook.unwrap().id;
        let set = async |active| {
            let request = wire::UpdateWebhookRequest {
                namespace: "ml".into(),
                id: id.clone(),
                active: Some(active),
                ..Default::default()
            };
            house.events().update_webhook(house.by(&ana, request)).await.unwrap();
        };
        // The first try fails, so that it waits for another.
        house.model(&ana, "m").await;
        eventually(async || received.lock().unwrap().len() == 1).await;
        set(false).await;
        // Until its next try would be due.
        let hook = id.parse().unwrap();
        eventually(async || {
            let waiting = house.store.deliveries(hook, None, 1).await.unwrap();
            waiting[0].attempts == 1 && waiting[0].next_at <= sql_store::now_micros()
        })
        .await;
        assert!(house.store.take_due(10).await.unwrap().is_empty());
        // What happens while it is disabled is not kept for it.
        house.version(&ana, "m").await;
        house.alias(&ana, "m", "prod", "1").await.unwrap();
        while house.store.match_events().await.unwrap() {}
        assert_eq!(received.lock().unwrap().len(), 1);
        set(true).await;
        eventually(async || house.store.deliveries_waiting().await.unwrap() == 0).await;
        let bodies = received.lock().unwrap().clone();
        let told = |(_, body): &(String, String)| body.contains("registered_model");
        assert_eq!((bodies.len(), bodies.iter().filter(|of| told(of)).count()), (2, 2));
    })
    .await;
}
