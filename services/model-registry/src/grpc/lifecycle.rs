//! `quarry.models.v1.LifecycleService` and `LineageService`.

use models_api::v1 as wire;
use models_api::v1::lifecycle_service_server::LifecycleService;
use models_api::v1::lineage_service_server::LineageService;
use service_error::ServiceError;
use sql_store::now_micros;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::models::alias_to_wire;
use super::versions::{place, to_wire};
use super::{answer, micros, parse, timestamp};
use crate::app::{ListDeployments, Registry, Related, SetAlias};
use crate::model::{
    Comparison, Deployment, DeploymentState, Gate, ModelPath, Stage, Transition, TransitionState,
    VersionRef,
};

/// Both services over the use cases.
#[derive(Clone)]
pub struct Lifecycle(pub Registry);

#[tonic::async_trait]
impl LifecycleService for Lifecycle {
    async fn set_alias(
        &self,
        request: Request<wire::SetAliasRequest>,
    ) -> Result<Response<wire::SetAliasResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let set = async {
            let (path, to) = place(asked.namespace, asked.model, &asked.version)?;
            let asked = SetAlias {
                alias: asked.alias,
                to,
                protected: asked.protected,
                expected: asked.expected_version,
            };
            self.0.set_alias(&caller, &path, &asked).await
        };
        answer(set.await.map(|set| wire::SetAliasResponse { alias: Some(alias_to_wire(set)) }))
    }

    async fn delete_alias(
        &self,
        request: Request<wire::DeleteAliasRequest>,
    ) -> Result<Response<wire::DeleteAliasResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let path = ModelPath::new(asked.namespace, asked.model);
        let deleted = self.0.delete_alias(&caller, &path, &asked.alias).await;
        answer(deleted.map(|_| wire::DeleteAliasResponse {}))
    }

    async fn list_alias_history(
        &self,
        request: Request<wire::ListAliasHistoryRequest>,
    ) -> Result<Response<wire::ListAliasHistoryResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let path = ModelPath::new(asked.namespace, asked.model);
            let list = format!("alias:{path}:{}", asked.alias);
            let below: Option<i64> = paging::key(&list, &asked.page_token)?;
            let found = self.0.alias_history(&caller, &path, &asked.alias, below, size + 1).await?;
            let (found, next_page_token) = paging::cut(found, size, &list, |last| last.seq);
            let steps = found.into_iter().map(|step| wire::AliasStep {
                seq: step.seq,
                version: step.number,
                set_time: Some(timestamp(step.set_at)),
                set_by: step.set_by.to_string(),
            });
            let steps = steps.collect();
            Ok::<_, ServiceError>(wire::ListAliasHistoryResponse { steps, next_page_token })
        };
        answer(page.await)
    }

    async fn roll_back_alias(
        &self,
        request: Request<wire::RollBackAliasRequest>,
    ) -> Result<Response<wire::RollBackAliasResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let rolled = async {
            let path = ModelPath::new(asked.namespace, asked.model);
            let as_of = asked.as_of.as_ref().map(|time| micros("as_of", time)).transpose()?;
            self.0.roll_back_alias(&caller, &path, &asked.alias, as_of).await
        };
        let rolled = rolled.await;
        answer(rolled.map(|set| wire::RollBackAliasResponse { alias: Some(alias_to_wire(set)) }))
    }

    async fn get_stages(
        &self,
        request: Request<wire::GetStagesRequest>,
    ) -> Result<Response<wire::GetStagesResponse>, Status> {
        let caller = caller::of(&request)?;
        let found = self.0.get_stages(&caller, &request.into_inner().namespace).await;
        answer(found.map(|stages| wire::GetStagesResponse {
            stages: stages.into_iter().map(stage_to_wire).collect(),
        }))
    }

    async fn set_stages(
        &self,
        request: Request<wire::SetStagesRequest>,
    ) -> Result<Response<wire::SetStagesResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let set = async {
            let stages = asked.stages.into_iter().map(stage_of).collect::<Result<Vec<_>, _>>()?;
            self.0.set_stages(&caller, &asked.namespace, stages).await
        };
        answer(set.await.map(|stages| wire::SetStagesResponse {
            stages: stages.into_iter().map(stage_to_wire).collect(),
        }))
    }

    async fn transition_stage(
        &self,
        request: Request<wire::TransitionStageRequest>,
    ) -> Result<Response<wire::TransitionStageResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let moved = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let moved = self.0.transition_stage(
                &caller,
                &path,
                &which,
                &asked.stage,
                asked.archive_existing,
                &asked.comment,
            );
            let (transition, version) = moved.await?;
            let stages = self.0.get_stages(&caller, &version.namespace).await;
            let required = stages.ok().and_then(|stages| {
                let to = stages.into_iter().find(|stage| stage.name == transition.to)?;
                Some(to.approvals_required)
            });
            Ok::<_, ServiceError>(wire::TransitionStageResponse {
                transition: Some(transition_to_wire(transition, required.unwrap_or_default())),
                version: Some(to_wire(version)),
            })
        };
        answer(moved.await)
    }

    async fn decide_transition(
        &self,
        request: Request<wire::DecideTransitionRequest>,
    ) -> Result<Response<wire::DecideTransitionResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let decided = async {
            let id = parse("id", &asked.id)?;
            self.0.decide_transition(&caller, id, asked.approve, &asked.comment).await
        };
        answer(decided.await.map(|(decided, required)| wire::DecideTransitionResponse {
            transition: Some(transition_to_wire(decided, required)),
        }))
    }

    async fn list_transitions(
        &self,
        request: Request<wire::ListTransitionsRequest>,
    ) -> Result<Response<wire::ListTransitionsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let path = ModelPath::new(asked.namespace, asked.model);
            let list = format!("transitions:{path}");
            let before: Option<(i64, Uuid)> = paging::key(&list, &asked.page_token)?;
            let found = self.0.list_transitions(&caller, &path, before, size + 1).await?;
            let key = |(last, _): &(Transition, i64)| (last.requested_at, last.id.uuid());
            let (found, next_page_token) = paging::cut(found, size, &list, key);
            let wire = |(found, required)| transition_to_wire(found, required);
            let transitions = found.into_iter().map(wire).collect();
            Ok::<_, ServiceError>(wire::ListTransitionsResponse { transitions, next_page_token })
        };
        answer(page.await)
    }

    async fn put_deployment(
        &self,
        request: Request<wire::PutDeploymentRequest>,
    ) -> Result<Response<wire::PutDeploymentResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let put = async {
            let state = deployment_state(asked.state())?;
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let deployment = Deployment {
                id: ids::DeploymentId::new(),
                namespace: path.namespace.clone(),
                model: path.name.clone(),
                number: 0,
                environment: asked.environment,
                name: asked.name,
                state,
                endpoint: asked.endpoint,
                replicas: asked.replicas.into(),
                ready_replicas: asked.ready_replicas.into(),
                message: asked.message,
                created_at: now_micros(),
                updated_at: now_micros(),
                created_by: caller.principal,
            };
            self.0.put_deployment(&caller, &path, &which, deployment).await
        };
        let put = put.await.map(deployment_to_wire);
        answer(put.map(|put| wire::PutDeploymentResponse { deployment: Some(put) }))
    }

    async fn delete_deployment(
        &self,
        request: Request<wire::DeleteDeploymentRequest>,
    ) -> Result<Response<wire::DeleteDeploymentResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let path = ModelPath::new(asked.namespace, asked.model);
        let deleted =
            self.0.delete_deployment(&caller, &path, &asked.environment, &asked.name).await;
        answer(deleted.map(|()| wire::DeleteDeploymentResponse {}))
    }

    async fn list_deployments(
        &self,
        request: Request<wire::ListDeploymentsRequest>,
    ) -> Result<Response<wire::ListDeploymentsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let list =
                format!("deployments:{}:{}:{}", asked.namespace, asked.model, asked.environment);
            let search = ListDeployments {
                after: paging::key(&list, &asked.page_token)?,
                namespace: asked.namespace,
                model: asked.model,
                environment: asked.environment,
                limit: size + 1,
            };
            let (found, counts) = self.0.list_deployments(&caller, search).await?;
            let key =
                |last: &Deployment| (last.environment.clone(), last.name.clone(), last.id.uuid());
            let (found, next_page_token) = paging::cut(found, size, &list, key);
            Ok::<_, ServiceError>(wire::ListDeploymentsResponse {
                deployments: found.into_iter().map(deployment_to_wire).collect(),
                next_page_token,
                counts: counts
                    .into_iter()
                    .map(|of| wire::DeploymentCount {
                        environment: of.environment,
                        state: of.state.into(),
                        count: of.count,
                    })
                    .collect(),
            })
        };
        answer(page.await)
    }
}

