//! `quarry.ops.v1.Jobs` over one service's jobs.

use std::time::Duration;

use caller::Caller;
use futures::stream::{self, BoxStream, StreamExt};
use ops_api::v1 as wire;
use ops_api::v1::jobs_server::{Jobs as JobsService, JobsServer};
use options_api::v1::Role;
use prost_types::Timestamp;
use service_error::ServiceError;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::Jobs;
use crate::model::{Job, State};

const LIST: &str = "jobs";
const ITEM_ERRORS_SHOWN: u32 = 100;
/// A change made by another process is seen this late at most.
const WATCH_POLL: Duration = Duration::from_secs(1);
/// At most so many messages a second and watcher.
const WATCH_PACE: Duration = Duration::from_millis(100);

/// The service, to be mounted under a role's routes.
#[must_use]
pub fn service(jobs: Jobs) -> JobsServer<Surface> {
    JobsServer::new(Surface::new(jobs))
}

/// The jobs of one service as RPCs.
#[derive(Debug, Clone)]
pub struct Surface(Jobs);

type Answer<T> = Result<Response<T>, Status>;

impl Surface {
    /// The RPCs over a service's jobs.
    #[must_use]
    pub fn new(jobs: Jobs) -> Self {
        Self(jobs)
    }

    /// The job of a name, if the caller may see it.
    async fn seen(&self, caller: &Caller, name: &str) -> Result<Job, ServiceError> {
        let id = self.id(name)?;
        let job = self.0.find(id).await?;
        job.filter(|job| is_visible(job, caller))
            .ok_or_else(|| ServiceError::not_found("job", name))
    }

    fn id(&self, name: &str) -> Result<Uuid, ServiceError> {
        let wrong = || {
            ServiceError::invalid(
                "name",
                format!("{name:?} is no job's name: write SERVICE/ID, as `list` prints it"),
            )
        };
        match name.split_once('/') {
            Some((service, _)) if service != self.0.service() => {
                Err(ServiceError::not_found("job", name))
            }
            Some((_, id)) => id.parse().map_err(|_| wrong()),
            None => name.parse().map_err(|_| wrong()),
        }
    }

    fn wire(&self, job: Job) -> wire::Job {
        to_wire(self.0.service(), job)
    }

    async fn list_page(
        &self,
        caller: &Caller,
        asked: wire::JobsListRequest,
    ) -> Result<wire::JobsListResponse, ServiceError> {
        let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
        let before: Option<Uuid> = paging::key(LIST, &asked.page_token)?;
        if !asked.service.is_empty() && asked.service != self.0.service() {
            return Ok(wire::JobsListResponse::default());
        }
        let states: Vec<State> = asked
            .states
            .iter()
            .map(|state| {
                State::of(state - 1)
                    .ok_or_else(|| ServiceError::invalid("states", format!("{state} is no state")))
            })
            .collect::<Result<_, _>>()?;
        let of_all = caller.service || caller.role == Role::Admin;
        let owner = (!of_all).then_some(caller.principal);
        let found = self.0.list(owner, &states, before, size + 1).await?;
        let (found, next_page_token) = paging::cut(found, size, LIST, |job| job.id);
        Ok(wire::JobsListResponse {
            jobs: found.into_iter().map(|job| self.wire(job)).collect(),
            next_page_token,
            unreachable: Vec::new(),
        })
    }

    /// The job's messages: now and after each change, until it ends.
    fn changes(self, first: Job) -> BoxStream<'static, Result<wire::JobsWatchResponse, Status>> {
        let id = first.id;
        let changed = self.0.changed();
        let start = (self, Some(first), changed, None);
        stream::unfold(start, move |(surface, pending, mut changed, sent)| async move {
            if let Some(job) = pending {
                let sent = Sent::of(&job);
                let message = wire::JobsWatchResponse { job: Some(surface.wire(job)) };
                return Some((Ok(message), (surface, None, changed, Some(sent))));
            }
            if sent == Some(Sent::Last) {
                return None;
            }
            loop {
                tokio::time::sleep(WATCH_PACE).await;
                // Told by this process, or by nobody when another one runs the job.
                drop(tokio::time::timeout(WATCH_POLL, changed.changed()).await);
                match surface.0.find(id).await {
                    Ok(Some(job)) if sent.as_ref() != Some(&Sent::of(&job)) => {
                        let sent = Some(Sent::of(&job));
                        let message = wire::JobsWatchResponse { job: Some(surface.wire(job)) };
                        return Some((Ok(message), (surface, None, changed, sent)));
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(error) => {
                        return Some((
                            Err(error.into()),
                            (surface, None, changed, Some(Sent::Last)),
                        ));
                    }
                }
            }
        })
        .boxed()
    }
}

/// What a watcher was told last.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// A revision, and why the job waits.
    Change(i64, Option<String>),
    /// That it ended.
    Last,
}

