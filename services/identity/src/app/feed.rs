//! What grant replicas follow: the change log, live.

use std::sync::Arc;
use std::time::Duration;

use ids::{GrantId, PrincipalId, TokenId};
use service_error::ServiceError;
use sql_store::now_micros;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Identity;
use crate::model::{Batch, Change};

/// Changes a message holds.
const BATCH: u32 = 1_000;
/// Messages that wait for a slow follower.
const WAITING: usize = 4;
/// Another process's commits are seen this late at most.
const POLL: Duration = Duration::from_millis(200);

type Batches = mpsc::Sender<Result<Batch, ServiceError>>;

impl Identity {
    /// The newest committed revision, from the database: other processes
    /// write too.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn newest_revision(&self) -> Result<i64, ServiceError> {
        self.store.revision().await
    }

    /// Everything after `since`, then every change as it commits; the whole
    /// state first if `since` is 0, too old or not of this database.
    #[must_use]
    pub fn watch(self: &Arc<Self>, since: i64) -> mpsc::Receiver<Result<Batch, ServiceError>> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let identity = Arc::clone(self);
        tokio::spawn(async move {
            let ended = tokio::select! {
                () = sender.closed() => return,
                ended = identity.send_changes(since, &sender) => ended,
            };
            if let Err(error) = ended {
                // The follower is gone as well, if this fails.
                let _ = sender.send(Err(error)).await;
            }
        });
        receiver
    }

    async fn send_changes(&self, since: i64, to: &Batches) -> Result<(), ServiceError> {
        let mut news = self.revision.subscribe();
        let mut sent =
            if self.can_continue(since).await? { since } else { self.send_all(to).await? };
        loop {
            news.mark_unchanged();
            let (revision, changes) =
                self.store.changes_after(sent, BATCH, self.forget_after()).await?;
            if revision > sent {
                sent = revision;
                if !give(to, Batch { revision, changes, ..Batch::default() }).await {
                    return Ok(());
                }
            } else if news.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Whether the log still has everything after `since`.
    async fn can_continue(&self, since: i64) -> Result<bool, ServiceError> {
        let newest = self.store.revision().await?;
        let oldest = self.store.oldest_revision().await?;
        Ok(since > 0
            && since <= newest
            && (since == newest || oldest.is_some_and(|oldest| oldest <= since + 1)))
    }

    /// The whole state as of a revision, which is returned. Rows are read
    /// after it, so some may be newer: what made them so follows and changes
    /// nothing more.
    async fn send_all(&self, to: &Batches) -> Result<i64, ServiceError> {
        let revision = self.store.revision().await?;
        let part = |reset, changes| Batch { revision, reset, partial: true, changes };
        if !give(to, part(true, Vec::new())).await {
            return Ok(revision);
        }
        let mut after: Option<GrantId> = None;
        loop {
            let grants = self.store.grants(None, None, after, BATCH).await?;
            let Some(last) = grants.last() else { break };
            after = Some(last.id);
            if !give(to, part(false, grants.into_iter().map(Change::Grant).collect())).await {
                return Ok(revision);
            }
        }
        for changes in self.refusing_changes().await? {
            if !give(to, part(false, changes)).await {
                return Ok(revision);
            }
        }
        give(to, Batch { revision, ..Batch::default() }).await;
        Ok(revision)
    }

    /// Who is refused now, in parts.
    async fn refusing_changes(&self) -> Result<Vec<Vec<Change>>, ServiceError> {
        let mut parts = Vec::new();
        let mut after: Option<PrincipalId> = None;
        loop {
            let disabled = self.store.disabled(after, BATCH).await?;
            let Some(last) = disabled.last() else { break };
            after = Some(*last);
            parts.push(disabled.into_iter().map(Change::Disabled).collect());
        }
        let forget_after = self.forget_after();
        let since = now_micros() - forget_after;
        let mut after: Option<TokenId> = None;
        loop {
            let revoked = self.store.revoked_since(since, after, BATCH).await?;
            let Some((last, _)) = revoked.last() else { break };
            after = Some(*last);
            parts.push(
                revoked
                    .into_iter()
                    .map(|(token, at)| Change::Revoked { token, forget_at: at + forget_after })
                    .collect(),
            );
        }
        let mut roles = self.store.roles_changed_since(since, BATCH, forget_after).await?;
        // The newest first: the last one applied must be the longest-lived.
        roles.reverse();
        parts.push(roles);
        Ok(parts)
    }

    /// Learns who is refused, before the first call is answered.
    pub(super) async fn load_refusals(&self) -> Result<(), ServiceError> {
        let revision = self.store.revision().await?;
        for changes in self.refusing_changes().await? {
            self.refusals.apply(&changes);
        }
        self.revision.send_replace(revision);
        Ok(())
    }

    /// Waits for a commit of this process, at most [`POLL`], and catches up.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn follow_commits(&self) -> Result<(), ServiceError> {
        // Early or late is the same here.
        let _ = timeout(POLL, self.store.committed().notified()).await;
        self.catch_up().await
    }

    /// Learns what was committed since, by this process or another, and wakes
    /// the followers.
    ///
    /// # Errors
    /// Only of the store.
    pub(super) async fn catch_up(&self) -> Result<(), ServiceError> {
        // One at a time: the known revision must not go back.
        let _turn = self.catching_up.lock().await;
        let mut known = *self.revision.borrow();
        while self.store.revision().await? > known {
            let (reached, changes) =
                self.store.changes_after(known, BATCH, self.forget_after()).await?;
            if reached == known {
                break;
            }
            known = reached;
            self.refusals.apply(&changes);
            self.revision.send_replace(known);
        }
        Ok(())
    }

    /// Lets what was just committed count at this door before it is answered.
    /// The commit stands either way: the job catches up if this fails.
    pub(super) async fn heed(&self) {
        if let Err(error) = self.catch_up().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a change counts a little later"
            );
        }
    }
}

/// Whether the follower is still there.
async fn give(to: &Batches, batch: Batch) -> bool {
    to.send(Ok(batch)).await.is_ok()
}
