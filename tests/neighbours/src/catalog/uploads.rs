//! Uploads: open until they commit, are given up, or their lease ends.

use catalog_api::v1 as api;
use ids::{DatasetId, UploadId};
use prost_types::Timestamp;
use service_error::{Code, ServiceError};

use super::State;
use crate::{LEASE_SECONDS, in_seconds, now_seconds};

/// A writer's upload.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The dataset, or the one that the commit is to make.
    pub dataset_id: String,
    pub state: UploadState,
}

/// Where an upload stands.
#[derive(Debug, Clone)]
pub enum UploadState {
    /// Until then, in seconds.
    Open {
        expires_at: i64,
    },
    Committed(api::CommitVersionResponse),
    Aborted {
        swept: bool,
    },
}

impl Upload {
    pub fn must_be_open(&self, id: &str) -> Result<(), ServiceError> {
        let closed = |what: &str| ServiceError::precondition(format!("upload {id} was {what}"));
        match self.state {
            UploadState::Open { .. } => Ok(()),
            UploadState::Committed(_) => Err(closed("committed").reason("UPLOAD_COMMITTED")),
            UploadState::Aborted { .. } => Err(closed("aborted").reason("UPLOAD_ABORTED")),
        }
    }
}

impl State {
    fn lease(&self) -> (UploadState, Option<Timestamp>) {
        let expires = in_seconds(self.upload_lease.unwrap_or(LEASE_SECONDS));
        (UploadState::Open { expires_at: expires.seconds }, Some(expires))
    }

    pub fn upload(&self, id: &str) -> Result<&Upload, ServiceError> {
        self.uploads.get(id).ok_or_else(|| ServiceError::not_found("upload", id))
    }

    pub fn upload_mut(&mut self, id: &str) -> Result<&mut Upload, ServiceError> {
        self.uploads.get_mut(id).ok_or_else(|| ServiceError::not_found("upload", id))
    }

    pub fn open_upload(
        &mut self,
        of: Option<&api::DatasetRef>,
    ) -> Result<api::OpenUploadResponse, ServiceError> {
        let head = match self.find(of) {
            Ok(dataset) => Some(dataset.head(dataset.newest())?),
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => return Err(error),
        };
        let dataset_id = match head.as_ref().and_then(|head| head.dataset.as_ref()) {
            Some(dataset) => dataset.id.clone(),
            None => self.id_of_new(of)?,
        };
        let ((state, expire_time), upload_id) = (self.lease(), UploadId::new().to_string());
        let upload = Upload { dataset_id: dataset_id.clone(), state };
        self.uploads.insert(upload_id.clone(), upload);
        Ok(api::OpenUploadResponse { upload_id, expire_time, head, dataset_id })
    }

    /// The id of a dataset that a commit may make: it is named, and its namespace is there.
    fn id_of_new(&self, of: Option<&api::DatasetRef>) -> Result<String, ServiceError> {
        let of = of.cloned().unwrap_or_default();
        if !of.dataset_id.is_empty() {
            return Err(ServiceError::not_found("dataset", of.dataset_id));
        }
        self.namespace(&of.namespace)?;
        Ok(DatasetId::new().to_string())
    }

    pub fn renew_upload(&mut self, id: &str) -> Result<Option<Timestamp>, ServiceError> {
        let (state, expire_time) = self.lease();
        let upload = self.upload_mut(id)?;
        upload.must_be_open(id)?;
        upload.state = state;
        Ok(expire_time)
    }

    /// Gives an upload up unless it has committed; answers the snapshot that it became.
    pub fn settle_upload(&mut self, id: &str) -> Result<Option<i64>, ServiceError> {
        let upload = self.upload_mut(id)?;
        match &upload.state {
            UploadState::Committed(answer) => return Ok(Some(answer.snapshot)),
            UploadState::Open { .. } => upload.state = UploadState::Aborted { swept: false },
            UploadState::Aborted { .. } => {}
        }
        Ok(None)
    }

    /// Gives up what has expired; answers uploads whose objects are to be deleted.
    pub fn sweep_uploads(&mut self, at_most: usize) -> Vec<api::SweptUpload> {
        let now = now_seconds();
        let mut swept = Vec::new();
        for (id, upload) in &mut self.uploads {
            if matches!(upload.state, UploadState::Open { expires_at } if expires_at < now) {
                upload.state = UploadState::Aborted { swept: false };
            }
            if matches!(upload.state, UploadState::Aborted { swept: false }) {
                let (upload_id, dataset_id) = (id.clone(), upload.dataset_id.clone());
                swept.push(api::SweptUpload { upload_id, dataset_id });
            }
        }
        swept.truncate(at_most);
        swept
    }

    /// The objects of given-up uploads are gone.
    pub fn confirm_swept(&mut self, ids: &[String]) {
        for id in ids {
            if let Some(UploadState::Aborted { swept }) =
                self.uploads.get_mut(id).map(|upload| &mut upload.state)
            {
                *swept = true;
            }
        }
    }
}
