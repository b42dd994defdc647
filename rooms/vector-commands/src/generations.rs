//! `quarry generations`: the log of a retrieval-augmented generator.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use quarry_client::client::Client;
use quarry_client::client::space::SpaceName;
use quarry_client::failure::Failure;
use quarry_client::output::{Column, Output, column, message_json};
use vectors_api::v1 as api;

use crate::{blocking, wrong_file};

/// The longest template file, in bytes.
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;

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
const MODELS: [Column; 5] = [
    column("type", "model_type"),
    column("name", "model_name"),
    column("bytes", "size_bytes"),
    column("uses", "access_count"),
    column("used", "last_accessed"),
];

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
    Log(LogArgs),
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
    Models {
        /// Which namespace
        namespace: String,
    },
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
                let request = args.request();
                let answer = log.log_generation(request).await?.into_inner();
                let json = message_json("quarry.vectors.v1.LogGenerationResponse", &answer)?;
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
            Self::Models { namespace } => {
                let request = api::ListCachedModelsRequest { namespace, ..Default::default() };
                let answer = log.list_cached_models(request).await?.into_inner();
                let json = message_json("quarry.vectors.v1.ListCachedModelsResponse", &answer)?;
                output.message(&json, "models", &MODELS)
            }
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
    fn request(self) -> api::LogGenerationRequest {
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
            ..api::Generation::default()
        };
        api::LogGenerationRequest { namespace: self.namespace, generation: Some(generation) }
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
    if size > TEMPLATE_BYTES_MAX {
        return Err(wrong_file(path, "is too long for a template"));
    }
    std::fs::read_to_string(path).map_err(|error| wrong_file(path, error))
}

const fn of_status(status: Status) -> api::GenerationStatus {
    match status {
        Status::Completed => api::GenerationStatus::Completed,
        Status::Failed => api::GenerationStatus::Failed,
        Status::Running => api::GenerationStatus::Running,
    }
}
