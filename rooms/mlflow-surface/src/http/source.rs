//! Where a version comes from, as MLflow's client says it: a run's or a logged
//! model's files, another version, or a place that is not ours.

use ids::NamespaceId;
use mlflow_wire::path::{normal, normpath, unescape};
use mlflow_wire::proto::CreateModelVersion;
use mlflow_wire::search::IS_PROMPT;
use mlflow_wire::{ErrorCode, MlflowError, Result};
use options_api::v1::Level;
use tracking::Scope;

use super::asked::Asked;
use super::convert::{of_model, of_version};
use super::measured;
use crate::model::{DatasetVersion, MetricPoint, ModelPath, VersionRef};

const PROMPT_SOURCES: [&str; 3] = ["dummy-source", "prompt-template", "prompts"];
/// Versions that name versions that name versions.
const HOPS_MAX: usize = 10;

/// What a new version is made from.
#[derive(Debug, Default)]
pub struct Origin {
    pub source: String,
    pub run_id: String,
    pub model_id: String,
    pub metrics: Vec<MetricPoint>,
    pub params: std::collections::BTreeMap<String, String>,
    pub datasets: Vec<DatasetVersion>,
    pub flavors: Vec<String>,
    /// Files of the namespace's tree that become the version's.
    pub tree: Option<(NamespaceId, String)>,
    /// A version whose files become this one's.
    pub copy_from: Option<(ModelPath, VersionRef)>,
    /// The namespace of the run or logged model, if it is made from one.
    pub scope: Option<Scope>,
}

fn unfit(source: &str, field: &str) -> MlflowError {
    MlflowError::invalid(format!(
        "Invalid model version source: '{source}'. The {field} request parameter must identify the resource that \
         contains the source."
    ))
}

/// Checks what a request says of a version's source, as MLflow does, and finds
/// what it stands for.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` for a source that is none, climbs out of its root,
/// or is not the run's or model's that the request names.
pub async fn resolve(asked: &Asked, message: &CreateModelVersion) -> Result<Origin> {
    let source = message.source().to_owned();
    let is_prompt = message.tags.iter().rev().find(|tag| tag.key() == IS_PROMPT);
    if is_prompt.is_some_and(|tag| tag.value().eq_ignore_ascii_case("true")) {
        if !PROMPT_SOURCES.contains(&source.as_str()) {
            return Err(MlflowError::invalid(format!(
                "Invalid prompt source: '{source}'. Prompt sources must use an MLflow placeholder."
            )));
        }
        return Ok(Origin { source, ..Origin::default() });
    }
    let mut origin = Origin {
        source,
        run_id: message.run_id().to_owned(),
        model_id: message.model_id().to_owned(),
        ..Origin::default()
    };
    if let Some(Models::Version(name, which)) = models_uri(&origin.source)? {
        follow(asked, message, &mut origin, &name, &which).await?;
    }
    check(asked, &origin).await?;
    if origin.copy_from.is_none() {
        fill(asked, &mut origin).await?;
    }
    Ok(origin)
}

/// `models:/name/version`, `models:/name@alias`, `models:/m-…`.
#[derive(Debug, PartialEq, Eq)]
enum Models {
    Version(String, VersionRef),
    Logged(String),
}

fn models_uri(source: &str) -> Result<Option<Models>> {
    let Some(rest) = source.strip_prefix("models:") else { return Ok(None) };
    if rest.starts_with("//") && !rest.starts_with("///") {
        return Err(MlflowError::invalid(format!(
            "Invalid model version source: '{source}'. Registered model sources must use the active model registry."
        )));
    }
    let path = rest.trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let found = match parts.as_slice() {
        [one] if one.contains('@') => one.rsplit_once('@').map(|(name, alias)| {
            Models::Version(name.to_owned(), VersionRef::Alias(alias.to_owned()))
        }),
        [id] if !id.is_empty() => Some(Models::Logged((*id).to_owned())),
        [name, "latest"] => Some(Models::Version((*name).to_owned(), VersionRef::Latest)),
        [name, version] => Some(match version.parse() {
            Ok(number) => Models::Version((*name).to_owned(), VersionRef::Number(number)),
            Err(_) => Models::Version((*name).to_owned(), VersionRef::Stage((*version).to_owned())),
        }),
        _ => None,
    };
    found.map(Some).ok_or_else(|| unfit(source, "model_id"))
}

