//! Deployments, and what versions were made from.

use std::collections::{BTreeMap, BTreeSet};

use access::Visible;
use caller::Caller;
use options_api::v1::Level;
use service_error::ServiceError;
use uuid::Uuid;

use super::Registry;
use crate::model::name::check_text;
use crate::model::{BaseModel, Deployment, ModelPath, ModelVersion, VersionRef};
use crate::store::{DeploymentCount, DeploymentPage, InputRow, VisibleRows};

const LIFECYCLE: &str = "quarry.models.v1.LifecycleService";
const LINEAGE: &str = "quarry.models.v1.LineageService";
/// Versions that a look downstream answers.
pub const IMPACT_MAX: usize = 1_000;
const DEPTH_MAX: usize = 8;
const REPLICAS_MAX: i64 = 1_000_000;

/// A version somewhere up or down the line.
#[derive(Debug, Clone, PartialEq)]
pub struct Related {
    pub version: ModelVersion,
    pub relation: String,
    /// 1: directly.
    pub depth: i64,
}

/// What a version was made from and what was made from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lineage {
    pub datasets: Vec<InputRow>,
    pub base_models: Vec<Related>,
    pub derived: Vec<Related>,
}

/// A page of deployments, asked for by names.
#[derive(Debug, Clone, Default)]
pub struct ListDeployments {
    pub namespace: String,
    pub model: String,
    pub environment: String,
    pub after: Option<(String, String, Uuid)>,
    pub limit: u32,
}

impl Registry {
    /// Records where a version runs.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`.
    pub async fn put_deployment(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        mut put: Deployment,
    ) -> Result<Deployment, ServiceError> {
        for (field, text) in [("environment", &put.environment), ("name", &put.name)] {
            check_text(field, text, 128)?;
            if text.trim().is_empty() || text.contains('/') {
                return Err(ServiceError::invalid(field, "must be a word without '/'"));
            }
        }
        check_text("endpoint", &put.endpoint, 2_048)?;
        check_text("message", &put.message, 10_000)?;
        let counts = 0..=REPLICAS_MAX;
        if !counts.contains(&put.replicas) || !counts.contains(&put.ready_replicas) {
            let message = format!("is not within 0 and {REPLICAS_MAX}");
            return Err(ServiceError::invalid("replicas", message));
        }
        let action = format!("{LIFECYCLE}/PutDeployment");
        let (model, version) = self.version_for(caller, Level::Write, path, which, &action).await?;
        put.number = version.number;
        self.store.put_deployment(model.id, &put, caller.principal).await?;
        let found = self.store.deployment(model.id, &put.environment, &put.name).await?;
        found.ok_or_else(|| ServiceError::not_found("deployment", &put.name))
    }

