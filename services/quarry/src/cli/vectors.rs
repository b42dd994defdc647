//! `quarry vectors`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use service_error::ServiceError;
use vectors_api::v1 as api;

use super::Context;
use super::jobs::{follow, job_json, outcome};
use crate::client::Client;
use crate::client::space::SpaceName;
use crate::client::version::{DatasetName, VersionName};
use crate::failure::Failure;
use crate::output::{CellJson, Column, column, message_json, text_table};

/// The longest file of a vector, in bytes.
const VECTOR_FILE_BYTES_MAX: u64 = 4 << 20;

const STATS_COLUMNS: [Column; 7] = [
    column("state", "state"),
    column("points", "points"),
    column("segments", "segments"),
    column("head", "head_points"),
    column("deleted", "deleted_points"),
    column("bytes", "memory_bytes"),
    column("token", "token"),
];

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
    Search(SearchArgs),
    /// How a search is answered: strategy, cardinality, scanned, exact
    Explain(SearchArgs),
    /// What the searching index of a space holds
    Stats(SpaceArgs),
    /// Make the searching index of a space whole, as one segment
    Rebuild(SpaceArgs),
    /// Make the vectors of FAISS files points of a space; done again, it goes on
    ImportFaiss(vector_commands::ImportFaissArgs),
    /// Write a space's points as a FAISS file
    ExportFaiss(vector_commands::ExportFaissArgs),
    /// What FAISS files, or those of a folder, hold
    ListFaiss(vector_commands::ListFaissArgs),
}

#[derive(Debug, Args)]
pub struct SpaceArgs {
    /// NAMESPACE/DATASET/SPACE, or NAMESPACE/SPACE
    #[arg(long, value_name = "NAME")]
    space: SpaceName,
}

#[derive(Debug, Args)]
pub struct SearchArgs {
    /// A text, through the space's embedder
    #[arg(value_name = "TEXT", conflicts_with_all = ["item", "vector"], required_unless_present_any = ["item", "vector"])]
    text: Option<String>,
    /// NAMESPACE/DATASET/SPACE, or NAMESPACE/SPACE
    #[arg(long, value_name = "NAME")]
    space: SpaceName,
    /// Near to this item of the space
    #[arg(long, value_name = "ID", conflicts_with = "vector")]
    item: Option<String>,
    /// Near to the vector in this file: a JSON array of numbers
    #[arg(long, value_name = "FILE.json")]
    vector: Option<PathBuf>,
    /// How many
    #[arg(short, value_name = "K", default_value = "10")]
    k: i32,
    /// Only hits of at least this score
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    threshold: Option<f64>,
    /// E.g. 'section = "games" AND size < 100'
    #[arg(long, value_name = "F", default_value = "")]
    filter: String,
    /// Compare with every point that passes the filter
    #[arg(long)]
    exact: bool,
    /// Breadth of the graph walk
    #[arg(long, value_name = "N", default_value = "0")]
    ef: i32,
    /// See every write that was acknowledged before
    #[arg(long)]
    strong: bool,
    /// Show the hits' payload
    #[arg(long)]
    payload: bool,
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
    /// Lists of numbers, as many as the space has dimensions
    #[arg(long, value_name = "V")]
    vector_column: String,
    /// What becomes payload [default: every other column that can be filtered by]
    #[arg(long, value_name = "C,…", value_delimiter = ',')]
    payload: Vec<String>,
    /// What made the vectors
    #[arg(long, value_name = "NAME", default_value = "")]
    embedder: String,
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
    /// Queue the job and do not wait for it
    #[arg(long)]
    no_wait: bool,
}

#[derive(Serialize)]
struct SearchDocument {
    results: Vec<HitJson>,
    explain: serde_json::Value,
}

#[derive(Serialize)]
struct HitJson {
    item_id: String,
    distance: Option<f64>,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<serde_json::Value>,
}

impl VectorsCommand {
    /// Asks the vector search.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Load(args) => load(context, args).await,
            Self::Embed(args) => embed(context, args).await,
            Self::Search(args) => search(context, args).await,
            Self::Explain(args) => {
                let answer = ask(context, args).await?;
                let explain = explain_json(answer.explain.unwrap_or_default())?;
                let document = json!({ "explain": explain });
                context.output.answer(&document, || explain_text(&explain))
            }
            Self::ImportFaiss(args) => {
                args.run(&context.client()?, context.output, &context.stop).await
            }
            Self::ExportFaiss(args) => {
                args.run(&context.client()?, context.output, &context.stop).await
            }
            Self::ListFaiss(args) => args.run(context.output).await,
            Self::Stats(args) => stats(context, args.space).await,
            Self::Rebuild(args) => {
                let request = api::RebuildIndexRequest {
                    namespace: args.space.namespace,
                    dataset: args.space.dataset,
                    space: args.space.space,
                };
                let answer = context.client()?.spaces().rebuild_index(request).await?;
                let json =
                    message_json("quarry.vectors.v1.RebuildIndexResponse", &answer.into_inner())?;
                context.output.message(&json, "index", &STATS_COLUMNS)
            }
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
    };
    let job = client.loading().load_vectors(request).await?.into_inner().job;
    waited_for(context, &client, job, args.no_wait).await
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
    };
    let job = client.loading().embed_dataset(request).await?.into_inner().job;
    waited_for(context, &client, job, args.no_wait).await
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
    job: String,
    no_wait: bool,
) -> Result<(), Failure> {
    if no_wait {
        return context.output.answer(&json!({ "job": { "name": job } }), || job.clone());
    }
    let ended = follow(context, client, &job).await?;
    let json = json!({ "job": job_json(&ended)? });
    context.output.message(&json, "job", &JOB_COLUMNS)?;
    outcome(&ended)
}

