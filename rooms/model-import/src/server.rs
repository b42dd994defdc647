//! A running MLflow server, by its REST: pages of models and versions, files by
//! its proxy.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use quarry_client::failure::Failure;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use service_error::ServiceError;
use settings::Secret;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use url::Url;

use crate::place::{Roots, local};
use crate::source::{Files, Opening, Page, SourceMetric, SourceModel, SourceVersion, damaged};

const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// Nothing of a file came for so long.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// Its own limit for models is 1,000.
const PAGE_ROWS: &str = "200";
const ANSWER_BYTES_MAX: usize = 64 << 20;
const DEPTH_MAX: usize = 32;
const FILES_MAX: usize = 10_000;

/// The server.
#[derive(Debug)]
pub struct Server {
    client: Client,
    url: Url,
    token: Option<Secret>,
    workspace: String,
    roots: Roots,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tag {
    key: String,
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Alias {
    alias: String,
    version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Model {
    name: String,
    description: String,
    tags: Vec<Tag>,
    aliases: Vec<Alias>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Models {
    registered_models: Vec<Model>,
    next_page_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    version: String,
    creation_timestamp: i64,
    description: String,
    current_stage: String,
    source: String,
    run_id: String,
    run_link: String,
    tags: Vec<Tag>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Versions {
    model_versions: Vec<Version>,
    next_page_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Place {
    artifact_uri: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metric {
    key: String,
    value: serde_json::Value,
    step: i64,
    timestamp: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunData {
    metrics: Vec<Metric>,
    params: Vec<Tag>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Run {
    data: RunData,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunAnswer {
    run: Run,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoggedAnswer {
    model: Run,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    path: String,
    is_dir: bool,
    file_size: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entries {
    files: Vec<Entry>,
}

/// A file of the proxy: its whole path, and what it should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    pub path: String,
    /// Below the version.
    pub name: String,
    pub bytes: u64,
}

impl Server {
    /// Looks whether an MLflow server answers.
    ///
    /// # Errors
    /// One that does not, or is no such server.
    pub async fn open(url: &str, opening: Opening) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::usage(format!("{url:?} is no server's URL: {why}"));
        let mut parsed = Url::parse(url).map_err(|err| wrong(&err.to_string()))?;
        parsed.set_query(None);
        parsed.set_fragment(None);
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(SILENT_MAX)
            .build()
            .map_err(|err| wrong(&err.to_string()))?;
        let roots = Roots::new(&opening.folders, &[]).map_err(Failure::usage)?;
        let Opening { workspace, token, .. } = opening;
        let server = Self { client, url: parsed, token, workspace, roots };
        let version = server.ask(&["version"], &[]).await?;
        let version = server.text(version).await?;
        if !version.trim().starts_with(|c: char| c.is_ascii_digit()) || version.len() > 64 {
            let message =
                format!("{url} does not answer as an MLflow server: /version is no version");
            return Err(ServiceError::invalid("source", message).reason("UNKNOWN_REGISTRY").into());
        }
        Ok(server)
    }

    fn address(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url, Failure> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::usage("the server's URL has no path"))?
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn send(&self, url: Url) -> Result<Response, Failure> {
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if !self.workspace.is_empty() {
            request = request.header("x-mlflow-workspace", &self.workspace);
        }
        request.send().await.map_err(|err| {
            let why = err.without_url();
            ServiceError::unavailable(format!("the MLflow server does not answer: {why}")).into()
        })
    }

    async fn ask(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Response, Failure> {
        let url = self.address(path, query)?;
        let asked = tokio::time::timeout(ANSWERS_WITHIN, self.send(url)).await;
        let answer = asked.map_err(|_| {
            let message = format!("the MLflow server did not answer within {ANSWERS_WITHIN:?}");
            ServiceError::unavailable(message)
        })??;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let said = self.text(answer).await.unwrap_or_default();
        let said: String = said.chars().take(300).collect();
        let message = format!("the MLflow server answers {status} to /{}: {said}", path.join("/"));
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ServiceError::denied(format!("{message}; --token-file names a token of it"))
            }
            StatusCode::NOT_FOUND => ServiceError::not_found("path of the MLflow server", message),
            _ => ServiceError::unavailable(message),
        }
        .into())
    }

    /// A bounded body.
    async fn text(&self, answer: Response) -> Result<String, Failure> {
        let mut body = answer.bytes_stream();
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|err| {
                let why = err.without_url();
                ServiceError::unavailable(format!("the MLflow server's answer was cut: {why}"))
            })?;
            if bytes.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(damaged("the MLflow server's answer", "it is too long"));
            }
            bytes.extend_from_slice(&piece);
        }
        String::from_utf8(bytes).map_err(|err| damaged("the MLflow server's answer", err))
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let text = self.text(self.ask(path, query).await?).await?;
        serde_json::from_str(&text)
            .map_err(|err| damaged(&format!("the answer of /{}", path.join("/")), err))
    }

    /// Models by name.
    pub async fn models(&self, token: &str) -> Result<Page<SourceModel>, Failure> {
        let mut query = vec![("max_results", PAGE_ROWS), ("order_by", "name ASC")];
        if !token.is_empty() {
            query.push(("page_token", token));
        }
        let path = ["api", "2.0", "mlflow", "registered-models", "search"];
        let page: Models = self.get(&path, &query).await?;
        let model = |model: Model| SourceModel {
            name: model.name,
            description: model.description,
            tags: map_of(model.tags),
            aliases: model.aliases.into_iter().map(|it| (it.alias, it.version)).collect(),
        };
        let rows = page.registered_models.into_iter().map(model).collect();
        Ok(Page { rows, next: page.next_page_token })
    }

    /// Versions of a model, numbers ascending.
    pub async fn versions(&self, model: &str, token: &str) -> Result<Page<SourceVersion>, Failure> {
        let quote = if model.contains('\'') { '"' } else { '\'' };
        let filter = format!("name={quote}{model}{quote}");
        let mut query = vec![
            ("filter", filter.as_str()),
            ("max_results", PAGE_ROWS),
            ("order_by", "version_number ASC"),
        ];
        if !token.is_empty() {
            query.push(("page_token", token));
        }
        let path = ["api", "2.0", "mlflow", "model-versions", "search"];
        let page: Versions = self.get(&path, &query).await?;
        let rows = page.model_versions.into_iter().map(version_of).collect();
        Ok(Page { rows, next: page.next_page_token })
    }

    /// Where its files are, and what its run and its logged model hold.
    pub async fn complete(&self, model: &str, version: &mut SourceVersion) -> Result<(), Failure> {
        if !version.run_id.is_empty() {
            let path = ["api", "2.0", "mlflow", "runs", "get"];
            let query = [("run_id", version.run_id.as_str())];
            // A run may be gone for good; its version stands without.
            if let Some(found) = absent(self.get::<RunAnswer>(&path, &query).await)? {
                take(found.run.data, version);
            }
        }
        let logged = version.source.strip_prefix("models:/").unwrap_or_default().to_owned();
        if !logged.is_empty() && !logged.contains('/') {
            let path = ["api", "2.0", "mlflow", "logged-models", logged.as_str()];
            if let Some(found) = absent(self.get::<LoggedAnswer>(&path, &[]).await)? {
                take(found.model.data, version);
            }
        }
        if version.source.is_empty() {
            return Ok(());
        }
        let path = ["api", "2.0", "mlflow", "model-versions", "get-download-uri"];
        let query = [("name", model), ("version", version.version.as_str())];
        let place: Place = self.get(&path, &query).await?;
        let location = place.artifact_uri;
        version.files = match local(&location) {
            Some(path) if location.starts_with("mlflow-artifacts:") => {
                Files::Proxied(path.to_string_lossy().into_owned())
            }
            Some(path) => Files::Local(path),
            None => Files::Elsewhere(location),
        };
        Ok(())
    }

    /// The files below a path of the proxy; the path itself if it is a file.
    ///
    /// # Errors
    /// Names that lead elsewhere, too many of them, or the server's.
    pub async fn files(&self, root: &str) -> Result<Vec<RemoteFile>, Failure> {
        let mut found = Vec::new();
        let mut folders = vec![(String::new(), 0)];
        while let Some((below, depth)) = folders.pop() {
            let whole = joined(root, &below);
            let path = ["api", "2.0", "mlflow-artifacts", "artifacts"];
            let listed: Entries = self.get(&path, &[("path", &whole)]).await?;
            for entry in listed.files {
                if !is_name(&entry.path) {
                    let message = format!("it names a file {:?} in {whole}", entry.path);
                    return Err(damaged("the MLflow server's list", message));
                }
                let name = joined(&below, &entry.path);
                if entry.is_dir && depth < DEPTH_MAX {
                    folders.push((name, depth + 1));
                } else if entry.is_dir || found.len() == FILES_MAX {
                    let message =
                        format!("{root} holds more than {FILES_MAX} files or {DEPTH_MAX} levels");
                    return Err(ServiceError::invalid("source", message).into());
                } else {
                    let path = joined(root, &name);
                    found.push(RemoteFile { path, name, bytes: entry.file_size });
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Writes a file of the proxy to a path.
    ///
    /// # Errors
    /// Another size than the list says, or the server's.
    pub async fn fetch(&self, file: &RemoteFile, to: &Path) -> Result<(), Failure> {
        let failed =
            |err: std::io::Error| ServiceError::precondition(format!("{}: {err}", to.display()));
        if let Some(parent) = to.parent() {
            tokio::fs::create_dir_all(parent).await.map_err(failed)?;
        }
        let mut path = vec!["api", "2.0", "mlflow-artifacts", "artifacts"];
        path.extend(file.path.split('/'));
        let mut body = self.ask(&path, &[]).await?.bytes_stream();
        let mut into = File::create(to).await.map_err(failed)?;
        let mut bytes = 0;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|err| {
                let why = err.without_url();
                ServiceError::unavailable(format!("{} was cut: {why}", file.path))
            })?;
            bytes += piece.len() as u64;
            into.write_all(&piece).await.map_err(failed)?;
        }
        into.flush().await.map_err(failed)?;
        if bytes != file.bytes {
            let said = file.bytes;
            let message = format!("{bytes} bytes of {} came, not {said}", file.path);
            return Err(damaged("the MLflow server's file", message));
        }
        Ok(())
    }

    /// Where files of a server without a proxy may lie on this machine.
    pub const fn roots(&self) -> &Roots {
        &self.roots
    }
}

fn absent<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.code() == service_error::Code::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn joined(above: &str, name: &str) -> String {
    if above.is_empty() {
        name.to_owned()
    } else {
        format!("{}/{name}", above.trim_end_matches('/'))
    }
}

/// A word, and no way out.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}

fn map_of(tags: Vec<Tag>) -> BTreeMap<String, String> {
    tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

fn version_of(version: Version) -> SourceVersion {
    SourceVersion {
        version: version.version,
        description: version.description,
        created: version.creation_timestamp.to_string(),
        source: version.source,
        run_id: version.run_id,
        run_link: version.run_link,
        stage: Some(version.current_stage).filter(|stage| stage != "None").unwrap_or_default(),
        tags: map_of(version.tags),
        ..SourceVersion::default()
    }
}

fn take(data: RunData, version: &mut SourceVersion) {
    version.params.extend(map_of(data.params));
    for metric in data.metrics {
        // JSON has no NaN: it comes as a string.
        let Some(value) = metric.value.as_f64() else { continue };
        version.metrics.retain(|known| known.key != metric.key);
        let Metric { key, step, timestamp: at_ms, .. } = metric;
        version.metrics.push(SourceMetric { key, value, step, at_ms });
    }
}
