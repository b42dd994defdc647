//! `quarry spaces`.

use clap::{Subcommand, ValueEnum};
use quarry_client::client::Client;
use quarry_client::client::space::SpaceName;
use quarry_client::failure::Failure;
use quarry_client::output::{Column, Output, column, message_json};
use serde_json::json;
use vectors_api::v1 as api;

const COLUMNS: [Column; 7] = [
    column("namespace", "namespace"),
    column("dataset", "dataset"),
    column("name", "name"),
    column("dimension", "dimension"),
    column("metric", "metric"),
    column("points", "point_count"),
    column("created", "create_time"),
];

/// `--metric`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Metric {
    /// 1 − cosine similarity
    Cosine,
    /// Euclidean distance
    L2,
    /// Negative inner product
    Ip,
    /// Sum of absolute differences
    L1,
    /// Differing bits
    Hamming,
    /// 1 − shared bits ÷ bits set in either
    Jaccard,
}

/// `--element`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Element {
    /// Four bytes a coordinate
    F32,
    /// Two bytes
    F16,
    /// One byte: whole numbers of -128 to 127
    I8,
    /// One bit
    Bit,
}

/// Spaces of vectors.
#[derive(Debug, Subcommand)]
pub enum SpacesCommand {
    /// Make a space for vectors of one dimension and metric
    Create {
        /// NAMESPACE/DATASET/SPACE, or NAMESPACE/SPACE
        name: SpaceName,
        /// Coordinates of a vector
        #[arg(long, value_name = "D")]
        dimension: i32,
        /// How far apart two vectors are [default: cosine; hamming for bits]
        #[arg(long, value_enum)]
        metric: Option<Metric>,
        /// What a coordinate is stored as [default: f32; bit for hamming and jaccard]
        #[arg(long, value_enum)]
        element: Option<Element>,
        /// What makes the vectors [default: the first embedding says]
        #[arg(long, default_value = "")]
        embedder: String,
    },
    /// The spaces that you may see
    List {
        /// Only of this NAMESPACE or NAMESPACE/DATASET
        of: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
        limit: i32,
        /// Go on where another page ended
        #[arg(long, value_name = "T", default_value = "", hide_default_value = true)]
        page_token: String,
    },
    /// One space
    Show {
        /// Which
        name: SpaceName,
    },
    /// Delete a space with all of its points
    Delete {
        /// Which
        name: SpaceName,
    },
}

impl SpacesCommand {
    /// Asks the vector search.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn run(self, client: &Client, output: Output) -> Result<(), Failure> {
        let mut spaces = client.spaces();
        let (json, list) = match self {
            Self::Create { name, dimension, metric, element, embedder } => {
                let request = api::CreateSpaceRequest {
                    namespace: name.namespace,
                    dataset: name.dataset,
                    space: name.space,
                    dimension,
                    metric: metric.map_or(api::Metric::Unspecified, of_metric).into(),
                    element: element.map_or(api::Element::Unspecified, of_element).into(),
                    embedder,
                };
                let answer = spaces.create_space(request).await?.into_inner();
                (message_json("quarry.vectors.v1.CreateSpaceResponse", &answer)?, "space")
            }
            Self::List { of, limit, page_token } => {
                let of = of.unwrap_or_default();
                let (namespace, dataset) = of.split_once('/').unwrap_or((&of, ""));
                let request = api::ListSpacesRequest {
                    namespace: namespace.to_owned(),
                    dataset: dataset.to_owned(),
                    page_size: limit,
                    page_token,
                };
                let answer = spaces.list_spaces(request).await?.into_inner();
                (message_json("quarry.vectors.v1.ListSpacesResponse", &answer)?, "spaces")
            }
            Self::Show { name } => {
                let request = api::GetSpaceRequest {
                    namespace: name.namespace,
                    dataset: name.dataset,
                    space: name.space,
                };
                let answer = spaces.get_space(request).await?.into_inner();
                (message_json("quarry.vectors.v1.GetSpaceResponse", &answer)?, "space")
            }
            Self::Delete { name } => {
                let request = api::DeleteSpaceRequest {
                    namespace: name.namespace.clone(),
                    dataset: name.dataset.clone(),
                    space: name.space.clone(),
                };
                spaces.delete_space(request).await?;
                return output.answer(&json!({}), || format!("space {name} is deleted"));
            }
        };
        output.message(&json, list, &COLUMNS)
    }
}

const fn of_metric(metric: Metric) -> api::Metric {
    match metric {
        Metric::Cosine => api::Metric::Cosine,
        Metric::L2 => api::Metric::L2,
        Metric::Ip => api::Metric::Ip,
        Metric::L1 => api::Metric::L1,
        Metric::Hamming => api::Metric::Hamming,
        Metric::Jaccard => api::Metric::Jaccard,
    }
}

const fn of_element(element: Element) -> api::Element {
    match element {
        Element::F32 => api::Element::F32,
        Element::F16 => api::Element::F16,
        Element::I8 => api::Element::I8,
        Element::Bit => api::Element::Bit,
    }
}