    /// Removes the record of a deployment.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn delete_deployment(
        &self,
        caller: &Caller,
        path: &ModelPath,
        environment: &str,
        name: &str,
    ) -> Result<(), ServiceError> {
        let action = format!("{LIFECYCLE}/DeleteDeployment");
        let model = self.model_for(caller, Level::Write, path, &action).await?;
        if self.store.delete_deployment(model.id, environment, name, caller.principal).await? {
            return Ok(());
        }
        Err(ServiceError::not_found("deployment", format!("{path} {environment}/{name}")))
    }

    /// Deployments that the caller may see, and how many are in which state.
    ///
    /// # Errors
    /// `NotFound` for a model that is named.
    pub async fn list_deployments(
        &self,
        caller: &Caller,
        asked: ListDeployments,
    ) -> Result<(Vec<Deployment>, Vec<DeploymentCount>), ServiceError> {
        let visible = self.visible_rows(caller).await?;
        let model = if asked.model.is_empty() {
            None
        } else {
            let path = ModelPath::new(&asked.namespace, &asked.model);
            let action = format!("{LIFECYCLE}/ListDeployments");
            Some(self.model_for(caller, Level::Read, &path, &action).await?.id)
        };
        let page = DeploymentPage {
            namespace: self.narrowed(&asked.namespace).await?,
            model,
            environment: asked.environment,
            after: asked.after,
            limit: asked.limit,
        };
        self.store.deployments(&visible, &page).await
    }

    /// Adds inputs to a version that is there.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`; `FailedPrecondition`
    /// for a version that would be made from itself.
    pub async fn add_inputs(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        datasets: Vec<(String, String, i64, String)>,
        base_models: Vec<(ModelPath, VersionRef, String)>,
    ) -> Result<(), ServiceError> {
        let action = format!("{LINEAGE}/AddInputs");
        let (_, version) = self.version_for(caller, Level::Write, path, which, &action).await?;
        let mut inputs = Vec::with_capacity(datasets.len());
        for (namespace, dataset, number, context) in datasets {
            inputs.push(self.dataset_version(caller, &namespace, &dataset, number, context).await?);
        }
        let mut models = Vec::with_capacity(base_models.len());
        for (path, which, relation) in base_models {
            let (base, of) = self.version_for(caller, Level::Read, &path, &which, &action).await?;
            if of.id == version.id {
                let message = "a version is not made from itself";
                return Err(ServiceError::precondition(message).field("base_models"));
            }
            let name = path.to_string();
            models.push(BaseModel { id: base.id, name, version: of.number, relation });
        }
        self.store.add_inputs(&version, &inputs, &models, caller.principal).await
    }

    /// What a version was made from, and what was made from it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn lineage(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
    ) -> Result<Lineage, ServiceError> {
        let action = format!("{LINEAGE}/GetLineage");
        let (_, version) = self.version_for(caller, Level::Read, path, which, &action).await?;
        let visible = self.visible_rows(caller).await?;
        let (datasets, models) = self.store.inputs(version.id).await?;
        let datasets = self.readable_datasets(caller, datasets).await?;
        let mut base_models = Vec::new();
        for input in models {
            let id = ids::Id::from_uuid(input.source_id);
            let Some(found) = self.store.find_any_version(id, input.source_version).await? else {
                continue;
            };
            let seen = self.store.versions_by_id(&visible, &[found.id.uuid()]).await?;
            base_models.extend(seen.into_iter().map(|version| Related {
                version,
                relation: input.context.clone(),
                depth: 1,
            }));
        }
        let begin = self
            .store
            .made_from_model(version.model_id.uuid(), version.number, impact_limit())
            .await?;
        let (derived, _) = self.downstream(&visible, begin).await?;
        Ok(Lineage { datasets, base_models, derived })
    }

    /// A dataset's name is told to those who may see it.
    async fn readable_datasets(
        &self,
        caller: &Caller,
        rows: Vec<InputRow>,
    ) -> Result<Vec<InputRow>, ServiceError> {
        if matches!(
            self.grants.visible(caller, options_api::v1::ResourceKind::Dataset).await?,
            Visible::All
        ) {
            return Ok(rows);
        }
        let mut readable = Vec::with_capacity(rows.len());
        for row in rows {
            let (namespace, dataset) = row.source_name.split_once('/').unwrap_or_default();
            let found = self.catalog.dataset(caller, namespace, dataset).await;
            if found.is_ok_and(|(id, _)| id.uuid() == row.source_id) {
                readable.push(row);
            }
        }
        Ok(readable)
    }

    /// Versions that were made from a dataset, directly or through a base model;
    /// and whether there are more.
    ///
    /// # Errors
    /// `NotFound` for a dataset that the caller may not see.
    pub async fn impact(
        &self,
        caller: &Caller,
        namespace: &str,
        dataset: &str,
        version: i64,
    ) -> Result<(Vec<Related>, bool), ServiceError> {
        let (id, _) = self.catalog.dataset(caller, namespace, dataset).await?;
        let visible = self.visible_rows(caller).await?;
        let begin = self.store.made_from_dataset(id.uuid(), version, impact_limit()).await?;
        self.downstream(&visible, begin).await
    }

    /// Follows rows to the versions that they are of, and on to what was made
    /// from those.
    async fn downstream(
        &self,
        visible: &VisibleRows,
        begin: Vec<InputRow>,
    ) -> Result<(Vec<Related>, bool), ServiceError> {
        let mut found: Vec<Related> = Vec::new();
        let mut seen: BTreeSet<Uuid> = BTreeSet::new();
        let mut rows = begin;
        for depth in 1..=DEPTH_MAX {
            let mut relations: BTreeMap<Uuid, String> = BTreeMap::new();
            for row in rows {
                if seen.insert(row.version_id) {
                    relations.insert(row.version_id, row.context);
                }
            }
            let ids: Vec<Uuid> = relations.keys().copied().collect();
            if ids.is_empty() {
                return Ok((found, false));
            }
            let versions = self.store.versions_by_id(visible, &ids).await?;
            let mut next = Vec::new();
            for version in &versions {
                let model = version.model_id.uuid();
                let made =
                    self.store.made_from_model(model, version.number, impact_limit()).await?;
                next.extend(made);
                if next.len() > IMPACT_MAX {
                    break;
                }
            }
            let depth = i64::try_from(depth).unwrap_or(i64::MAX);
            found.extend(versions.into_iter().map(|version| Related {
                relation: relations.remove(&version.id.uuid()).unwrap_or_default(),
                version,
                depth,
            }));
            if found.len() > IMPACT_MAX {
                found.truncate(IMPACT_MAX);
                return Ok((found, true));
            }
            rows = next;
        }
        Ok((found, true))
    }
}

fn impact_limit() -> u32 {
    u32::try_from(IMPACT_MAX).unwrap_or(u32::MAX) + 1
}
