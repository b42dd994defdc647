//! The catalog as this service asks it: which namespace a name means, which
//! dataset.

use std::time::Duration;

use caller::{Caller, TokenSource, authorized};
use catalog_api::v1::datasets_service_client::DatasetsServiceClient;
use catalog_api::v1::garbage_service_client::GarbageServiceClient;
use catalog_api::v1::namespaces_service_client::NamespacesServiceClient;
use catalog_api::v1::{
    CreateNamespaceRequest, GetDatasetRequest, GetNamespaceRequest, JudgeNamespacesRequest, Verdict,
};
use ids::{DatasetId, NamespaceId};
use moka::future::Cache;
use service_channel::Transport;
use service_error::{Code, ServiceError};

const CATALOG: &str = "catalog";
/// How long a namespace's id is believed: names are given anew after a deletion.
const BELIEVED: Duration = Duration::from_secs(3);
const NAMESPACES_MAX: u64 = 10_000;

/// The catalog's client.
#[derive(Clone)]
pub struct Catalog {
    transport: Transport,
    tokens: TokenSource,
    namespaces: Cache<String, NamespaceId>,
}

impl Catalog {
    /// Asks over a transport.
    #[must_use]
    pub fn new(transport: Transport, tokens: TokenSource) -> Self {
        let namespaces =
            Cache::builder().max_capacity(NAMESPACES_MAX).time_to_live(BELIEVED).build();
        Self { transport, tokens, namespaces }
    }

    /// The id of a namespace, if there is one. Whether the caller may see it is
    /// decided by its grants, here.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn namespace(&self, name: &str) -> Result<Option<NamespaceId>, ServiceError> {
        if let Some(id) = self.namespaces.get(name).await {
            return Ok(Some(id));
        }
        let found = self.namespace_now(name).await?;
        if let Some(id) = found {
            self.namespaces.insert(name.to_owned(), id).await;
        }
        Ok(found)
    }

    /// The id of a namespace as the catalog says now.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn namespace_now(&self, name: &str) -> Result<Option<NamespaceId>, ServiceError> {
        let bearer = self.tokens.for_self(CATALOG).await?;
        let request = GetNamespaceRequest { name: name.to_owned() };
        let mut client = NamespacesServiceClient::new(self.transport.clone());
        let answer = match client.get_namespace(authorized(request, &bearer)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                let error = ServiceError::from_status(&status);
                return match error.code() {
                    Code::NotFound => Ok(None),
                    _ => Err(error.context("catalog")),
                };
            }
        };
        let id = answer.namespace.and_then(|found| found.id.parse().ok());
        id.map(Some).ok_or_else(|| ServiceError::internal("the catalog answered no namespace"))
    }

    /// Those of some namespaces that were deleted, each with when, in microseconds UTC. One that
    /// the catalog never had is none of them.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn deleted_namespaces(
        &self,
        ids: &[NamespaceId],
    ) -> Result<Vec<(NamespaceId, i64)>, ServiceError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let bearer = self.tokens.for_self(CATALOG).await?;
        let namespace_ids = ids.iter().map(ToString::to_string).collect();
        let request = authorized(JudgeNamespacesRequest { namespace_ids }, &bearer);
        let judged = GarbageServiceClient::new(self.transport.clone())
            .judge_namespaces(request)
            .await
            .map_err(|status| ServiceError::from_status(&status).context("catalog"))?
            .into_inner()
            .namespaces;
        if judged.len() != ids.len() {
            return Err(ServiceError::internal("the catalog judged other namespaces than asked"));
        }
        let deleted = ids.iter().zip(judged).filter_map(|(id, standing)| {
            let at =
                standing.delete_time.as_ref().filter(|_| standing.verdict() == Verdict::Garbage)?;
            Some((*id, at.seconds.saturating_mul(1_000_000) + i64::from(at.nanos) / 1_000))
        });
        Ok(deleted.collect())
    }

    /// Makes a namespace for a caller, who becomes its owner; one that is there
    /// is there.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn make_namespace(&self, caller: &Caller, name: &str) -> Result<(), ServiceError> {
        let bearer = self.tokens.for_caller(caller, CATALOG).await?;
        let description = "Models that name no namespace".to_owned();
        let request = CreateNamespaceRequest { name: name.to_owned(), description };
        let mut client = NamespacesServiceClient::new(self.transport.clone());
        match client.create_namespace(authorized(request, &bearer)).await {
            Ok(_) => Ok(()),
            Err(status) => match ServiceError::from_status(&status) {
                error if error.code() == Code::AlreadyExists => Ok(()),
                error => Err(error),
            },
        }
    }

    /// The id of a dataset that a caller may read, and its newest version.
    ///
    /// # Errors
    /// `NotFound`, or the catalog's.
    pub async fn dataset(
        &self,
        caller: &Caller,
        namespace: &str,
        name: &str,
    ) -> Result<(DatasetId, i64), ServiceError> {
        let bearer = self.tokens.for_caller(caller, CATALOG).await?;
        let request = GetDatasetRequest { namespace: namespace.to_owned(), name: name.to_owned() };
        let mut client = DatasetsServiceClient::new(self.transport.clone());
        let answer = client.get_dataset(authorized(request, &bearer)).await?.into_inner();
        let gone = || ServiceError::internal("the catalog answered no dataset");
        let found = answer.dataset.ok_or_else(gone)?;
        let id = found.id.parse().map_err(|_| gone())?;
        Ok((id, found.latest.map_or(0, |latest| latest.number)))
    }
}
