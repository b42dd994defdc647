//! `quarry.ops.v1.Ops` outward: every role behind the door is asked, and their
//! answers stand side by side. The roles decide who is let in; what the door
//! knows of itself it tells only to somebody whom one of them let in.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, FuturesUnordered, StreamExt};
use http::HeaderValue;
use ops_api::CALLEE_HEADER;
use ops_api::v1 as wire;
use ops_api::v1::ops_client::OpsClient;
use ops_api::v1::ops_server::{Ops, OpsServer};
use service_channel::Transport;
use service_error::{Code, ServiceError};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::Upstream;
use crate::credentials;
use crate::exchange::Exchange;
use crate::jobs::OWN;

/// A role that does not answer must not keep what the others say. Counting
/// every row takes its time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// A file of gigabytes is written anew.
const OPTIMIZE_TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// What a role may answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Takes the operations of all roles behind the door together.
pub fn gather(
    exchange: &Exchange,
    upstreams: &[Upstream],
    own: Option<Transport>,
) -> OpsServer<Outward> {
    let roles = upstreams.iter().filter(|upstream| upstream.audience != OWN);
    let callees =
        roles.map(|role| Callee { role: role.audience, transport: role.transport.clone() });
    OpsServer::new(Outward { exchange: exchange.clone(), callees: callees.collect(), own })
}

#[derive(Clone)]
struct Callee {
    role: &'static str,
    transport: Transport,
}

/// The RPCs at the public door.
pub struct Outward {
    exchange: Exchange,
    callees: Vec<Callee>,
    own: Option<Transport>,
}

/// A call under way.
type Asked<A> = BoxFuture<'static, Result<Response<A>, Status>>;

/// What the roles said, and which of them said nothing.
struct Gathered<A> {
    answers: Vec<A>,
    unreachable: Vec<String>,
}

impl Outward {
    /// Asks each role that `only` names (all if it is empty).
    async fn ask<Q, A>(
        &self,
        request: Request<Q>,
        only: &str,
        call: impl Fn(OpsClient<Transport>, Request<Q>) -> Asked<A> + Send + Sync,
    ) -> Result<Gathered<A>, ServiceError>
    where
        Q: Clone + Send + Sync + 'static,
        A: Send + 'static,
    {
        self.ask_within(ANSWER_TIME_MAX, request, only, call).await
    }

    async fn ask_within<Q, A>(
        &self,
        patience: Duration,
        request: Request<Q>,
        only: &str,
        call: impl Fn(OpsClient<Transport>, Request<Q>) -> Asked<A> + Send + Sync,
    ) -> Result<Gathered<A>, ServiceError>
    where
        Q: Clone + Send + Sync + 'static,
        A: Send + 'static,
    {
        let (metadata, _, asked) = request.into_parts();
        if !only.is_empty() && !self.callees.iter().any(|callee| callee.role == only) {
            let known: Vec<&str> = self.callees.iter().map(|callee| callee.role).collect();
            let message = format!("{only:?} is none of {}", known.join(", "));
            return Err(ServiceError::invalid("service", message));
        }
        let mut callees =
            self.callees.iter().filter(|callee| only.is_empty() || callee.role == only);
        let mut gathered = Gathered { answers: Vec::new(), unreachable: Vec::new() };
        let mut away = None;
        // One alone before the others: who is denied is denied, and noted, once.
        let Some(first) = callees.next() else {
            return Err(ServiceError::unavailable("no role answers"));
        };
        let ask = |callee| self.ask_one(patience, callee, &metadata, asked.clone(), &call);
        let rest: FuturesUnordered<_> = callees.map(ask).collect();
        let mut asking = std::pin::pin!(stream::once(ask(first)).chain(rest));
        while let Some((role, answer)) = asking.next().await {
            match answer {
                Ok(answer) => gathered.answers.push(answer),
                Err(error)
                    if matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded) =>
                {
                    gathered.unreachable.push(role.to_owned());
                    away = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        gathered.unreachable.sort();
        if gathered.answers.is_empty() {
            // Nobody has looked at the caller.
            return Err(away.unwrap_or_else(|| ServiceError::unavailable("no role answers")));
        }
        Ok(gathered)
    }

    async fn ask_one<Q, A>(
        &self,
        patience: Duration,
        callee: &Callee,
        metadata: &MetadataMap,
        asked: Q,
        call: &(impl Fn(OpsClient<Transport>, Request<Q>) -> Asked<A> + Send + Sync),
    ) -> (&'static str, Result<A, ServiceError>)
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let ask = async {
            let mut headers = metadata.clone().into_headers();
            let credential = credentials::presented(&headers)?.ok_or_else(credentials::missing)?;
            let token = self.exchange.fresh_token(&credential, callee.role).await?;
            headers.insert(http::header::AUTHORIZATION, token);
            headers.insert(CALLEE_HEADER, HeaderValue::from_static(callee.role));
            let mut request = Request::new(asked);
            *request.metadata_mut() = MetadataMap::from_headers(headers);
            let client = OpsClient::new(callee.transport.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX);
            let answer = call(client, request).await;
            Ok(answer.map_err(|status| ServiceError::from_status(&status))?.into_inner())
        };
        let answer = tokio::time::timeout(patience, ask)
            .await
            .unwrap_or_else(|_| Err(ServiceError::unavailable("it does not answer")));
        (callee.role, answer)
    }

    fn own(&self) -> Option<OpsClient<Transport>> {
        self.own.clone().map(OpsClient::new)
    }
}

type Answer<T> = Result<Response<T>, Status>;

/// One entry a process with all its roles: what roles of one process said separately is put
/// together.
fn by_process<T>(
    said: Vec<T>,
    named: impl for<'a> Fn(&'a mut T) -> (&'a String, &'a mut Vec<String>),
) -> Vec<T> {
    let mut processes: Vec<T> = Vec::new();
    for mut one in said {
        let (instance, roles) = named(&mut one);
        let known = processes.iter_mut().map(&named).find(|(known, _)| *known == instance);
        match known {
            Some((_, known)) => known.append(roles),
            None => processes.push(one),
        }
    }
    for process in &mut processes {
        named(process).1.sort();
    }
    processes
}

#[tonic::async_trait]
impl Ops for Outward {
    async fn get_info(
        &self,
        request: Request<wire::GetInfoRequest>,
    ) -> Answer<wire::GetInfoResponse> {
        let said = self
            .ask(request, "", |mut client, request| {
                async move { client.get_info(request).await }.boxed()
            })
            .await?;
        let mut all: Vec<_> = said.answers.into_iter().flat_map(|one| one.processes).collect();
        if let Some(mut own) = self.own() {
            all.extend(own.get_info(wire::GetInfoRequest {}).await?.into_inner().processes);
        }
        let mut processes = by_process(all, |one| (&one.instance, &mut one.roles));
        processes.sort_by(|a, b| a.roles.cmp(&b.roles));
        Ok(Response::new(wire::GetInfoResponse { processes, unreachable: said.unreachable }))
    }

