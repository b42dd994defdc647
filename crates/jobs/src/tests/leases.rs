//! Runners that die, hang or meet.

use super::*;
use crate::model::Progress;
use crate::store::{Beat, Ending};

#[tokio::test]
async fn after_a_kill_the_next_runner_goes_on_from_the_last_step() {
    on_each(|jobs| async move {
        let job = jobs.submit(new_job().arguments(&6_i64).unwrap()).await.unwrap();
        for killed_at in 1..=5 {
            let running = Running::start(&jobs, Runner::anybody());
            running.step.send(()).await.unwrap();
            let checkpoint = killed_at.to_string();
            until(&jobs, job.id, |job| job.checkpoint.as_deref() == Some(&checkpoint)).await;
            running.kill().await;
            // On Postgres another process waits for the lease; here time is moved.
            expire(&jobs, job.id).await;
        }
        let running = Running::start(&jobs, Runner::anybody());
        running.step.send(()).await.unwrap();
        let done = until_state(&jobs, job.id, State::Completed).await;
        assert_eq!((done.result.get("counted"), done.lease_epoch), (Some(&6), 6));
        running.stop().await;
    })
    .await;
}

/// Lets a job's lease be over.
async fn expire(jobs: &Jobs, id: Uuid) {
    let job = jobs.find(id).await.unwrap().unwrap();
    let progress = Progress::default();
    let beat = Beat {
        id,
        epoch: job.lease_epoch,
        lease_until: 0,
        progress: &progress,
        errors: Vec::new(),
        errors_uncounted: 0,
        checkpoint: None,
    };
    assert!(jobs.beat(beat).await.unwrap().is_some());
}

#[tokio::test]
async fn who_lost_the_lease_changes_nothing() {
    on_each(|jobs| async move {
        let job = jobs.submit(new_job()).await.unwrap();
        let first = jobs.claim(&["count"], 60_000_000).await.unwrap().unwrap();
        assert!(jobs.claim(&["count"], 60_000_000).await.unwrap().is_none());
        expire(&jobs, job.id).await;
        let second = jobs.claim(&["count"], 60_000_000).await.unwrap().unwrap();
        assert_eq!((first.lease_epoch, second.lease_epoch), (1, 2));
        let work = Work::new(jobs.clone(), first, Runner::anybody(), 60_000_000);
        assert!(matches!(work.step(&7).await, Err(crate::Interrupt::Stopped)));
        assert!(!jobs.end(job.id, 1, Ending::Cancelled).await.unwrap());
        let now = jobs.find(job.id).await.unwrap().unwrap();
        assert_eq!((now.state, now.checkpoint), (State::Running, None));
        assert!(jobs.end(job.id, 2, Ending::Paused).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_job_that_kills_its_process_each_time_is_given_up() {
    on_each(|jobs| async move {
        let job = jobs.submit(new_job()).await.unwrap();
        for _ in 0..3 {
            assert!(jobs.claim(&["count"], 1_000_000).await.unwrap().is_some());
            expire(&jobs, job.id).await;
        }
        let running = Running::start(&jobs, Runner::anybody());
        let failed = until_state(&jobs, job.id, State::Failed).await;
        assert_eq!(failed.failure.unwrap().reason, "JOB_ATTEMPTS");
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_job_of_a_dead_runner_can_be_cancelled() {
    on_each(|jobs| async move {
        let job = jobs.submit(new_job()).await.unwrap();
        jobs.claim(&["count"], 1_000_000).await.unwrap().unwrap();
        expire(&jobs, job.id).await;
        assert_eq!(jobs.cancel(job.id).await.unwrap().state, State::Cancelled);
        assert!(jobs.claim(&["count"], 1_000_000).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn many_runners_share_the_jobs_and_none_runs_twice() {
    on_each(|jobs| async move {
        let mut ids = Vec::new();
        for _ in 0..24 {
            ids.push(jobs.submit(new_job()).await.unwrap().id);
        }
        let claims: Vec<_> = (0..4)
            .map(|_| {
                let jobs = jobs.clone();
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    // A claim may come too late; the queue is empty after several such.
                    let mut empty = 0;
                    while empty < 5 {
                        match jobs.claim(&["count"], 60_000_000).await.unwrap() {
                            Some(job) => mine.push(job.id),
                            None => empty += 1,
                        }
                    }
                    mine
                })
            })
            .collect();
        let mut all = Vec::new();
        for claim in claims {
            all.extend(claim.await.unwrap());
        }
        all.sort();
        assert_eq!(all, ids);
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_queues_the_job_again_at_once() {
    on_each(|jobs| async move {
        let job = jobs.submit(new_job().arguments(&2_i64).unwrap()).await.unwrap();
        let running = Running::start(&jobs, Runner::anybody());
        running.step.send(()).await.unwrap();
        until(&jobs, job.id, |job| job.progress.done == 1).await;
        running.stop().await;
        let waiting = jobs.find(job.id).await.unwrap().unwrap();
        assert_eq!((waiting.state, waiting.checkpoint.as_deref()), (State::Queued, Some("1")));
    })
    .await;
}
