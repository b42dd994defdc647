//! Versions.

use std::collections::BTreeMap;

use caller::Caller;
use jobs::Owner;
use model_query::{Expr, Field};
use options_api::v1::Level;
use service_error::ServiceError;
use uuid::Uuid;

use super::Registry;
use crate::model::name::check_text;
use crate::model::{
    BaseModel, DatasetVersion, ModelPath, ModelVersion, NewVersion, VersionRef, check_description,
    check_label, check_tags,
};
use crate::store::{Registering, VersionOrder, VersionPage};

const SERVICE: &str = "quarry.models.v1.VersionsService";
const FLAVORS_MAX: usize = 100;
const EDGES_MAX: usize = 1_000;
const SOURCE_BYTES_MAX: usize = 4_096;
/// MLflow's own clients hold a version's number in 32 bits.
const NUMBER_MAX: i64 = i32::MAX as i64;

/// What a request to register a version says, before names are resolved.
#[derive(Debug, Clone, Default)]
pub struct CreateVersion {
    pub new: NewVersion,
    /// Datasets as (namespace, dataset, version, context); version 0: the newest.
    pub datasets: Vec<(String, String, i64, String)>,
    /// Models as (path, version, relation).
    pub base_models: Vec<(ModelPath, VersionRef, String)>,
    /// A version whose files become this one's too.
    pub copy_from: Option<(ModelPath, VersionRef)>,
    pub create_model: bool,
}

/// Which versions a request asks for.
#[derive(Debug, Clone, Default)]
pub struct SearchVersions {
    /// Empty: of all.
    pub namespace: String,
    /// Empty: of all.
    pub model: String,
    pub filter: Option<Expr>,
    pub order: VersionOrder,
    pub descending: bool,
    pub deleted: bool,
    /// The key of the last one before: see [`version_key`].
    pub after: Option<(i64, String, i64, Uuid)>,
    pub limit: u32,
}

/// The key by which a page of versions is continued.
#[must_use]
pub fn version_key(version: &ModelVersion, order: VersionOrder) -> (i64, String, i64, Uuid) {
    let ordered = match order {
        VersionOrder::Created => version.created_at,
        VersionOrder::Updated => version.updated_at,
        VersionOrder::Size => version.byte_count,
        VersionOrder::Number | VersionOrder::Name => version.number,
    };
    let names = format!("{}/{}", version.namespace, version.model);
    (ordered, names, version.number, version.id.uuid())
}

impl Registry {
    /// Registers a version under its model's next number.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`, `AlreadyExists` for
    /// the label.
    pub async fn create_version(
        &self,
        caller: &Caller,
        path: &ModelPath,
        asked: CreateVersion,
    ) -> Result<ModelVersion, ServiceError> {
        check_new(&asked.new)?;
        if asked.create_model {
            self.model_or_new(caller, path).await?;
        }
        let action = format!("{SERVICE}/CreateVersion");
        let model = self.model_for(caller, Level::Write, path, &action).await?;
        let new = self.resolved(caller, asked, &action).await?;
        let of = Registering { new, author: Owner::of(caller) };
        let lane = model.id.uuid().as_bytes()[15] as usize % self.registering.len();
        let made = self.registering[lane].write((model.id, of)).await?;
        let found = self.store.find_any_version(model.id, made.number).await?;
        found.ok_or_else(|| {
            ServiceError::not_found("model version", format!("{path}/{}", made.number))
        })
    }

    async fn resolved(
        &self,
        caller: &Caller,
        asked: CreateVersion,
        action: &str,
    ) -> Result<NewVersion, ServiceError> {
        if asked.datasets.len() + asked.base_models.len() > EDGES_MAX {
            let message = format!("a version has at most {EDGES_MAX} inputs");
            return Err(ServiceError::invalid("datasets", message));
        }
        let mut new = asked.new;
        for (namespace, dataset, version, context) in asked.datasets {
            new.datasets
                .push(self.dataset_version(caller, &namespace, &dataset, version, context).await?);
        }
        for (path, which, relation) in asked.base_models {
            let (base, version) =
                self.version_for(caller, Level::Read, &path, &which, action).await?;
            new.base_models.push(BaseModel {
                id: base.id,
                name: path.to_string(),
                version: version.number,
                relation,
            });
        }
        if let Some((path, which)) = asked.copy_from {
            let (_, version) = self.version_for(caller, Level::Read, &path, &which, action).await?;
            new.copy_from = Some(version.id);
        }
        Ok(new)
    }