impl Sent {
    fn of(job: &Job) -> Self {
        if job.state.is_final() {
            return Self::Last;
        }
        Self::Change(job.revision, job.waiting.clone())
    }
}

fn is_visible(job: &Job, caller: &Caller) -> bool {
    caller.service || caller.role == Role::Admin || job.owner.principal == caller.principal
}

#[tonic::async_trait]
impl JobsService for Surface {
    type WatchStream = BoxStream<'static, Result<wire::JobsWatchResponse, Status>>;

    async fn get(&self, request: Request<wire::JobsGetRequest>) -> Answer<wire::JobsGetResponse> {
        let caller = caller::of(&request)?;
        let job = self.seen(&caller, &request.into_inner().name).await?;
        let mut errors = Vec::new();
        if job.item_errors > 0 {
            errors = self.0.item_errors(job.id, ITEM_ERRORS_SHOWN).await?;
        }
        let item_errors = errors
            .into_iter()
            .map(|error| wire::JobItemError {
                item: error.item,
                message: error.message,
                time: timestamp(Some(error.at)),
            })
            .collect();
        Ok(Response::new(wire::JobsGetResponse { job: Some(self.wire(job)), item_errors }))
    }

    async fn list(
        &self,
        request: Request<wire::JobsListRequest>,
    ) -> Answer<wire::JobsListResponse> {
        let caller = caller::of(&request)?;
        Ok(Response::new(self.list_page(&caller, request.into_inner()).await?))
    }

    async fn watch(&self, request: Request<wire::JobsWatchRequest>) -> Answer<Self::WatchStream> {
        let caller = caller::of(&request)?;
        let job = self.seen(&caller, &request.into_inner().name).await?;
        Ok(Response::new(self.clone().changes(job)))
    }

    async fn pause(
        &self,
        request: Request<wire::JobsPauseRequest>,
    ) -> Answer<wire::JobsPauseResponse> {
        let caller = caller::of(&request)?;
        let job = self.seen(&caller, &request.into_inner().name).await?;
        let job = Some(self.wire(self.0.pause(job.id).await?));
        Ok(Response::new(wire::JobsPauseResponse { job }))
    }

    async fn resume(
        &self,
        request: Request<wire::JobsResumeRequest>,
    ) -> Answer<wire::JobsResumeResponse> {
        let caller = caller::of(&request)?;
        let job = self.seen(&caller, &request.into_inner().name).await?;
        let job = Some(self.wire(self.0.resume(job.id).await?));
        Ok(Response::new(wire::JobsResumeResponse { job }))
    }

    async fn cancel(
        &self,
        request: Request<wire::JobsCancelRequest>,
    ) -> Answer<wire::JobsCancelResponse> {
        let caller = caller::of(&request)?;
        let job = self.seen(&caller, &request.into_inner().name).await?;
        let job = Some(self.wire(self.0.cancel(job.id).await?));
        Ok(Response::new(wire::JobsCancelResponse { job }))
    }

    async fn retry(
        &self,
        request: Request<wire::JobsRetryRequest>,
    ) -> Answer<wire::JobsRetryResponse> {
        let caller = caller::of(&request)?;
        let job = self.seen(&caller, &request.into_inner().name).await?;
        let job = Some(self.wire(self.0.retry(job.id).await?));
        Ok(Response::new(wire::JobsRetryResponse { job }))
    }
}

fn to_wire(service: &str, job: Job) -> wire::Job {
    let remaining_seconds = match job.state {
        State::Running => job.progress.remaining_seconds().unwrap_or(0),
        _ => 0,
    };
    wire::Job {
        name: format!("{service}/{}", job.id),
        kind: job.kind,
        title: job.title,
        state: job.state.number() + 1,
        owner_id: job.owner.principal.to_string(),
        owner: job.owner.name,
        progress: Some(wire::JobProgress {
            phase: job.progress.phase,
            unit: job.progress.unit,
            done: job.progress.done,
            total: job.progress.total.unwrap_or(0),
            per_second: job.progress.per_second,
            remaining_seconds,
        }),
        create_time: timestamp(Some(job.created_at)),
        start_time: timestamp(job.started_at),
        end_time: timestamp(job.ended_at),
        failure: job.failure.map(|failure| wire::JobFailure {
            code: failure.code,
            reason: failure.reason,
            message: failure.message,
        }),
        item_error_count: job.item_errors,
        stopping: job.stopping,
        result: job.result.into_iter().collect(),
        attempt: job.attempt,
        waiting: job.waiting.unwrap_or_default(),
    }
}

fn timestamp(micros: Option<i64>) -> Option<Timestamp> {
    let micros = micros?;
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    Some(Timestamp { seconds: micros.div_euclid(1_000_000), nanos })
}
