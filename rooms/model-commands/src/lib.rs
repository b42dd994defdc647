//! `quarry models`. See the README.

mod history;
mod import;
mod trash;
mod trust;

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use models_api::v1 as api;
use quarry_client::client::Client;
use quarry_client::client::model_files;
use quarry_client::client::progress::Progress;
use quarry_client::failure::Failure;
use quarry_client::output::{Column, Output, column, message_json};
use quarry_client::page::Page;
use serde_json::{Value as Json, json};
use service_error::ServiceError;

const MODELS: [Column; 6] = [
    column("namespace", "namespace"),
    column("name", "name"),
    column("latest", "latest_version"),
    column("versions", "version_count"),
    column("bytes", "byte_count"),
    column("updated", "update_time"),
];
const VERSIONS: [Column; 8] = [
    column("model", "model"),
    column("version", "number"),
    column("label", "label"),
    column("stage", "stage"),
    column("aliases", "aliases"),
    column("files", "file_count"),
    column("bytes", "byte_count"),
    column("created", "create_time"),
];
const FIELDS: [Column; 3] =
    [column("field", "field"), column("values", "values"), column("differs", "differs")];
const ALIAS: [Column; 3] =
    [column("alias", "name"), column("version", "version"), column("protected", "protected")];

const SIGNED: [Column; 4] = [
    column("path", "path"),
    column("bytes", "byte_count"),
    column("until", "expire_time"),
    column("url", "url"),
];
/// Files of one version that are signed at once.
const SIGNED_MAX: i32 = 1_000;

/// The platform that is asked, and where the answer goes.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The platform.
    pub client: &'a Client,
    /// Where the answer goes.
    pub output: Output,
}

impl Context<'_> {
    const fn client(&self) -> &Client {
        self.client
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// `NAMESPACE/MODEL`.
#[derive(Debug, Clone)]
pub struct ModelName {
    namespace: String,
    model: String,
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, model)) if !namespace.is_empty() && !model.is_empty() => {
                Ok(Self { namespace: namespace.to_owned(), model: model.to_owned() })
            }
            _ => Err(format!("{text:?} is no model; write NAMESPACE/MODEL")),
        }
    }
}

/// `NAMESPACE/MODEL` with a version: `@3`, `@latest`, `@prod`, `@alias:2024` for an
/// alias of digits, or the newest.
#[derive(Debug, Clone)]
pub struct VersionName {
    of: ModelName,
    version: String,
}

impl FromStr for VersionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((model, version)) = text.rsplit_once('@') else {
            return Ok(Self { of: text.parse()?, version: String::new() });
        };
        if let Some(alias) = version.strip_prefix("alias:") {
            return Ok(Self { of: model.parse()?, version: format!("@{alias}") });
        }
        let plain = version == "latest"
            || version.starts_with("stage:")
            || version.bytes().all(|byte| byte.is_ascii_digit());
        let version = if plain { version.to_owned() } else { format!("@{version}") };
        Ok(Self { of: model.parse()?, version })
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?}: write KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What `quarry models register` is asked.
#[derive(Debug, Args)]
pub struct RegisterArgs {
    #[arg(value_name = "NAMESPACE/MODEL")]
    name: ModelName,
    /// A file or a folder whose files become the version's
    path: Option<PathBuf>,
    /// Send what links in the folder lead to, outside of it too
    #[arg(long)]
    follow_links: bool,
    /// Where it came from
    #[arg(long, default_value = "")]
    source: String,
    /// A name of your own for the version, e.g. 1.4.0
    #[arg(long, default_value = "")]
    label: String,
    /// What it is
    #[arg(long, default_value = "")]
    description: String,
    /// The run that made it
    #[arg(long, default_value = "")]
    run_id: String,
    /// Tags of the version
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// Parameters
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    /// Metrics
    #[arg(long = "metric", value_name = "KEY=NUMBER", value_parser = pair)]
    metrics: Vec<(String, String)>,
    /// How it can be loaded, e.g. sklearn
    #[arg(long = "flavor", value_name = "NAME")]
    flavors: Vec<String>,
}

