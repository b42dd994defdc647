//! Rows of stages and transitions.

use ids::{EventId, Id, ModelId, NamespaceId, PrincipalId};
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::data::last_points_of;
use super::events::{self, Place};
use super::models::lock_model;
use super::sql::{all, execute, number, one};
use super::versions::{keep_stage_latest, set_stage_latest, stage_in};
use super::{Store, tags};
use crate::model::stage::default_stages;
use crate::model::{
    Approval, Change, Comparison, EventKind, Gate, ModelVersion, ScanVerdict, Stage, Transition,
    TransitionState,
};

/// Where versions of a stage go that make room.
const ARCHIVED: &str = "Archived";

#[derive(Debug, FromQueryResult)]
struct StageRow {
    name: String,
    approvals_required: i64,
    require_scan: bool,
    require_signature: bool,
}

#[derive(Debug, FromQueryResult)]
struct GateRow {
    stage: String,
    metric: String,
    comparison: i16,
    threshold: f64,
}

#[derive(Debug, FromQueryResult)]
struct TransitionRow {
    id: Uuid,
    model_id: Uuid,
    number: i64,
    from_stage: String,
    to_stage: String,
    state: i16,
    archive_existing: bool,
    comment: String,
    requested_by: Uuid,
    requested_at: i64,
    decided_at: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct ApprovalRow {
    principal: Uuid,
    approved: bool,
    comment: String,
    at: i64,
}

const TRANSITION: &str = "SELECT id, model_id, number, from_stage, to_stage, state, \
    archive_existing, comment, requested_by, requested_at, decided_at FROM transition";

impl TransitionRow {
    fn into_transition(self, approvals: Vec<Approval>) -> Transition {
        Transition {
            id: Id::from_uuid(self.id),
            number: self.number,
            from: self.from_stage,
            to: self.to_stage,
            state: match self.state {
                1 => TransitionState::Requested,
                2 => TransitionState::Rejected,
                _ => TransitionState::Done,
            },
            archive_existing: self.archive_existing,
            comment: self.comment,
            requested_by: Id::from_uuid(self.requested_by),
            requested_at: self.requested_at,
            decided_at: self.decided_at,
            approvals,
        }
    }
}

impl Store {
    /// The stages of a namespace, in their order.
    ///
    /// # Errors
    /// The database's.
    pub async fn stages(&self, namespace: NamespaceId) -> Result<Vec<Stage>, ServiceError> {
        stages_of(self.read(), namespace.uuid()).await
    }

    /// Replaces the stages of a namespace.
    ///
    /// # Errors
    /// `FailedPrecondition` if a version is in a stage that goes.
    pub async fn set_stages(
        &self,
        namespace: NamespaceId,
        stages: &[Stage],
    ) -> Result<(), ServiceError> {
        #[derive(Debug, FromQueryResult)]
        struct Used {
            stage: String,
        }
        let tx = self.sql.begin().await?;
        let id = namespace.uuid();
        let sql = "SELECT DISTINCT s.stage FROM stage_latest s JOIN model m ON m.id = s.model_id \
                   WHERE m.namespace_id = $1 AND m.deleted_at IS NULL";
        let used: Vec<Used> = all(&tx, sql, [id.into()]).await?;
        if let Some(used) =
            used.iter().find(|used| !stages.iter().any(|stage| stage.name == used.stage))
        {
            let message = format!("versions are in stage {}: move them first", used.stage);
            return Err(ServiceError::precondition(message).reason("STAGE_IN_USE").field("stages"));
        }
        execute(&tx, "DELETE FROM stage_gate WHERE namespace_id = $1", [id.into()]).await?;
        execute(&tx, "DELETE FROM stage WHERE namespace_id = $1", [id.into()]).await?;
        for (stage, ordinal) in stages.iter().zip(0_i64..) {
            let sql = "INSERT INTO stage (namespace_id, name, ordinal, approvals_required, \
                       require_scan, require_signature) VALUES ($1, $2, $3, $4, $5, $6)";
            let values = [
                id.into(),
                stage.name.clone().into(),
                ordinal.into(),
                stage.approvals_required.into(),
                stage.require_scan.into(),
                stage.require_signature.into(),
            ];
            execute(&tx, sql, values).await?;
            for (gate, at) in stage.gates.iter().zip(0_i64..) {
                let sql = "INSERT INTO stage_gate (namespace_id, stage, ordinal, metric, \
                           comparison, threshold) VALUES ($1, $2, $3, $4, $5, $6)";
                let values = [
                    id.into(),
                    stage.name.clone().into(),
                    at.into(),
                    gate.metric.clone().into(),
                    (gate.comparison as i16).into(),
                    gate.threshold.into(),
                ];
                execute(&tx, sql, values).await?;
            }
        }
        tx.commit().await.map_err(db_error)
    }

