//! Identity's own denials on their way to the audit: counted and bounded, so
//! that somebody who tries a million times makes one row a minute.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use caller::Caller;
use ids::PrincipalId;
use service_error::{Code, ServiceError};
use sql_store::now_micros;

use super::{Identity, SERVICE, is_admin};
use crate::model::{AuditEvent, Outcome};
use crate::store::{Store, Tx};

/// The most different denials that wait; further ones are only counted.
const WAITING_MAX: usize = 10_000;
const FLUSH_MOST: usize = 500;
const MINUTE: i64 = 60_000_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    principal: Option<PrincipalId>,
    action: String,
    resource: String,
    minute: i64,
}

/// Recording never waits.
#[derive(Debug, Default)]
pub struct DenialQueue {
    waiting: Mutex<HashMap<Key, (String, i64)>>,
    dropped: AtomicU64,
}

impl DenialQueue {
    pub fn record(
        &self,
        principal: Option<PrincipalId>,
        action: &str,
        resource: &str,
        reason: &str,
    ) {
        let minute = now_micros() / MINUTE * MINUTE;
        let key = Key {
            principal,
            action: action.trim_start_matches('/').to_owned(),
            resource: resource.to_owned(),
            minute,
        };
        self.add(key, reason.to_owned(), 1);
    }

    fn add(&self, key: Key, reason: String, count: i64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sum)) = waiting.get_mut(&key) {
            *sum += count;
        } else if waiting.len() < WAITING_MAX {
            waiting.insert(key, (reason, count));
        } else {
            self.dropped.fetch_add(count.unsigned_abs(), Ordering::Relaxed);
        }
    }

    fn take(&self) -> Vec<(Key, (String, i64))> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut most = FLUSH_MOST;
        waiting
            .extract_if(|_, _| {
                let take = most > 0;
                most = most.saturating_sub(1);
                take
            })
            .collect()
    }
}

impl Identity {
    /// Passes a result on, and its denial to the audit.
    pub(super) fn audited<T>(
        &self,
        caller: &Caller,
        action: &str,
        resource: &str,
        result: Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        if let Err(error) = &result
            && is_denial(caller, error)
        {
            self.denials.record(Some(caller.principal), action, resource, error.reason_text());
        }
        result
    }

    /// Writes what waits to the audit; what could not be written waits on.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn flush_denials(&self) -> Result<(), ServiceError> {
        let dropped = self.denials.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "too many different denials; some were not recorded");
        }
        loop {
            let taken = self.denials.take();
            if taken.is_empty() {
                return Ok(());
            }
            if let Err(error) = write(&self.store, &taken).await {
                for (key, (reason, count)) in taken {
                    self.denials.add(key, reason, count);
                }
                return Err(error);
            }
        }
    }
}

/// What is not found is denied unless it is really not there: to an admin
/// everything shows, and users' names are told to whoever grants.
fn is_denial(caller: &Caller, error: &ServiceError) -> bool {
    match error.code() {
        Code::PermissionDenied => true,
        Code::NotFound => !is_admin(caller) && !error.reason_is("USER_NOT_FOUND"),
        _ => false,
    }
}

async fn write(store: &Store, denials: &[(Key, (String, i64))]) -> Result<(), ServiceError> {
    let tx = store.change().await?;
    let events = denials.iter().map(|(key, (reason, count))| AuditEvent {
        number: 0,
        at: key.minute,
        principal: key.principal,
        principal_name: String::new(),
        service: SERVICE.to_owned(),
        action: key.action.clone(),
        resource: key.resource.clone(),
        outcome: Outcome::Denied,
        detail: reason.clone(),
        count: *count,
    });
    write_denials(&tx, events.collect()).await?;
    tx.commit().await
}

/// Writes denials with the names that their principals have.
pub(super) async fn write_denials(tx: &Tx, events: Vec<AuditEvent>) -> Result<(), ServiceError> {
    let names = tx.names(events.iter().filter_map(|event| event.principal)).await?;
    for mut event in events {
        event.principal_name =
            event.principal.and_then(|id| names.get(&id).cloned()).unwrap_or_default();
        tx.audit_denial(&event).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_denials_are_counted_and_the_queue_is_bounded() {
        let queue = DenialQueue::default();
        for _ in 0..1_000 {
            queue.record(None, "/a.B/C", "dataset/1", "NO_GRANT");
        }
        let taken = queue.take();
        // Two rows only if a minute ended in between.
        assert!(taken.len() <= 2, "{taken:?}");
        assert_eq!(taken.iter().map(|(_, (_, count))| count).sum::<i64>(), 1_000);
        assert_eq!(taken[0].0.action, "a.B/C");
        for resource in 0..WAITING_MAX + 3 {
            queue.record(None, "a", &resource.to_string(), "r");
        }
        assert!(queue.dropped.load(Ordering::Relaxed) >= 3);
        assert_eq!(queue.take().len(), FLUSH_MOST);
    }
}
