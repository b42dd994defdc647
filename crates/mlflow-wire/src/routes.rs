//! The routes of MLflow's REST that are served: a row each, with what it needs.
//! What is no row here is refused.

use http::Method;

/// Paths below these are MLflow's.
pub const PREFIXES: &[&str] = &[
    "/api/2.0/mlflow",
    "/api/2.0/mlflow-artifacts",
    "/api/3.0/mlflow",
    "/ajax-api/2.0/mlflow",
    "/ajax-api/2.0/mlflow-artifacts",
    "/ajax-api/3.0/mlflow",
    "/health",
    "/version",
];

/// Of them, those that need no credential: health, and files opened by a
/// signature in their address.
pub const OPEN: &[&str] = &["/health", "/version", "/api/2.0/mlflow-artifacts/signed"];

/// Of them, those whose bodies are files.
pub const BULK: &[&str] = &[
    "/api/2.0/mlflow-artifacts/artifacts",
    "/ajax-api/2.0/mlflow-artifacts/artifacts",
    "/api/2.0/mlflow-artifacts/signed",
];

/// What a route needs before it is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Open,
    /// To read.
    Read,
    /// To change something.
    Write,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is its route's own name")]
pub enum Operation {
    Health,
    Version,
    ServerInfo,
    GetWorkspace,
    CreateRegisteredModel,
    RenameRegisteredModel,
    UpdateRegisteredModel,
    DeleteRegisteredModel,
    GetRegisteredModel,
    SearchRegisteredModels,
    GetLatestVersions,
    SetRegisteredModelTag,
    DeleteRegisteredModelTag,
    SetRegisteredModelAlias,
    DeleteRegisteredModelAlias,
    GetModelVersionByAlias,
    CreateModelVersion,
    UpdateModelVersion,
    TransitionModelVersionStage,
    DeleteModelVersion,
    GetModelVersion,
    SearchModelVersions,
    GetModelVersionDownloadUri,
    SetModelVersionTag,
    DeleteModelVersionTag,
    CreateExperiment,
    SearchExperiments,
    GetExperiment,
    GetExperimentByName,
    DeleteExperiment,
    RestoreExperiment,
    UpdateExperiment,
    SetExperimentTag,
    DeleteExperimentTag,
    SearchDatasets,
    CreateRun,
    UpdateRun,
    DeleteRun,
    RestoreRun,
    GetRun,
    SearchRuns,
    LogMetric,
    LogParam,
    LogBatch,
    LogModel,
    LogInputs,
    LogOutputs,
    SetTag,
    DeleteTag,
    GetMetricHistory,
    GetMetricHistoryBulkInterval,
    ListArtifacts,
    CreatePresignedUploadUrl,
    CreatePresignedDownloadUrl,
    CreateLoggedModel,
    SearchLoggedModels,
    GetLoggedModel,
    FinalizeLoggedModel,
    DeleteLoggedModel,
    SetLoggedModelTags,
    DeleteLoggedModelTag,
    LogLoggedModelParams,
    ListLoggedModelArtifacts,
    CreateWebhook,
    ListWebhooks,
    GetWebhook,
    UpdateWebhook,
    DeleteWebhook,
    TestWebhook,
    ListArtifactsOfPath,
    DownloadArtifact,
    UploadArtifact,
    DeleteArtifact,
    CreateMultipartUpload,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    GetPresignedDownloadUrl,
    DownloadSigned,
    UploadSigned,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// Its path; `{x}` is one part, `{x*}` all that follow.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
    /// What it does.
    pub operation: Operation,
}

const fn row(method: &'static str, path: &'static str, need: Need, operation: Operation) -> Route {
    Route { method, path, need, operation }
}

use Need::{Open, Read, Write};
use Operation as Op;

