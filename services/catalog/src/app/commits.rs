//! Commits.

use std::collections::BTreeMap;

use caller::Caller;
use ids::{DatasetId, UploadId};
use item_schema::Profile;
use options_api::v1::Level;
use service_error::ServiceError;
use sql_store::now_micros;

use crate::app::Catalog;
use crate::model::block::check_blocks;
use crate::model::commit::Idempotency;
use crate::model::dataset::check_message;
use crate::model::deletion::check_touched;
use crate::model::schema::{Shape, check_unique, column_names};
use crate::model::{
    Block, BlockDeletion, BlockRemoval, CommitMode, CommitPlan, Committed, DatasetRef, Footing,
    Name, NewDataset, UniqueColumns, Upload,
};

const FIND: &str = "quarry.catalog.v1.ManifestService/FindCommit";
const COMMIT: &str = "quarry.catalog.v1.ManifestService/CommitVersion";

/// A dataset that its first commit makes.
#[derive(Debug, Clone)]
pub struct CreateInCommit {
    pub namespace: String,
    pub name: String,
    pub profile: Option<Profile>,
    pub schema_ipc: Vec<u8>,
    pub key_column: String,
    pub unique_columns: Vec<String>,
}

/// What a commit says.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    pub upload: UploadId,
    pub mode: CommitMode,
    pub create: Option<CreateInCommit>,
    pub blocks: Vec<Block>,
    pub deletions: Vec<BlockDeletion>,
    pub removals: Vec<BlockRemoval>,
    pub footing: Footing,
    pub unique: UniqueColumns,
    pub named: bool,
    pub message: String,
    pub affected_rows: i64,
    pub idempotency: Option<Idempotency>,
}

impl CommitRequest {
    fn check(&self) -> Result<(), ServiceError> {
        check_touched(&self.deletions, &self.removals)?;
        let touches = !self.deletions.is_empty() || !self.removals.is_empty();
        if touches && self.mode != CommitMode::Merge {
            return Err(ServiceError::invalid("deletions", "belong to mode merge"));
        }
        if let CommitMode::Rollback(snapshot) = self.mode
            && (snapshot < 0 || !self.blocks.is_empty())
        {
            let message = "needs a snapshot of the dataset, and adds no blocks";
            return Err(ServiceError::invalid("rollback_snapshot", message));
        }
        Ok(())
    }
}

impl Catalog {
    /// Makes an upload's blocks a version, once, however often it is asked.
    ///
    /// # Errors
    /// As [`crate::store::Store::commit`]; `InvalidArgument` for blocks that are
    /// not sound; `Unavailable` with reason `GRANT_PENDING` when the version is
    /// committed but its new dataset not yet accessible.
    pub async fn commit(
        &self,
        caller: &Caller,
        request: CommitRequest,
    ) -> Result<Committed, ServiceError> {
        check_message(&request.message)?;
        request.check()?;
        let upload = self.store.find_upload(request.upload).await?.owned_by(caller.principal)?;
        let plan = match &request.create {
            Some(create) => self.plan_of_new(caller, &upload, create, &request).await?,
            None => self.plan_of_existing(caller, &upload, &request).await?,
        };
        let until = now_micros() + self.settings.idempotency_micros();
        let (committed, event) = self.store.commit(&plan, until).await?;
        if let Some(event) = event {
            self.await_grant(&event).await?;
        } else if committed.replayed && plan.create.is_some() {
            // The first try may have ended before identity knew.
            let resources = [committed.dataset.uuid(), upload.namespace_id.uuid()];
            let announced = self.outbox.announce_waiting(&resources).await;
            self.await_revision(announced).await?;
        }
        Ok(committed)
    }

    /// What a commit under an idempotency key did before; `None` for an empty
    /// key, or if there was none.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`; `FailedPrecondition` for the key of another body.
    pub async fn find_commit(
        &self,
        caller: &Caller,
        dataset: DatasetId,
        key: Option<Idempotency>,
    ) -> Result<Option<Committed>, ServiceError> {
        self.dataset_for(caller, Level::Write, &DatasetRef::Id(dataset), FIND).await?;
        match key {
            None => Ok(None),
            Some(key) => self.store.find_commit(caller.principal, dataset, &key).await,
        }
    }

    async fn plan_of_existing(
        &self,
        caller: &Caller,
        upload: &Upload,
        request: &CommitRequest,
    ) -> Result<CommitPlan, ServiceError> {
        let reference = DatasetRef::Id(upload.dataset_id);
        let dataset = self.dataset_for(caller, Level::Write, &reference, COMMIT).await?.dataset;
        check_blocks(&request.blocks, upload.id, &column_names(&dataset.schema_ipc)?)?;
        if request.unique.declares {
            let key = dataset.key_column.as_deref();
            check_unique(&dataset.schema_ipc, key, &request.unique.columns)?;
        }
        Ok(plan(caller, upload, request, None, dataset.path()))
    }

    async fn plan_of_new(
        &self,
        caller: &Caller,
        upload: &Upload,
        create: &CreateInCommit,
        request: &CommitRequest,
    ) -> Result<CommitPlan, ServiceError> {
        let namespace = Name::parse("create.namespace", &create.namespace)?;
        let name = Name::parse("create.name", &create.name)?;
        let path = format!("{namespace}/{name}");
        let within = self.namespace_of_new(caller, &namespace, &path, COMMIT).await?;
        if within.id != upload.namespace_id {
            let message = "is another namespace than the upload was opened for";
            return Err(ServiceError::invalid("create.namespace", message));
        }
        let shape = Shape::of(create.profile, &create.schema_ipc, &create.key_column)?;
        check_blocks(&request.blocks, upload.id, &column_names(&shape.schema_ipc)?)?;
        check_unique(&shape.schema_ipc, shape.key_column.as_deref(), &create.unique_columns)?;
        let new = NewDataset {
            name,
            description: String::new(),
            profile: shape.profile,
            schema_ipc: shape.schema_ipc,
            key_column: shape.key_column,
            unique_columns: create.unique_columns.clone(),
            public: false,
            properties: BTreeMap::new(),
        };
        Ok(plan(caller, upload, request, Some((within.id, new)), path))
    }
}

fn plan(
    caller: &Caller,
    upload: &Upload,
    request: &CommitRequest,
    create: Option<(ids::NamespaceId, NewDataset)>,
    path: String,
) -> CommitPlan {
    CommitPlan {
        upload: upload.id,
        principal: caller.principal,
        mode: request.mode,
        create,
        dataset: upload.dataset_id,
        path,
        blocks: request.blocks.clone(),
        deletions: request.deletions.clone(),
        removals: request.removals.clone(),
        footing: request.footing,
        unique: request.unique.clone(),
        named: request.named,
        message: request.message.clone(),
        affected_rows: request.affected_rows,
        idempotency: request.idempotency.clone(),
    }
}