#[tonic::async_trait]
impl LineageService for Lifecycle {
    async fn add_inputs(
        &self,
        request: Request<wire::AddInputsRequest>,
    ) -> Result<Response<wire::AddInputsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let added = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let datasets = asked.datasets.into_iter();
            let datasets =
                datasets.map(|of| (of.namespace, of.dataset, of.version, of.context)).collect();
            let models = asked.base_models.into_iter().map(base_model).collect();
            self.0.add_inputs(&caller, &path, &which, datasets, models).await
        };
        answer(added.await.map(|()| wire::AddInputsResponse {}))
    }

    async fn get_lineage(
        &self,
        request: Request<wire::GetLineageRequest>,
    ) -> Result<Response<wire::GetLineageResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            self.0.lineage(&caller, &path, &which).await
        };
        answer(found.await.map(|found| {
            wire::GetLineageResponse {
                datasets: found
                    .datasets
                    .into_iter()
                    .map(|row| wire::DatasetEdge {
                        dataset_id: row.source_id.to_string(),
                        name: row.source_name,
                        version: row.source_version,
                        context: row.context,
                        time: Some(timestamp(row.at)),
                    })
                    .collect(),
                base_models: found.base_models.into_iter().map(related_to_wire).collect(),
                derived: found.derived.into_iter().map(related_to_wire).collect(),
            }
        }))
    }

    async fn list_impact(
        &self,
        request: Request<wire::ListImpactRequest>,
    ) -> Result<Response<wire::ListImpactResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = self.0.impact(&caller, &asked.namespace, &asked.dataset, asked.version).await;
        answer(found.map(|(versions, truncated)| wire::ListImpactResponse {
            versions: versions.into_iter().map(related_to_wire).collect(),
            truncated,
        }))
    }
}