/// A version whose source is another version's takes that one's run and files.
async fn follow(
    asked: &Asked,
    message: &CreateModelVersion,
    origin: &mut Origin,
    name: &str,
    which: &VersionRef,
) -> Result<()> {
    let registry = &asked.surface.registry;
    let path = asked.model(name).await?;
    let caller = asked.caller()?;
    let model = registry.get_model(caller, &path).await.map_err(of_model(name))?;
    if model.tags.get(IS_PROMPT).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(MlflowError::invalid(format!(
            "Invalid model version source: '{}'. Prompt versions cannot be used as model version sources.",
            origin.source
        )));
    }
    let shown = if let VersionRef::Number(number) = which { *number } else { 0 };
    let which = &in_its_spelling(asked, &path, which).await?;
    let version =
        registry.get_version(caller, &path, which, None).await.map_err(of_version(name, shown))?;
    let differs =
        |given: &Option<String>, kept: &str| given.as_ref().is_some_and(|given| given != kept);
    if differs(&message.run_id, &version.run_id)
        || differs(&message.model_id, &version.logged_model_id)
    {
        return Err(MlflowError::invalid(format!(
            "Invalid model version source: '{}'. The run_id and model_id request parameters must match the referenced \
             model version.",
            origin.source
        )));
    }
    origin.source = format!("models:/{name}/{}", version.number);
    // Who may read the version may read what it was made from: its namespace is not
    // asked for.
    let scope = Scope { namespace: model.namespace_id, name: path.namespace.clone() };
    origin.copy_from = Some((path, VersionRef::Number(version.number)));
    let of = registry.with_data(version).await?;
    origin.run_id.clone_from(&of.version.run_id);
    origin.model_id.clone_from(&of.version.logged_model_id);
    origin.flavors.clone_from(&of.version.flavors);
    (origin.metrics, origin.params) = (of.metrics, of.params);
    origin.datasets = datasets(asked, &scope, &origin.run_id).await?;
    origin.scope = Some(scope);
    Ok(())
}

/// A version's name with its stage as the namespace writes it.
async fn in_its_spelling(
    asked: &Asked,
    path: &ModelPath,
    which: &VersionRef,
) -> Result<VersionRef> {
    let VersionRef::Stage(stage) = which else { return Ok(which.clone()) };
    let stages = asked.surface.registry.model_stages(asked.caller()?, path).await?;
    let known = stages.into_iter().find(|known| known.eq_ignore_ascii_case(stage));
    Ok(VersionRef::Stage(known.unwrap_or_else(|| stage.clone())))
}

/// That a source stays below its root, and that the root is the run's or the
/// logged model's that the request names.
async fn check(asked: &Asked, origin: &Origin) -> Result<()> {
    let source = &origin.source;
    let by_model = !origin.model_id.is_empty();
    let field = if by_model { "model_id" } else { "run_id" };
    if file_host(source).is_some() {
        return Err(MlflowError::invalid(format!(
            "Invalid model version source: '{source}' is not a valid remote uri. Files of another machine are not read: \
             upload them as a run's artifacts and name those."
        )));
    }
    if is_local(source) {
        return Err(MlflowError::invalid(format!(
            "Invalid model version source: '{source}'. To use a local path as a model version source, the {field} \
             request parameter has to be specified and the local path has to be contained within the artifact \
             directory of the run specified by the {field}."
        )));
    }
    stays_below(source)?;
    if origin.copy_from.is_some() {
        return Ok(());
    }
    match (models_uri(source)?, source.strip_prefix("runs:")) {
        (Some(Models::Logged(id)), _) if by_model && id == origin.model_id => return Ok(()),
        (Some(_), _) => return Err(unfit(source, "model_id")),
        (None, Some(rest)) => {
            let run = rest.trim_start_matches('/').split('/').next().unwrap_or_default();
            let is_its = !by_model && !run.is_empty() && run == origin.run_id;
            return if is_its { Ok(()) } else { Err(unfit(source, field)) };
        }
        (None, None) => {}
    }
    let Some(path) = tree_path(source) else { return Ok(()) };
    let root = root_of(asked, origin).await?.ok_or_else(|| unfit(source, field))?;
    let is_below = tree_path(&root).is_some_and(|root| {
        path == root || path.strip_prefix(&root).is_some_and(|rest| rest.starts_with('/'))
    });
    if is_below { Ok(()) } else { Err(unfit(source, field)) }
}

/// The root of the files of the run or model that a request names.
async fn root_of(asked: &Asked, origin: &Origin) -> Result<Option<String>> {
    let tracking = &asked.surface.tracking;
    if origin.model_id.is_empty() && origin.run_id.is_empty() {
        return Ok(None);
    }
    let scope = &asked.scope_for(Level::Read).await?;
    let uri = if !origin.model_id.is_empty() {
        let model = tracking.get_logged_model(scope, &origin.model_id, false).await;
        model.map(|model| model.info.and_then(|info| info.artifact_uri))
    } else {
        let run = tracking.get_run(scope, &origin.run_id).await;
        run.map(|run| run.info.and_then(|info| info.artifact_uri))
    };
    match uri {
        Err(error) if error.code() == ErrorCode::ResourceDoesNotExist => Ok(None),
        uri => uri,
    }
}

