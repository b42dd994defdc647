//! The catalog as this service asks it: for a caller, or for itself.

use caller::{Bearer, Caller, Secret, TokenSource, authorized};
use catalog_api::v1::datasets_service_client::DatasetsServiceClient;
use catalog_api::v1::get_head_request::At;
use catalog_api::v1::manifest_service_client::ManifestServiceClient;
use catalog_api::v1::{
    AbortUploadRequest, Block, CommitVersionRequest, CommitVersionResponse, DatasetRef,
    FindCommitRequest, GetHeadRequest, Head, ListBlocksRequest, ListDatasetsRequest,
    ListDatasetsResponse, OpenUploadRequest, OpenUploadResponse, RenewUploadRequest,
    SettleUploadRequest,
};
use ids::{UploadId, role_principal};
use options_api::v1::Role;
use service_channel::{CONTROL_MESSAGE_BYTES_MAX, Transport};
use service_error::{Code, ServiceError};
use uuid::Uuid;

const CATALOG: &str = "catalog";
const OURSELVES: &str = "item-store";
const BLOCKS_PAGE: i32 = 1_000;

/// The catalog's client.
#[derive(Clone)]
pub struct Catalog {
    transport: Transport,
    tokens: TokenSource,
}

impl Catalog {
    /// The catalog behind a transport, asked with this role's tokens.
    pub fn new(transport: Transport, tokens: TokenSource) -> Self {
        Self { transport, tokens }
    }

    /// The token of a call for a caller, or for this role itself.
    async fn bearer(&self, caller: &Caller) -> Result<Bearer, ServiceError> {
        if caller.service {
            return self.tokens.for_self(CATALOG).await;
        }
        self.tokens.for_caller(caller, CATALOG).await
    }

    fn manifest(&self) -> ManifestServiceClient<Transport> {
        ManifestServiceClient::new(self.transport.clone())
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
    }

    /// A dataset at its head, or at a version or a snapshot.
    pub async fn head(
        &self,
        caller: &Caller,
        dataset: DatasetRef,
        at: Option<At>,
    ) -> Result<Head, ServiceError> {
        let bearer = self.bearer(caller).await?;
        let request = authorized(GetHeadRequest { dataset: Some(dataset), at }, &bearer);
        let answer = self.manifest().get_head(request).await?.into_inner();
        answer.head.ok_or_else(|| ServiceError::internal("the catalog answered no head"))
    }

    /// The blocks that a snapshot sees, or those added to it after another one,
    /// with statistics.
    pub async fn blocks(
        &self,
        caller: &Caller,
        dataset_id: &str,
        snapshot: i64,
        added_after: i64,
    ) -> Result<Vec<Block>, ServiceError> {
        let mut blocks = Vec::new();
        let mut page_token = String::new();
        loop {
            let bearer = self.bearer(caller).await?;
            let message = ListBlocksRequest {
                dataset_id: dataset_id.to_owned(),
                snapshot,
                added_after,
                with_statistics: true,
                page_size: BLOCKS_PAGE,
                page_token,
            };
            let page =
                self.manifest().list_blocks(authorized(message, &bearer)).await?.into_inner();
            blocks.extend(page.blocks);
            if page.next_page_token.is_empty() {
                return Ok(blocks);
            }
            page_token = page.next_page_token;
        }
    }

    /// An upload to a dataset, or to one that its commit is to make.
    pub async fn open_upload(
        &self,
        caller: &Caller,
        dataset: DatasetRef,
    ) -> Result<OpenUploadResponse, ServiceError> {
        let bearer = self.bearer(caller).await?;
        let request = authorized(OpenUploadRequest { dataset: Some(dataset) }, &bearer);
        Ok(self.manifest().open_upload(request).await?.into_inner())
    }

    /// Prolongs an upload; answers when it expires, in seconds since 1970.
    pub async fn renew_upload(
        &self,
        caller: &Caller,
        upload: UploadId,
    ) -> Result<i64, ServiceError> {
        let bearer = self.bearer(caller).await?;
        let request = authorized(RenewUploadRequest { upload_id: upload.to_string() }, &bearer);
        let answer = self.manifest().renew_upload(request).await?.into_inner();
        Ok(answer.expire_time.map_or(0, |time| time.seconds))
    }

    /// Gives an upload up.
    pub async fn abort_upload(
        &self,
        caller: &Caller,
        upload: UploadId,
    ) -> Result<(), ServiceError> {
        let bearer = self.bearer(caller).await?;
        let request = authorized(AbortUploadRequest { upload_id: upload.to_string() }, &bearer);
        self.manifest().abort_upload(request).await?;
        Ok(())
    }

    /// Commits an upload.
    pub async fn commit(
        &self,
        caller: &Caller,
        commit: CommitVersionRequest,
    ) -> Result<CommitVersionResponse, ServiceError> {
        let bearer = self.bearer(caller).await?;
        Ok(self.manifest().commit_version(authorized(commit, &bearer)).await?.into_inner())
    }

    /// Whether an upload has committed; one that has not never will.
    pub async fn settle(&self, upload: Uuid) -> Result<bool, ServiceError> {
        let bearer = self.tokens.for_self(CATALOG).await?;
        let request = SettleUploadRequest { upload_id: upload.to_string() };
        match self.manifest().settle_upload(authorized(request, &bearer)).await {
            Ok(settled) => Ok(settled.into_inner().committed),
            // Forgotten long after it was given up.
            Err(status) => match ServiceError::from(status) {
                error if error.code() == Code::NotFound => Ok(false),
                error => Err(error),
            },
        }
    }

    /// A page of the datasets that the caller may see.
    pub async fn datasets(
        &self,
        caller: &Caller,
        request: ListDatasetsRequest,
    ) -> Result<ListDatasetsResponse, ServiceError> {
        let bearer = self.bearer(caller).await?;
        let mut client = DatasetsServiceClient::new(self.transport.clone());
        Ok(client.list_datasets(authorized(request, &bearer)).await?.into_inner())
    }

    /// What a commit under an idempotency key did before.
    pub async fn find_commit(
        &self,
        caller: &Caller,
        find: FindCommitRequest,
    ) -> Result<Option<CommitVersionResponse>, ServiceError> {
        let bearer = self.bearer(caller).await?;
        Ok(self.manifest().find_commit(authorized(find, &bearer)).await?.into_inner().commit)
    }
}

/// This role, acting for itself.
pub fn ourselves() -> Caller {
    Caller {
        principal: role_principal(OURSELVES),
        name: OURSELVES.to_owned(),
        role: Role::Admin,
        read_only: false,
        token: None,
        actor: None,
        service: true,
        jwt: Secret::new(""),
        expires_at: i64::MAX,
    }
}

/// A dataset by its names.
pub fn by_name(address: &crate::model::Address) -> DatasetRef {
    DatasetRef {
        dataset_id: String::new(),
        namespace: address.namespace.clone(),
        name: address.dataset.clone(),
    }
}

/// A dataset by its id.
pub fn by_id(id: Uuid) -> DatasetRef {
    DatasetRef { dataset_id: id.to_string(), ..DatasetRef::default() }
}
