//! The catalog, as far as the item store meets it: heads, blocks, uploads and
//! commits in memory, with the same rules for moving a commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use catalog_api::v1 as api;
use catalog_api::v1::datasets_service_server::{DatasetsService, DatasetsServiceServer};
use catalog_api::v1::get_head_request::At;
use catalog_api::v1::manifest_service_server::{ManifestService, ManifestServiceServer};
use roaring::RoaringBitmap;
use service_channel::Transport;
use service_error::ServiceError;
use tonic::{Request, Response, Status};
use uuid::Uuid;

type Answer<T> = Result<Response<T>, Status>;

#[derive(Default)]
struct Stored {
    head: api::Head,
    /// (block, snapshot that added it, snapshot that ended it).
    blocks: Vec<(api::Block, i64, i64)>,
    versions: Vec<api::Version>,
    /// Idempotency key to (hash, version).
    keys: HashMap<String, (Vec<u8>, i64)>,
}

#[derive(Default)]
struct State {
    datasets: HashMap<String, Stored>,
    /// Upload to (dataset, whether it is open).
    uploads: HashMap<String, (String, bool)>,
    swept: Vec<String>,
    commits: u32,
    /// Commits that are answered with UNAVAILABLE after they were made.
    lost_answers: u32,
}

#[derive(Clone, Default)]
pub struct FakeCatalog {
    state: Arc<Mutex<State>>,
    pub namespace: Uuid,
}

impl FakeCatalog {
    pub fn new() -> Self {
        Self { state: Arc::default(), namespace: Uuid::now_v7() }
    }

    pub fn transport(&self) -> Transport {
        let mut routes = tonic::service::Routes::builder();
        routes.add_service(
            ManifestServiceServer::new(self.clone()).max_decoding_message_size(64 << 20),
        );
        routes.add_service(DatasetsServiceServer::new(self.clone()));
        service_channel::local(routes.routes().prepare())
    }

    pub fn lose_answers(&self, count: u32) {
        self.state.lock().unwrap().lost_answers = count;
    }

    pub fn commits(&self) -> u32 {
        self.state.lock().unwrap().commits
    }

    /// Uploads that are given up and not swept.
    pub fn abandoned(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.uploads.iter().filter(|(id, (_, open))| !open && !state.swept.contains(id)).count()
    }

    pub fn open_uploads(&self) -> usize {
        self.state.lock().unwrap().uploads.values().filter(|(_, open)| *open).count()
    }
}

impl State {
    fn find(&self, of: &api::DatasetRef) -> Option<&Stored> {
        self.datasets.values().find(|stored| {
            let dataset = stored.head.dataset.as_ref().unwrap();
            dataset.id == of.dataset_id
                || (dataset.namespace == of.namespace && dataset.name == of.name)
        })
    }
}

fn absent(of: &api::DatasetRef) -> Status {
    ServiceError::not_found("dataset", format!("{}/{}", of.namespace, of.name)).into()
}

#[tonic::async_trait]
impl ManifestService for FakeCatalog {
    async fn get_head(
        &self,
        request: Request<api::GetHeadRequest>,
    ) -> Answer<api::GetHeadResponse> {
        let request = request.into_inner();
        let of = request.dataset.unwrap();
        let state = self.state.lock().unwrap();
        let stored = state.find(&of).ok_or_else(|| absent(&of))?;
        let mut head = stored.head.clone();
        let version = match request.at {
            None => None,
            Some(At::Version(text)) if text == "latest" => None,
            Some(At::Version(text)) => {
                let found =
                    stored.versions.iter().find(|version| version.number.to_string() == text);
                Some(found.ok_or_else(|| Status::from(ServiceError::not_found("version", text)))?)
            }
            Some(At::Snapshot(number)) => {
                stored.versions.iter().find(|version| version.snapshot == number)
            }
        };
        if let Some(version) = version {
            (head.snapshot, head.version) = (version.snapshot, version.number);
            (head.row_count, head.byte_count, head.block_count) =
                (version.row_count, version.byte_count, version.block_count);
        }
        Ok(Response::new(api::GetHeadResponse { head: Some(head) }))
    }

