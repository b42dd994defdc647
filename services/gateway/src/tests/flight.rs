//! Arrow Flight through the door.

use std::time::Duration;

use arrow_flight::{Action, BasicAuth, FlightDescriptor, HandshakeRequest, Ticket};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use service_error::ServiceError;
use tonic::{Code, Request};

use super::fakes::rows;
use super::rig::{Rig, known, with_token};

fn ticket(text: &'static str) -> Ticket {
    Ticket { ticket: text.into() }
}

#[tokio::test]
async fn streams_come_whole_and_say_how_they_ended() {
    for rig in Rig::both().await {
        let stream = rig.flight().do_get(known(ticket("rows"))).await.unwrap().into_inner();
        let messages: Vec<_> = stream.try_collect().await.unwrap();
        assert_eq!(messages.iter().map(|message| message.data_body.len()).sum::<usize>(), 3_000);

        let mut torn = rig.flight().do_get(known(ticket("torn"))).await.unwrap().into_inner();
        assert!(torn.message().await.unwrap().is_some());
        let error = ServiceError::from_status(&torn.message().await.unwrap_err());
        assert_eq!(error.reason_text(), "BLOCK_TORN");
    }
}

#[tokio::test]
async fn questions_about_a_flight_go_through() {
    for rig in Rig::both().await {
        let asked = || known(FlightDescriptor::new_cmd("as it is"));
        let polled = rig.flight().poll_flight_info(asked()).await.unwrap().into_inner();
        assert_eq!(polled.info.unwrap().total_records, 5);
        let schema = rig.flight().get_schema(asked()).await.unwrap().into_inner();
        assert_eq!(schema.schema, "as it is");
        let action = Action { r#type: "any".to_owned(), body: "as it is".into() };
        let answers = rig.flight().do_action(known(action)).await.unwrap().into_inner();
        let answers: Vec<_> = answers.try_collect().await.unwrap();
        assert_eq!(
            answers.iter().map(|answer| &answer.body[..]).collect::<Vec<_>>(),
            [b"as it is"]
        );
    }
}

#[tokio::test]
async fn puts_go_through_unread() {
    for rig in Rig::both().await {
        let messages = stream::iter((0..20).map(|_| rows(1 << 20)));
        let mut answers = rig.flight().do_put(known(messages)).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.app_metadata, (20 << 20).to_string());
    }
}

#[tokio::test]
async fn both_directions_run_at_once() {
    for rig in Rig::both().await {
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let sent = tokio_stream::wrappers::ReceiverStream::new(receive);
        send.send(rows(1)).await.unwrap();
        let mut answers = rig.flight().do_exchange(known(sent)).await.unwrap().into_inner();
        for length in 2..6 {
            assert_eq!(answers.message().await.unwrap().unwrap().data_body.len(), length - 1);
            send.send(rows(length)).await.unwrap();
        }
        drop(send);
        assert_eq!(answers.try_collect::<Vec<_>>().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_deadline_ends_an_open_stream() {
    for rig in Rig::both().await {
        let mut request = known(ticket("hang"));
        request.set_timeout(Duration::from_millis(300));
        let mut stream = rig.flight().do_get(request).await.unwrap().into_inner();
        let ended = async {
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Code::Ok,
                    Err(status) => return status.code(),
                }
            }
        };
        let code = tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
        assert_eq!(code, Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_call_at_the_role() {
    for rig in Rig::both().await {
        let mut stream = rig.flight().do_get(known(ticket("hang"))).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        drop(stream);
        tokio::time::timeout(Duration::from_secs(20), rig.seen.dropped.cancelled()).await.unwrap();
    }
}

fn handshake(payload: Vec<u8>) -> stream::Iter<std::vec::IntoIter<HandshakeRequest>> {
    stream::iter(vec![HandshakeRequest { protocol_version: 1, payload: payload.into() }])
}

#[tokio::test]
async fn a_handshake_gives_the_token_that_calls_then_carry() {
    for rig in Rig::both().await {
        // ada:qpat_good, as pyarrow's authenticate_basic_token sends it.
        let request = with_token(handshake(Vec::new()), "Basic YWRhOnFwYXRfZ29vZA==");
        let answer = rig.flight().handshake(request).await.unwrap();
        let bearer = answer.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        assert_eq!(bearer, "Bearer qpat_good");
        let payload = answer.into_inner().message().await.unwrap().unwrap().payload;
        assert_eq!(payload, "qpat_good");
        let mut client = rig.flight();
        let info = client.get_flight_info(with_token(FlightDescriptor::default(), &bearer));
        assert_eq!(info.await.unwrap().into_inner().total_records, 5);
        assert_eq!(rig.seen.headers.lock().unwrap()["authorization"], "Bearer jwt-for-item-store");
    }
}

#[tokio::test]
async fn the_older_handshake_sends_its_credential_as_payload() {
    for rig in Rig::both().await {
        let basic = BasicAuth { username: "ada".into(), password: "qpat_good".into() };
        let request = Request::new(handshake(basic.encode_to_vec()));
        let mut answer = rig.flight().handshake(request).await.unwrap().into_inner();
        let token = answer.message().await.unwrap().unwrap().payload;
        let mut request = Request::new(FlightDescriptor::default());
        request
            .metadata_mut()
            .insert_bin("auth-token-bin", tonic::metadata::BinaryMetadataValue::from_bytes(&token));
        assert!(rig.flight().get_flight_info(request).await.is_ok());
    }
}

#[tokio::test]
async fn a_handshake_without_a_good_credential_is_refused() {
    for rig in Rig::both().await {
        let wrong =
            BasicAuth { username: "eve".into(), password: "qpat_good".into() }.encode_to_vec();
        for payload in [Vec::new(), b"\xff\xff".to_vec(), wrong] {
            let status =
                rig.flight().handshake(Request::new(handshake(payload))).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        }
        let huge =
            rig.flight().handshake(Request::new(handshake(vec![0; 1 << 20]))).await.unwrap_err();
        assert_eq!(huge.code(), Code::InvalidArgument);
        let nothing =
            rig.flight().handshake(Request::new(stream::empty().boxed())).await.unwrap_err();
        assert_eq!(nothing.code(), Code::Unauthenticated);
    }
}
