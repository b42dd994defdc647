//! What SQL's metadata lists: the datasets that a caller may see.

use std::sync::Arc;

use arrow::datatypes::Schema;
use caller::{Caller, Refused};
use catalog_api::v1::{Dataset, ListDatasetsRequest};
use flight_sql::TableRow;
use futures::stream::{self, StreamExt};
use options_api::v1::Authz;
use service_error::{Code, ServiceError};

use crate::app::App;
use crate::model::Address;

const TABLES: &str = "arrow.flight.protocol.FlightService/CommandGetTables";
/// Datasets asked of the catalog at once.
const DATASETS_PAGE: i32 = 1_000;
/// The most tables of one answer.
const TABLES_MAX: usize = 100_000;
/// Schemas that are asked for at once.
const SCHEMAS_AHEAD: usize = 8;

impl App {
    /// Lets the caller pass if it holds what a command needs beside the
    /// method's own need.
    pub fn admit(&self, caller: &Caller, need: &Authz, command: &str) -> Result<(), ServiceError> {
        caller::enforce(need, caller)
            .inspect_err(|error| self.access.denied(caller, command, error))
    }

    /// The namespaces that hold a dataset that the caller may see, in order.
    pub async fn sql_namespaces(&self, caller: &Caller) -> Result<Vec<String>, ServiceError> {
        let mut names: Vec<String> =
            self.datasets(caller, "").await?.into_iter().map(|dataset| dataset.namespace).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The datasets that the caller may see, in order of namespace and name.
    pub async fn sql_tables(
        &self,
        caller: &Caller,
        with_schema: bool,
        namespace: Option<String>,
        dataset: Option<String>,
    ) -> Result<Vec<TableRow>, ServiceError> {
        let found = self.datasets(caller, namespace.as_deref().unwrap_or_default()).await;
        let mut datasets = match found {
            Err(error) if error.code() == Code::NotFound => Vec::new(),
            found => found?,
        };
        datasets.retain(|found| dataset.as_deref().is_none_or(|name| name == found.name));
        datasets.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let rows = stream::iter(datasets).map(|dataset| async move {
            let mut row = TableRow {
                namespace: dataset.namespace,
                dataset: dataset.name,
                key: dataset.key_column,
                schema: Arc::new(Schema::empty()),
            };
            if with_schema {
                let address = Address::new(&row.namespace, &row.dataset)?;
                match self.open(caller, &address, "", TABLES).await {
                    Ok(opened) => row.schema = opened.schema,
                    // Deleted, or taken from the caller, since it was listed.
                    Err(error) if error.code() == Code::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            Ok(Some(row))
        });
        let rows: Vec<Result<Option<TableRow>, ServiceError>> =
            rows.buffered(SCHEMAS_AHEAD).collect().await;
        rows.into_iter().filter_map(Result::transpose).collect()
    }

    async fn datasets(
        &self,
        caller: &Caller,
        namespace: &str,
    ) -> Result<Vec<Dataset>, ServiceError> {
        let mut datasets = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListDatasetsRequest {
                namespace: namespace.to_owned(),
                page_size: DATASETS_PAGE,
                page_token,
            };
            let page = self.catalog.datasets(caller, request).await?;
            datasets.extend(page.datasets);
            if datasets.len() > TABLES_MAX {
                let message = format!("there are more than {TABLES_MAX} tables; name a namespace");
                return Err(ServiceError::exhausted(message));
            }
            if page.next_page_token.is_empty() {
                return Ok(datasets);
            }
            page_token = page.next_page_token;
        }
    }
}
