//! How often identity is asked, and what is kept.

use ::settings::Secret;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use identity_api::v1::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use identity_api::v1::{
    ExchangeTokenResponse, GetKeysResponse, IssueTokenRequest, IssueTokenResponse,
};
use prost_types::Timestamp;
use tonic::{Request, Response};

use super::*;

/// Answers every exchange with the next of `answers`, then with the last.
#[derive(Clone)]
struct Identity {
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<Result<i64, Status>>>,
}

impl Identity {
    fn issue(&self, audience: &str) -> Result<(String, Timestamp), Status> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let life = self.answer.lock().unwrap().clone()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let expire_time = Timestamp { seconds: i64::try_from(now).unwrap() + life, nanos: 0 };
        Ok((format!("jwt-{audience}-{number}"), expire_time))
    }
}

#[tonic::async_trait]
impl ExchangeService for Identity {
    async fn exchange_token(
        &self,
        request: Request<ExchangeTokenRequest>,
    ) -> Result<Response<ExchangeTokenResponse>, Status> {
        assert_eq!(request.get_ref().service_secret, "qsvc_gateway");
        let issued = self.issue(&request.get_ref().audience);
        // Long enough that calls at once meet here.
        tokio::task::yield_now().await;
        let (jwt, expire_time) = issued?;
        Ok(Response::new(ExchangeTokenResponse {
            jwt,
            expire_time: Some(expire_time),
            ..ExchangeTokenResponse::default()
        }))
    }

    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        let (jwt, expire_time) = self.issue(&request.get_ref().audience)?;
        Ok(Response::new(IssueTokenResponse { jwt, expire_time: Some(expire_time) }))
    }

    async fn get_keys(
        &self,
        _: Request<GetKeysRequest>,
    ) -> Result<Response<GetKeysResponse>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(GetKeysResponse {
            jwks_json: r#"{"keys":[]}"#.to_owned(),
            ..GetKeysResponse::default()
        }))
    }
}

fn exchange(answer: Result<i64, Status>) -> (Identity, Exchange) {
    let identity = Identity { asked: Arc::default(), answer: Arc::new(Mutex::new(answer)) };
    let transport = service_channel::local(
        tonic::service::Routes::new(ExchangeServiceServer::new(identity.clone())).prepare(),
    );
    (identity, Exchange::new(transport, Secret::new("qsvc_gateway"), &Settings::default()))
}

fn bearer(token: &str) -> Credential {
    Credential::Bearer(Secret::new(token))
}

#[tokio::test]
async fn calls_at_once_ask_once_and_later_ones_not_at_all() {
    let (identity, exchange) = exchange(Ok(60));
    let credential = bearer("qpat_a");
    let all =
        futures::future::join_all((0..50).map(|_| exchange.token(&credential, "catalog"))).await;
    assert!(all.iter().all(|token| token.as_ref().unwrap() == "Bearer jwt-catalog-0"));
    exchange.token(&credential, "catalog").await.unwrap();
    assert_eq!(identity.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn another_audience_or_credential_is_another_token() {
    let (identity, exchange) = exchange(Ok(60));
    exchange.token(&bearer("a"), "catalog").await.unwrap();
    exchange.token(&bearer("a"), "identity").await.unwrap();
    exchange.token(&bearer("b"), "catalog").await.unwrap();
    for (name, password) in [("ab", "c"), ("a", "bc")] {
        let basic = Credential::Basic { name: name.into(), password: Secret::new(password) };
        exchange.token(&basic, "catalog").await.unwrap();
    }
    assert_eq!(identity.asked.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_token_about_to_expire_is_not_kept() {
    let (identity, exchange) = exchange(Ok(3));
    for _ in 0..3 {
        exchange.token(&bearer("a"), "catalog").await.unwrap();
    }
    assert_eq!(identity.asked.load(Ordering::SeqCst), 3);
    assert_eq!(keep(i64::MAX, Duration::from_secs(30)), Duration::from_secs(30));
    assert_eq!(keep(-1, Duration::from_secs(30)), Duration::ZERO);
}

#[tokio::test]
async fn a_refusal_is_kept_and_a_failure_is_not() {
    let refused = ServiceError::unauthenticated("the token is unknown").reason("TOKEN_UNKNOWN");
    let (identity, exchange) = exchange(Err(refused.into()));
    for _ in 0..3 {
        let error = exchange.token(&bearer("a"), "catalog").await.unwrap_err();
        assert_eq!((error.code(), error.reason_text()), (Code::Unauthenticated, "TOKEN_UNKNOWN"));
    }
    assert_eq!(identity.asked.load(Ordering::SeqCst), 1);

    *identity.answer.lock().unwrap() = Err(Status::unavailable("starting"));
    let error = exchange.token(&bearer("b"), "catalog").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    *identity.answer.lock().unwrap() = Ok(60);
    assert!(exchange.token(&bearer("b"), "catalog").await.is_ok());
}

#[tokio::test]
async fn keys_are_asked_for_once() {
    let (identity, exchange) = exchange(Ok(60));
    for _ in 0..3 {
        assert_eq!(exchange.jwks().await.unwrap(), r#"{"keys":[]}"#);
    }
    assert_eq!(identity.asked.load(Ordering::SeqCst), 1);
}