/// What `quarry models` does.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// The models that you may see
    List(trash::ListArgs),
    /// One model
    Show {
        #[arg(value_name = "NAMESPACE/MODEL")]
        name: ModelName,
    },
    /// Register a version; makes the model if there is none
    Register(Box<RegisterArgs>),
    /// The versions of a model, newest first
    Versions {
        #[arg(value_name = "NAMESPACE/MODEL")]
        name: ModelName,
        #[command(flatten)]
        page: Page,
    },
    /// Point an alias to a version
    Alias {
        #[arg(value_name = "NAMESPACE/MODEL@VERSION")]
        version: VersionName,
        /// The alias
        alias: String,
    },
    /// Set tags of a model, or of a version if one is named
    Tag {
        #[arg(value_name = "NAMESPACE/MODEL[@VERSION]")]
        version: VersionName,
        #[arg(value_name = "KEY=VALUE", value_parser = pair, required = true)]
        tags: Vec<(String, String)>,
    },
    /// Move a version to a stage
    Stage {
        #[arg(value_name = "NAMESPACE/MODEL@VERSION")]
        version: VersionName,
        /// The stage
        stage: String,
        /// Move what is in the stage to Archived
        #[arg(long)]
        archive_existing: bool,
    },
    /// Versions beside each other
    Compare {
        #[arg(value_name = "NAMESPACE/MODEL@VERSION", required = true, num_args = 2..=10)]
        versions: Vec<VersionName>,
    },
    /// Versions that pass a filter, over all models
    Search {
        /// e.g. 'metrics.accuracy > 0.9 AND alias = "prod"'
        filter: String,
        #[command(flatten)]
        page: Page,
    },
    /// Write the files of a version to a folder
    Download {
        #[arg(value_name = "NAMESPACE/MODEL[@VERSION]")]
        version: VersionName,
        /// Where to
        folder: PathBuf,
    },
    /// Addresses of a version's files that work without a token for a while
    Sign {
        #[arg(value_name = "NAMESPACE/MODEL[@VERSION]")]
        version: VersionName,
        /// Only this file
        path: Option<String>,
        /// How long they work [default: 15 minutes; at most 12 hours]
        #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true)]
        seconds: i64,
    },
    /// What loading a version's files would run; nothing of them is run
    Scan(trust::ScanArgs),
    /// The tensors of a safetensors, GGUF or ONNX file
    Inspect(trust::InspectArgs),
    /// Signatures of versions (OpenSSF model signing)
    #[command(subcommand)]
    Signature(trust::SignatureCommand),
    /// Keys and root certificates whose signatures count in a namespace
    #[command(subcommand)]
    SigningKeys(trust::KeysCommand),
    /// Put a model or a version into the trash
    Delete(trash::DeleteArgs),
    /// Take a model or a version out of the trash
    Restore(trash::RestoreArgs),
    /// How many versions have each value of a field
    Facets(history::FacetsArgs),
    /// Where an alias pointed, newest first
    History(history::HistoryArgs),
    /// Point an alias to where it pointed before
    Rollback(history::RollbackArgs),
    /// Delete bytes that nothing needs; needs an admin
    Gc {
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
        /// Purge what lay in the trash this long [default: as the server's settings say]
        #[arg(long, value_name = "SECONDS")]
        trash_seconds: Option<i64>,
        /// Queue a job and answer its name
        #[arg(long)]
        background: bool,
    },
    /// Register what another registry holds; what an earlier run brought stays
    Import(Box<import::ImportArgs>),
    /// Counts and sizes
    Stats {
        /// Only of this namespace
        namespace: Option<String>,
    },
}

