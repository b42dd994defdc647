//! `quarry.ops.v1.Jobs` outward: every service that has long work answers the
//! same path, so the door itself says whose job is meant. A job's name is
//! `<service>/<id>`; a list is that of all services.

use std::time::Duration;

use futures::stream::{BoxStream, FuturesUnordered, StreamExt};
use http::HeaderValue;
use ops_api::v1 as wire;
use ops_api::v1::jobs_client::JobsClient;
use ops_api::v1::jobs_server::{Jobs, JobsServer};
use ops_api::{CALLEE_HEADER, JOBS_PREFIX};
use service_channel::{Transport, local};
use service_error::{Code, ServiceError};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::Upstream;
use crate::credentials::{self, Credential};
use crate::exchange::Exchange;
use crate::operations;

/// The token of a page is one for all services: the id of its last job.
const LIST: &str = "jobs";
/// A service that does not answer must not keep the list of the others.
const LIST_TIME_MAX: Duration = Duration::from_secs(5);
/// What stands where other upstreams have an audience: the door answers itself
/// and is given the client's own credential.
pub const OWN: &str = "";

/// Takes the jobs of all services behind the door together as one upstream,
/// with what all roles tell an operator.
pub fn gather(exchange: &Exchange, upstreams: &[Upstream], own: Option<Transport>) -> Upstream {
    let operations = operations::gather(exchange, upstreams, own);
    let callees: Vec<Callee> = upstreams
        .iter()
        .filter(|upstream| upstream.prefixes.contains(&JOBS_PREFIX))
        .map(|upstream| Callee {
            service: upstream.audience,
            transport: upstream.transport.clone(),
        })
        .collect();
    let outward = Outward { exchange: exchange.clone(), callees };
    Upstream {
        audience: OWN,
        prefixes: &[JOBS_PREFIX],
        descriptors: ops_api::FILE_DESCRIPTOR_SET,
        surfaces: &[],
        transport: local(Routes::new(JobsServer::new(outward)).add_service(operations).prepare()),
    }
}

/// The `authorization` header that an upstream is given.
///
/// # Errors
/// As [`Exchange::token`].
pub async fn token(
    exchange: &Exchange,
    upstream: &Upstream,
    credential: &Credential,
) -> Result<HeaderValue, ServiceError> {
    if upstream.audience == OWN {
        credential.header()
    } else {
        exchange.token(credential, upstream.audience).await
    }
}

#[derive(Clone)]
struct Callee {
    service: &'static str,
    transport: Transport,
}

struct Outward {
    exchange: Exchange,
    callees: Vec<Callee>,
}

impl Outward {
    /// The service of a job's name. What names none goes to the first one: it
    /// refuses the name, after the caller.
    fn callee(&self, name: &str) -> Result<&Callee, ServiceError> {
        let service = name.split_once('/').map_or("", |(service, _)| service);
        let named = self.callees.iter().find(|callee| callee.service == service);
        named.or(self.callees.first()).ok_or_else(|| ServiceError::not_found("job", name))
    }

    async fn onward<T>(
        &self,
        callee: &Callee,
        metadata: &MetadataMap,
        message: T,
    ) -> Result<(JobsClient<Transport>, Request<T>), ServiceError> {
        let headers = metadata.clone().into_headers();
        let credential = credentials::presented(&headers)?.ok_or_else(credentials::missing)?;
        let token = self.exchange.token(&credential, callee.service).await?;
        let mut headers = headers;
        headers.insert(http::header::AUTHORIZATION, token);
        headers.insert(CALLEE_HEADER, HeaderValue::from_static(callee.service));
        let mut request = Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        Ok((JobsClient::new(callee.transport.clone()), request))
    }

    async fn list_of(
        &self,
        callee: &Callee,
        metadata: &MetadataMap,
        asked: wire::JobsListRequest,
    ) -> (&'static str, Result<wire::JobsListResponse, ServiceError>) {
        let ask = async {
            let (mut client, request) = self.onward(callee, metadata, asked).await?;
            Ok(client.list(request).await?.into_inner())
        };
        let answer = tokio::time::timeout(LIST_TIME_MAX, ask)
            .await
            .unwrap_or_else(|_| Err(ServiceError::unavailable("it does not answer")));
        (callee.service, answer)
    }
}