    async fn list_blocks(
        &self,
        request: Request<api::ListBlocksRequest>,
    ) -> Answer<api::ListBlocksResponse> {
        let request = request.into_inner();
        let state = self.state.lock().unwrap();
        let stored =
            state.datasets.get(&request.dataset_id).ok_or_else(|| Status::not_found("dataset"))?;
        let seen = stored.blocks.iter().filter(|(_, begin, end)| {
            *begin <= request.snapshot && request.snapshot < *end && *begin > request.added_after
        });
        // Two a page, so that pages are met.
        let from: usize = request.page_token.parse().unwrap_or(0);
        let blocks: Vec<api::Block> = seen.map(|(block, ..)| block.clone()).collect();
        let next = if from + 2 < blocks.len() { (from + 2).to_string() } else { String::new() };
        let blocks = blocks.into_iter().skip(from).take(2).collect();
        Ok(Response::new(api::ListBlocksResponse { blocks, next_page_token: next }))
    }

    async fn open_upload(
        &self,
        request: Request<api::OpenUploadRequest>,
    ) -> Answer<api::OpenUploadResponse> {
        let of = request.into_inner().dataset.unwrap();
        let mut state = self.state.lock().unwrap();
        let head = state.find(&of).map(|stored| stored.head.clone());
        let named =
            head.as_ref().and_then(|head| head.dataset.as_ref()).map(|dataset| dataset.id.clone());
        let dataset_id = named.unwrap_or_else(|| Uuid::now_v7().to_string());
        let upload_id = Uuid::now_v7().to_string();
        state.uploads.insert(upload_id.clone(), (dataset_id.clone(), true));
        let expire_time = Some(prost_types::Timestamp {
            seconds: sql_store::now_micros() / 1_000_000 + 60,
            nanos: 0,
        });
        Ok(Response::new(api::OpenUploadResponse { upload_id, expire_time, head, dataset_id }))
    }

    async fn renew_upload(
        &self,
        request: Request<api::RenewUploadRequest>,
    ) -> Answer<api::RenewUploadResponse> {
        let state = self.state.lock().unwrap();
        match state.uploads.get(&request.into_inner().upload_id) {
            Some((_, true)) => {
                let seconds = sql_store::now_micros() / 1_000_000 + 60;
                Ok(Response::new(api::RenewUploadResponse {
                    expire_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
                }))
            }
            _ => Err(ServiceError::precondition("the upload is closed")
                .reason("UPLOAD_ABORTED")
                .into()),
        }
    }

    async fn commit_version(
        &self,
        request: Request<api::CommitVersionRequest>,
    ) -> Answer<api::CommitVersionResponse> {
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        state.commits += 1;
        let (dataset_id, open) = state.uploads.get(&request.upload_id).cloned().unwrap();
        self.create(&mut state, &request, &dataset_id, open)?;
        let stored = state.datasets.get_mut(&dataset_id).unwrap();
        let replayed = stored.keys.get(&request.idempotency_key).cloned();
        if let Some((hash, number)) = replayed {
            if hash != request.body_hash {
                return Err(ServiceError::precondition("another body")
                    .reason("IDEMPOTENCY_KEY_REUSED")
                    .into());
            }
            let version = stored.versions.iter().find(|version| version.number == number).cloned();
            state.uploads.insert(request.upload_id, (dataset_id.clone(), false));
            return Ok(Response::new(api::CommitVersionResponse {
                version,
                dataset_id,
                replayed: true,
                ..Default::default()
            }));
        }
        if !open {
            let version = stored.versions.last().cloned();
            return Ok(Response::new(api::CommitVersionResponse {
                version,
                dataset_id,
                replayed: true,
                ..Default::default()
            }));
        }
        let head = stored.head.snapshot;
        let append = request.mode == api::CommitMode::Append as i32
            || request.mode == api::CommitMode::Merge as i32;
        if request.base_snapshot != head && (!append || request.keys_checked) {
            return Err(ServiceError::conflict("the head moved").reason("HEAD_MOVED").into());
        }
        let version = apply(stored, &request, append);
        state.uploads.insert(request.upload_id.clone(), (dataset_id.clone(), false));
        state.swept.push(request.upload_id);
        if state.lost_answers > 0 {
            state.lost_answers -= 1;
            return Err(ServiceError::unavailable("the answer was lost").into());
        }
        Ok(Response::new(api::CommitVersionResponse {
            version: Some(version),
            dataset_id,
            ..Default::default()
        }))
    }

