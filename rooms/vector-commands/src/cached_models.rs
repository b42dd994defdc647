//! `quarry generations models`, `touch-model`, `forget-model`: which models a cache holds, and
//! how often they are used.

use clap::Args;
use quarry_client::client::Client;
use quarry_client::failure::Failure;
use quarry_client::output::{Column, Output, column, message_json};
use serde_json::json;
use vectors_api::v1 as api;

const COLUMNS: [Column; 6] = [
    column("type", "model_type"),
    column("name", "model_name"),
    column("path", "cache_path"),
    column("bytes", "size_bytes"),
    column("uses", "access_count"),
    column("used", "last_accessed"),
];

/// A model that was used.
#[derive(Debug, Args)]
pub struct TouchArgs {
    /// Which namespace
    namespace: String,
    /// E.g. clip
    #[arg(value_name = "TYPE")]
    model_type: String,
    /// E.g. ViT-B-32
    #[arg(value_name = "NAME")]
    model_name: String,
    /// Where it is cached
    #[arg(long, value_name = "PATH", default_value = "")]
    path: String,
    /// Bytes that it takes there
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    bytes: i64,
}

/// A model that is no longer cached.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// Which namespace
    namespace: String,
    /// E.g. clip
    #[arg(value_name = "TYPE")]
    model_type: String,
    /// E.g. ViT-B-32
    #[arg(value_name = "NAME")]
    model_name: String,
}

/// Which page of them.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which namespace
    namespace: String,
    /// At most so many
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    limit: i32,
    /// Go on where another page ended
    #[arg(long, value_name = "T", default_value = "", hide_default_value = true)]
    page_token: String,
}

impl ListArgs {
    pub async fn run(self, client: &Client, output: Output) -> Result<(), Failure> {
        let request = api::ListCachedModelsRequest {
            namespace: self.namespace,
            page_size: self.limit,
            page_token: self.page_token,
        };
        let answer = client.generations().list_cached_models(request).await?.into_inner();
        let json = message_json("quarry.vectors.v1.ListCachedModelsResponse", &answer)?;
        output.message(&json, "models", &COLUMNS)
    }
}

impl TouchArgs {
    pub async fn run(self, client: &Client, output: Output) -> Result<(), Failure> {
        let request = api::TouchModelRequest {
            namespace: self.namespace,
            model_type: self.model_type,
            model_name: self.model_name,
            cache_path: self.path,
            size_bytes: self.bytes,
        };
        let answer = client.generations().touch_model(request).await?.into_inner();
        let json = message_json("quarry.vectors.v1.TouchModelResponse", &answer)?;
        output.message(&json, "model", &COLUMNS)
    }
}

impl ForgetArgs {
    pub async fn run(self, client: &Client, output: Output) -> Result<(), Failure> {
        let said = format!("model {} is forgotten", self.model_name);
        let request = api::ForgetModelRequest {
            namespace: self.namespace,
            model_type: self.model_type,
            model_name: self.model_name,
        };
        client.generations().forget_model(request).await?;
        output.answer(&json!({}), || said)
    }
}
