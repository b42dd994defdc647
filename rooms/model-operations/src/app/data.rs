//! Metrics and parameters of versions, cards, and versions beside each other.

use std::collections::{BTreeMap, BTreeSet};

use caller::Caller;
use options_api::v1::Level;
use service_error::ServiceError;

use super::Registry;
use crate::model::name::{KEY_CHARS_MAX, check_chars};
use crate::model::{Card, MetricPoint, ModelPath, ModelVersion, VersionRef, check_card};

const SERVICE: &str = "quarry.models.v1.VersionsService";
/// Points of one call.
pub const POINTS_MAX: usize = 10_000;
/// Parameters of one call.
pub const PARAMS_MAX: usize = 1_000;
/// Characters of a parameter's value, as in MLflow.
const PARAM_CHARS_MAX: usize = 6_000;
const COMPARED_MAX: usize = 10;

/// One property of several versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedField {
    pub field: String,
    /// Empty where a version has none.
    pub values: Vec<String>,
    pub differs: bool,
}

/// A version with its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionWithData {
    pub version: ModelVersion,
    /// The last point of each metric.
    pub metrics: Vec<MetricPoint>,
    pub params: BTreeMap<String, String>,
}

/// Checks metrics and parameters.
///
/// # Errors
/// Too many of them, or a key or a value that is too long.
pub fn check_data(
    metrics: &[MetricPoint],
    params: &BTreeMap<String, String>,
) -> Result<(), ServiceError> {
    if metrics.len() > POINTS_MAX {
        let message = format!("has {} points; at most {POINTS_MAX} a call", metrics.len());
        return Err(ServiceError::invalid("metrics", message));
    }
    if params.len() > PARAMS_MAX {
        let message = format!("has {} entries; at most {PARAMS_MAX} a call", params.len());
        return Err(ServiceError::invalid("params", message));
    }
    for point in metrics {
        check_key("metrics", &point.key)?;
    }
    for (key, value) in params {
        check_key("params", key)?;
        check_chars("params", value, PARAM_CHARS_MAX)?;
    }
    Ok(())
}

fn check_key(field: &str, key: &str) -> Result<(), ServiceError> {
    if key.is_empty() {
        return Err(ServiceError::invalid(field, "a key is empty"));
    }
    check_chars(field, key, KEY_CHARS_MAX)
}

impl Registry {
    /// Adds points and parameters to a version.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`, `FailedPrecondition`
    /// for a parameter that has another value.
    pub async fn log_version_data(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        metrics: &[MetricPoint],
        params: &BTreeMap<String, String>,
    ) -> Result<(), ServiceError> {
        check_data(metrics, params)?;
        let action = format!("{SERVICE}/LogVersionData");
        let (_, version) = self.version_for(caller, Level::Write, path, which, &action).await?;
        self.store.log_data(&version, metrics, params, caller.principal).await
    }

    /// A version's last points and parameters.
    ///
    /// # Errors
    /// The database's.
    pub async fn with_data(&self, version: ModelVersion) -> Result<VersionWithData, ServiceError> {
        let metrics = self.store.last_points(version.id).await?;
        let params = self.store.params(version.id).await?;
        Ok(VersionWithData { version, metrics, params })
    }

    /// Points of a metric after a step, by step.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn metric_points(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        key: &str,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<MetricPoint>, ServiceError> {
        let action = format!("{SERVICE}/ListMetricPoints");
        let (_, version) = self.version_for(caller, Level::Read, path, which, &action).await?;
        self.store.points(version.id, key, after, limit).await
    }

    /// Versions beside each other.
    ///
    /// # Errors
    /// `InvalidArgument` for fewer than two or more than ten, `NotFound`.
    pub async fn compare(
        &self,
        caller: &Caller,
        asked: &[(ModelPath, VersionRef)],
    ) -> Result<(Vec<VersionWithData>, Vec<ComparedField>), ServiceError> {
        if !(2..=COMPARED_MAX).contains(&asked.len()) {
            let message = format!("names {} versions: 2 to {COMPARED_MAX}", asked.len());
            return Err(ServiceError::invalid("versions", message));
        }
        let action = format!("{SERVICE}/CompareVersions");
        let mut versions = Vec::with_capacity(asked.len());
        for (path, which) in asked {
            let (_, version) = self.version_for(caller, Level::Read, path, which, &action).await?;
            versions.push(self.with_data(version).await?);
        }
        let fields = beside(&versions);
        Ok((versions, fields))
    }

    /// The card of a model (number 0) or of a version.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_card(
        &self,
        caller: &Caller,
        path: &ModelPath,
        number: i64,
    ) -> Result<Option<Card>, ServiceError> {
        let action = "quarry.models.v1.ModelsService/GetCard";
        let model = self.model_for(caller, Level::Read, path, action).await?;
        self.store.card(model.id, number).await
    }

    /// Writes the card of a model (number 0) or of a version.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied`.
    pub async fn set_card(
        &self,
        caller: &Caller,
        path: &ModelPath,
        number: i64,
        markdown: &str,
    ) -> Result<(), ServiceError> {
        check_card(markdown)?;
        let action = "quarry.models.v1.ModelsService/SetCard";
        let model = if number == 0 {
            self.model_for(caller, Level::Write, path, action).await?
        } else {
            let which = VersionRef::Number(number);
            self.version_for(caller, Level::Write, path, &which, action).await?.0
        };
        self.store.set_card(model.id, number, markdown, caller.principal).await
    }
}

/// Every property that one of the versions has, in one order.
fn beside(versions: &[VersionWithData]) -> Vec<ComparedField> {
    let rows: Vec<BTreeMap<String, String>> = versions.iter().map(properties).collect();
    let names: BTreeSet<&String> = rows.iter().flat_map(BTreeMap::keys).collect();
    let field = |name: &String| {
        let values: Vec<String> =
            rows.iter().map(|row| row.get(name).cloned().unwrap_or_default()).collect();
        let differs = values.windows(2).any(|pair| pair[0] != pair[1]);
        ComparedField { field: name.clone(), values, differs }
    };
    names.into_iter().map(field).collect()
}

fn properties(of: &VersionWithData) -> BTreeMap<String, String> {
    let version = &of.version;
    let mut row = BTreeMap::from([
        ("stage".to_owned(), version.stage.clone()),
        ("byte_count".to_owned(), version.byte_count.to_string()),
        ("file_count".to_owned(), version.file_count.to_string()),
        ("flavors".to_owned(), version.flavors.join(", ")),
        ("aliases".to_owned(), version.aliases.join(", ")),
        ("source".to_owned(), version.source.clone()),
        ("digest".to_owned(), version.digest.as_ref().map(hex::encode).unwrap_or_default()),
        ("signed".to_owned(), version.signed.to_string()),
        ("scan".to_owned(), format!("{:?}", version.scan).to_lowercase()),
    ]);
    row.extend(version.tags.iter().map(|(key, value)| (format!("tags.{key}"), value.clone())));
    row.extend(of.params.iter().map(|(key, value)| (format!("params.{key}"), value.clone())));
    let points = of.metrics.iter();
    row.extend(points.map(|point| (format!("metrics.{}", point.key), point.value.to_string())));
    row
}