    async fn find_commit(
        &self,
        request: Request<api::FindCommitRequest>,
    ) -> Answer<api::FindCommitResponse> {
        let request = request.into_inner();
        let state = self.state.lock().unwrap();
        let stored = state.datasets.get(&request.dataset_id);
        let Some((stored, (hash, number))) =
            stored.and_then(|stored| Some((stored, stored.keys.get(&request.idempotency_key)?)))
        else {
            return Ok(Response::new(api::FindCommitResponse::default()));
        };
        if *hash != request.body_hash {
            return Err(ServiceError::precondition("another body")
                .reason("IDEMPOTENCY_KEY_REUSED")
                .into());
        }
        let version = stored.versions.iter().find(|version| version.number == *number).cloned();
        let commit = api::CommitVersionResponse { version, replayed: true, ..Default::default() };
        Ok(Response::new(api::FindCommitResponse { commit: Some(commit) }))
    }

    async fn abort_upload(
        &self,
        request: Request<api::AbortUploadRequest>,
    ) -> Answer<api::AbortUploadResponse> {
        let mut state = self.state.lock().unwrap();
        if let Some((_, open)) = state.uploads.get_mut(&request.into_inner().upload_id) {
            *open = false;
        }
        Ok(Response::new(api::AbortUploadResponse {}))
    }

    async fn settle_upload(
        &self,
        request: Request<api::SettleUploadRequest>,
    ) -> Answer<api::SettleUploadResponse> {
        let id = request.into_inner().upload_id;
        let mut state = self.state.lock().unwrap();
        let committed = state.swept.contains(&id);
        if let Some((_, open)) = state.uploads.get_mut(&id) {
            *open = false;
        }
        Ok(Response::new(api::SettleUploadResponse { committed, snapshot: 0 }))
    }

    async fn sweep_uploads(
        &self,
        _: Request<api::SweepUploadsRequest>,
    ) -> Answer<api::SweepUploadsResponse> {
        let state = self.state.lock().unwrap();
        let given_up =
            state.uploads.iter().filter(|(id, (_, open))| !open && !state.swept.contains(id));
        let uploads = given_up
            .map(|(id, (dataset, _))| api::SweptUpload {
                upload_id: id.clone(),
                dataset_id: dataset.clone(),
            })
            .collect();
        Ok(Response::new(api::SweepUploadsResponse { uploads }))
    }

    async fn confirm_swept(
        &self,
        request: Request<api::ConfirmSweptRequest>,
    ) -> Answer<api::ConfirmSweptResponse> {
        self.state.lock().unwrap().swept.extend(request.into_inner().upload_ids);
        Ok(Response::new(api::ConfirmSweptResponse {}))
    }
}

impl FakeCatalog {
    fn create(
        &self,
        state: &mut State,
        request: &api::CommitVersionRequest,
        dataset_id: &str,
        open: bool,
    ) -> Result<(), Status> {
        if let Some(new) = &request.create {
            let of = api::DatasetRef {
                namespace: new.namespace.clone(),
                name: new.name.clone(),
                ..Default::default()
            };
            if open && state.find(&of).is_some() {
                return Err(ServiceError::conflict("made meanwhile")
                    .reason("DATASET_EXISTS")
                    .into());
            }
            state.datasets.entry(dataset_id.to_owned()).or_insert_with(|| Stored {
                head: api::Head {
                    dataset: Some(api::Dataset {
                        id: dataset_id.to_owned(),
                        namespace: new.namespace.clone(),
                        name: new.name.clone(),
                        profile: new.profile,
                        arrow_schema: new.arrow_schema.clone(),
                        key_column: new.key_column.clone(),
                        ..Default::default()
                    }),
                    namespace_id: self.namespace.to_string(),
                    ..Default::default()
                },
                ..Default::default()
            });
        }
        Ok(())
    }
}

