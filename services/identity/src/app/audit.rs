//! Use cases of the audit.

use caller::Caller;
use ids::PrincipalId;
use service_error::ServiceError;

use super::Identity;
use super::denials::write_denials;
use crate::model::{AuditEvent, Outcome, PageOf};

const TEXT_BYTES_MAX: usize = 512;
const REPORT_MOST: usize = 10_000;

/// Denials that another role decided.
#[derive(Debug)]
pub struct ReportedDenial {
    pub principal: Option<PrincipalId>,
    pub action: String,
    pub resource: String,
    pub reason: String,
    /// The minute's beginning, microseconds UTC.
    pub minute: i64,
    pub count: i64,
}

impl Identity {
    /// Newest first.
    ///
    /// # Errors
    /// NOT_FOUND for a principal that is not there, a page token of another
    /// list.
    pub async fn list_audit_events(
        &self,
        principal: &str,
        outcome: Option<Outcome>,
        size: u32,
        page_token: &str,
    ) -> Result<PageOf<AuditEvent>, ServiceError> {
        let of = match principal {
            "" => None,
            name => Some(
                self.store
                    .principal_named(name)
                    .await?
                    .ok_or_else(|| ServiceError::not_found("user", name))?
                    .id,
            ),
        };
        let list = format!("audit:{principal}:{}", outcome.map_or(0, |outcome| outcome as i32));
        let before: Option<i64> = paging::key(&list, page_token)?;
        let events = self.store.audit_events(of, outcome, before, size + 1).await?;
        let (entries, next_page_token) = paging::cut(events, size, &list, |event| event.number);
        Ok(PageOf { entries, next_page_token })
    }

    /// Adds another role's denials.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED for too many at once.
    pub async fn record_denials(
        &self,
        caller: &Caller,
        denials: Vec<ReportedDenial>,
    ) -> Result<(), ServiceError> {
        if denials.len() > REPORT_MOST {
            return Err(ServiceError::exhausted(format!("at most {REPORT_MOST} denials a call")));
        }
        let service = caller.actor.clone().unwrap_or_else(|| caller.name.clone());
        let event = |denial: ReportedDenial| AuditEvent {
            number: 0,
            at: denial.minute,
            principal: denial.principal,
            principal_name: String::new(),
            service: service.clone(),
            action: cut(denial.action),
            resource: cut(denial.resource),
            outcome: Outcome::Denied,
            detail: cut(denial.reason),
            count: denial.count.max(1),
        };
        let events: Vec<_> = denials.into_iter().map(event).collect();
        for part in events.chunks(500) {
            let tx = self.store.change().await?;
            write_denials(&tx, part.to_vec()).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

fn cut(mut text: String) -> String {
    let mut end = TEXT_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