impl ModelsCommand {
    /// Asks the model registry.
    ///
    /// # Errors
    /// The registry's refusal, a file that cannot be read or written.
    pub async fn run(self, context: &Context<'_>) -> Result<(), Failure> {
        match self {
            Self::List(args) => trash::list(context, args).await,
            Self::Delete(args) => trash::delete(context, args).await,
            Self::Restore(args) => trash::restore(context, args).await,
            Self::Show { name } => {
                let request = api::GetModelRequest { namespace: name.namespace, name: name.model };
                let answer = context.client().models().get_model(request).await?;
                let json = message_json("quarry.models.v1.GetModelResponse", &answer.into_inner())?;
                context.output.message(&json, "model", &MODELS)
            }
            Self::Register(args) => register(context, *args).await,
            Self::Versions { name, page } => {
                versions(context, name.namespace, name.model, String::new(), page).await
            }
            Self::Search { filter, page } => {
                versions(context, String::new(), String::new(), filter, page).await
            }
            Self::Alias { version, alias } => set_alias(context, version, alias).await,
            Self::Tag { version, tags } => tag(context, version, tags).await,
            Self::Stage { version, stage, archive_existing } => {
                move_to(context, version, stage, archive_existing).await
            }
            Self::Compare { versions } => compare(context, versions).await,
            Self::Download { version, folder } => download(context, version, folder).await,
            Self::Import(args) => import::run(context, *args).await,
            Self::Scan(args) => trust::scan(context, args).await,
            Self::Inspect(args) => trust::inspect(context, args).await,
            Self::Signature(command) => command.run(context).await,
            Self::SigningKeys(command) => command.run(context).await,
            Self::Sign { version, path, seconds } => sign(context, version, path, seconds).await,
            Self::Facets(args) => history::facets(context, args).await,
            Self::History(args) => history::history(context, args).await,
            Self::Rollback(args) => history::roll_back(context, args).await,
            Self::Gc { dry_run, trash_seconds, background } => {
                let request = api::CollectGarbageRequest { dry_run, trash_seconds, background };
                let answer = context.client().model_files().collect_garbage(request).await?;
                let name = "quarry.models.v1.CollectGarbageResponse";
                let json = message_json(name, &answer.into_inner())?;
                said(context, &json)
            }
            Self::Stats { namespace } => {
                let request =
                    api::GetStatisticsRequest { namespace: namespace.unwrap_or_default() };
                let answer = context.client().models().get_statistics(request).await?;
                let name = "quarry.models.v1.GetStatisticsResponse";
                let json = message_json(name, &answer.into_inner())?;
                said(context, &json)
            }
        }
    }
}

/// One line for each field of an answer.
fn said(context: &Context<'_>, json: &Json) -> Result<(), Failure> {
    context.output.answer(json, || {
        let fields = json.as_object().into_iter().flatten();
        fields.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join("\n")
    })
}

async fn versions(
    context: &Context<'_>,
    namespace: String,
    model: String,
    filter: String,
    page: Page,
) -> Result<(), Failure> {
    let (page_size, page_token) = page.parts();
    let request = api::SearchVersionsRequest {
        namespace,
        model,
        filter,
        page_size,
        page_token,
        ..Default::default()
    };
    let answer = context.client().model_versions().search_versions(request).await?;
    let name = "quarry.models.v1.SearchVersionsResponse";
    let json = message_json(name, &answer.into_inner())?;
    context.output.message(&json, "versions", &VERSIONS)
}

async fn register(context: &Context<'_>, args: RegisterArgs) -> Result<(), Failure> {
    let client = context.client();
    let upload_id = match &args.path {
        Some(path) => {
            let files = model_files::files(path, args.follow_links)?;
            let bar = Progress::new("sent", None);
            let sent = model_files::upload(client, &args.name.namespace, &files, |more| {
                bar.add(more);
            });
            sent.await?.upload_id
        }
        None => String::new(),
    };
    let metric = |(key, value): (String, String)| match value.parse() {
        Ok(value) => Ok(api::Metric { key, value, ..Default::default() }),
        Err(_) => Err(Failure::usage(format!("--metric {key}: {value:?} is no number"))),
    };
    let request = api::CreateVersionRequest {
        namespace: args.name.namespace,
        model: args.name.model,
        label: args.label,
        description: args.description,
        source: args.source,
        run_id: args.run_id,
        flavors: args.flavors,
        tags: args.tags.into_iter().collect(),
        params: args.params.into_iter().collect(),
        metrics: args.metrics.into_iter().map(metric).collect::<Result<_, _>>()?,
        upload_id,
        create_model: true,
        ..Default::default()
    };
    let answer = client.model_versions().create_version(request).await?;
    let name = "quarry.models.v1.CreateVersionResponse";
    let json = message_json(name, &answer.into_inner())?;
    context.output.message(&json, "version", &VERSIONS)
}

async fn set_alias(context: &Context<'_>, to: VersionName, alias: String) -> Result<(), Failure> {
    let request = api::SetAliasRequest {
        namespace: to.of.namespace,
        model: to.of.model,
        alias,
        version: to.version,
        ..Default::default()
    };
    let answer = context.client().model_lifecycle().set_alias(request).await?;
    let json = message_json("quarry.models.v1.SetAliasResponse", &answer.into_inner())?;
    context.output.message(&json, "alias", &ALIAS)
}