/// All of them. Those below `/api` are answered below `/ajax-api` too.
pub const ROUTES: &[Route] = &[
    row("GET", "/health", Open, Op::Health),
    row("GET", "/version", Open, Op::Version),
    row("GET", "/api/3.0/mlflow/server-info", Read, Op::ServerInfo),
    row("GET", "/api/3.0/mlflow/workspaces/{name}", Read, Op::GetWorkspace),
    row("POST", "/api/2.0/mlflow/registered-models/create", Write, Op::CreateRegisteredModel),
    row("POST", "/api/2.0/mlflow/registered-models/rename", Write, Op::RenameRegisteredModel),
    row("PATCH", "/api/2.0/mlflow/registered-models/update", Write, Op::UpdateRegisteredModel),
    row("DELETE", "/api/2.0/mlflow/registered-models/delete", Write, Op::DeleteRegisteredModel),
    row("GET", "/api/2.0/mlflow/registered-models/get", Read, Op::GetRegisteredModel),
    row("GET", "/api/2.0/mlflow/registered-models/search", Read, Op::SearchRegisteredModels),
    row(
        "POST",
        "/api/2.0/mlflow/registered-models/get-latest-versions",
        Read,
        Op::GetLatestVersions,
    ),
    row(
        "GET",
        "/api/2.0/mlflow/registered-models/get-latest-versions",
        Read,
        Op::GetLatestVersions,
    ),
    row("POST", "/api/2.0/mlflow/registered-models/set-tag", Write, Op::SetRegisteredModelTag),
    row(
        "DELETE",
        "/api/2.0/mlflow/registered-models/delete-tag",
        Write,
        Op::DeleteRegisteredModelTag,
    ),
    row("POST", "/api/2.0/mlflow/registered-models/alias", Write, Op::SetRegisteredModelAlias),
    row("DELETE", "/api/2.0/mlflow/registered-models/alias", Write, Op::DeleteRegisteredModelAlias),
    row("GET", "/api/2.0/mlflow/registered-models/alias", Read, Op::GetModelVersionByAlias),
    row("POST", "/api/2.0/mlflow/model-versions/create", Write, Op::CreateModelVersion),
    row("PATCH", "/api/2.0/mlflow/model-versions/update", Write, Op::UpdateModelVersion),
    row(
        "POST",
        "/api/2.0/mlflow/model-versions/transition-stage",
        Write,
        Op::TransitionModelVersionStage,
    ),
    row("DELETE", "/api/2.0/mlflow/model-versions/delete", Write, Op::DeleteModelVersion),
    row("GET", "/api/2.0/mlflow/model-versions/get", Read, Op::GetModelVersion),
    row("GET", "/api/2.0/mlflow/model-versions/search", Read, Op::SearchModelVersions),
    row(
        "GET",
        "/api/2.0/mlflow/model-versions/get-download-uri",
        Read,
        Op::GetModelVersionDownloadUri,
    ),
    row("POST", "/api/2.0/mlflow/model-versions/set-tag", Write, Op::SetModelVersionTag),
    row("DELETE", "/api/2.0/mlflow/model-versions/delete-tag", Write, Op::DeleteModelVersionTag),
    row("POST", "/api/2.0/mlflow/experiments/create", Write, Op::CreateExperiment),
    row("POST", "/api/2.0/mlflow/experiments/search", Read, Op::SearchExperiments),
    row("GET", "/api/2.0/mlflow/experiments/search", Read, Op::SearchExperiments),
    row("GET", "/api/2.0/mlflow/experiments/get", Read, Op::GetExperiment),
    row("GET", "/api/2.0/mlflow/experiments/get-by-name", Read, Op::GetExperimentByName),
    row("POST", "/api/2.0/mlflow/experiments/delete", Write, Op::DeleteExperiment),
    row("POST", "/api/2.0/mlflow/experiments/restore", Write, Op::RestoreExperiment),
    row("POST", "/api/2.0/mlflow/experiments/update", Write, Op::UpdateExperiment),
    row("POST", "/api/2.0/mlflow/experiments/set-experiment-tag", Write, Op::SetExperimentTag),
    row(
        "POST",
        "/api/2.0/mlflow/experiments/delete-experiment-tag",
        Write,
        Op::DeleteExperimentTag,
    ),
    row("POST", "/api/2.0/mlflow/experiments/search-datasets", Read, Op::SearchDatasets),
    row("POST", "/api/2.0/mlflow/runs/create", Write, Op::CreateRun),
    row("POST", "/api/2.0/mlflow/runs/update", Write, Op::UpdateRun),
    row("POST", "/api/2.0/mlflow/runs/delete", Write, Op::DeleteRun),
    row("POST", "/api/2.0/mlflow/runs/restore", Write, Op::RestoreRun),
    row("GET", "/api/2.0/mlflow/runs/get", Read, Op::GetRun),
    row("POST", "/api/2.0/mlflow/runs/search", Read, Op::SearchRuns),
    row("POST", "/api/2.0/mlflow/runs/log-metric", Write, Op::LogMetric),
    row("POST", "/api/2.0/mlflow/runs/log-parameter", Write, Op::LogParam),
    row("POST", "/api/2.0/mlflow/runs/log-batch", Write, Op::LogBatch),
    row("POST", "/api/2.0/mlflow/runs/log-model", Write, Op::LogModel),
    row("POST", "/api/2.0/mlflow/runs/log-inputs", Write, Op::LogInputs),
    row("POST", "/api/2.0/mlflow/runs/outputs", Write, Op::LogOutputs),
    row("POST", "/api/2.0/mlflow/runs/set-tag", Write, Op::SetTag),
    row("POST", "/api/2.0/mlflow/runs/delete-tag", Write, Op::DeleteTag),
    row("GET", "/api/2.0/mlflow/metrics/get-history", Read, Op::GetMetricHistory),
    row(
        "GET",
        "/api/2.0/mlflow/metrics/get-history-bulk-interval",
        Read,
        Op::GetMetricHistoryBulkInterval,
    ),
    row("GET", "/api/2.0/mlflow/artifacts/list", Read, Op::ListArtifacts),
    row(
        "POST",
        "/api/2.0/mlflow/artifacts/presigned-upload-url",
        Write,
        Op::CreatePresignedUploadUrl,
    ),
    row(
        "POST",
        "/api/2.0/mlflow/artifacts/presigned-download-url",
        Read,
        Op::CreatePresignedDownloadUrl,
    ),
    row("POST", "/api/2.0/mlflow/logged-models", Write, Op::CreateLoggedModel),
    row("POST", "/api/2.0/mlflow/logged-models/search", Read, Op::SearchLoggedModels),
    row("GET", "/api/2.0/mlflow/logged-models/{id}", Read, Op::GetLoggedModel),
    row("PATCH", "/api/2.0/mlflow/logged-models/{id}", Write, Op::FinalizeLoggedModel),
    row("DELETE", "/api/2.0/mlflow/logged-models/{id}", Write, Op::DeleteLoggedModel),
    row("PATCH", "/api/2.0/mlflow/logged-models/{id}/tags", Write, Op::SetLoggedModelTags),
    row("DELETE", "/api/2.0/mlflow/logged-models/{id}/tags/{key}", Write, Op::DeleteLoggedModelTag),
    row("POST", "/api/2.0/mlflow/logged-models/{id}/params", Write, Op::LogLoggedModelParams),
    row(
        "GET",
        "/api/2.0/mlflow/logged-models/{id}/artifacts/directories",
        Read,
        Op::ListLoggedModelArtifacts,
    ),
    row("POST", "/api/2.0/mlflow/webhooks", Write, Op::CreateWebhook),
    row("GET", "/api/2.0/mlflow/webhooks", Read, Op::ListWebhooks),
    row("GET", "/api/2.0/mlflow/webhooks/{id}", Read, Op::GetWebhook),
    row("PATCH", "/api/2.0/mlflow/webhooks/{id}", Write, Op::UpdateWebhook),
    row("DELETE", "/api/2.0/mlflow/webhooks/{id}", Write, Op::DeleteWebhook),
    row("POST", "/api/2.0/mlflow/webhooks/{id}/test", Write, Op::TestWebhook),
    row("GET", "/api/2.0/mlflow-artifacts/artifacts", Read, Op::ListArtifactsOfPath),
    row("GET", "/api/2.0/mlflow-artifacts/artifacts/{path*}", Read, Op::DownloadArtifact),
    row("PUT", "/api/2.0/mlflow-artifacts/artifacts/{path*}", Write, Op::UploadArtifact),
    row("DELETE", "/api/2.0/mlflow-artifacts/artifacts/{path*}", Write, Op::DeleteArtifact),
    row("POST", "/api/2.0/mlflow-artifacts/mpu/create/{path*}", Write, Op::CreateMultipartUpload),
    row(
        "POST",
        "/api/2.0/mlflow-artifacts/mpu/complete/{path*}",
        Write,
        Op::CompleteMultipartUpload,
    ),
    row("POST", "/api/2.0/mlflow-artifacts/mpu/abort/{path*}", Write, Op::AbortMultipartUpload),
    row("GET", "/api/2.0/mlflow-artifacts/presigned/{path*}", Read, Op::GetPresignedDownloadUrl),
    row("GET", "/api/2.0/mlflow-artifacts/signed/{ticket}", Open, Op::DownloadSigned),
    row("PUT", "/api/2.0/mlflow-artifacts/signed/{ticket}", Open, Op::UploadSigned),
];

