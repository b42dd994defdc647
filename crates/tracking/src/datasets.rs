//! Datasets that runs were given, and which of them are the catalog's.

use std::collections::HashMap;

use ids::DatasetId;
use mlflow_wire::proto::{DatasetSummary, SearchDatasets, search_datasets};
use mlflow_wire::{MlflowError, Result, names};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::sql::{Values, all};
use crate::{Scope, Tracking};

const EXPERIMENTS_MAX: usize = 20;

/// A dataset version of the catalog that a run's dataset turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetEdge {
    /// The dataset.
    pub id: DatasetId,
    /// `namespace/dataset`, as it was called then.
    pub name: String,
    /// Its version.
    pub version: i64,
    /// `training`, `validation`, …; empty if the client said nothing.
    pub context: String,
}

/// A dataset of the catalog as a client names it in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedDataset {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub dataset: String,
    /// Its version; none: the newest.
    pub version: Option<i64>,
}

impl NamedDataset {
    /// The dataset that a source means, if it is one of ours:
    /// `quarry://ns/name@3`, bare or inside a JSON source (`uri`, `url`, …),
    /// or `/v1/namespaces/ns/datasets/name…` at the platform's own door, whose
    /// address `origin` is.
    #[must_use]
    pub fn of_source(source: &str, origin: &str) -> Option<Self> {
        let parsed: serde_json::Value = serde_json::from_str(source).unwrap_or_default();
        let texts: Vec<&str> = match &parsed {
            serde_json::Value::Object(fields) => {
                fields.values().filter_map(serde_json::Value::as_str).collect()
            }
            serde_json::Value::String(text) => vec![text.as_str()],
            _ => vec![source],
        };
        texts.into_iter().find_map(|text| Self::of_uri(text, origin))
    }

    fn of_uri(uri: &str, origin: &str) -> Option<Self> {
        if let Some(rest) = uri.strip_prefix("quarry://") {
            return Self::of_path(rest);
        }
        // Elsewhere there may be another platform, with datasets of these names.
        let rest = match (door(uri), door(origin)) {
            (Some((host, rest)), Some((ours, _))) if host.eq_ignore_ascii_case(ours) => rest,
            (None, _) => uri,
            _ => return None,
        };
        let rest = rest.strip_prefix("/v1/namespaces/")?;
        let (namespace, rest) = rest.split_once("/datasets/")?;
        let mut parts = rest.split(['/', '?', '#']);
        let dataset = parts.next()?;
        let version = match (parts.next(), parts.next()) {
            (Some("versions"), Some(number)) => Some(number.parse().ok()?),
            _ => None,
        };
        Self::checked(namespace, dataset, version)
    }

    fn of_path(path: &str) -> Option<Self> {
        let path = path.split(['?', '#']).next()?.trim_matches('/');
        let (namespace, rest) = path.split_once('/')?;
        let (dataset, version) = match rest.split_once('@') {
            Some((dataset, "latest")) => (dataset, None),
            Some((dataset, version)) => (dataset, Some(version.parse().ok()?)),
            None => (rest, None),
        };
        Self::checked(namespace, dataset, version)
    }

    fn checked(namespace: &str, dataset: &str, version: Option<i64>) -> Option<Self> {
        let is_name = |text: &str| !text.is_empty() && !text.contains('/');
        (is_name(namespace) && is_name(dataset)).then(|| Self {
            namespace: namespace.to_owned(),
            dataset: dataset.to_owned(),
            version,
        })
    }
}