async fn stats(context: &Context, space: SpaceName) -> Result<(), Failure> {
    let request = api::GetSpaceStatsRequest {
        namespace: space.namespace,
        dataset: space.dataset,
        space: space.space,
    };
    let answer = context.client()?.spaces().get_space_stats(request).await?.into_inner();
    let json = message_json("quarry.vectors.v1.GetSpaceStatsResponse", &answer)?;
    context.output.message(&json, "index", &STATS_COLUMNS)
}

async fn ask(context: &Context, args: SearchArgs) -> Result<api::SearchResponse, Failure> {
    use api::query::Kind;
    let kind = match (args.text, args.item, args.vector) {
        (Some(text), _, _) => Kind::Text(text),
        (_, Some(item), _) => Kind::ItemId(item),
        (_, _, Some(file)) => {
            Kind::Vector(api::Vector { values: read_vector(&file)?, bits: Vec::new() })
        }
        (None, None, None) => return Err(Failure::usage("give a TEXT, --item or --vector")),
    };
    let strong = args.strong.then_some(api::consistency::Kind::Strong(true));
    let request = api::SearchRequest {
        namespace: args.space.namespace,
        dataset: args.space.dataset,
        space: args.space.space,
        query: Some(api::Query { kind: Some(kind) }),
        k: Some(args.k),
        filter: args.filter,
        threshold: args.threshold,
        exact: args.exact,
        ef: args.ef,
        consistency: strong.map(|kind| api::Consistency { kind: Some(kind) }),
        with_payload: args.payload,
        ..api::SearchRequest::default()
    };
    Ok(context.client()?.search().search(request).await?.into_inner())
}

async fn search(context: &Context, args: SearchArgs) -> Result<(), Failure> {
    let with_payload = args.payload;
    let answer = ask(context, args).await?;
    let explain = explain_json(answer.explain.unwrap_or_default())?;
    let results = answer
        .hits
        .into_iter()
        .map(|hit| {
            let payload = with_payload.then(|| payload_json(&hit.payload)).transpose()?;
            Ok(HitJson { item_id: hit.item_id, distance: hit.distance, score: hit.score, payload })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let document = SearchDocument { results, explain };
    context.output.answer(&document, || {
        let rows = document.results.iter().map(|hit| {
            let distance = hit.distance.map_or_else(String::new, |d| format!("{d:.6}"));
            vec![hit.item_id.clone(), distance, format!("{:.6}", hit.score)]
        });
        text_table(&["item", "distance", "score"], rows)
    })
}

fn payload_json(
    payload: &std::collections::HashMap<String, catalog_api::v1::Value>,
) -> Result<serde_json::Value, Failure> {
    let sorted: std::collections::BTreeMap<&str, CellJson<'_>> =
        payload.iter().map(|(name, value)| (name.as_str(), CellJson(value))).collect();
    serde_json::to_value(sorted).map_err(|error| {
        ServiceError::internal("the answer's payload is no JSON").caused_by(error).into()
    })
}

fn explain_json(explain: api::Explain) -> Result<serde_json::Value, Failure> {
    message_json("quarry.vectors.v1.Explain", &explain)
}

fn explain_text(explain: &serde_json::Value) -> String {
    let fields = explain.as_object().into_iter().flatten();
    let rows = fields.map(|(name, value)| {
        vec![name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)]
    });
    text_table(&["what", "value"], rows)
}

/// A JSON array of numbers, bare or under `vector`.
fn read_vector(path: &PathBuf) -> Result<Vec<f32>, Failure> {
    let wrong = |message: String| {
        let error = ServiceError::invalid("vector", format!("{}: {message}", path.display()));
        Failure::from(error)
    };
    let meta = std::fs::metadata(path).map_err(|error| {
        Failure::from(ServiceError::not_found("file", format!("{}: {error}", path.display())))
    })?;
    if meta.len() > VECTOR_FILE_BYTES_MAX {
        return Err(wrong("it is too long for one vector".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let json: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| wrong(format!("no JSON: {error}")))?;
    let array = json.get("vector").unwrap_or(&json);
    let numbers = array.as_array().ok_or_else(|| wrong("no JSON array of numbers".to_owned()))?;
    let number = |(at, value): (usize, &serde_json::Value)| {
        value.as_f64().map(|n| n as f32).ok_or_else(|| wrong(format!("entry {at} is no number")))
    };
    numbers.iter().enumerate().map(number).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_vector_is_an_array_of_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let path = dir.path().join("v.json");
            std::fs::write(&path, text).unwrap();
            read_vector(&path)
        };
        assert_eq!(read("[1, -2.5]").unwrap(), [1.0, -2.5]);
        assert_eq!(read("{\"vector\": [3]}").unwrap(), [3.0]);
        for wrong in ["", "{}", "[1, \"x\"]", "[null]", "7"] {
            assert_eq!(read(wrong).unwrap_err().exit() as u8, 7, "{wrong}");
        }
        let absent = read_vector(&dir.path().join("absent")).unwrap_err();
        assert_eq!(absent.exit() as u8, 3);
    }
}