fn apply(stored: &mut Stored, request: &api::CommitVersionRequest, append: bool) -> api::Version {
    let snapshot = stored.head.snapshot + 1;
    if !append {
        stored
            .blocks
            .iter_mut()
            .filter(|(_, _, end)| *end == i64::MAX)
            .for_each(|(_, _, end)| *end = snapshot);
    }
    for deletion in &request.deletions {
        let found = stored
            .blocks
            .iter_mut()
            .find(|(block, _, end)| block.id == deletion.block_id && *end == i64::MAX);
        let (block, ..) = found.unwrap();
        // Older snapshots are not asked for here.
        let before = RoaringBitmap::deserialize_from(&block.deletions[..]).unwrap_or_default();
        let all = before | RoaringBitmap::deserialize_from(&deletion.positions[..]).unwrap();
        block.deletions.clear();
        all.serialize_into(&mut block.deletions).unwrap();
        block.deleted_count = i64::try_from(all.len()).unwrap();
        block.deletion_revision = snapshot;
    }
    stored.blocks.extend(request.blocks.iter().map(|block| (block.clone(), snapshot, i64::MAX)));
    let live =
        || stored.blocks.iter().filter(|(_, _, end)| *end == i64::MAX).map(|(block, ..)| block);
    let version = api::Version {
        number: snapshot,
        parent: snapshot - 1,
        message: request.message.clone(),
        row_count: live().map(|block| block.row_count - block.deleted_count).sum(),
        byte_count: live().map(|block| block.byte_count).sum(),
        block_count: i64::try_from(live().count()).unwrap(),
        snapshot,
        ..Default::default()
    };
    let head = &mut stored.head;
    (head.snapshot, head.version) = (snapshot, snapshot);
    if let Some(watermark) = request.watermark {
        head.watermark = watermark.to;
    }
    (head.row_count, head.byte_count, head.block_count) =
        (version.row_count, version.byte_count, version.block_count);
    stored.versions.push(version.clone());
    if !request.idempotency_key.is_empty() {
        stored
            .keys
            .insert(request.idempotency_key.clone(), (request.body_hash.clone(), version.number));
    }
    version
}

#[tonic::async_trait]
impl DatasetsService for FakeCatalog {
    async fn create_dataset(
        &self,
        _: Request<api::CreateDatasetRequest>,
    ) -> Answer<api::CreateDatasetResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn get_dataset(
        &self,
        _: Request<api::GetDatasetRequest>,
    ) -> Answer<api::GetDatasetResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_datasets(
        &self,
        request: Request<api::ListDatasetsRequest>,
    ) -> Answer<api::ListDatasetsResponse> {
        let state = self.state.lock().unwrap();
        let mut datasets: Vec<api::Dataset> =
            state.datasets.values().map(|stored| stored.head.dataset.clone().unwrap()).collect();
        datasets.sort_by(|a, b| a.name.cmp(&b.name));
        // One a page, so that pages are met.
        let from: usize = request.into_inner().page_token.parse().unwrap_or(0);
        let next = if from + 1 < datasets.len() { (from + 1).to_string() } else { String::new() };
        let datasets = datasets.into_iter().skip(from).take(1).collect();
        Ok(Response::new(api::ListDatasetsResponse { datasets, next_page_token: next }))
    }

    async fn delete_dataset(
        &self,
        _: Request<api::DeleteDatasetRequest>,
    ) -> Answer<api::DeleteDatasetResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_versions(
        &self,
        _: Request<api::ListVersionsRequest>,
    ) -> Answer<api::ListVersionsResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn get_version(
        &self,
        _: Request<api::GetVersionRequest>,
    ) -> Answer<api::GetVersionResponse> {
        Err(Status::unimplemented("not asked here"))
    }
}
