//! What an import was asked for, and into which dataset its owner may have it.

use access::{Resource, Subject};
use caller::Caller;
use dataset_layouts::Layout;
use jobs::{NewJob, Owner};
use options_api::v1::Level;
use serde::{Deserialize, Serialize};
use service_error::{Code, ServiceError};
use uuid::Uuid;

use super::datasets::DatasetFound;
use super::importing::digest;
use super::{Imports, rows};
use crate::model::{Location, Matcher, Query};

/// The method of an import.
pub const ACTION: &str = "quarry.files.v1.ImportsService/ImportFromLocation";

/// Which images of the directory become items.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportQuery {
    pub text: String,
    pub prefix: String,
    pub glob: String,
    pub regex: String,
    pub extensions: Vec<String>,
    pub size_min: i64,
    pub size_max: i64,
    pub tags: Vec<String>,
    pub labels: Vec<String>,
    pub favorites_only: bool,
    pub with_hidden: bool,
}

impl ImportQuery {
    /// Everything is found.
    pub fn is_all(&self) -> bool {
        *self == Self { with_hidden: true, ..Self::default() }
    }

    /// # Errors
    /// A pattern that is none.
    pub fn query(&self) -> Result<Query, ServiceError> {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let matcher = match (self.glob.as_str(), self.regex.as_str()) {
            ("", "") => None,
            (glob, "") => Some(Matcher::glob(glob)?),
            ("", regex) => Some(Matcher::regex(regex)?),
            _ => {
                return Err(ServiceError::invalid("query.regex", "can't be given with query.glob"));
            }
        };
        Ok(Query {
            text: some(&self.text),
            prefix: some(&self.prefix),
            matcher,
            extensions: self.extensions.clone(),
            kinds: vec![1],
            size_min: (self.size_min > 0).then_some(self.size_min),
            size_max: (self.size_max > 0).then_some(self.size_max),
            tags: self.tags.clone(),
            labels: self.labels.clone(),
            favorites_only: self.favorites_only,
            with_hidden: self.with_hidden,
            ..Query::default()
        })
    }
}

/// What an import shall be.
#[derive(Debug)]
pub struct ImportAsked {
    pub path: String,
    pub namespace: String,
    pub dataset: String,
    pub layout: Option<Layout>,
    pub query: ImportQuery,
    pub by_reference: bool,
    pub archives: bool,
}

/// What an import's job was submitted with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ImportArguments {
    pub location: i64,
    /// Relative to the location.
    pub path: String,
    pub namespace: String,
    pub dataset: String,
    pub namespace_id: Uuid,
    pub dataset_id: Uuid,
    pub public: bool,
    pub layout: String,
    pub query: ImportQuery,
    pub by_reference: bool,
    /// Members of archives are files too.
    #[serde(default)]
    pub archives: bool,
}

impl ImportArguments {
    pub fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.dataset)
    }

    /// A path below the imported directory, relative to the location.
    pub fn whole(&self, path: &str) -> String {
        if self.path.is_empty() { path.to_owned() } else { format!("{}/{path}", self.path) }
    }
}

/// Refuses what members of archives can't have.
fn may_be_of_archives(
    location: &Location,
    archives: bool,
    asked: &ImportAsked,
) -> Result<(), ServiceError> {
    if !archives {
        return Ok(());
    }
    if !location.archives {
        let message = format!(
            "archives: those of {} are not looked into; scan it with archives first",
            location.path
        );
        return Err(ServiceError::precondition(message).reason("ARCHIVES_OFF").field("archives"));
    }
    if asked.by_reference {
        let why = "a member of an archive has no address of its own; leave it out";
        return Err(ServiceError::invalid("by_reference", why));
    }
    if asked.layout == Some(Layout::WebDataset) {
        let why = "a WebDataset's tars are read without it; leave it out";
        return Err(ServiceError::invalid("archives", why));
    }
    Ok(())
}

