//! The catalog as this service asks it: for itself, since it decides by its own
//! grants.

use std::collections::HashSet;

use arrow::datatypes::Schema;
use caller::{TokenSource, authorized};
use catalog_api::v1::datasets_service_client::DatasetsServiceClient;
use catalog_api::v1::get_head_request::At;
use catalog_api::v1::manifest_service_client::ManifestServiceClient;
use catalog_api::v1::namespaces_service_client::NamespacesServiceClient;
use catalog_api::v1::{
    DatasetRef, GetHeadRequest, GetNamespaceRequest, Head, ListDatasetsRequest,
    ListNamespacesRequest,
};
use service_channel::{CONTROL_MESSAGE_BYTES_MAX, Transport};
use service_error::{Code, ServiceError};
use uuid::Uuid;

use crate::model::Owner;

const CATALOG: &str = "catalog";
/// Entries of one page of its lists.
const LIST_PAGE: i32 = 1_000;
/// Pages that one sweep reads of each; what comes after them is asked for by itself.
const LIST_PAGES_MAX: usize = 10;

/// A dataset as a load needs it.
#[derive(Debug)]
pub(super) struct Described {
    /// Its columns.
    pub schema: Schema,
    /// Its key; empty: none.
    pub key: String,
    /// The version.
    pub version: i64,
}

/// The catalog's client.
#[derive(Clone)]
pub(super) struct Catalog {
    transport: Transport,
    tokens: TokenSource,
}

impl Catalog {
    pub fn new(transport: Transport, tokens: TokenSource) -> Self {
        Self { transport, tokens }
    }

    /// The owner of these names; an empty dataset is the namespace itself.
    pub async fn owner(&self, namespace: &str, dataset: &str) -> Result<Owner, ServiceError> {
        if dataset.is_empty() {
            let id = self.namespace(namespace).await?;
            return Ok(Owner {
                namespace: id,
                dataset: None,
                namespace_name: namespace.to_owned(),
                dataset_name: String::new(),
                public: false,
            });
        }
        let reference = DatasetRef {
            dataset_id: String::new(),
            namespace: namespace.to_owned(),
            name: dataset.to_owned(),
        };
        self.dataset(reference).await
    }

    /// The dataset of an id, if it is still there.
    pub async fn dataset_of_id(&self, id: Uuid) -> Result<Option<Owner>, ServiceError> {
        let reference = DatasetRef { dataset_id: id.to_string(), ..DatasetRef::default() };
        absent(self.dataset(reference).await)
    }

    /// The id of a namespace's name, if there is one.
    pub async fn namespace_of_name(&self, name: &str) -> Result<Option<Uuid>, ServiceError> {
        absent(self.namespace(name).await)
    }

    /// Ids of namespaces and datasets that are there: all, unless there are too many to list.
    pub async fn listed(&self) -> Result<HashSet<Uuid>, ServiceError> {
        let mut ids = HashSet::new();
        let mut page_token = String::new();
        let mut client = NamespacesServiceClient::new(self.transport.clone());
        for _ in 0..LIST_PAGES_MAX {
            let bearer = self.tokens.for_self(CATALOG).await?;
            let request = ListNamespacesRequest { page_size: LIST_PAGE, page_token };
            let page = client.list_namespaces(authorized(request, &bearer)).await?.into_inner();
            ids.extend(page.namespaces.iter().filter_map(|one| Uuid::try_parse(&one.id).ok()));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        page_token = String::new();
        let mut client = DatasetsServiceClient::new(self.transport.clone())
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        for _ in 0..LIST_PAGES_MAX {
            let bearer = self.tokens.for_self(CATALOG).await?;
            let request =
                ListDatasetsRequest { page_size: LIST_PAGE, page_token, ..Default::default() };
            let page = client.list_datasets(authorized(request, &bearer)).await?.into_inner();
            ids.extend(page.datasets.iter().filter_map(|one| Uuid::try_parse(&one.id).ok()));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(ids)
    }

    /// A dataset's columns at a version (empty or `latest`: as it is).
    pub async fn described(
        &self,
        namespace: &str,
        dataset: &str,
        version: &str,
    ) -> Result<Described, ServiceError> {
        let reference = DatasetRef {
            dataset_id: String::new(),
            namespace: namespace.to_owned(),
            name: dataset.to_owned(),
        };
        let is_named = !matches!(version, "" | "latest");
        let at = is_named.then(|| At::Version(version.to_owned()));
        let head = self.head(reference, at).await?;
        let dataset = head.dataset.unwrap_or_default();
        let schema = item_schema::schema_from_ipc(&dataset.arrow_schema).map_err(|error| {
            ServiceError::internal(format!("the dataset's schema cannot be read: {error}"))
        })?;
        Ok(Described { schema, key: dataset.key_column, version: head.version })
    }

    async fn head(&self, dataset: DatasetRef, at: Option<At>) -> Result<Head, ServiceError> {
        let bearer = self.tokens.for_self(CATALOG).await?;
        let request = GetHeadRequest { dataset: Some(dataset), at };
        let mut client = ManifestServiceClient::new(self.transport.clone())
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        let answer = client.get_head(authorized(request, &bearer)).await?.into_inner();
        answer.head.ok_or_else(|| ServiceError::internal("the catalog answered no head"))
    }

    async fn namespace(&self, name: &str) -> Result<Uuid, ServiceError> {
        let bearer = self.tokens.for_self(CATALOG).await?;
        let request = authorized(GetNamespaceRequest { name: name.to_owned() }, &bearer);
        let mut client = NamespacesServiceClient::new(self.transport.clone());
        let answer = client.get_namespace(request).await?.into_inner();
        id(&answer.namespace.map(|namespace| namespace.id).unwrap_or_default())
    }

    async fn dataset(&self, reference: DatasetRef) -> Result<Owner, ServiceError> {
        let head = self.head(reference, None).await?;
        let missing = || ServiceError::internal("the catalog answered an incomplete head");
        let dataset = head.dataset.ok_or_else(missing)?;
        Ok(Owner {
            namespace: id(&head.namespace_id)?,
            dataset: Some(id(&dataset.id)?),
            namespace_name: dataset.namespace,
            dataset_name: dataset.name,
            public: dataset.public,
        })
    }
}

fn absent<T>(asked: Result<T, ServiceError>) -> Result<Option<T>, ServiceError> {
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn id(text: &str) -> Result<Uuid, ServiceError> {
    Uuid::try_parse(text)
        .map_err(|_| ServiceError::internal("the catalog answered an id that is none"))
}
