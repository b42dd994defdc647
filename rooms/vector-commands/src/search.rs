//! `quarry vectors search`, `explain`, `stats`, `rebuild`.

use std::path::{Path, PathBuf};

use clap::Args;
use quarry_client::client::Client;
use quarry_client::client::space::SpaceName;
use quarry_client::failure::Failure;
use quarry_client::output::{CellJson, Column, Output, column, message_json, text_table};
use serde::Serialize;
use serde_json::json;
use service_error::ServiceError;
use vectors_api::v1 as api;

use crate::{blocking, read_image};

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

/// Which space.
#[derive(Debug, Args)]
pub struct SpaceArgs {
    /// NAMESPACE/DATASET/SPACE, or NAMESPACE/SPACE
    #[arg(long, value_name = "NAME")]
    space: SpaceName,
}

/// What is near to what.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// A text, through the space's embedder
    #[arg(value_name = "TEXT", conflicts_with_all = ["item", "vector", "image"], required_unless_present_any = ["item", "vector", "image"])]
    text: Option<String>,
    /// NAMESPACE/DATASET/SPACE, or NAMESPACE/SPACE
    #[arg(long, value_name = "NAME")]
    space: SpaceName,
    /// Near to this item of the space
    #[arg(long, value_name = "ID", conflicts_with_all = ["vector", "image"])]
    item: Option<String>,
    /// Near to the image in this file, through the space's embedder
    #[arg(long, value_name = "FILE", conflicts_with = "vector")]
    image: Option<PathBuf>,
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

impl SpaceArgs {
    /// What the searching index holds.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn stats(self, client: &Client, output: Output) -> Result<(), Failure> {
        let request = api::GetSpaceStatsRequest {
            namespace: self.space.namespace,
            dataset: self.space.dataset,
            space: self.space.space,
        };
        let answer = client.spaces().get_space_stats(request).await?.into_inner();
        let json = message_json("quarry.vectors.v1.GetSpaceStatsResponse", &answer)?;
        output.message(&json, "index", &STATS_COLUMNS)
    }

    /// Makes the searching index whole.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn rebuild(self, client: &Client, output: Output) -> Result<(), Failure> {
        let request = api::RebuildIndexRequest {
            namespace: self.space.namespace,
            dataset: self.space.dataset,
            space: self.space.space,
        };
        let answer = client.spaces().rebuild_index(request).await?.into_inner();
        let json = message_json("quarry.vectors.v1.RebuildIndexResponse", &answer)?;
        output.message(&json, "index", &STATS_COLUMNS)
    }
}

impl SearchArgs {
    /// Says how the search was answered.
    ///
    /// # Errors
    /// The server's refusal; a file of a vector that is none.
    pub async fn explain(self, client: &Client, output: Output) -> Result<(), Failure> {
        let answer = ask(client, self).await?;
        let explain = explain_json(answer.explain.unwrap_or_default())?;
        let document = json!({ "explain": explain });
        output.answer(&document, || explain_text(&explain))
    }

    /// Searches.
    ///
    /// # Errors
    /// As [`Self::explain`].
    pub async fn search(self, client: &Client, output: Output) -> Result<(), Failure> {
        let with_payload = self.payload;
        let answer = ask(client, self).await?;
        let explain = explain_json(answer.explain.unwrap_or_default())?;
        let results = answer
            .hits
            .into_iter()
            .map(|hit| {
                let payload = with_payload.then(|| payload_json(&hit.payload)).transpose()?;
                Ok(HitJson {
                    item_id: hit.item_id,
                    distance: hit.distance,
                    score: hit.score,
                    payload,
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let document = SearchDocument { results, explain };
        output.answer(&document, || {
            let rows = document.results.iter().map(|hit| {
                let distance = hit.distance.map_or_else(String::new, |d| format!("{d:.6}"));
                vec![hit.item_id.clone(), distance, format!("{:.6}", hit.score)]
            });
            text_table(&["item", "distance", "score"], rows)
        })
    }
}

async fn ask(client: &Client, args: SearchArgs) -> Result<api::SearchResponse, Failure> {
    use api::query::Kind;
    let kind = match (args.text, args.item, args.image, args.vector) {
        (Some(text), ..) => Kind::Text(text),
        (_, Some(item), ..) => Kind::ItemId(item),
        (_, _, Some(file), _) => Kind::Image(blocking(move || read_image(&file)).await?),
        (.., Some(file)) => {
            Kind::Vector(api::Vector { values: read_vector(&file)?, bits: Vec::new() })
        }
        (None, None, None, None) => {
            return Err(Failure::usage("give a TEXT, --item, --image or --vector"));
        }
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
    Ok(client.search().search(request).await?.into_inner())
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
fn read_vector(path: &Path) -> Result<Vec<f32>, Failure> {
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
