//! `quarry vectors`.

use clap::{Args, Subcommand};
use serde_json::json;
use vectors_api::v1 as api;

use super::Context;
use super::jobs::{follow, job_json, outcome};
use crate::client::Client;
use crate::client::space::SpaceName;
use crate::client::version::{DatasetName, VersionName};
use crate::failure::Failure;
use crate::output::{Column, column, note};

const JOB_COLUMNS: [Column; 4] = [
    column("job", "name"),
    column("state", "state"),
    column("rows", "result.rows"),
    column("failed", "result.failed"),
];

#[derive(Debug, Subcommand)]
pub enum VectorsCommand {
    /// Take over the vectors that a dataset carries, its other columns as payload
    Load(LoadArgs),
    /// Make vectors of a dataset's texts
    Embed(EmbedArgs),
    /// The points nearest to a text, an item or a vector
    Search(vector_commands::SearchArgs),
    /// How a search is answered: strategy, cardinality, scanned, exact
    Explain(vector_commands::SearchArgs),
    /// What the searching index of a space holds
    Stats(vector_commands::SpaceArgs),
    /// Make the searching index of a space whole, as one segment
    Rebuild(vector_commands::SpaceArgs),
    /// Make the vectors of FAISS files points of a space; done again, it goes on
    ImportFaiss(vector_commands::ImportFaissArgs),
    /// Write a space's points as a FAISS file
    ExportFaiss(vector_commands::ExportFaissArgs),
    /// What FAISS files, or those of a folder, hold
    ListFaiss(vector_commands::ListFaissArgs),
}

#[derive(Debug, Args)]
pub struct LoadArgs {
    #[arg(value_name = "NAMESPACE/DATASET")]
    dataset: VersionName,
    /// A space of that dataset, or NAMESPACE/DATASET/SPACE
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// The item ids [default: the dataset's key]
    #[arg(long, value_name = "C", default_value = "")]
    id_column: String,
    /// Lists of numbers, as many as the space has dimensions [default: none; points keep their
    /// vectors and get the other columns]
    #[arg(long, value_name = "V", default_value = "", hide_default_value = true)]
    vector_column: String,
    /// What becomes payload [default: every other column that can be filtered by]
    #[arg(long, value_name = "C,…", value_delimiter = ',')]
    payload: Vec<String>,
    /// What made the vectors
    #[arg(long, value_name = "NAME", default_value = "")]
    embedder: String,
    /// Also delete the points of items that the dataset does not have
    #[arg(long)]
    delete_missing: bool,
    /// Queue the job and do not wait for it
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
pub struct EmbedArgs {
    #[arg(value_name = "NAMESPACE/DATASET")]
    dataset: VersionName,
    /// The texts
    #[arg(long, value_name = "C")]
    column: String,
    /// A space of that dataset, made if it is not there, or NAMESPACE/DATASET/SPACE [default: the column's name]
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// The item ids [default: the dataset's key]
    #[arg(long, value_name = "C", default_value = "")]
    id_column: String,
    /// What becomes payload [default: every column that can be filtered by]
    #[arg(long, value_name = "C,…", value_delimiter = ',')]
    payload: Vec<String>,
    /// An embedder of the server's settings [default: the space's, else the only one]
    #[arg(long, value_name = "NAME", default_value = "")]
    embedder: String,
    /// Also delete the points of items that the dataset does not have
    #[arg(long)]
    delete_missing: bool,
    /// Queue the job and do not wait for it
    #[arg(long)]
    no_wait: bool,
}

impl VectorsCommand {
    /// Asks the vector search.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Load(args) => load(context, args).await,
            Self::Embed(args) => embed(context, args).await,
            Self::Search(args) => args.search(&context.client()?, context.output).await,
            Self::Explain(args) => args.explain(&context.client()?, context.output).await,
            Self::Stats(args) => args.stats(&context.client()?, context.output).await,
            Self::Rebuild(args) => args.rebuild(&context.client()?, context.output).await,
            Self::ImportFaiss(args) => {
                args.run(&context.client()?, context.output, &context.stop).await
            }
            Self::ExportFaiss(args) => {
                args.run(&context.client()?, context.output, &context.stop).await
            }
            Self::ListFaiss(args) => args.run(context.output).await,
        }
    }
}

async fn load(context: &Context, args: LoadArgs) -> Result<(), Failure> {
    let source = args.dataset.dataset;
    let space = space_of(&source, args.space)?;
    let client = context.client()?;
    let request = api::LoadVectorsRequest {
        namespace: space.namespace,
        dataset: space.dataset,
        space: space.space,
        source_namespace: source.namespace,
        source_dataset: source.dataset,
        version: args.dataset.version.unwrap_or_default(),
        id_column: args.id_column,
        vector_column: args.vector_column,
        payload_columns: args.payload,
        embedder: args.embedder,
        delete_missing: args.delete_missing,
    };
    let queued = client.loading().load_vectors(request).await?.into_inner();
    waited_for(context, &client, (queued.job, queued.columns_left_out), args.no_wait).await
}

async fn embed(context: &Context, args: EmbedArgs) -> Result<(), Failure> {
    let source = args.dataset.dataset;
    let space = space_of(&source, args.space.unwrap_or_else(|| args.column.clone()))?;
    let client = context.client()?;
    let request = api::EmbedDatasetRequest {
        namespace: space.namespace,
        dataset: space.dataset,
        space: space.space,
        source_namespace: source.namespace,
        source_dataset: source.dataset,
        version: args.dataset.version.unwrap_or_default(),
        id_column: args.id_column,
        text_column: args.column,
        payload_columns: args.payload,
        embedder: args.embedder,
        delete_missing: args.delete_missing,
    };
    let queued = client.loading().embed_dataset(request).await?.into_inner();
    waited_for(context, &client, (queued.job, queued.columns_left_out), args.no_wait).await
}

/// A space of a dataset, or a whole name.
fn space_of(dataset: &DatasetName, name: String) -> Result<SpaceName, Failure> {
    if name.contains('/') {
        return name.parse().map_err(Failure::usage);
    }
    let DatasetName { namespace, dataset } = dataset.clone();
    Ok(SpaceName { namespace, dataset, space: name })
}

async fn waited_for(
    context: &Context,
    client: &Client,
    (job, left_out): (String, Vec<String>),
    no_wait: bool,
) -> Result<(), Failure> {
    if no_wait {
        let json = json!({ "job": { "name": job }, "columns_left_out": left_out });
        return context.output.answer(&json, || job.clone());
    }
    if !left_out.is_empty() {
        let names = left_out.join(", ");
        note(&format!(
            "left out, since their types cannot be filtered by, or not exactly (--payload takes u64 and nanoseconds that fit): {names}"
        ));
    }
    let ended = follow(context, client, &job).await?;
    let json = json!({ "job": job_json(&ended)?, "columns_left_out": left_out });
    context.output.message(&json, "job", &JOB_COLUMNS)?;
    outcome(&ended)
}
