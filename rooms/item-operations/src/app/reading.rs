//! A dataset opened for a caller: resolved, allowed, with its blocks.

use std::sync::Arc;

use access::{Resource, Subject};
use arrow::datatypes::{Field, Schema, SchemaRef};
use caller::Caller;
use catalog_api::v1::get_head_request::At;
use catalog_api::v1::{DatasetRef, Head, Profile};
use filter::{Filter, FilterError, SavedTexts};
use item_shape::spelled_id;
use options_api::v1::Level;
use row_delta::Place;
use service_error::ServiceError;
use uuid::Uuid;

use crate::app::App;
use crate::app::catalog::by_name;
use crate::app::manifest::Manifest;
use crate::model::{Address, hash_of};

/// A dataset at one snapshot, that the caller may read.
#[derive(Debug, Clone)]
pub struct Opened {
    pub dataset: Uuid,
    pub address: Address,
    pub snapshot: i64,
    /// The snapshot's version, or the newest before it; 0 before the first.
    pub version: i64,
    /// Changes of the delta up to here are in the blocks.
    pub watermark: i64,
    /// Changes after the watermark are seen up to here; the watermark: none are.
    pub ceiling: i64,
    /// Bulk commits when the delta was looked at, for writers.
    pub epoch: i64,
    pub schema: SchemaRef,
    pub items_profile: bool,
    /// Empty: none.
    pub key: String,
    /// Columns in which no two rows have the same value.
    pub unique: Vec<String>,
    pub row_count: i64,
    pub byte_count: i64,
    pub block_count: i64,
    /// The dataset and what it lies in.
    pub chain: [Resource; 2],
    pub public: bool,
}

impl Opened {
    pub fn of(head: &Head) -> Result<Self, ServiceError> {
        let missing = || ServiceError::internal("the catalog answered an incomplete head");
        let dataset = head.dataset.as_ref().ok_or_else(missing)?;
        let id = |text: &str| Uuid::try_parse(text).map_err(|_| missing());
        let (dataset_id, namespace_id) = (id(&dataset.id)?, id(&head.namespace_id)?);
        let schema = item_schema::schema_from_ipc(&dataset.arrow_schema).map_err(|error| {
            ServiceError::internal(format!("the dataset's schema cannot be read: {error}"))
        })?;
        Ok(Self {
            dataset: dataset_id,
            address: Address {
                namespace: dataset.namespace.clone(),
                dataset: dataset.name.clone(),
            },
            snapshot: head.snapshot,
            version: head.version,
            watermark: head.watermark,
            ceiling: head.watermark,
            epoch: 0,
            schema: Arc::new(schema),
            items_profile: dataset.profile == Profile::Items as i32,
            key: dataset.key_column.clone(),
            unique: dataset.unique_columns.clone(),
            row_count: head.row_count,
            byte_count: head.byte_count,
            block_count: head.block_count,
            chain: [Resource::dataset(dataset_id), Resource::namespace(namespace_id)],
            public: dataset.public,
        })
    }

    /// The columns to answer: those named, in that order, or all.
    pub fn project(&self, columns: &[String]) -> Result<SchemaRef, ServiceError> {
        if columns.is_empty() {
            return Ok(Arc::clone(&self.schema));
        }
        let mut fields = Vec::with_capacity(columns.len());
        for name in columns {
            let field = self.schema.fields().find(name).map(|(_, field)| Arc::clone(field));
            let field = field.ok_or_else(|| {
                let known: Vec<&str> =
                    self.schema.fields().iter().map(|f| f.name().as_str()).take(60).collect();
                ServiceError::invalid(
                    "columns",
                    format!("no column {name:?}; there are {}", known.join(", ")),
                )
            })?;
            if fields.iter().any(|f: &Arc<arrow::datatypes::Field>| f.name() == name) {
                return Err(ServiceError::invalid("columns", format!("{name:?} is there twice")));
            }
            fields.push(field);
        }
        Ok(Arc::new(Schema::new_with_metadata(fields, self.schema.metadata().clone())))
    }

    /// Where its small writes are.
    pub const fn place(&self) -> Place {
        Place::main(self.dataset)
    }

    /// The key column.
    pub fn key_field(&self) -> Result<&Field, ServiceError> {
        if self.key.is_empty() {
            let message = format!("dataset {} has no key column", self.address);
            return Err(ServiceError::precondition(message).reason("NO_KEY"));
        }
        self.schema
            .field_with_name(&self.key)
            .map_err(|_| ServiceError::internal("the key column is not in the schema"))
    }