    async fn list_settings(
        &self,
        request: Request<wire::ListSettingsRequest>,
    ) -> Answer<wire::ListSettingsResponse> {
        let said = self
            .ask(request, "", |mut client, request| {
                async move { client.list_settings(request).await }.boxed()
            })
            .await?;
        let mut all: Vec<_> = said.answers.into_iter().flat_map(|one| one.processes).collect();
        if let Some(mut own) = self.own() {
            all.extend(
                own.list_settings(wire::ListSettingsRequest {}).await?.into_inner().processes,
            );
        }
        let mut processes = by_process(all, |one| (&one.instance, &mut one.roles));
        processes.sort_by(|a, b| a.roles.cmp(&b.roles));
        Ok(Response::new(wire::ListSettingsResponse { processes, unreachable: said.unreachable }))
    }

    async fn get_database_statistics(
        &self,
        request: Request<wire::GetDatabaseStatisticsRequest>,
    ) -> Answer<wire::GetDatabaseStatisticsResponse> {
        let only = request.get_ref().service.clone();
        let said = self
            .ask(request, &only, |mut client, request| {
                async move { client.get_database_statistics(request).await }.boxed()
            })
            .await?;
        let mut services: Vec<_> = said.answers.into_iter().flat_map(|one| one.services).collect();
        services.sort_by(|a, b| a.service.cmp(&b.service));
        let unreachable = said.unreachable;
        Ok(Response::new(wire::GetDatabaseStatisticsResponse { services, unreachable }))
    }

    async fn optimize_database(
        &self,
        request: Request<wire::OptimizeDatabaseRequest>,
    ) -> Answer<wire::OptimizeDatabaseResponse> {
        let only = request.get_ref().service.clone();
        let said = self
            .ask_within(OPTIMIZE_TIME_MAX, request, &only, |mut client, request| {
                async move { client.optimize_database(request).await }.boxed()
            })
            .await?;
        let mut services: Vec<_> = said.answers.into_iter().flat_map(|one| one.services).collect();
        services.sort_by(|a, b| a.service.cmp(&b.service));
        let unreachable = said.unreachable;
        Ok(Response::new(wire::OptimizeDatabaseResponse { services, unreachable }))
    }

    async fn get_metrics_history(
        &self,
        request: Request<wire::GetMetricsHistoryRequest>,
    ) -> Answer<wire::GetMetricsHistoryResponse> {
        let only = request.get_ref().component.clone();
        let said = self
            .ask(request, &only, |mut client, request| {
                async move { client.get_metrics_history(request).await }.boxed()
            })
            .await?;
        let mut series: Vec<_> = said.answers.into_iter().flat_map(|one| one.series).collect();
        series.sort_by(|a, b| (&a.component, &a.metric).cmp(&(&b.component, &b.metric)));
        let unreachable = said.unreachable;
        Ok(Response::new(wire::GetMetricsHistoryResponse { series, unreachable }))
    }
}
