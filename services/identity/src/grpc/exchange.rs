//! `quarry.identity.v1.ExchangeService`.

use std::sync::Arc;

use caller::Secret;
use identity_api::v1::exchange_service_server::ExchangeService;
use identity_api::v1::exchange_token_request::Credential as Presented;
use identity_api::v1::{
    ExchangeTokenRequest, ExchangeTokenResponse, GetKeysRequest, GetKeysResponse,
    IssueTokenRequest, IssueTokenResponse,
};
use prost_types::Timestamp;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::answer;
use crate::app::{Credential, Identity, Issued};

pub struct Exchange(pub Arc<Identity>);

#[tonic::async_trait]
impl ExchangeService for Exchange {
    async fn exchange_token(
        &self,
        request: Request<ExchangeTokenRequest>,
    ) -> Result<Response<ExchangeTokenResponse>, Status> {
        let request = request.into_inner();
        let credential = match request.credential {
            Some(Presented::Bearer(token)) => Credential::Bearer(Secret::new(token)),
            Some(Presented::Basic(basic)) => {
                Credential::Basic { name: basic.name, password: Secret::new(basic.password) }
            }
            None => return Err(ServiceError::invalid("credential", "must be set").into()),
        };
        let exchanged = self
            .0
            .exchange(&Secret::new(request.service_secret), &request.audience, &credential)
            .await;
        answer(exchanged.map(|exchanged| ExchangeTokenResponse {
            jwt: exchanged.issued.jwt.expose().to_owned(),
            expire_time: Some(expiry(&exchanged.issued)),
            principal_id: exchanged.principal.to_string(),
            principal_name: exchanged.name,
        }))
    }

    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        let request = request.into_inner();
        let issued = self
            .0
            .issue(&Secret::new(request.service_secret), &request.audience, &request.subject_token)
            .await;
        answer(issued.map(|issued| IssueTokenResponse {
            jwt: issued.jwt.expose().to_owned(),
            expire_time: Some(expiry(&issued)),
        }))
    }

    async fn get_keys(
        &self,
        _: Request<GetKeysRequest>,
    ) -> Result<Response<GetKeysResponse>, Status> {
        let admin_claimed = self.0.is_claimed();
        answer(self.0.jwks().await.map(|jwks_json| GetKeysResponse { jwks_json, admin_claimed }))
    }
}

fn expiry(issued: &Issued) -> Timestamp {
    Timestamp { seconds: issued.expires_at, nanos: 0 }
}
