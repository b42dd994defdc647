//! `quarry.identity.v1.AuditService`.

use std::sync::Arc;

use identity_api::v1::audit_service_server::AuditService;
use identity_api::v1::{
    self as api, ListAuditEventsRequest, ListAuditEventsResponse, RecordDenialsRequest,
    RecordDenialsResponse,
};
use paging::PAGE_SIZE_MAX;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::{answer, micros, parse, timestamp};
use crate::app::{Identity, ReportedDenial};
use crate::model::{AuditEvent, Outcome};

pub struct Audit(pub Arc<Identity>);

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let request = request.into_inner();
        let size = paging::page_size(request.page_size, PAGE_SIZE_MAX)?;
        let outcome = match request.outcome() {
            api::Outcome::Unspecified => None,
            api::Outcome::Allowed => Some(Outcome::Allowed),
            api::Outcome::Denied => Some(Outcome::Denied),
        };
        let page =
            self.0.list_audit_events(&request.principal, outcome, size, &request.page_token).await;
        answer(page.map(|page| ListAuditEventsResponse {
            events: page.entries.into_iter().map(message).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn record_denials(
        &self,
        request: Request<RecordDenialsRequest>,
    ) -> Result<Response<RecordDenialsResponse>, Status> {
        let caller = caller::of(&request)?;
        let denials =
            request.into_inner().denials.into_iter().map(reported).collect::<Result<_, _>>()?;
        answer(self.0.record_denials(&caller, denials).await.map(|()| RecordDenialsResponse {}))
    }
}

fn reported(denial: api::Denial) -> Result<ReportedDenial, ServiceError> {
    let principal = match denial.principal_id.as_str() {
        "" => None,
        id => Some(parse("denials.principal_id", id)?),
    };
    let minute = denial
        .minute
        .as_ref()
        .ok_or_else(|| ServiceError::invalid("denials.minute", "must be set"))?;
    Ok(ReportedDenial {
        principal,
        minute: micros("denials.minute", minute)?,
        action: denial.action,
        resource: denial.resource,
        reason: denial.reason,
        count: denial.count,
    })
}

fn message(event: AuditEvent) -> api::AuditEvent {
    let outcome = match event.outcome {
        Outcome::Allowed => api::Outcome::Allowed,
        Outcome::Denied => api::Outcome::Denied,
    };
    api::AuditEvent {
        number: event.number,
        time: Some(timestamp(event.at)),
        principal_id: event.principal.map(|id| id.to_string()).unwrap_or_default(),
        principal_name: event.principal_name,
        service: event.service,
        action: event.action,
        resource: event.resource,
        outcome: outcome as i32,
        detail: event.detail,
        count: event.count,
    }
}