async fn tag(
    context: &Context<'_>,
    to: VersionName,
    tags: Vec<(String, String)>,
) -> Result<(), Failure> {
    let client = context.client();
    let tags: HashMap<String, String> = tags.into_iter().collect();
    let (namespace, model) = (to.of.namespace, to.of.model);
    if to.version.is_empty() {
        let request = api::SetModelTagsRequest { namespace, name: model, tags };
        client.models().set_model_tags(request).await?;
    } else {
        let request = api::SetVersionTagsRequest { namespace, model, version: to.version, tags };
        client.model_versions().set_version_tags(request).await?;
    }
    context.output.answer(&json!({}), || "the tags are set".to_owned())
}

async fn move_to(
    context: &Context<'_>,
    which: VersionName,
    stage: String,
    archive_existing: bool,
) -> Result<(), Failure> {
    let request = api::TransitionStageRequest {
        namespace: which.of.namespace,
        model: which.of.model,
        version: which.version,
        stage,
        archive_existing,
        ..Default::default()
    };
    let answer = context.client().model_lifecycle().transition_stage(request).await?;
    let name = "quarry.models.v1.TransitionStageResponse";
    let json = message_json(name, &answer.into_inner())?;
    context.output.message(&json, "version", &VERSIONS)
}

async fn compare(context: &Context<'_>, versions: Vec<VersionName>) -> Result<(), Failure> {
    let named = versions.into_iter().map(|of| api::VersionName {
        namespace: of.of.namespace,
        model: of.of.model,
        version: of.version,
    });
    let request = api::CompareVersionsRequest { versions: named.collect() };
    let answer = context.client().model_versions().compare_versions(request).await?;
    let name = "quarry.models.v1.CompareVersionsResponse";
    let json = message_json(name, &answer.into_inner())?;
    context.output.message(&json, "fields", &FIELDS)
}

async fn sign(
    context: &Context<'_>,
    which: VersionName,
    path: Option<String>,
    seconds: i64,
) -> Result<(), Failure> {
    let client = context.client();
    // An alias that moves meanwhile must not mix two versions.
    let found = resolved(client, &which).await?;
    let paths = match path {
        Some(path) => vec![path],
        None => {
            let request = api::ListFilesRequest {
                namespace: found.namespace.clone(),
                model: found.model.clone(),
                version: found.number.to_string(),
                page_size: SIGNED_MAX,
                page_token: String::new(),
            };
            let page = client.model_files().list_files(request).await?.into_inner();
            if !page.next_page_token.is_empty() {
                let message = format!("it has more than {SIGNED_MAX} files: name one");
                return Err(Failure::usage(message));
            }
            page.files.into_iter().map(|file| file.path).collect()
        }
    };
    let mut signed = Vec::with_capacity(paths.len());
    for path in paths {
        let request = api::SignDownloadRequest {
            namespace: found.namespace.clone(),
            model: found.model.clone(),
            version: found.number.to_string(),
            path: path.clone(),
            seconds,
        };
        let answer = client.model_files().sign_download(request).await?.into_inner();
        let mut json = message_json("quarry.models.v1.SignDownloadResponse", &answer)?;
        json["path"] = path.into();
        signed.push(json);
    }
    context.output.message(&json!({ "files": signed }), "files", &SIGNED)
}

async fn resolved(client: &Client, which: &VersionName) -> Result<api::ModelVersion, Failure> {
    let request = api::GetVersionRequest {
        namespace: which.of.namespace.clone(),
        model: which.of.model.clone(),
        version: which.version.clone(),
        as_of: None,
    };
    let found = client.model_versions().get_version(request).await?.into_inner().version;
    Ok(found.ok_or_else(|| ServiceError::internal("the registry answered nothing"))?)
}

async fn download(
    context: &Context<'_>,
    which: VersionName,
    folder: PathBuf,
) -> Result<(), Failure> {
    let client = context.client();
    // An alias that moves meanwhile must not mix two versions.
    let found = resolved(client, &which).await?;
    let done = model_files::download(client, &found, &folder).await?;
    let document = json!({ "version": found.number, "files": done.0, "bytes": done.1 });
    let (files, bytes) = done;
    context.output.answer(&document, || format!("{files} files, {bytes} bytes"))
}