/// The host and port of an address, and its path. Whether TLS ends before it, an
/// address does not tell.
fn door(address: &str) -> Option<(&str, &str)> {
    let (rest, port) = match address.strip_prefix("http://") {
        Some(rest) => (rest, ":80"),
        None => (address.strip_prefix("https://")?, ":443"),
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    Some((host.strip_suffix(port).unwrap_or(host), path))
}

#[derive(Debug, FromQueryResult)]
struct SummaryRow {
    experiment_id: i64,
    name: String,
    digest: String,
    context: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct EdgeRow {
    catalog_id: Uuid,
    catalog_version: i64,
    catalog_name: String,
    context: Option<String>,
}

impl Tracking {
    /// The datasets that runs of some experiments were given.
    ///
    /// # Errors
    /// No experiment, or too many.
    pub async fn search_datasets(
        &self,
        scope: &Scope,
        asked: &SearchDatasets,
    ) -> Result<search_datasets::Response> {
        if asked.experiment_ids.is_empty() {
            return Err(MlflowError::invalid(
                "SearchDatasets request must specify at least one experiment_id.",
            ));
        }
        if asked.experiment_ids.len() > EXPERIMENTS_MAX {
            return Err(MlflowError::invalid(format!(
                "SearchDatasets request cannot specify more than {EXPERIMENTS_MAX} experiment_ids. \
                 Received {} experiment_ids.",
                asked.experiment_ids.len()
            )));
        }
        let ids: Result<Vec<i64>> =
            asked.experiment_ids.iter().map(|id| names::experiment_id(id)).collect();
        let mut values = Values::default();
        let namespace = values.add(scope.namespace.uuid());
        let list = values.list(ids?);
        let sql = format!(
            "SELECT DISTINCT d.experiment_id, d.name, d.digest, g.value AS context FROM run_dataset d \
             JOIN run_input i ON i.dataset_id = d.id LEFT JOIN run_input_tag g ON g.run_id = i.run_id \
             AND g.dataset_id = i.dataset_id AND g.key = 'mlflow.data.context' \
             WHERE d.namespace_id = {namespace} AND d.experiment_id IN ({list}) \
             ORDER BY d.experiment_id, d.name, d.digest LIMIT 1000"
        );
        let rows: Vec<SummaryRow> = all(self.sql.read(), &sql, values.all).await?;
        let dataset_summaries = rows.into_iter().map(|row| DatasetSummary {
            experiment_id: Some(row.experiment_id.to_string()),
            name: Some(row.name),
            digest: Some(row.digest),
            context: row.context,
        });
        Ok(search_datasets::Response { dataset_summaries: dataset_summaries.collect() })
    }

    /// The catalog's dataset versions that a run was given: the lineage of what
    /// it made.
    ///
    /// # Errors
    /// The database's.
    pub async fn dataset_edges(&self, scope: &Scope, run_id: &str) -> Result<Vec<DatasetEdge>> {
        let sql = "SELECT d.catalog_id, d.catalog_version, d.catalog_name, g.value AS context FROM run_input i \
                   JOIN run_dataset d ON d.id = i.dataset_id LEFT JOIN run_input_tag g ON g.run_id = i.run_id \
                   AND g.dataset_id = i.dataset_id AND g.key = 'mlflow.data.context' \
                   WHERE i.run_id = $1 AND d.namespace_id = $2 AND d.catalog_id IS NOT NULL ORDER BY i.seq";
        let values = vec![run_id.into(), scope.namespace.uuid().into()];
        let rows: Vec<EdgeRow> = all(self.sql.read(), sql, values).await?;
        let edges = rows.into_iter().map(|row| DatasetEdge {
            id: DatasetId::from_uuid(row.catalog_id),
            name: row.catalog_name,
            version: row.catalog_version,
            context: row.context.unwrap_or_default(),
        });
        Ok(edges.collect())
    }
}

/// The catalog's versions of sources, as the registry resolved them, by source.
pub type Resolved = HashMap<String, DatasetEdge>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_source_of_ours_is_recognised() {
        let of = |source: &str| {
            NamedDataset::of_source(source, "http://H:7070")
                .map(|it| format!("{}/{}@{:?}", it.namespace, it.dataset, it.version))
        };
        for (source, is) in [
            ("quarry://vision/cats@3", "vision/cats@Some(3)"),
            (r#"{"uri":"quarry://vision/cats"}"#, "vision/cats@None"),
            (
                r#"{"url":"http://h:7070/v1/namespaces/vision/datasets/cats/versions/12"}"#,
                "vision/cats@Some(12)",
            ),
            (
                r#"{"url":"https://h:7070/v1/namespaces/vision/datasets/cats/items?x=1"}"#,
                "vision/cats@None",
            ),
            ("quarry://vision/cats@latest", "vision/cats@None"),
        ] {
            assert_eq!(of(source).unwrap(), is, "{source}");
        }
        for source in [
            "s3://b/k",
            "{}",
            "quarry://vision",
            "quarry://a/b/c",
            "quarry://a/b@x",
            r#"{"tags":{}}"#,
        ] {
            assert_eq!(of(source), None, "{source}");
        }
        for elsewhere in [
            "http://other:7070/v1/namespaces/vision/datasets/cats",
            "http://h/v1/namespaces/vision/datasets/cats",
            "http://h:7070@other/v1/namespaces/vision/datasets/cats",
            "http://h:7070/proxy/v1/namespaces/vision/datasets/cats",
            "s3://b/v1/namespaces/vision/datasets/cats",
        ] {
            assert_eq!(of(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(of("/v1/namespaces/vision/datasets/cats").unwrap(), "vision/cats@None");
        let default =
            NamedDataset::of_source("https://h/v1/namespaces/a/datasets/b", "https://h:443");
        assert_eq!(default.unwrap().dataset, "b");
    }
}