/// The run's lineage, metrics and parameters, those of the logged model, and the
/// files that become the version's.
async fn fill(asked: &Asked, origin: &mut Origin) -> Result<()> {
    let tracking = &asked.surface.tracking;
    let place = location(asked, &origin.source).await?;
    let tree = tree_path(&place);
    if origin.run_id.is_empty() && origin.model_id.is_empty() && tree.is_none() {
        return Ok(());
    }
    let scope = asked.scope_for(Level::Read).await?;
    let mut logged = None;
    if !origin.model_id.is_empty() {
        let mut model = tracking.get_logged_model(&scope, &origin.model_id, false).await?;
        if origin.run_id.is_empty() {
            let info = model.info.take();
            origin.run_id = info.and_then(|info| info.source_run_id).unwrap_or_default();
        }
        logged = model.data;
    }
    if !origin.run_id.is_empty() {
        origin.datasets = datasets(asked, &scope, &origin.run_id).await?;
    }
    let run = match tracking.get_run(&scope, &origin.run_id).await {
        Ok(run) => run.data,
        // MLflow registers a version of a run that is none, too.
        Err(error) if error.code() == ErrorCode::ResourceDoesNotExist => None,
        Err(error) => return Err(error),
    };
    (origin.metrics, origin.params) = measured::data(run, logged);
    if let Some(path) = tree {
        origin.flavors = measured::flavors(asked, &scope, &path).await?;
        origin.tree = Some((scope.namespace, path));
    }
    origin.scope = Some(scope);
    Ok(())
}

/// The catalog's dataset versions that a run was given.
async fn datasets(asked: &Asked, scope: &Scope, run_id: &str) -> Result<Vec<DatasetVersion>> {
    let edges = asked.surface.tracking.dataset_edges(scope, run_id).await?;
    let dataset = |edge: tracking::DatasetEdge| DatasetVersion {
        id: edge.id,
        name: edge.name,
        version: edge.version,
        context: edge.context,
    };
    Ok(edges.into_iter().map(dataset).collect())
}

/// Where the files of a source are: what a client downloads from.
///
/// # Errors
/// A version or logged model that is not there.
pub async fn location(asked: &Asked, source: &str) -> Result<String> {
    let mut source = source.to_owned();
    for _ in 0..HOPS_MAX {
        match models_uri(&source).unwrap_or_default() {
            Some(Models::Logged(id)) => {
                let scope = asked.scope_for(Level::Read).await?;
                let model = asked.surface.tracking.get_logged_model(&scope, &id, true).await?;
                return Ok(model.info.and_then(|info| info.artifact_uri).unwrap_or(source));
            }
            Some(Models::Version(name, which)) => {
                let path = asked.model(&name).await?;
                let version = asked
                    .surface
                    .registry
                    .get_version(asked.caller()?, &path, &which, None)
                    .await?;
                source = version.source;
            }
            None => break,
        }
    }
    if let Some(rest) = source.strip_prefix("runs:/") {
        let (run, path) = rest.trim_start_matches('/').split_once('/').unwrap_or((rest, ""));
        let scope = asked.scope_for(Level::Read).await?;
        if let Ok(run) = asked.surface.tracking.get_run(&scope, run).await {
            let root = run.info.and_then(|info| info.artifact_uri).unwrap_or_default();
            return Ok(format!("{root}/{path}"));
        }
    }
    Ok(source)
}

/// The path in the namespace's tree that an address of our files means.
#[must_use]
pub fn tree_path(uri: &str) -> Option<String> {
    if let Some(rest) = uri.strip_prefix("mlflow-artifacts:") {
        let path = match rest.strip_prefix("//") {
            Some(authority) => authority.split_once('/').map_or("", |(_, path)| path),
            None => rest,
        };
        return Some(normal(path));
    }
    let is_http = uri.starts_with("http://") || uri.starts_with("https://");
    let (_, path) = uri.split_once("/api/2.0/mlflow-artifacts/artifacts").filter(|_| is_http)?;
    Some(normal(path))
}

