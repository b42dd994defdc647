//! `quarry generations`: the log of a retrieval-augmented generator.

use std::path::{Path, PathBuf};

use catalog_api::v1::{Value, value};
use clap::{Args, Subcommand, ValueEnum};
use quarry_client::client::Client;
use quarry_client::client::space::SpaceName;
use quarry_client::failure::Failure;
use quarry_client::output::{Column, Output, column, message_json};
use serde::Deserialize;
use vectors_api::v1 as api;

use crate::cached_models::{ForgetArgs, ListArgs, TouchArgs};
use crate::{blocking, wrong_file};

/// The longest file of a template, or of what was retrieved, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

const COLUMNS: [Column; 6] = [
    column("id", "id"),
    column("status", "status"),
    column("prompt", "prompt"),
    column("output", "output_path"),
    column("ms", "generation_time_ms"),
    column("created", "create_time"),
];
const STATISTICS: [Column; 6] = [
    column("images", "total_images"),
    column("embeddings", "total_embeddings"),
    column("generations", "total_generations"),
    column("recent", "recent_generations"),
    column("failed", "failed_generations"),
    column("mean ms", "avg_generation_time_ms"),
];

const RUNNING: api::GenerationStatus = api::GenerationStatus::Running;

/// `--status`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Status {
    /// It made something.
    Completed,
    /// It did not.
    Failed,
    /// It has not ended.
    Running,
}

/// What was generated from what.
#[derive(Debug, Subcommand)]
pub enum GenerationsCommand {
    /// Log a generation
    Log(Box<LogArgs>),
    /// End a generation that was logged as running
    Finish(FinishArgs),
    /// The generations of a namespace, newest first
    List {
        /// Which namespace
        namespace: String,
        /// Only of this status
        #[arg(long, value_enum)]
        status: Option<Status>,
        /// At most so many
        #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
        limit: i32,
        /// Go on where another page ended
        #[arg(long, value_name = "T", default_value = "", hide_default_value = true)]
        page_token: String,
    },
    /// One generation with what was retrieved for it
    Show {
        /// Which namespace
        namespace: String,
        /// Which generation
        id: String,
    },
    /// Exact counts of images, embeddings, generations, cached models
    Stats {
        /// Which namespace
        namespace: String,
        /// What counts as recent
        #[arg(long, value_name = "H", default_value = "24")]
        hours: i32,
    },
    /// The cached models whose uses are counted, the last used first
    Models(ListArgs),
    /// Count a use of a cached model
    TouchModel(TouchArgs),
    /// Forget a model that is no longer cached
    ForgetModel(ForgetArgs),
    /// Retrieve examples and put them and a prompt into a template
    Assemble(AssembleArgs),
}

/// What was generated.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Which namespace
    namespace: String,
    /// What was asked for
    prompt: String,
    /// What the model was given
    #[arg(long, value_name = "TEXT", default_value = "")]
    augmented_prompt: String,
    /// Where the output is
    #[arg(long, value_name = "PATH", default_value = "")]
    output_path: String,
    /// The sampler's
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<i64>,
    /// Steps of inference
    #[arg(long, value_name = "N")]
    steps: Option<i32>,
    /// The sampler's
    #[arg(long, value_name = "X")]
    guidance_scale: Option<f64>,
    /// Milliseconds that it took
    #[arg(long, value_name = "MS")]
    time: Option<i64>,
    /// MB that it used
    #[arg(long, value_name = "MB")]
    memory: Option<f64>,
    /// What the model was set to, e.g. scheduler=ddim
    #[arg(long = "config", value_name = "KEY=VALUE,…", value_delimiter = ',', value_parser = key_value)]
    config: Vec<(String, String)>,
    /// A file of what was retrieved: what `assemble -o json` printed
    #[arg(long, value_name = "FILE.json")]
    retrieved: Option<PathBuf>,
    /// It has not ended; `finish` ends it
    #[arg(long, conflicts_with = "error")]
    running: bool,
    /// Why it failed
    #[arg(long, value_name = "TEXT", default_value = "")]
    error: String,
}

