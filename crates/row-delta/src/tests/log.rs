//! Writing, reading back, repeating, trimming.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::*;
use crate::{EditKey, latest, tail};

#[tokio::test]
async fn rows_come_back_in_order_with_their_images() {
    on_each(async |delta, sql| {
        let place = place();
        assert_eq!(delta.state(place).await.unwrap().seq, 0);
        assert_eq!(written(&delta, write(place, &["a", "b"], &["c"], 1)).await, 3);
        let second = Write { read_seq: 3, ..write(place, &["a"], &["b"], 2) };
        assert_eq!(written(&delta, second).await, 5);
        // Once from memory and once from the database alone.
        for delta in [delta.clone(), RowDelta::new(sql, 1 << 20)] {
            let all = delta.rows(place, 0, 5).await.unwrap();
            assert_eq!(all.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
            assert_eq!(delta.rows(place, 3, 4).await.unwrap().len(), 1);
            let newest = latest(all);
            let shown: Vec<_> = newest.iter().map(|row| (&row.key[..], row.live)).collect();
            assert_eq!(shown, [(&b"c"[..], false), (b"a", true), (b"b", false)]);
            let tail = tail(&newest, &rows(&[], 0).schema()).unwrap();
            assert_eq!(tail.column(1).as_primitive::<Int64Type>().values(), &[2]);
        }
        let state = delta.state(place).await.unwrap();
        assert_eq!((state.pending_rows, state.fence), (5, None));
        assert!(state.pending_bytes > 0 && state.oldest_at > 0);
        let backlog = delta.backlog(None, 10).await.unwrap();
        assert!(backlog.iter().any(|of| of.place == place));
    })
    .await;
}

#[tokio::test]
async fn a_write_to_a_key_that_changed_since_is_told_so() {
    on_each(async |delta, _| {
        let place = place();
        written(&delta, write(place, &["a"], &[], 1)).await;
        let stale = delta.write(write(place, &["a"], &[], 2)).await.unwrap();
        assert_eq!(stale, Outcome::Moved);
        // Another key is another matter.
        written(&delta, write(place, &["b"], &[], 2)).await;
        let of_old_epoch = Write { epoch: 7, read_seq: 9, ..write(place, &["a"], &[], 3) };
        assert_eq!(delta.write(of_old_epoch).await.unwrap(), Outcome::Moved);
        let state = delta.state(place).await.unwrap();
        assert_eq!(state.pending_rows, 2, "what was refused waits for nothing");
        assert_eq!(delta.rows(place, 0, state.seq).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_write_that_was_computed_from_all_rows_is_told_of_any_change() {
    on_each(async |delta, _| {
        let place = place();
        let all = |key, read_seq| Write { of_all: true, read_seq, ..write(place, &[key], &[], 1) };
        let first = written(&delta, all("a", 0)).await;
        assert_eq!(delta.write(all("b", 0)).await.unwrap(), Outcome::Moved);
        // The number that it took in vain is no change.
        written(&delta, all("b", first)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_lose_nothing_and_numbers_are_in_order() {
    on_each(async |delta, _| {
        let place = place();
        let mut all = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let delta = delta.clone();
            all.spawn(async move {
                for n in 0..20 {
                    let key = format!("{writer}-{n}");
                    written(&delta, write(place, &[&key], &[], n)).await;
                }
            });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
        let state = delta.state(place).await.unwrap();
        assert_eq!(state.seq, 160);
        let rows = delta.rows(place, 0, 160).await.unwrap();
        assert!(rows.iter().map(|row| row.seq).eq(1..=160));
        assert_eq!(latest(rows).len(), 160);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_edit_answers_what_the_first_did() {
    on_each(async |delta, _| {
        let place = place();
        let edit = EditKey {
            principal: Uuid::now_v7(),
            key: "k".into(),
            body_hash: b"hash".to_vec(),
            response: b"answer".to_vec(),
            expires_at: i64::MAX,
        };
        let once = Write { edit: Some(edit.clone()), ..write(place, &["a"], &[], 1) };
        let seq = written(&delta, once.clone()).await;
        let Outcome::Repeated(repeated) = delta.write(once.clone()).await.unwrap() else {
            panic!("written twice")
        };
        assert_eq!((repeated.response.as_slice(), repeated.seq), (&b"answer"[..], seq));
        assert_eq!(delta.repeated(place.dataset, &edit).await.unwrap(), Some(repeated));
        let other = EditKey { body_hash: b"other".to_vec(), ..edit };
        let refused = delta.write(Write { edit: Some(other), ..once }).await.unwrap_err();
        assert!(refused.reason_is("IDEMPOTENCY_KEY_REUSED"));
        assert_eq!(delta.state(place).await.unwrap().seq, seq);
    })
    .await;
}

#[tokio::test]
async fn the_counter_is_never_below_the_catalogs_watermark() {
    on_each(async |delta, _| {
        let place = place();
        let restored = Write { floor: 100, read_seq: 100, ..write(place, &["a"], &[], 1) };
        assert_eq!(written(&delta, restored).await, 101);
        let again = Write { floor: 500, read_seq: 500, ..write(place, &["a"], &[], 1) };
        assert_eq!(written(&delta, again).await, 501);
    })
    .await;
}