/// What a request's method and path mean.
#[derive(Debug, Clone)]
pub enum Found {
    /// A route, with the parts of its path as they were sent, still escaped.
    Route(&'static Route, Vec<String>),
    /// The path is one, under other methods.
    OtherMethod,
    /// No route.
    Nothing,
}

/// Finds the row of a request. HEAD is GET.
#[must_use]
pub fn find(method: &Method, path: &str) -> Found {
    let path = match path.strip_prefix("/ajax-api/") {
        Some(rest) => format!("/api/{rest}"),
        None => path.to_owned(),
    };
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let mut other = false;
    for route in ROUTES {
        let Some(parts) = parts(route.path, &path) else { continue };
        if route.method == method {
            return Found::Route(route, parts);
        }
        other = true;
    }
    if other { Found::OtherMethod } else { Found::Nothing }
}

fn parts(pattern: &str, path: &str) -> Option<Vec<String>> {
    // Nearly every route has no part of its own.
    let Some(open) = pattern.find('{') else {
        return (pattern == path).then(Vec::new);
    };
    let (fixed, _) = pattern.split_at(open);
    let mut rest = path.strip_prefix(fixed)?;
    let mut found = Vec::new();
    for piece in pattern[open..].split('/') {
        if piece.ends_with("*}") {
            found.push(rest.to_owned());
            return (!rest.is_empty()).then_some(found);
        }
        let (part, behind) = match rest.split_once('/') {
            Some((part, behind)) => (part, Some(behind)),
            None => (rest, None),
        };
        if piece.starts_with('{') {
            if part.is_empty() {
                return None;
            }
            found.push(part.to_owned());
        } else if piece != part {
            return None;
        }
        rest = behind.unwrap_or_default();
    }
    rest.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, path: &str) -> Option<(Operation, Vec<String>)> {
        match find(&method.parse().unwrap_or(Method::GET), path) {
            Found::Route(route, parts) => Some((route.operation, parts)),
            _ => None,
        }
    }