/// How a generation ended.
#[derive(Debug, Args)]
pub struct FinishArgs {
    /// Which namespace
    namespace: String,
    /// Which generation
    id: String,
    /// Where the output is
    #[arg(long, value_name = "PATH", default_value = "")]
    output_path: String,
    /// Milliseconds that it took
    #[arg(long, value_name = "MS")]
    time: Option<i64>,
    /// MB that it used
    #[arg(long, value_name = "MB")]
    memory: Option<f64>,
    /// Why it failed
    #[arg(long, value_name = "TEXT", default_value = "")]
    error: String,
}

/// What a context is made of.
#[derive(Debug, Args)]
pub struct AssembleArgs {
    /// What is to be generated; examples near to it are retrieved by the space's embedder
    prompt: String,
    /// NAMESPACE/DATASET/SPACE, or NAMESPACE/SPACE
    #[arg(long, value_name = "NAME")]
    space: SpaceName,
    /// The payload column that an example's text is
    #[arg(long, value_name = "C")]
    text_column: String,
    /// Examples near to this item instead
    #[arg(long, value_name = "ID")]
    item: Option<String>,
    /// How many
    #[arg(short, value_name = "K", default_value = "5")]
    k: i32,
    /// Only examples of at least this score
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    threshold: Option<f64>,
    /// E.g. 'section = "games"'
    #[arg(long, value_name = "F", default_value = "")]
    filter: String,
    /// A file with {prompt} and {examples}
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// One example: {text}, {item_id}, {score}
    #[arg(long, value_name = "TEXT", default_value = "")]
    example: String,
}

impl GenerationsCommand {
    /// Asks the vector search.
    ///
    /// # Errors
    /// The server's refusal; a template that cannot be read.
    pub async fn run(self, client: &Client, output: Output) -> Result<(), Failure> {
        let mut log = client.generations();
        match self {
            Self::Log(args) => {
                let request = args.request().await?;
                let answer = log.log_generation(request).await?.into_inner();
                let json = message_json("quarry.vectors.v1.LogGenerationResponse", &answer)?;
                output.message(&json, "generation", &COLUMNS)
            }
            Self::Finish(args) => {
                let request = args.request();
                let answer = log.finish_generation(request).await?.into_inner();
                let json = message_json("quarry.vectors.v1.FinishGenerationResponse", &answer)?;
                output.message(&json, "generation", &COLUMNS)
            }
            Self::List { namespace, status, limit, page_token } => {
                let status = status.map_or(api::GenerationStatus::Unspecified, of_status).into();
                let request =
                    api::ListGenerationsRequest { namespace, status, page_size: limit, page_token };
                let answer = log.list_generations(request).await?.into_inner();
                let json = message_json("quarry.vectors.v1.ListGenerationsResponse", &answer)?;
                output.message(&json, "generations", &COLUMNS)
            }
            Self::Show { namespace, id } => {
                let request = api::GetGenerationRequest { namespace, id };
                let answer = log.get_generation(request).await?.into_inner();
                let json = message_json("quarry.vectors.v1.GetGenerationResponse", &answer)?;
                output.message(&json, "generation", &COLUMNS)
            }
            Self::Stats { namespace, hours } => {
                let request = api::GetRagStatisticsRequest { namespace, recent_hours: hours };
                let answer = log.get_rag_statistics(request).await?.into_inner();
                let json = message_json("quarry.vectors.v1.GetRagStatisticsResponse", &answer)?;
                let document = serde_json::json!({ "statistics": json });
                output.message(&document, "statistics", &STATISTICS)
            }
            Self::Models(args) => args.run(client, output).await,
            Self::TouchModel(args) => args.run(client, output).await,
            Self::ForgetModel(args) => args.run(client, output).await,
            Self::Assemble(args) => {
                let request = args.request().await?;
                let answer = log.assemble_context(request).await?.into_inner();
                let json = message_json("quarry.vectors.v1.AssembleContextResponse", &answer)?;
                output.answer(&json, || answer.augmented_prompt.clone())
            }
        }
    }
}

