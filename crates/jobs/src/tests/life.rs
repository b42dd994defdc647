//! From queued to an end, with what can come between.

use service_error::{Code, ServiceError};

use super::*;

#[tokio::test]
async fn a_job_runs_and_says_how_far_it_is() {
    on_each(|jobs| async move {
        let running = Running::start(&jobs, Runner::anybody());
        let job = jobs.submit(new_job().arguments(&3_i64).unwrap()).await.unwrap();
        assert_eq!(job.state, State::Queued);
        running.step.send(()).await.unwrap();
        let half = until(&jobs, job.id, |job| job.progress.done == 1).await;
        assert_eq!((half.state, half.progress.total), (State::Running, Some(3)));
        assert_eq!((half.progress.phase.as_str(), half.attempt), ("counting", 0));
        for _ in 0..2 {
            running.step.send(()).await.unwrap();
        }
        let done = until_state(&jobs, job.id, State::Completed).await;
        assert_eq!(done.result.get("counted"), Some(&3));
        assert!(done.ended_at.unwrap() >= done.started_at.unwrap());
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_paused_job_goes_on_where_it_was_and_a_cancelled_one_ends() {
    on_each(|jobs| async move {
        let running = Running::start(&jobs, Runner::anybody());
        let job = jobs.submit(new_job().arguments(&4_i64).unwrap()).await.unwrap();
        running.step.send(()).await.unwrap();
        until(&jobs, job.id, |job| job.progress.done == 1).await;
        assert!(jobs.pause(job.id).await.unwrap().stopping);
        let paused = until_state(&jobs, job.id, State::Paused).await;
        assert_eq!(paused.checkpoint.as_deref(), Some("1"));
        running.stop().await;
        // Paused stays paused for the next process, until it is resumed.
        let running = Running::start(&jobs, Runner::anybody());
        assert_eq!(jobs.pause(job.id).await.unwrap().state, State::Paused);
        jobs.resume(job.id).await.unwrap();
        running.step.send(()).await.unwrap();
        until(&jobs, job.id, |job| job.progress.done == 2).await;
        jobs.cancel(job.id).await.unwrap();
        let ended = until_state(&jobs, job.id, State::Cancelled).await;
        assert!(ended.ended_at.is_some());
        assert_eq!(jobs.resume(job.id).await.unwrap_err().reason_text(), "JOB_STATE");
        assert_eq!(jobs.cancel(job.id).await.unwrap().state, State::Cancelled);
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_queued_job_is_paused_and_cancelled_at_once() {
    on_each(|jobs| async move {
        let job = jobs.submit(new_job()).await.unwrap();
        assert_eq!(jobs.pause(job.id).await.unwrap().state, State::Paused);
        assert_eq!(jobs.cancel(job.id).await.unwrap().state, State::Cancelled);
        assert_eq!(jobs.retry(job.id).await.unwrap().state, State::Queued);
        let nobody = jobs.pause(Uuid::now_v7()).await.unwrap_err();
        assert_eq!(nobody.code(), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_failure_is_kept_and_can_be_tried_again() {
    on_each(|jobs| async move {
        let fail = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let failing = Arc::clone(&fail);
        let runner =
            Runner::new(jobs.clone(), hasty(), Runner::anybody()).on("count", move |work| {
                let fails = failing.load(std::sync::atomic::Ordering::SeqCst);
                async move {
                    for n in 0..1_200 {
                        work.item_failed(&format!("item {n}"), "is\0broken");
                        if n == 600 {
                            work.step(&n).await?;
                        }
                    }
                    if fails {
                        return Err(ServiceError::precondition("no").reason("NOPE").into());
                    }
                    Ok(Default::default())
                }
            });
        let shutdown = CancellationToken::new();
        let ended = tokio::spawn(runner.start(shutdown.clone()).run);
        let job = jobs.submit(new_job()).await.unwrap();
        let failed = until_state(&jobs, job.id, State::Failed).await;
        assert_eq!(failed.failure.unwrap().reason, "NOPE");
        assert_eq!(failed.item_errors, 1_200);
        let kept = jobs.item_errors(job.id, 10_000).await.unwrap();
        assert_eq!((kept.len(), kept[999].item.as_str()), (1_000, "item 999"));
        assert_eq!(kept[0].message, "is\u{fffd}broken");
        fail.store(false, std::sync::atomic::Ordering::SeqCst);
        jobs.retry(job.id).await.unwrap();
        let done = until_state(&jobs, job.id, State::Completed).await;
        assert!(done.failure.is_none());
        assert_eq!(jobs.retry(job.id).await.unwrap_err().reason_text(), "JOB_STATE");
        shutdown.cancel();
        ended.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_panic_fails_the_job_and_not_the_runner() {
    on_each(|jobs| async move {
        let runner = Runner::new(jobs.clone(), hasty(), Runner::anybody())
            .on("count", |_| async { panic!("a defect") });
        let shutdown = CancellationToken::new();
        let ended = tokio::spawn(runner.start(shutdown.clone()).run);
        for _ in 0..2 {
            let job = jobs.submit(new_job()).await.unwrap();
            let failed = until_state(&jobs, job.id, State::Failed).await;
            assert_eq!(failed.failure.unwrap().code, 13);
        }
        shutdown.cancel();
        ended.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_owner_that_lost_its_right_stops_at_the_next_step() {
    on_each(|jobs| async move {
        let may = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let asked = Arc::clone(&may);
        let checks = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&checks);
        let check = Runner::owner_check(move |_| {
            let may = asked.load(std::sync::atomic::Ordering::SeqCst);
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async move { if may { Ok(()) } else { Err(ServiceError::denied("no longer")) } }
        });
        let running = Running::start(&jobs, check);
        let job = jobs.submit(new_job().arguments(&9_i64).unwrap()).await.unwrap();
        running.step.send(()).await.unwrap();
        // At the start, and after the first step.
        while checks.load(std::sync::atomic::Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        may.store(false, std::sync::atomic::Ordering::SeqCst);
        running.step.send(()).await.unwrap();
        let failed = until_state(&jobs, job.id, State::Failed).await;
        assert_eq!(failed.failure.unwrap().code, 7);
        assert_eq!(failed.checkpoint.as_deref(), Some("2"));
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_is_unique_among_unfinished_jobs() {
    on_each(|jobs| async move {
        let first = jobs.submit(new_job().key("scan:1")).await.unwrap();
        let again = jobs.submit(new_job().key("scan:1")).await.unwrap();
        let other = jobs.submit(new_job().key("scan:2")).await.unwrap();
        assert_eq!(first.id, again.id);
        assert_ne!(first.id, other.id);
        jobs.cancel(first.id).await.unwrap();
        let next = jobs.submit(new_job().key("scan:1")).await.unwrap();
        assert_ne!(first.id, next.id);
        assert_eq!(jobs.retry(first.id).await.unwrap_err().reason_text(), "JOB_KEY_TAKEN");
    })
    .await;
}

#[tokio::test]
async fn what_ended_long_ago_is_forgotten() {
    on_each(|jobs| async move {
        let ended = jobs.submit(new_job()).await.unwrap();
        jobs.cancel(ended.id).await.unwrap();
        let waiting = jobs.submit(new_job()).await.unwrap();
        assert_eq!(jobs.forget(sql_store::now_micros() + 1).await.unwrap(), 1);
        assert!(jobs.find(ended.id).await.unwrap().is_none());
        assert!(jobs.find(waiting.id).await.unwrap().is_some());
    })
    .await;
}