    #[test]
    fn a_path_is_found_by_its_method_and_mirrored() {
        assert_eq!(of("GET", "/api/2.0/mlflow/runs/get"), Some((Op::GetRun, vec![])));
        assert_eq!(of("GET", "/ajax-api/2.0/mlflow/runs/get"), Some((Op::GetRun, vec![])));
        assert_eq!(of("HEAD", "/health"), Some((Op::Health, vec![])));
        assert!(matches!(find(&Method::PUT, "/api/2.0/mlflow/runs/get"), Found::OtherMethod));
        for nothing in
            ["/api/2.0/mlflow/runs", "/api/2.0/mlflow/runs/get/", "/api/2.0/mlflow", "/health/x"]
        {
            assert!(matches!(find(&Method::GET, nothing), Found::Nothing), "{nothing}");
        }
    }

    #[test]
    fn parts_of_a_path_are_taken_as_they_are() {
        let model = of("DELETE", "/api/2.0/mlflow/logged-models/m-1/tags/a%2Fb");
        assert_eq!(model, Some((Op::DeleteLoggedModelTag, vec!["m-1".into(), "a%2Fb".into()])));
        let search = of("POST", "/api/2.0/mlflow/logged-models/search");
        assert_eq!(search.map(|(operation, _)| operation), Some(Op::SearchLoggedModels));
        let file = of("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/a/b.txt");
        assert_eq!(file, Some((Op::UploadArtifact, vec!["0/a/b.txt".into()])));
        assert_eq!(
            of("GET", "/api/2.0/mlflow-artifacts/artifacts"),
            Some((Op::ListArtifactsOfPath, vec![]))
        );
        assert_eq!(of("GET", "/api/2.0/mlflow/logged-models/"), None);
    }

    #[test]
    fn every_row_lies_below_a_prefix_and_only_open_rows_below_open_ones() {
        let below = |path: &str, prefixes: &[&str]| {
            prefixes.iter().any(|prefix| {
                path.strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        for route in ROUTES {
            assert!(below(route.path, PREFIXES), "{}", route.path);
            assert_eq!(below(route.path, OPEN), route.need == Need::Open, "{}", route.path);
            let changes = route.method != "GET";
            assert!(
                route.need != Need::Write || changes,
                "{} changes something by GET",
                route.path
            );
        }
    }
}