impl LogArgs {
    async fn request(self) -> Result<api::LogGenerationRequest, Failure> {
        let retrieved_examples = match self.retrieved {
            Some(file) => blocking(move || read_retrieved(&file)).await?,
            None => Vec::new(),
        };
        let text = |text| Value { kind: Some(value::Kind::StringValue(text)) };
        let status = if self.running { RUNNING } else { api::GenerationStatus::Unspecified };
        let generation = api::Generation {
            prompt: self.prompt,
            augmented_prompt: self.augmented_prompt,
            output_path: self.output_path,
            seed: self.seed,
            num_inference_steps: self.steps,
            guidance_scale: self.guidance_scale,
            generation_time_ms: self.time,
            memory_usage_mb: self.memory,
            error_message: self.error,
            model_config: self.config.into_iter().map(|(key, set)| (key, text(set))).collect(),
            retrieved_examples,
            status: status.into(),
            ..api::Generation::default()
        };
        let generation = Some(generation);
        Ok(api::LogGenerationRequest { namespace: self.namespace, generation })
    }
}

impl FinishArgs {
    fn request(self) -> api::FinishGenerationRequest {
        api::FinishGenerationRequest {
            namespace: self.namespace,
            id: self.id,
            output_path: self.output_path,
            generation_time_ms: self.time,
            memory_usage_mb: self.memory,
            error_message: self.error,
        }
    }
}

impl AssembleArgs {
    async fn request(self) -> Result<api::AssembleContextRequest, Failure> {
        let template = match self.template {
            Some(path) => blocking(move || read_template(&path)).await?,
            None => String::new(),
        };
        let query = self.item.map(|item| api::Query { kind: Some(api::query::Kind::ItemId(item)) });
        Ok(api::AssembleContextRequest {
            namespace: self.space.namespace,
            dataset: self.space.dataset,
            space: self.space.space,
            prompt: self.prompt,
            query,
            k: Some(self.k),
            filter: self.filter,
            threshold: self.threshold,
            text_column: self.text_column,
            template,
            example_template: self.example,
        })
    }
}

fn read_template(path: &Path) -> Result<String, Failure> {
    let size = std::fs::metadata(path).map_err(|error| wrong_file(path, error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(wrong_file(path, "is too long for a template or what was retrieved"));
    }
    std::fs::read_to_string(path).map_err(|error| wrong_file(path, error))
}

/// What a context was assembled of, as it was printed.
#[derive(Deserialize)]
struct Retrieved {
    retrieved_examples: Vec<RetrievedExample>,
}

#[derive(Deserialize)]
struct RetrievedExample {
    #[serde(default)]
    space: String,
    item_id: String,
    #[serde(default)]
    score: f64,
    #[serde(default)]
    text: String,
}

fn read_retrieved(path: &Path) -> Result<Vec<api::RetrievedExample>, Failure> {
    let read: Retrieved = serde_json::from_str(&read_template(path)?)
        .map_err(|error| wrong_file(path, format!("is not what `assemble` prints: {error}")))?;
    let example = |one: RetrievedExample| api::RetrievedExample {
        space: one.space,
        item_id: one.item_id,
        score: one.score,
        text: one.text,
    };
    Ok(read.retrieved_examples.into_iter().map(example).collect())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, set)) if !key.is_empty() => Ok((key.to_owned(), set.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

const fn of_status(status: Status) -> api::GenerationStatus {
    match status {
        Status::Completed => api::GenerationStatus::Completed,
        Status::Failed => api::GenerationStatus::Failed,
        Status::Running => api::GenerationStatus::Running,
    }
}
