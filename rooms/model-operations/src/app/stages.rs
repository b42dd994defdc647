//! Stages: configured, entered through gates, approved by others.

use caller::Caller;
use ids::EventId;
use options_api::v1::Level;
use service_error::ServiceError;
use sql_store::now_micros;
use uuid::Uuid;

use super::Registry;
use crate::model::name::check_text;
use crate::model::stage::check_stages;
use crate::model::{
    Approval, ModelPath, ModelVersion, ScanVerdict, Stage, Transition, TransitionState, VersionRef,
};
use crate::store::Judged;

const SERVICE: &str = "quarry.models.v1.LifecycleService";
const COMMENT_BYTES_MAX: usize = 10_000;

impl Registry {
    /// The stages of a namespace.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_stages(
        &self,
        caller: &Caller,
        namespace: &str,
    ) -> Result<Vec<Stage>, ServiceError> {
        let action = format!("{SERVICE}/GetStages");
        let id = self.namespace_for(caller, Level::Read, namespace, &action).await?;
        self.store.stages(id).await
    }

    /// Replaces the stages of a namespace.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`, `FailedPrecondition`
    /// if a version is in a stage that goes.
    pub async fn set_stages(
        &self,
        caller: &Caller,
        namespace: &str,
        stages: Vec<Stage>,
    ) -> Result<Vec<Stage>, ServiceError> {
        let stages = check_stages(stages)?;
        let action = format!("{SERVICE}/SetStages");
        let id = self.namespace_for(caller, Level::Admin, namespace, &action).await?;
        self.store.set_stages(id, &stages).await?;
        self.store.stages(id).await
    }

    /// Moves a version to a stage, or asks for the approvals that it needs.
    ///
    /// # Errors
    /// `InvalidArgument` for a stage that there is not, `NotFound`,
    /// `PermissionDenied`, `FailedPrecondition` with what the version lacks.
    pub async fn transition_stage(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        stage: &str,
        archive_existing: bool,
        comment: &str,
    ) -> Result<(Transition, ModelVersion), ServiceError> {
        check_text("comment", comment, COMMENT_BYTES_MAX)?;
        let action = format!("{SERVICE}/TransitionStage");
        let (model, version) = self.version_for(caller, Level::Write, path, which, &action).await?;
        let stages = self.store.stages(model.namespace_id).await?;
        let to = find_stage(&stages, stage)?;
        if archive_existing {
            find_stage(&stages, "Archived")?;
        }
        let scan = self.through_gates(caller, to, &version).await?;
        let asked = Transition {
            id: EventId::new(),
            number: version.number,
            from: version.stage.clone(),
            to: to.name.clone(),
            state: TransitionState::Requested,
            archive_existing,
            comment: comment.to_owned(),
            requested_by: caller.principal,
            requested_at: now_micros(),
            decided_at: None,
            approvals: Vec::new(),
        };
        self.store.request_transition(&version, &asked, &Judged { to, scan }).await?;
        let gone = || ServiceError::not_found("transition", asked.id);
        let (_, made) = self.store.transition(asked.id).await?.ok_or_else(gone)?;
        let found = self.store.find_any_version(model.id, version.number).await?;
        Ok((made, found.ok_or_else(gone)?))
    }

    async fn through_gates(
        &self,
        caller: &Caller,
        to: &Stage,
        version: &ModelVersion,
    ) -> Result<ScanVerdict, ServiceError> {
        let metrics = self.store.last_points(version.id).await?;
        let mut version = version.clone();
        if to.require_scan {
            // What an older scanner said is not enough.
            version.scan = self.scan_verdict(&version).await?;
        }
        let lacks = to.lacks(&version, &metrics);
        if lacks.is_empty() {
            return Ok(version.scan);
        }
        let (mut more, mut job) = (String::new(), String::new());
        if to.require_scan && version.scan == ScanVerdict::None && version.file_count > 0 {
            // Whoever asks for the gate has it made: a scanner that is newer than
            // the version, a scan that was cancelled.
            job = self.job_name(&self.queue_scan(caller, &version).await?);
            more = format!("; job {job} scans it: ask again when it has ended");
        }
        let refused = to.refused(version.number, &lacks, &more);
        Err(if job.is_empty() { refused } else { refused.with("job", job) })
    }

    /// Approves or rejects a transition.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied` for the one who asked, `FailedPrecondition`
    /// if it was decided already or the version no longer passes the gates.
    pub async fn decide_transition(
        &self,
        caller: &Caller,
        id: EventId,
        approve: bool,
        comment: &str,
    ) -> Result<(Transition, i64), ServiceError> {
        check_text("comment", comment, COMMENT_BYTES_MAX)?;
        let absent = || ServiceError::not_found("transition", id);
        let (model_id, transition) = self.store.transition(id).await?.ok_or_else(absent)?;
        let model = self.store.find_model_by_id(model_id).await?.ok_or_else(absent)?;
        let action = format!("{SERVICE}/DecideTransition");
        self.require_model(caller, Level::Write, &model, &model.path().to_string(), &action)
            .await
            .map_err(|error| {
                if error.code() == service_error::Code::NotFound { absent() } else { error }
            })?;
        if approve && transition.requested_by == caller.principal {
            let message = "who asks for a transition does not approve it: another one must";
            return Err(ServiceError::denied(message).reason("OWN_TRANSITION"));
        }
        let stages = self.store.stages(model.namespace_id).await?;
        let to = find_stage(&stages, &transition.to)?;
        let mut judged = None;
        if approve {
            let which = VersionRef::Number(transition.number);
            let version = self.store.find_version(model_id, &which).await?.ok_or_else(absent)?;
            let scan = self.through_gates(caller, to, &version).await?;
            judged = Some((version, Judged { to, scan }));
        }
        let said = Approval {
            by: caller.principal,
            approved: approve,
            comment: comment.to_owned(),
            at: now_micros(),
        };
        let judged = judged.as_ref().map(|(version, judged)| (version, *judged));
        self.store.decide(model_id, &transition, &said, judged).await?;
        let (_, decided) = self.store.transition(id).await?.ok_or_else(absent)?;
        Ok((decided, to.approvals_required))
    }

    /// Transitions of a model before one, newest first, each with the approvals
    /// that its stage requires now; 0 where there is no such stage any more.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn list_transitions(
        &self,
        caller: &Caller,
        path: &ModelPath,
        before: Option<(i64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<(Transition, i64)>, ServiceError> {
        let action = format!("{SERVICE}/ListTransitions");
        let model = self.model_for(caller, Level::Read, path, &action).await?;
        let stages = self.store.stages(model.namespace_id).await?;
        let required = |transition: Transition| {
            let to = stages.iter().find(|stage| stage.name == transition.to);
            let required = to.map_or(0, |stage| stage.approvals_required);
            (transition, required)
        };
        let found = self.store.transitions(model.id, before, limit).await?;
        Ok(found.into_iter().map(required).collect())
    }
}

/// The stage of a name, whatever its case.
fn find_stage<'a>(stages: &'a [Stage], name: &str) -> Result<&'a Stage, ServiceError> {
    stages.iter().find(|stage| stage.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
        let message = format!("there is no stage {shown:?}; the stages are {}", names.join(", "));
        ServiceError::invalid("stage", message)
    })
}