    pub(super) async fn dataset_version(
        &self,
        caller: &Caller,
        namespace: &str,
        dataset: &str,
        version: i64,
        context: String,
    ) -> Result<DatasetVersion, ServiceError> {
        check_text("datasets.context", &context, 128)?;
        let (id, latest) = self.catalog.dataset(caller, namespace, dataset).await?;
        let version = if version == 0 { latest } else { version };
        if version < 0 || version > latest {
            let message = format!("{namespace}/{dataset} has no version {version}");
            return Err(ServiceError::invalid("datasets.version", message));
        }
        let name = format!("{namespace}/{dataset}");
        Ok(DatasetVersion { id, name, version, context })
    }

    /// A version that the caller may read; an alias as it was at a time.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_version(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        as_of: Option<i64>,
    ) -> Result<ModelVersion, ServiceError> {
        let action = format!("{SERVICE}/GetVersion");
        let (VersionRef::Alias(alias), Some(at)) = (which, as_of) else {
            return self.readable_version_of(caller, path, which, &action).await;
        };
        let model = self.model_for(caller, Level::Read, path, &action).await?;
        let absent = || {
            ServiceError::not_found("model version", format!("{path}/@{alias}")).with("as_of", at)
        };
        let number = self.store.alias_at(model.id, alias, at).await?.filter(|number| *number > 0);
        let number = number.ok_or_else(absent)?;
        self.store.find_any_version(model.id, number).await?.ok_or_else(absent)
    }

    /// Versions that the caller may see and that pass a filter.
    ///
    /// # Errors
    /// `NotFound` for a model that is named.
    pub async fn search_versions(
        &self,
        caller: &Caller,
        asked: &SearchVersions,
    ) -> Result<Vec<ModelVersion>, ServiceError> {
        let visible = self.visible_rows(caller).await?;
        let model = if asked.model.is_empty() {
            None
        } else {
            let path = ModelPath::new(&asked.namespace, &asked.model);
            let action = format!("{SERVICE}/SearchVersions");
            Some(self.model_for(caller, Level::Read, &path, &action).await?.id)
        };
        let page = VersionPage {
            namespace: self.narrowed(&asked.namespace).await?,
            model,
            filter: asked.filter.as_ref(),
            order: asked.order,
            descending: asked.descending,
            deleted: asked.deleted,
            after: asked.after.clone(),
            limit: asked.limit,
        };
        self.store.search_versions(&visible, &page).await
    }

    /// Changes a version's description or label; answers it as it is then.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `AlreadyExists` for the label.
    pub async fn update_version(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        description: Option<&str>,
        label: Option<&str>,
    ) -> Result<ModelVersion, ServiceError> {
        description.map_or(Ok(()), check_description)?;
        label.map_or(Ok(()), check_label)?;
        let action = format!("{SERVICE}/UpdateVersion");
        let (model, version) = self.version_for(caller, Level::Write, path, which, &action).await?;
        self.store.update_version(&version, description, label, caller.principal).await?;
        let found = self.store.find_any_version(model.id, version.number).await?;
        found.ok_or_else(|| ServiceError::not_found("model version", format!("{path}/{which}")))
    }

    /// Puts a version into the trash.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn delete_version(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
    ) -> Result<(), ServiceError> {
        let action = format!("{SERVICE}/DeleteVersion");
        let (_, version) = self.version_for(caller, Level::Admin, path, which, &action).await?;
        self.store.delete_version(&version, caller.principal).await
    }

    /// Takes a version out of the trash.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn restore_version(
        &self,
        caller: &Caller,
        path: &ModelPath,
        number: i64,
    ) -> Result<ModelVersion, ServiceError> {
        let action = format!("{SERVICE}/RestoreVersion");
        let model = self.model_for(caller, Level::Admin, path, &action).await?;
        let absent = || ServiceError::not_found("model version", format!("{path}/{number}"));
        let version = self.store.find_any_version(model.id, number).await?.ok_or_else(absent)?;
        self.store.restore_version(&version, caller.principal).await?;
        self.store.find_any_version(model.id, number).await?.ok_or_else(absent)
    }

    /// Replaces the values of a version's tags.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`.
    pub async fn set_version_tags(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), ServiceError> {
        check_tags(tags)?;
        let action = format!("{SERVICE}/SetVersionTags");
        let (_, version) = self.version_for(caller, Level::Write, path, which, &action).await?;
        self.store.set_version_tags(&version, tags, caller.principal).await
    }

    /// Removes a version's tag; answers whether it was there.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn delete_version_tag(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        key: &str,
    ) -> Result<bool, ServiceError> {
        let action = format!("{SERVICE}/DeleteVersionTag");
        let (_, version) = self.version_for(caller, Level::Write, path, which, &action).await?;
        self.store.delete_version_tag(&version, key, caller.principal).await
    }
}