    /// Asks for a transition, and makes it at once if it needs nobody's word.
    ///
    /// # Errors
    /// `NotFound` if the version is gone, `Conflict` if the stages were changed
    /// since it was judged, `FailedPrecondition` if it passes the gates no more.
    pub async fn request_transition(
        &self,
        version: &ModelVersion,
        asked: &Transition,
        judged: &Judged<'_>,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, version.model_id).await?;
        tags::touch(&tx, version).await?;
        judged.still_holds(&tx, &place, version).await?;
        let at_once = judged.to.approvals_required == 0;
        let now = now_micros();
        let sql = "INSERT INTO transition (id, model_id, number, from_stage, to_stage, state, \
                   archive_existing, comment, requested_by, requested_at, decided_at, revision) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1)";
        let state = if at_once { TransitionState::Done } else { TransitionState::Requested };
        let values = [
            asked.id.uuid().into(),
            place.model_id.into(),
            asked.number.into(),
            asked.from.clone().into(),
            asked.to.clone().into(),
            (state as i16).into(),
            asked.archive_existing.into(),
            asked.comment.clone().into(),
            asked.requested_by.uuid().into(),
            now.into(),
            Some(now).filter(|_| at_once).into(),
        ];
        execute(&tx, sql, values).await?;
        if at_once {
            enter(&tx, &place, asked, asked.requested_by).await?;
        } else {
            let change = Change::of_version(EventKind::StageRequested, asked.number)
                .about(&asked.to)
                .values(&asked.from, &asked.to);
            events::append(&tx, &place, change, asked.requested_by).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// A transition and the model it is of.
    ///
    /// # Errors
    /// The database's.
    pub async fn transition(
        &self,
        id: EventId,
    ) -> Result<Option<(ModelId, Transition)>, ServiceError> {
        let sql = format!("{TRANSITION} WHERE id = $1");
        let row: Option<TransitionRow> = one(self.read(), &sql, [id.uuid().into()]).await?;
        let Some(row) = row else { return Ok(None) };
        let approvals = self.approvals(row.id).await?;
        Ok(Some((Id::from_uuid(row.model_id), row.into_transition(approvals))))
    }

    async fn approvals(&self, transition: Uuid) -> Result<Vec<Approval>, ServiceError> {
        let sql = "SELECT principal, approved, comment, at FROM approval \
                   WHERE transition_id = $1 ORDER BY at, principal";
        let rows: Vec<ApprovalRow> = all(self.read(), sql, [transition.into()]).await?;
        let approval = |row: ApprovalRow| Approval {
            by: Id::from_uuid(row.principal),
            approved: row.approved,
            comment: row.comment,
            at: row.at,
        };
        Ok(rows.into_iter().map(approval).collect())
    }

    /// Transitions of a model before one, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn transitions(
        &self,
        model: ModelId,
        before: Option<(i64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<Transition>, ServiceError> {
        let (at, id) = before.unwrap_or((i64::MAX, Uuid::max()));
        let sql = format!(
            "{TRANSITION} WHERE model_id = $1 AND (requested_at, id) < ($2, $3) \
             ORDER BY requested_at DESC, id DESC LIMIT $4"
        );
        let values = [model.uuid().into(), at.into(), id.into(), i64::from(limit).into()];
        let rows: Vec<TransitionRow> = all(self.read(), &sql, values).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let approvals = self.approvals(row.id).await?;
            found.push(row.into_transition(approvals));
        }
        Ok(found)
    }

    /// Notes what somebody says to a transition; the last word that it needs
    /// makes it, and one against it ends it. `judged` is the version's judgement,
    /// for a word in favour.
    ///
    /// # Errors
    /// `FailedPrecondition` if it was decided already; else as
    /// [`Self::request_transition`].
    pub async fn decide(
        &self,
        model: ModelId,
        transition: &Transition,
        said: &Approval,
        judged: Option<(&ModelVersion, Judged<'_>)>,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, model).await?;
        if let Some((version, judged)) = &judged {
            judged.still_holds(&tx, &place, version).await?;
        }
        let approvals_required = judged.map_or(0, |(_, judged)| judged.to.approvals_required);
        let sql = "UPDATE transition SET revision = revision + 1 WHERE id = $1 AND state = 1";
        if execute(&tx, sql, [transition.id.uuid().into()]).await? == 0 {
            let message = format!("transition {} was decided already", transition.id);
            return Err(ServiceError::precondition(message).reason("TRANSITION_DECIDED"));
        }
        let sql = "INSERT INTO approval (transition_id, principal, approved, comment, at) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (transition_id, principal) DO UPDATE SET \
                   approved = excluded.approved, comment = excluded.comment, at = excluded.at";
        let values = [
            transition.id.uuid().into(),
            said.by.uuid().into(),
            said.approved.into(),
            said.comment.clone().into(),
            said.at.into(),
        ];
        execute(&tx, sql, values).await?;
        let kind = if said.approved { EventKind::StageApproved } else { EventKind::StageRejected };
        let change = Change::of_version(kind, transition.number)
            .about(&transition.to)
            .values(&transition.from, &transition.to);
        let sql = "SELECT COUNT(*) FROM approval WHERE transition_id = $1 AND approved";
        let approved = number(&tx, sql, [transition.id.uuid().into()]).await?;
        let state = match said.approved {
            false => Some(TransitionState::Rejected),
            true if approved.unwrap_or_default() >= approvals_required => {
                Some(TransitionState::Done)
            }
            true => None,
        };
        if let Some(state) = state {
            let sql = "UPDATE transition SET state = $1, decided_at = $2 WHERE id = $3";
            let values = [(state as i16).into(), said.at.into(), transition.id.uuid().into()];
            execute(&tx, sql, values).await?;
        }
        events::append(&tx, &place, change, said.by).await?;
        if state == Some(TransitionState::Done) {
            enter(&tx, &place, transition, said.by).await?;
        }
        tx.commit().await.map_err(db_error)
    }
}

/// A stage and a scan for which a version was found fit, outside of the
/// transaction that lets it in.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    pub to: &'a Stage,
    /// The verdict of its bytes, which never change.
    pub scan: ScanVerdict,
}

impl Judged<'_> {
    /// Judges once more what may have changed meanwhile, under the model's lock.
    async fn still_holds(
        &self,
        tx: &DatabaseTransaction,
        place: &Place,
        version: &ModelVersion,
    ) -> Result<(), ServiceError> {
        let stages = stages_of(tx, place.namespace_id).await?;
        if !stages.contains(self.to) {
            let message = format!("stage {} was changed meanwhile: ask again", self.to.name);
            return Err(ServiceError::conflict(message).reason("STAGES_CHANGED"));
        }
        if !self.to.is_gated() {
            return Ok(());
        }
        let sql = "SELECT COUNT(*) FROM version WHERE id = $1 AND signed";
        let signed = number(tx, sql, [version.id.uuid().into()]).await?;
        let metrics = last_points_of(tx, version.id).await?;
        let signed = signed.unwrap_or_default() > 0;
        let now = ModelVersion { signed, scan: self.scan, ..version.clone() };
        match self.to.lacks(&now, &metrics) {
            lacks if lacks.is_empty() => Ok(()),
            lacks => Err(self.to.refused(version.number, &lacks, "")),
        }
    }
}

async fn stages_of<C: ConnectionTrait>(
    db: &C,
    namespace: Uuid,
) -> Result<Vec<Stage>, ServiceError> {
    let sql = "SELECT name, approvals_required, require_scan, require_signature FROM stage \
               WHERE namespace_id = $1 ORDER BY ordinal";
    let rows: Vec<StageRow> = all(db, sql, [namespace.into()]).await?;
    if rows.is_empty() {
        return Ok(default_stages());
    }
    let sql = "SELECT stage, metric, comparison, threshold FROM stage_gate \
               WHERE namespace_id = $1 ORDER BY stage, ordinal";
    let gates: Vec<GateRow> = all(db, sql, [namespace.into()]).await?;
    let gates_of = |stage: &str| -> Result<Vec<Gate>, ServiceError> {
        let of_stage = gates.iter().filter(|gate| gate.stage == stage);
        of_stage
            .map(|gate| {
                let comparison = Comparison::of(gate.comparison)
                    .ok_or_else(|| ServiceError::internal("an unknown comparison is stored"))?;
                Ok(Gate { metric: gate.metric.clone(), comparison, threshold: gate.threshold })
            })
            .collect()
    };
    rows.into_iter()
        .map(|row| {
            Ok(Stage {
                gates: gates_of(&row.name)?,
                name: row.name,
                approvals_required: row.approvals_required,
                require_scan: row.require_scan,
                require_signature: row.require_signature,
            })
        })
        .collect()
}

/// Moves a version, and those that make room for it. Where it comes from is read
/// here: it may have moved since the transition was asked for.
async fn enter(
    tx: &DatabaseTransaction,
    place: &Place,
    transition: &Transition,
    actor: PrincipalId,
) -> Result<(), ServiceError> {
    #[derive(Debug, FromQueryResult)]
    struct Row {
        number: i64,
    }
    let model: ModelId = Id::from_uuid(place.model_id);
    let absent = || {
        let shown = format!("{}/{}/{}", place.namespace, place.model, transition.number);
        ServiceError::not_found("model version", shown)
    };
    let from = stage_in(tx, place.model_id, transition.number).await?.ok_or_else(absent)?;
    let sql = "UPDATE transition SET from_stage = $1 WHERE id = $2";
    execute(tx, sql, [from.clone().into(), transition.id.uuid().into()]).await?;
    if transition.archive_existing {
        let sql = "UPDATE version SET stage = $1, updated_at = $2 WHERE model_id = $3 AND stage = $4 \
                   AND number <> $5 AND deleted_at IS NULL RETURNING number";
        let values = [
            ARCHIVED.into(),
            now_micros().into(),
            place.model_id.into(),
            transition.to.clone().into(),
            transition.number.into(),
        ];
        for row in all::<Row, _>(tx, sql, values).await? {
            set_stage_latest(tx, model, ARCHIVED, row.number).await?;
            let change = Change::of_version(EventKind::StageChanged, row.number)
                .about(ARCHIVED)
                .values(&transition.to, ARCHIVED);
            events::append(tx, place, change, actor).await?;
        }
    }
    let sql = "UPDATE version SET stage = $1, updated_at = $2 \
               WHERE model_id = $3 AND number = $4 AND deleted_at IS NULL";
    let values = [
        transition.to.clone().into(),
        now_micros().into(),
        place.model_id.into(),
        transition.number.into(),
    ];
    if execute(tx, sql, values).await? == 0 {
        return Err(absent());
    }
    keep_stage_latest(tx, model, &from).await?;
    keep_stage_latest(tx, model, &transition.to).await?;
    let change = Change::of_version(EventKind::StageChanged, transition.number)
        .about(&transition.to)
        .values(&from, &transition.to);
    events::append(tx, place, change, actor).await.map(drop)
}