/// Whether a source is a path of some machine's own files: none of ours ever is.
fn is_local(source: &str) -> bool {
    let scheme = source.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_none_or(|scheme| {
        scheme.eq_ignore_ascii_case("file")
            || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// The host of a `file:` address that names another machine.
fn file_host(source: &str) -> Option<&str> {
    let (scheme, rest) = source.split_once(':')?;
    let authority = rest.strip_prefix("//").filter(|_| scheme.eq_ignore_ascii_case("file"))?;
    let host = authority.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let is_here = [".", "localhost", "127.0.0.1"].iter().any(|here| host.starts_with(here));
    (!host.is_empty() && !is_here).then_some(host)
}

fn stays_below(source: &str) -> Result<()> {
    let wrong = || {
        MlflowError::invalid(format!(
            "Invalid model version source: '{source}'. If supplying a source as an http, https, local file path, ftp, \
             objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path references \
             present. Please provide an absolute path."
        ))
    };
    let mut plain = source.to_owned();
    loop {
        let undone = unescape(&plain.replace('+', " ")).ok_or_else(wrong)?;
        if undone == plain {
            break;
        }
        plain = undone;
    }
    if plain.contains('\0') || plain.split('/').any(|part| part == "..") {
        return Err(wrong());
    }
    let path = plain.split_once(':').map_or(plain.as_str(), |(_, rest)| rest);
    let path = match path.strip_prefix("//") {
        Some(authority) => authority.find('/').map_or("", |at| &authority[at..]),
        None => path,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    // `C:\x` has a scheme and no absolute path.
    if !path.starts_with('/') {
        return Err(wrong());
    }
    let collapsed = path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    if normpath(&collapsed) != collapsed && !collapsed.is_empty() {
        return Err(wrong());
    }
    Ok(())
}

/// Where an experiment keeps its files, if a client says it.
///
/// # Errors
/// An address that cannot be one.
pub fn check_location(location: &str) -> Result<()> {
    if location.starts_with("runs:") {
        return Err(MlflowError::invalid(format!(
            "Artifact location cannot be a runs:/ URI. Given: '{location}'"
        )));
    }
    if location.contains(['#', ';']) {
        return Err(MlflowError::invalid(
            "'artifact_location' URL can't include fragments or params.",
        ));
    }
    let climbs = |text: &str| text.split('/').any(|part| part == "..");
    if climbs(location) || unescape(location).is_none_or(|plain| climbs(&plain)) {
        return Err(MlflowError::invalid("Invalid path"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_models_address_names_a_version_or_a_logged_model() {
        let of = |text: &str| models_uri(text).unwrap();
        assert_eq!(of("models:/m/3"), Some(Models::Version("m".into(), VersionRef::Number(3))));
        assert_eq!(
            of("models:/m@prod"),
            Some(Models::Version("m".into(), VersionRef::Alias("prod".into())))
        );
        assert_eq!(of("models:/m-1"), Some(Models::Logged("m-1".into())));
        assert_eq!(of("s3://b/k"), None);
        assert!(models_uri("models://host/m/1").is_err() && models_uri("models:/a/b/c").is_err());
    }

    #[test]
    fn our_files_are_told_from_others() {
        assert_eq!(tree_path("mlflow-artifacts:/1/a/artifacts").as_deref(), Some("1/a/artifacts"));
        assert_eq!(tree_path("mlflow-artifacts://h:1/1//a/").as_deref(), Some("1/a"));
        assert_eq!(
            tree_path("http://h/api/2.0/mlflow-artifacts/artifacts/1/a").as_deref(),
            Some("1/a")
        );
        assert_eq!(tree_path("s3://b/k"), None);
    }

    #[test]
    fn a_path_of_a_machine_is_none_of_ours() {
        for local in ["/a/b", "file:///a", "FILE:/a", "file://localhost/a", "file:a", r"\\h\a"] {
            assert!(is_local(local) && file_host(local).is_none(), "{local}");
        }
        for host in ["file://h/a", "FILE://h/a", "file://%6cocalhost/a", "file://h"] {
            assert!(is_local(host) && file_host(host).is_some(), "{host}");
        }
        for other in ["s3://b/k", "mlflow-artifacts:/a", "runs:/1/a"] {
            assert!(!is_local(other) && file_host(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_source_does_not_climb() {
        for good in ["mlflow-artifacts:/1/a/b", "s3://bucket/a/b", "https://h/a", "dbfs:/a"] {
            assert!(stays_below(good).is_ok(), "{good}");
        }
        for bad in [
            "mlflow-artifacts:/1/../2",
            "s3:/b/a/../c",
            "http://h/a%2f..%2fb",
            "mlflow-artifacts:/a%00",
            "http://h/a/./b",
            r"C:\x",
            "s3:b/k",
            "s3://bucket",
        ] {
            assert!(stays_below(bad).is_err(), "{bad}");
        }
    }
}
