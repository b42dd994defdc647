//! What identity answers the other roles.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use identity_api::v1 as api;
use identity_api::v1::audit_service_server::AuditService;
use identity_api::v1::exchange_service_server::ExchangeService;
use identity_api::v1::exchange_token_request::Credential;
use identity_api::v1::replica_service_server::ReplicaService;
use identity_api::v1::resources_service_server::ResourcesService;
use service_error::ServiceError;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use super::Identity;
use crate::{Answer, LEASE_SECONDS, SECRET, Who, in_seconds, page};

#[tonic::async_trait]
impl ReplicaService for Identity {
    type WatchGrantsStream = BoxStream<'static, Result<api::WatchGrantsResponse, Status>>;

    async fn watch_grants(
        &self,
        request: Request<api::WatchGrantsRequest>,
    ) -> Answer<Self::WatchGrantsStream> {
        let (first, later) = {
            let feed = self.feed.lock().unwrap();
            // Under the lock: nothing comes twice, nothing is missed.
            (feed.since(request.get_ref().since_revision), self.later.subscribe())
        };
        let later = BroadcastStream::new(later)
            .map(|message| message.map_err(|_| Status::aborted("the replica is too far behind")));
        Ok(Response::new(stream::iter([Ok(first)]).chain(later).boxed()))
    }

    async fn get_revision(
        &self,
        _: Request<api::GetRevisionRequest>,
    ) -> Answer<api::GetRevisionResponse> {
        let revision = self.feed.lock().unwrap().revision;
        Ok(Response::new(api::GetRevisionResponse { revision }))
    }

    async fn check_access(
        &self,
        request: Request<api::CheckAccessRequest>,
    ) -> Answer<api::CheckAccessResponse> {
        Ok(Response::new(self.feed.lock().unwrap().check(request.get_ref())))
    }

    async fn put_resource(
        &self,
        request: Request<api::PutResourceRequest>,
    ) -> Answer<api::PutResourceResponse> {
        let revision = Self::put_resource(self, request.into_inner());
        Ok(Response::new(api::PutResourceResponse { revision }))
    }
}

#[tonic::async_trait]
impl ResourcesService for Identity {
    async fn count_children(
        &self,
        request: Request<api::CountChildrenRequest>,
    ) -> Answer<api::CountChildrenResponse> {
        let parent = request.into_inner().parent;
        let counts = self.feed.lock().unwrap().count_children(parent.as_ref());
        Ok(Response::new(api::CountChildrenResponse { counts }))
    }
}

fn of_this_role(service_secret: &str) -> Result<(), Status> {
    if service_secret == SECRET {
        return Ok(());
    }
    Err(ServiceError::unauthenticated("the service secret is unknown")
        .reason("SERVICE_UNKNOWN")
        .into())
}

#[tonic::async_trait]
impl ExchangeService for Identity {
    async fn exchange_token(
        &self,
        request: Request<api::ExchangeTokenRequest>,
    ) -> Answer<api::ExchangeTokenResponse> {
        let request = request.into_inner();
        of_this_role(&request.service_secret)?;
        let known = |credential: &str| self.credentials.lock().unwrap().get(credential).cloned();
        let who = match &request.credential {
            Some(Credential::Bearer(token)) => known(token),
            Some(Credential::Basic(basic)) => known(&basic.password)
                .filter(|who| basic.name == Who::name_of(&who.principal.to_string())),
            None => return Err(ServiceError::invalid("credential", "must be set").into()),
        };
        let unknown =
            || ServiceError::unauthenticated("the token is unknown").reason("TOKEN_UNKNOWN");
        let who = who.ok_or_else(unknown)?;
        let principal_id = who.principal.to_string();
        Ok(Response::new(api::ExchangeTokenResponse {
            jwt: self.sign(&who, &request.audience),
            expire_time: Some(in_seconds(LEASE_SECONDS)),
            principal_name: Who::name_of(&principal_id),
            principal_id,
        }))
    }

    async fn issue_token(
        &self,
        request: Request<api::IssueTokenRequest>,
    ) -> Answer<api::IssueTokenResponse> {
        let request = request.into_inner();
        of_this_role(&request.service_secret)?;
        let who = if request.subject_token.is_empty() {
            Who::service(self.role)
        } else {
            let subject = self.keys.verify(&request.subject_token, self.role).await?;
            Who::of(&subject).via(self.role)
        };
        let jwt = self.sign(&who, &request.audience);
        let expire_time = Some(in_seconds(LEASE_SECONDS));
        Ok(Response::new(api::IssueTokenResponse { jwt, expire_time }))
    }

    async fn get_keys(&self, _: Request<api::GetKeysRequest>) -> Answer<api::GetKeysResponse> {
        let jwks_json = self.jwks.to_string();
        Ok(Response::new(api::GetKeysResponse { jwks_json, admin_claimed: false }))
    }
}

#[tonic::async_trait]
impl AuditService for Identity {
    async fn list_audit_events(
        &self,
        request: Request<api::ListAuditEventsRequest>,
    ) -> Answer<api::ListAuditEventsResponse> {
        let request = request.into_inner();
        let denied = matches!(request.outcome(), api::Outcome::Unspecified | api::Outcome::Denied);
        let denials = self.denials.borrow().clone();
        let events = (1..).zip(denials).map(|(number, denial)| api::AuditEvent {
            number,
            time: denial.minute,
            principal_name: Who::name_of(&denial.principal_id),
            principal_id: denial.principal_id,
            service: self.role.to_owned(),
            action: denial.action,
            resource: denial.resource,
            outcome: api::Outcome::Denied.into(),
            detail: denial.reason,
            count: denial.count,
        });
        let mut events: Vec<_> = events
            .filter(|event| {
                denied
                    && (request.principal.is_empty() || request.principal == event.principal_name)
            })
            .collect();
        events.reverse();
        let (events, next_page_token) = page(events, request.page_size, &request.page_token)?;
        Ok(Response::new(api::ListAuditEventsResponse { events, next_page_token }))
    }

    async fn record_denials(
        &self,
        request: Request<api::RecordDenialsRequest>,
    ) -> Answer<api::RecordDenialsResponse> {
        self.denials.send_modify(|all| all.extend(request.into_inner().denials));
        Ok(Response::new(api::RecordDenialsResponse {}))
    }
}