/// Pages of all services as one, newest first. Ids are UUIDv7: their order is
/// that of creation, whoever made them.
fn merge(pages: Vec<wire::JobsListResponse>, size: usize) -> wire::JobsListResponse {
    let mut more = false;
    let mut jobs: Vec<(Uuid, wire::Job)> = Vec::new();
    for page in pages {
        more |= !page.next_page_token.is_empty();
        jobs.extend(page.jobs.into_iter().filter_map(|job| {
            let id = job.name.split_once('/')?.1.parse().ok()?;
            Some((id, job))
        }));
    }
    jobs.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    more |= jobs.len() > size;
    jobs.truncate(size);
    let next_page_token = match jobs.last() {
        Some((id, _)) if more => paging::token(LIST, id),
        _ => String::new(),
    };
    wire::JobsListResponse {
        jobs: jobs.into_iter().map(|(_, job)| job).collect(),
        next_page_token,
        unreachable: Vec::new(),
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Jobs for Outward {
    type WatchStream = BoxStream<'static, Result<wire::JobsWatchResponse, Status>>;

    async fn list(
        &self,
        request: Request<wire::JobsListRequest>,
    ) -> Answer<wire::JobsListResponse> {
        let (metadata, _, asked) = request.into_parts();
        let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
        let mut answers = FuturesUnordered::new();
        for callee in &self.callees {
            if asked.service.is_empty() || asked.service == callee.service {
                answers.push(self.list_of(callee, &metadata, asked.clone()));
            }
        }
        let (mut pages, mut unreachable) = (Vec::new(), Vec::new());
        while let Some((service, answer)) = answers.next().await {
            match answer {
                Ok(page) => pages.push(page),
                Err(error)
                    if matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded) =>
                {
                    unreachable.push(service.to_owned());
                }
                Err(error) => return Err(error.into()),
            }
        }
        if self.callees.is_empty() {
            // Nobody else looked at the credential.
            let headers = metadata.clone().into_headers();
            let credential = credentials::presented(&headers)?.ok_or_else(credentials::missing)?;
            self.exchange.token(&credential, "identity").await?;
        }
        let mut page = merge(pages, size as usize);
        page.unreachable = unreachable;
        Ok(Response::new(page))
    }

    async fn get(&self, request: Request<wire::JobsGetRequest>) -> Answer<wire::JobsGetResponse> {
        let (metadata, _, asked) = request.into_parts();
        let callee = self.callee(&asked.name)?;
        let (mut client, request) = self.onward(callee, &metadata, asked).await?;
        client.get(request).await
    }

    async fn watch(&self, request: Request<wire::JobsWatchRequest>) -> Answer<Self::WatchStream> {
        let (metadata, _, asked) = request.into_parts();
        let callee = self.callee(&asked.name)?;
        let (mut client, request) = self.onward(callee, &metadata, asked).await?;
        Ok(client.watch(request).await?.map(StreamExt::boxed))
    }

    async fn pause(
        &self,
        request: Request<wire::JobsPauseRequest>,
    ) -> Answer<wire::JobsPauseResponse> {
        let (metadata, _, asked) = request.into_parts();
        let callee = self.callee(&asked.name)?;
        let (mut client, request) = self.onward(callee, &metadata, asked).await?;
        client.pause(request).await
    }

    async fn resume(
        &self,
        request: Request<wire::JobsResumeRequest>,
    ) -> Answer<wire::JobsResumeResponse> {
        let (metadata, _, asked) = request.into_parts();
        let callee = self.callee(&asked.name)?;
        let (mut client, request) = self.onward(callee, &metadata, asked).await?;
        client.resume(request).await
    }

    async fn cancel(
        &self,
        request: Request<wire::JobsCancelRequest>,
    ) -> Answer<wire::JobsCancelResponse> {
        let (metadata, _, asked) = request.into_parts();
        let callee = self.callee(&asked.name)?;
        let (mut client, request) = self.onward(callee, &metadata, asked).await?;
        client.cancel(request).await
    }

    async fn retry(
        &self,
        request: Request<wire::JobsRetryRequest>,
    ) -> Answer<wire::JobsRetryResponse> {
        let (metadata, _, asked) = request.into_parts();
        let callee = self.callee(&asked.name)?;
        let (mut client, request) = self.onward(callee, &metadata, asked).await?;
        client.retry(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(service: &str, ids: &[u128], more: bool) -> wire::JobsListResponse {
        let name = |id: &u128| format!("{service}/{}", Uuid::from_u128(*id));
        let jobs = ids.iter().map(|id| wire::Job { name: name(id), ..wire::Job::default() });
        let next_page_token = if more { "more".to_owned() } else { String::new() };
        wire::JobsListResponse { jobs: jobs.collect(), next_page_token, unreachable: Vec::new() }
    }

    #[test]
    fn pages_of_services_become_one_newest_first_without_gaps() {
        let one = merge(vec![page("a", &[9, 5, 1], false), page("b", &[8, 7, 6], true)], 3);
        let names: Vec<&str> = one.jobs.iter().map(|job| &job.name[..1]).collect();
        assert_eq!(names, ["a", "b", "b"]);
        // The page ends at 7: 6 and 5 come after it, from both services.
        let next: Option<Uuid> = paging::key(LIST, &one.next_page_token).unwrap();
        assert_eq!(next, Some(Uuid::from_u128(7)));
        assert_eq!(merge(vec![page("a", &[1], false)], 3).next_page_token, "");
    }
}