    /// A key as this dataset spells it: ids of items are UUIDs in any form.
    pub fn spelled_key(&self, key: &str) -> String {
        if !self.items_profile || self.key != item_schema::DEFAULT_KEY_COLUMN {
            return key.to_owned();
        }
        let field = self.schema.field_with_name(&self.key).ok();
        field.and_then(|field| spelled_id(field, key)).unwrap_or_else(|| key.to_owned())
    }

    /// A filter that fits the dataset; `None` for an empty text.
    pub fn filter(
        &self,
        text: &str,
        saved: &SavedTexts,
    ) -> Result<Option<Arc<Filter>>, ServiceError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let parsed = Filter::parse_saved(text, &self.schema, saved).map_err(unfit)?;
        Ok(Some(Arc::new(parsed)))
    }
}

/// A filter that does not parse or does not fit.
pub fn unfit(error: FilterError) -> ServiceError {
    ServiceError::invalid("filter", &error).reason("FILTER_INVALID").with("column", error.column)
}

/// What tells filters apart in tokens.
pub fn filter_hash(filter: Option<&Filter>) -> String {
    hash_of(&[filter.map_or("", Filter::canonical)])
}

impl App {
    /// Opens a dataset that the caller names, at a version; empty or `latest`:
    /// as it is now, with the delta.
    pub async fn open(
        &self,
        caller: &Caller,
        address: &Address,
        version: &str,
        action: &'static str,
    ) -> Result<Opened, ServiceError> {
        if !matches!(version, "" | "latest") {
            let at = Some(At::Version(version.to_owned()));
            return self.open_at(caller, by_name(address), at, action).await;
        }
        let opened = self.open_now(caller, address).await?;
        self.allow(caller, &opened, Level::Read, action).await?;
        Ok(opened)
    }

    /// A dataset as it is now. The delta is looked at before the head, so that
    /// a bulk commit between the two shows in the epoch that a writer names. Who
    /// may do what with it is not asked here.
    pub async fn open_now(
        &self,
        caller: &Caller,
        address: &Address,
    ) -> Result<Opened, ServiceError> {
        // A dataset that was seen before is known by id; one that took its name
        // since shows itself in the head.
        let mut known = self.dataset_ids.get(address);
        loop {
            let state = match known {
                Some(id) => Some((id, self.delta.state(Place::main(id)).await?)),
                None => None,
            };
            let head = self.catalog.head(caller, by_name(address), None).await?;
            let mut opened = Opened::of(&head)?;
            if let Some((_, state)) = state.filter(|(id, _)| *id == opened.dataset) {
                opened.ceiling = state.seq.max(opened.watermark);
                opened.epoch = state.epoch;
                return Ok(opened);
            }
            self.dataset_ids.insert(address.clone(), opened.dataset);
            known = Some(opened.dataset);
        }
    }

    /// A snapshot with the delta up to a ceiling, as a token or a ticket says.
    pub async fn open_pinned(
        &self,
        caller: &Caller,
        dataset: DatasetRef,
        (snapshot, ceiling): (i64, i64),
        action: &'static str,
    ) -> Result<Opened, ServiceError> {
        let at = Some(At::Snapshot(snapshot)).filter(|_| snapshot > 0);
        let mut opened = self.open_at(caller, dataset, at, action).await?;
        if snapshot == 0 {
            // The empty beginning, whatever was committed since.
            (opened.snapshot, opened.watermark, opened.row_count) = (0, 0, 0);
        }
        opened.ceiling = ceiling.max(opened.watermark);
        Ok(opened)
    }

    pub async fn open_at(
        &self,
        caller: &Caller,
        dataset: DatasetRef,
        at: Option<At>,
        action: &'static str,
    ) -> Result<Opened, ServiceError> {
        let head = self.catalog.head(caller, dataset, at).await?;
        let opened = Opened::of(&head)?;
        self.allow(caller, &opened, Level::Read, action).await?;
        Ok(opened)
    }

    /// Lets the caller pass if it holds `need` on the dataset.
    pub async fn allow(
        &self,
        caller: &Caller,
        opened: &Opened,
        need: Level,
        action: &'static str,
    ) -> Result<(), ServiceError> {
        let name = opened.address.to_string();
        let subject = Subject { kind: "dataset", name: &name, action };
        self.access.require(caller, need, &opened.chain, opened.public, subject).await?;
        Ok(())
    }

    /// The blocks of an opened dataset.
    pub async fn manifest(
        &self,
        caller: &Caller,
        opened: &Opened,
    ) -> Result<Manifest, ServiceError> {
        self.manifests
            .get(&self.catalog, caller, opened.dataset, opened.snapshot, &opened.schema)
            .await
    }
}
