//! The fence: one holder, settled once, and what it does to writers.

use super::*;
use crate::{Fence, FenceKind, Taken, end_leases};

const HOUR: i64 = 3_600_000_000;

async fn take(delta: &RowDelta, place: Place, kind: FenceKind, lease: i64) -> Taken {
    delta.take_fence(place, kind, Uuid::now_v7(), 0, lease).await.unwrap()
}

fn ours(taken: Taken) -> Fence {
    match taken {
        Taken::Ours(fence) => fence,
        Taken::Theirs(busy) => panic!("{busy:?}"),
    }
}

#[tokio::test]
async fn writers_wait_for_an_exclusive_fence_and_compute_again() {
    on_each(async |delta, _| {
        let place = place();
        written(&delta, write(place, &["a"], &[], 1)).await;
        let fence = ours(take(&delta, place, FenceKind::Exclusive, HOUR).await);
        assert_eq!(fence.held.barrier, 1);
        let waiting = Write { read_seq: 1, ..write(place, &["b"], &[], 1) };
        assert_eq!(delta.write(waiting.clone()).await.unwrap(), Outcome::Fenced);
        let other = take(&delta, place, FenceKind::Flush, HOUR).await;
        assert!(matches!(other, Taken::Theirs(busy) if busy == fence.held));
        delta.open_fence(place, &fence.held, Some(1)).await.unwrap();
        let state = delta.state(place).await.unwrap();
        assert_eq!((state.epoch, state.absorbed, state.pending_rows), (1, 1, 0));
        assert_eq!(delta.write(waiting.clone()).await.unwrap(), Outcome::Moved);
        written(&delta, Write { epoch: 1, ..waiting }).await;
    })
    .await;
}

#[tokio::test]
async fn writers_go_on_during_a_flush() {
    on_each(async |delta, _| {
        let place = place();
        written(&delta, write(place, &["a"], &[], 1)).await;
        let fence = ours(take(&delta, place, FenceKind::Flush, HOUR).await);
        written(&delta, Write { read_seq: 1, ..write(place, &["a"], &[], 2) }).await;
        delta.open_fence(place, &fence.held, Some(fence.held.barrier)).await.unwrap();
        let state = delta.state(place).await.unwrap();
        assert_eq!((state.seq, state.epoch, state.absorbed, state.pending_rows), (2, 0, 1, 1));
        // Read again from before the flush: the log only grows.
        assert_eq!(delta.rows(place, 0, 2).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_expired_fence_is_opened_once_by_its_lease_epoch() {
    on_each(async |delta, _| {
        let place = place();
        let dead = ours(take(&delta, place, FenceKind::Exclusive, -1).await);
        assert!(dead.held.is_expired());
        delta.open_fence(place, &dead.held, None).await.unwrap();
        let next = ours(take(&delta, place, FenceKind::Exclusive, HOUR).await);
        assert_eq!(next.held.lease_epoch, dead.held.lease_epoch + 1);
        // Too late, and not its own.
        delta.open_fence(place, &dead.held, Some(99)).await.unwrap();
        let lost = delta.renew_fence(&dead, HOUR).await.unwrap_err();
        assert!(lost.reason_is("FENCE_LOST"));
        delta.renew_fence(&next, HOUR).await.unwrap();
        let state = delta.state(place).await.unwrap();
        assert_eq!((state.absorbed, state.fence.map(|held| held.lease_epoch)), (0, Some(2)));
    })
    .await;
}

/// One process has a SQLite file: what another held there it held before its end.
#[tokio::test]
async fn leases_end_with_the_only_process() {
    on_each(async |delta, sql| {
        let place = place();
        let held = ours(take(&delta, place, FenceKind::Exclusive, HOUR).await).held;
        end_leases(&sql).await.unwrap();
        let fence = delta.state(place).await.unwrap().fence.unwrap();
        assert_eq!(fence.lease_epoch, held.lease_epoch, "who meets it settles it");
        assert_eq!(fence.is_expired(), sql.backend() == sea_orm::DbBackend::Sqlite);
    })
    .await;
}

#[tokio::test]
async fn what_was_trimmed_is_said_and_not_shown_less() {
    on_each(async |delta, sql| {
        let place = place();
        written(&delta, write(place, &["a"], &[], 1)).await;
        written(&delta, Write { read_seq: 1, ..write(place, &["b"], &[], 1) }).await;
        let fence = ours(take(&delta, place, FenceKind::Flush, HOUR).await);
        delta.open_fence(place, &fence.held, Some(2)).await.unwrap();
        assert_eq!(delta.trim(0).await.unwrap(), 0, "absorbed just now");
        assert_eq!(delta.trim(i64::MAX).await.unwrap(), 2);
        let fresh = RowDelta::new(sql, 1 << 20);
        let gone = fresh.rows(place, 0, 2).await.unwrap_err();
        assert!(gone.reason_is("SNAPSHOT_GONE"), "{gone}");
        written(&delta, Write { read_seq: 2, ..write(place, &["a"], &[], 2) }).await;
        assert_eq!(fresh.rows(place, 2, 3).await.unwrap().len(), 1);
        delta.purge(place.dataset).await.unwrap();
        assert_eq!(delta.state(place).await.unwrap(), crate::State::default());
    })
    .await;
}