/// A base model as a request names it; version 0 is the newest.
pub fn base_model(base: wire::BaseModelInput) -> (ModelPath, VersionRef, String) {
    let which = match base.version {
        0 => VersionRef::Latest,
        number => VersionRef::Number(number),
    };
    (ModelPath::new(base.namespace, base.model), which, base.relation)
}

fn related_to_wire(related: Related) -> wire::LineageVersion {
    wire::LineageVersion {
        version: Some(to_wire(related.version)),
        relation: related.relation,
        depth: i32::try_from(related.depth).unwrap_or(i32::MAX),
    }
}

fn stage_of(stage: wire::Stage) -> Result<Stage, ServiceError> {
    let gate = |gate: wire::MetricGate| {
        let comparison = match gate.comparison() {
            wire::Comparison::AtLeast => Comparison::AtLeast,
            wire::Comparison::AtMost => Comparison::AtMost,
            wire::Comparison::Above => Comparison::Above,
            wire::Comparison::Below => Comparison::Below,
            wire::Comparison::Unspecified => {
                let message = format!("the gate on {} names no comparison", gate.metric);
                return Err(ServiceError::invalid("stages", message));
            }
        };
        Ok(Gate { metric: gate.metric, comparison, threshold: gate.threshold })
    };
    Ok(Stage {
        name: stage.name,
        approvals_required: stage.approvals_required.into(),
        require_scan: stage.require_scan,
        require_signature: stage.require_signature,
        gates: stage.metrics.into_iter().map(gate).collect::<Result<_, _>>()?,
    })
}

fn stage_to_wire(stage: Stage) -> wire::Stage {
    let comparison = |comparison: Comparison| match comparison {
        Comparison::AtLeast => wire::Comparison::AtLeast,
        Comparison::AtMost => wire::Comparison::AtMost,
        Comparison::Above => wire::Comparison::Above,
        Comparison::Below => wire::Comparison::Below,
    };
    wire::Stage {
        name: stage.name,
        approvals_required: small(stage.approvals_required),
        require_scan: stage.require_scan,
        require_signature: stage.require_signature,
        metrics: stage
            .gates
            .into_iter()
            .map(|gate| wire::MetricGate {
                metric: gate.metric,
                comparison: comparison(gate.comparison).into(),
                threshold: gate.threshold,
            })
            .collect(),
    }
}

fn transition_to_wire(transition: Transition, approvals_required: i64) -> wire::Transition {
    let state = match transition.state {
        TransitionState::Requested => wire::TransitionState::Requested,
        TransitionState::Rejected => wire::TransitionState::Rejected,
        TransitionState::Done => wire::TransitionState::Done,
    };
    wire::Transition {
        id: transition.id.to_string(),
        version: transition.number,
        from_stage: transition.from,
        to_stage: transition.to,
        state: state.into(),
        comment: transition.comment,
        requested_by: transition.requested_by.to_string(),
        request_time: Some(timestamp(transition.requested_at)),
        decide_time: transition.decided_at.map(timestamp),
        approvals: transition
            .approvals
            .into_iter()
            .map(|said| wire::Approval {
                by: said.by.to_string(),
                approved: said.approved,
                comment: said.comment,
                time: Some(timestamp(said.at)),
            })
            .collect(),
        approvals_required: small(approvals_required),
    }
}

fn deployment_state(state: wire::DeploymentState) -> Result<DeploymentState, ServiceError> {
    Ok(match state {
        wire::DeploymentState::Pending => DeploymentState::Pending,
        wire::DeploymentState::Running => DeploymentState::Running,
        wire::DeploymentState::Degraded => DeploymentState::Degraded,
        wire::DeploymentState::Failed => DeploymentState::Failed,
        wire::DeploymentState::Stopped => DeploymentState::Stopped,
        wire::DeploymentState::Unspecified => {
            return Err(ServiceError::invalid("state", "must be set"));
        }
    })
}

fn deployment_to_wire(deployment: Deployment) -> wire::Deployment {
    wire::Deployment {
        id: deployment.id.to_string(),
        namespace: deployment.namespace,
        model: deployment.model,
        version: deployment.number,
        environment: deployment.environment,
        name: deployment.name,
        state: deployment.state as i32,
        endpoint: deployment.endpoint,
        replicas: small(deployment.replicas),
        ready_replicas: small(deployment.ready_replicas),
        message: deployment.message,
        create_time: Some(timestamp(deployment.created_at)),
        update_time: Some(timestamp(deployment.updated_at)),
        created_by: deployment.created_by.to_string(),
    }
}

fn small(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
