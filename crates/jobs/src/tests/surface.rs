//! The RPCs: who sees what, names, pages, watching.

use futures::StreamExt;
use ops_api::v1 as wire;
use ops_api::v1::JobState;
use ops_api::v1::jobs_server::Jobs as _;
use sea_orm::ConnectionTrait;
use tonic::{Code, Request};

use super::*;
use crate::grpc::Surface;

fn by<T>(caller: &Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Arc::new(caller.clone()));
    request
}

async fn submit(jobs: &Jobs, owner: &Caller) -> Job {
    jobs.submit(NewJob::new("count", Owner::of(owner)).arguments(&2_i64).unwrap()).await.unwrap()
}

#[tokio::test]
async fn everybody_sees_their_own_and_admins_all() {
    on_each(|jobs| async move {
        let surface = Surface::new(jobs.clone());
        let (ada, bob, admin) = (somebody(Role::User), somebody(Role::User), somebody(Role::Admin));
        let of_ada = submit(&jobs, &ada).await;
        submit(&jobs, &bob).await;
        let counts = [(&ada, 1), (&bob, 1), (&admin, 2)];
        for (caller, count) in counts {
            let page = surface.list(by(caller, Default::default())).await.unwrap().into_inner();
            assert_eq!(page.jobs.len(), count);
        }
        let name = format!("sample/{}", of_ada.id);
        let get = || wire::JobsGetRequest { name: name.clone() };
        assert_eq!(surface.get(by(&bob, get())).await.unwrap_err().code(), Code::NotFound);
        let pause = wire::JobsPauseRequest { name: name.clone() };
        assert_eq!(surface.pause(by(&bob, pause)).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(
            surface.get(by(&ada, get())).await.unwrap().into_inner().job.unwrap().name,
            name
        );
    })
    .await;
}

#[tokio::test]
async fn names_of_other_services_and_garbage_are_refused() {
    on_each(|jobs| async move {
        let surface = Surface::new(jobs);
        let admin = somebody(Role::Admin);
        for (name, code) in [
            ("other/0190", Code::NotFound),
            ("sample/0190", Code::InvalidArgument),
            ("", Code::InvalidArgument),
        ] {
            let get = wire::JobsGetRequest { name: name.to_owned() };
            assert_eq!(surface.get(by(&admin, get)).await.unwrap_err().code(), code, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn pages_are_the_whole_list_newest_first() {
    on_each(|jobs| async move {
        let surface = Surface::new(jobs.clone());
        let admin = somebody(Role::Admin);
        let mut ids = Vec::new();
        for _ in 0..7 {
            ids.push(submit(&jobs, &admin).await.id);
        }
        ids.reverse();
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let request = wire::JobsListRequest {
                page_size: 3,
                page_token: token,
                ..wire::JobsListRequest::default()
            };
            let page = surface.list(by(&admin, request)).await.unwrap().into_inner();
            seen.extend(page.jobs.iter().map(|job| job.name.clone()));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let names: Vec<String> = ids.iter().map(|id| format!("sample/{id}")).collect();
        assert_eq!(seen, names);
        jobs.cancel(ids[0]).await.unwrap();
        let states = vec![JobState::Cancelled.into()];
        let request = wire::JobsListRequest { states, ..wire::JobsListRequest::default() };
        let page = surface.list(by(&admin, request)).await.unwrap().into_inner();
        assert_eq!(page.jobs.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_watcher_sees_the_job_end_and_then_nothing() {
    on_each(|jobs| async move {
        let running = Running::start(&jobs, Runner::anybody());
        let ada = somebody(Role::User);
        let job = submit(&jobs, &ada).await;
        let watch = wire::JobsWatchRequest { name: format!("sample/{}", job.id) };
        let mut changes =
            Surface::new(jobs.clone()).watch(by(&ada, watch)).await.unwrap().into_inner();
        let mut last = None;
        for _ in 0..2 {
            running.step.send(()).await.unwrap();
        }
        while let Some(change) = changes.next().await {
            last = change.unwrap().job;
        }
        let last = last.unwrap();
        assert_eq!(last.state(), JobState::Completed);
        assert_eq!(last.result.get("counted"), Some(&2));
        running.stop().await;
    })
    .await;
}

async fn run(sql: &SqlStore, statement: &str) {
    let tx = sql.begin().await.unwrap();
    tx.execute_unprepared(statement).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_job_of_which_nothing_can_be_stored_says_that_it_waits_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let settings = SqlSettings::sqlite(dir.path());
    let jobs = jobs(&settings).await;
    let sql = SqlStore::open(&settings, "sample").await.unwrap();
    let full = "CREATE TRIGGER full BEFORE UPDATE ON job BEGIN SELECT RAISE(ABORT, 'full'); END";
    run(&sql, full).await;
    let ada = somebody(Role::User);
    let job = submit(&jobs, &ada).await;
    let watch = wire::JobsWatchRequest { name: format!("sample/{}", job.id) };
    let surface = Surface::new(jobs.clone());
    let mut changes = surface.watch(by(&ada, watch)).await.unwrap().into_inner();
    let first = changes.next().await.unwrap().unwrap().job.unwrap();
    assert_eq!((first.state(), first.waiting.as_str()), (JobState::Queued, ""));
    let running = Running::start(&jobs, Runner::anybody());
    let waits = changes.next().await.unwrap().unwrap().job.unwrap();
    assert_eq!(waits.state(), JobState::Queued);
    assert!(!waits.waiting.is_empty());
    let page = surface.list(by(&ada, Default::default())).await.unwrap().into_inner();
    assert_eq!(page.jobs[0].waiting, waits.waiting);
    run(&sql, "DROP TRIGGER full").await;
    for _ in 0..2 {
        running.step.send(()).await.unwrap();
    }
    let done = until_state(&jobs, job.id, State::Completed).await;
    assert_eq!(done.waiting, None);
    running.stop().await;
}
