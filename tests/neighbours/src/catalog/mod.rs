//! The catalog: namespaces, datasets, and what was committed to them.

mod commits;
mod dataset;
mod datasets;
mod garbage;
mod manifest;
mod namespaces;
mod uploads;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use catalog_api::v1 as api;
use catalog_api::v1::datasets_service_server::DatasetsServiceServer;
use catalog_api::v1::garbage_service_server::GarbageServiceServer;
use catalog_api::v1::manifest_service_server::ManifestServiceServer;
use catalog_api::v1::namespaces_service_server::NamespacesServiceServer;
use ids::{DatasetId, NamespaceId};
use prost_types::Timestamp;
use service_channel::{CONTROL_MESSAGE_BYTES_MAX, Transport};
use service_error::ServiceError;
use tonic::service::Routes;

use crate::{Calls, in_seconds};
use dataset::Dataset;
use uploads::{Upload, UploadState};

/// The catalog in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Its calls.
    pub calls: Calls,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// By name.
    namespaces: BTreeMap<String, api::Namespace>,
    /// By id, when they were deleted.
    deleted_namespaces: BTreeMap<String, Timestamp>,
    /// By id; deleted ones stay until they are purged.
    datasets: BTreeMap<String, Dataset>,
    /// By id.
    uploads: BTreeMap<String, Upload>,
    /// Ids of purged datasets whose bytes may be there.
    doomed: Vec<String>,
    /// Seconds; unset: [`crate::LEASE_SECONDS`].
    upload_lease: Option<i64>,
}

impl Catalog {
    /// A catalog that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Its services, as another role reaches them.
    #[must_use]
    pub fn transport(&self) -> Transport {
        let manifest = ManifestServiceServer::new(self.clone())
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        let routes = Routes::new(manifest)
            .add_service(NamespacesServiceServer::new(self.clone()))
            .add_service(DatasetsServiceServer::new(self.clone()))
            .add_service(GarbageServiceServer::new(self.clone()));
        self.calls.around(routes)
    }

    /// The namespace of a name, made if there is none.
    pub fn namespace(&self, name: &str) -> NamespaceId {
        self.state().namespace_or_new(name).id.parse().unwrap()
    }

    /// The namespace is deleted with all that it holds; its name is free.
    pub fn drop_namespace(&self, name: &str) {
        let mut state = self.state();
        state.delete_namespace(name);
        let within = state.datasets.values_mut().filter(|dataset| dataset.about.namespace == name);
        within.for_each(|dataset| dataset.deleted = true);
    }

    /// The namespace was never there, as for a catalog that holds nothing.
    pub fn forget_namespace(&self, name: &str) {
        self.state().namespaces.remove(name);
    }

    /// Makes a dataset `namespace/name` with so many versions that hold nothing.
    pub fn dataset(&self, path: &str, versions: i64) -> DatasetId {
        let (namespace, name) = path.split_once('/').unwrap();
        let mut state = self.state();
        let namespace = state.namespace_or_new(namespace);
        let id = DatasetId::new();
        let about = api::Dataset {
            id: id.to_string(),
            namespace: namespace.name,
            name: name.to_owned(),
            ..Default::default()
        };
        let mut dataset = Dataset::new(namespace.id, about);
        for _ in 0..versions {
            let empty = api::CommitVersionRequest::default();
            dataset.add(&empty, Vec::new());
        }
        state.datasets.insert(id.to_string(), dataset);
        id
    }

    /// The dataset `namespace/name` is deleted; its name is free.
    pub fn drop_dataset(&self, path: &str) {
        let (namespace, name) = path.split_once('/').unwrap();
        self.state().named_mut(namespace, name).unwrap().deleted = true;
    }

    /// From now on uploads are leased for so many seconds.
    pub fn lease_uploads_for(&self, seconds: i64) {
        self.state().upload_lease = Some(seconds);
    }

    /// Gives up the uploads whose lease is over, as a sweep does.
    pub fn give_up_expired_uploads(&self) {
        self.state().sweep_uploads(usize::MAX);
    }

    /// How many uploads may still commit.
    #[must_use]
    pub fn open_uploads(&self) -> usize {
        self.uploads_that(|state| matches!(state, UploadState::Open { .. }))
    }

    /// How many uploads are given up and not swept.
    #[must_use]
    pub fn abandoned_uploads(&self) -> usize {
        self.uploads_that(|state| matches!(state, UploadState::Aborted { swept: false }))
    }

    fn uploads_that(&self, are: impl Fn(&UploadState) -> bool) -> usize {
        self.state().uploads.values().filter(|upload| are(&upload.state)).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn namespace_or_new(&mut self, name: &str) -> api::Namespace {
        let new = || api::Namespace {
            id: NamespaceId::new().to_string(),
            name: name.to_owned(),
            create_time: Some(in_seconds(0)),
            ..Default::default()
        };
        self.namespaces.entry(name.to_owned()).or_insert_with(new).clone()
    }

    fn delete_namespace(&mut self, name: &str) {
        if let Some(gone) = self.namespaces.remove(name) {
            self.deleted_namespaces.insert(gone.id, in_seconds(0));
        }
    }

    fn namespace(&self, name: &str) -> Result<&api::Namespace, ServiceError> {
        self.namespaces.get(name).ok_or_else(|| ServiceError::not_found("namespace", name))
    }

    fn live(&self) -> impl Iterator<Item = &Dataset> {
        self.datasets.values().filter(|dataset| !dataset.deleted)
    }

    fn named(&self, namespace: &str, name: &str) -> Result<&Dataset, ServiceError> {
        self.live()
            .find(|dataset| dataset.is_named(namespace, name))
            .ok_or_else(|| ServiceError::not_found("dataset", format!("{namespace}/{name}")))
    }

    fn named_mut(&mut self, namespace: &str, name: &str) -> Result<&mut Dataset, ServiceError> {
        self.datasets
            .values_mut()
            .find(|dataset| !dataset.deleted && dataset.is_named(namespace, name))
            .ok_or_else(|| ServiceError::not_found("dataset", format!("{namespace}/{name}")))
    }

    fn of_id(&self, id: &str) -> Result<&Dataset, ServiceError> {
        let found = self.datasets.get(id).filter(|dataset| !dataset.deleted);
        found.ok_or_else(|| ServiceError::not_found("dataset", id))
    }

    fn find(&self, of: Option<&api::DatasetRef>) -> Result<&Dataset, ServiceError> {
        let of = of.ok_or_else(|| ServiceError::invalid("dataset", "is missing"))?;
        if of.dataset_id.is_empty() {
            self.named(&of.namespace, &of.name)
        } else {
            self.of_id(&of.dataset_id)
        }
    }
}