fn check_new(new: &NewVersion) -> Result<(), ServiceError> {
    check_description(&new.description)?;
    new.label.as_deref().map_or(Ok(()), check_label)?;
    check_tags(&new.tags)?;
    check_text("source", &new.source, SOURCE_BYTES_MAX)?;
    check_text("run_id", &new.run_id, 256)?;
    check_text("run_link", &new.run_link, SOURCE_BYTES_MAX)?;
    check_text("logged_model_id", &new.logged_model_id, 256)?;
    if new.number.is_some_and(|number| !(1..=NUMBER_MAX).contains(&number)) {
        let message = format!("is not within 1 and {NUMBER_MAX}; leave it out for the next one");
        return Err(ServiceError::invalid("number", message));
    }
    if new.flavors.len() > FLAVORS_MAX {
        let message = format!("has {} entries; at most {FLAVORS_MAX}", new.flavors.len());
        return Err(ServiceError::invalid("flavors", message));
    }
    for flavor in &new.flavors {
        check_text("flavors", flavor, 128)?;
    }
    super::data::check_data(&new.metrics, &new.params)
}

const FACETS_MAX: usize = 10;
const FACET_VALUES_DEFAULT: u32 = 20;
const FACET_VALUES_MAX: u32 = 100;

/// A field's values, each with how many versions have it.
pub type Facet = (String, Vec<(String, i64)>);

impl Registry {
    /// The most frequent values of fields over the versions of a search.
    ///
    /// # Errors
    /// `InvalidArgument` for a field that has no facets.
    pub async fn facets(
        &self,
        caller: &Caller,
        asked: &SearchVersions,
        fields: &[String],
        values_max: i32,
    ) -> Result<Vec<Facet>, ServiceError> {
        if fields.is_empty() || fields.len() > FACETS_MAX {
            let message = format!("names {} fields: 1 to {FACETS_MAX}", fields.len());
            return Err(ServiceError::invalid("fields", message));
        }
        let limit = match u32::try_from(values_max) {
            Ok(0) => FACET_VALUES_DEFAULT,
            Ok(limit) if limit <= FACET_VALUES_MAX => limit,
            _ => {
                let message = format!("{values_max} is not within 1 and {FACET_VALUES_MAX}");
                return Err(ServiceError::invalid("values_max", message));
            }
        };
        let visible = self.visible_rows(caller).await?;
        let model = if asked.model.is_empty() {
            None
        } else {
            let path = ModelPath::new(&asked.namespace, &asked.model);
            let action = format!("{SERVICE}/GetFacets");
            Some(self.model_for(caller, Level::Read, &path, &action).await?.id)
        };
        let page = VersionPage {
            namespace: self.narrowed(&asked.namespace).await?,
            model,
            filter: asked.filter.as_ref(),
            ..VersionPage::default()
        };
        let mut facets = Vec::with_capacity(fields.len());
        for name in fields {
            let field = facet_field(name)?;
            let found = self.store.facet(&visible, &page, &field, limit).await?;
            let values = found.into_iter().map(|of| (of.value, of.count)).collect();
            facets.push((name.clone(), values));
        }
        Ok(facets)
    }
}

fn facet_field(name: &str) -> Result<Field, ServiceError> {
    Ok(match name {
        "stage" => Field::Stage,
        "flavor" => Field::Flavor,
        "status" => Field::Status,
        "scan" => Field::Scan,
        "model" => Field::Name,
        "namespace" => Field::Namespace,
        "dataset" => Field::Dataset,
        _ => match name.split_once('.') {
            Some(("tags", key)) if !key.is_empty() => Field::Tag(key.to_owned()),
            Some(("params", key)) if !key.is_empty() => Field::Param(key.to_owned()),
            _ => {
                let shown: String = name.chars().take(64).collect();
                let message = format!(
                    "{shown:?} has no facets; stage, flavor, status, scan, model, namespace, dataset, tags.KEY and params.KEY have"
                );
                return Err(ServiceError::invalid("fields", message));
            }
        },
    })
}