impl Imports {
    /// Queues an import of a place in a location that the caller may read;
    /// answers the job's id.
    ///
    /// # Errors
    /// A directory that no scan has found, a dataset that the caller may not write
    /// or that has another key.
    pub async fn submit(
        &self,
        caller: &Caller,
        location: &Location,
        path: String,
        asked: ImportAsked,
    ) -> Result<Uuid, ServiceError> {
        asked.query.query()?;
        if !path.is_empty() && self.store.usage(location.id, &path).await?.is_none() {
            return Err(ServiceError::not_found("directory", &asked.path)
                .context("no scan has found it; `quarry files scan` looks for it"));
        }
        let archives = asked.archives || self.store.is_in_archive(location.id, &path).await?;
        may_be_of_archives(location, archives, &asked)?;
        let dataset = self.dataset_for(caller, &asked.namespace, &asked.dataset).await?;
        let arguments = ImportArguments {
            location: location.id,
            path,
            namespace: asked.namespace,
            dataset: asked.dataset,
            namespace_id: dataset.namespace,
            dataset_id: dataset.id,
            public: dataset.public,
            layout: asked.layout.map(Layout::word).unwrap_or_default().to_owned(),
            query: asked.query,
            by_reference: asked.by_reference,
            archives,
        };
        let path = digest(std::iter::once(arguments.path.as_bytes()));
        let key = format!("import:{}:{}:{path}", arguments.dataset_id, location.id);
        let job = NewJob::new("import", Owner::of(caller))
            .title(format!("{} into {}", asked.path, arguments.name()))
            .key(key)
            .arguments(&arguments)?;
        Ok(self.jobs.submit(job).await?.id)
    }

    /// The dataset, made for the caller if there is none.
    async fn dataset_for(
        &self,
        caller: &Caller,
        namespace: &str,
        name: &str,
    ) -> Result<DatasetFound, ServiceError> {
        let found = match self.datasets.find(namespace, name).await? {
            Some(found) => found,
            None => {
                match self.datasets.make(caller, namespace, name).await {
                    // Somebody else was first.
                    Err(error) if error.code() == Code::AlreadyExists => {}
                    made => made?,
                }
                let found = self.datasets.find(namespace, name).await?;
                found.ok_or_else(|| {
                    ServiceError::not_found("dataset", format!("{namespace}/{name}"))
                })?
            }
        };
        self.may_write(caller, &found, &format!("{namespace}/{name}")).await?;
        if found.key != rows::KEY {
            let message = format!(
                "dataset: {namespace}/{name} has the key {:?}; imports tell items apart by {:?}",
                found.key,
                rows::KEY
            );
            return Err(ServiceError::precondition(message).reason("DATASET_KEY").field("dataset"));
        }
        Ok(found)
    }

    async fn may_write(
        &self,
        caller: &Caller,
        dataset: &DatasetFound,
        name: &str,
    ) -> Result<(), ServiceError> {
        let chain = [Resource::dataset(dataset.id), Resource::namespace(dataset.namespace)];
        let subject = Subject { kind: "dataset", name, action: ACTION };
        self.grants.require(caller, Level::Write, &chain, dataset.public, subject).await.map(drop)
    }

    /// Whether an import's owner still may have its dataset written, by the
    /// job's arguments.
    ///
    /// # Errors
    /// Its denial.
    pub async fn may_go_on(&self, caller: &Caller, arguments: &str) -> Result<(), ServiceError> {
        let arguments: ImportArguments = serde_json::from_str(arguments)
            .map_err(|err| ServiceError::internal("a job's arguments").caused_by(err))?;
        let dataset = DatasetFound {
            id: arguments.dataset_id,
            namespace: arguments.namespace_id,
            key: rows::KEY.to_owned(),
            public: arguments.public,
        };
        self.may_write(caller, &dataset, &arguments.name()).await
    }
}
