//! `quarry images`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quarry_client::client::Client;
use quarry_client::failure::Failure;
use quarry_client::output::{Column, Output, column, message_json};
use serde_json::json;
use vectors_api::v1 as api;

use crate::{blocking, read_image};

const COLUMNS: [Column; 7] = [
    column("id", "id"),
    column("path", "image_path"),
    column("description", "description"),
    column("tags", "tags"),
    column("dataset", "source_dataset"),
    column("item", "item_id"),
    column("bytes", "file_size_bytes"),
];

/// Images that are searched for: records, linked to items.
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// Add an image; its path is unique in the namespace
    Add(Box<AddArgs>),
    /// The images of a namespace, by path
    List {
        /// Which namespace
        namespace: String,
        /// At most so many
        #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
        limit: i32,
        /// Go on where another page ended
        #[arg(long, value_name = "T", default_value = "", hide_default_value = true)]
        page_token: String,
    },
    /// One image
    Show {
        /// Which namespace
        namespace: String,
        /// Which image
        id: String,
    },
    /// Delete an image's record and its points; its item stays
    Delete {
        /// Which namespace
        namespace: String,
        /// Which image
        id: String,
    },
}

/// What an image is.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Which namespace
    namespace: String,
    /// Where it is, as it is to be called; nothing is read from there
    path: String,
    /// Its file, which says its size and is what spaces of images embed; it is not kept
    #[arg(long, value_name = "FILE")]
    content: Option<PathBuf>,
    /// Spaces of the namespace, SPACE or DATASET/SPACE, that are to find it
    #[arg(long = "space", value_name = "SPACE,…", value_delimiter = ',')]
    spaces: Vec<String>,
    /// What is to be seen
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// One or more
    #[arg(long, value_name = "TAG,…", value_delimiter = ',')]
    tags: Vec<String>,
    /// Pixels
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    width: i64,
    /// Pixels
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    height: i64,
    /// Bytes of the file
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    bytes: i64,
    /// E.g. jpeg
    #[arg(long, value_name = "F", default_value = "")]
    format: String,
    /// The dataset of the item that it is: DATASET, or NAMESPACE/DATASET
    #[arg(long, value_name = "NAME", default_value = "")]
    dataset: String,
    /// The item
    #[arg(long, value_name = "ID", default_value = "", requires = "dataset")]
    item: String,
    /// The content of the item's media, for a thumbnail
    #[arg(long, value_name = "HASH", default_value = "", requires = "dataset")]
    content_hash: String,
}

impl ImagesCommand {
    /// Asks the vector search.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn run(self, client: &Client, output: Output) -> Result<(), Failure> {
        let mut images = client.images();
        let (json, list) = match self {
            Self::Add(args) => {
                let image = api::Image {
                    image_path: args.path,
                    description: args.description,
                    tags: args.tags,
                    width: args.width,
                    height: args.height,
                    file_size_bytes: args.bytes,
                    format: args.format,
                    source_dataset: args.dataset,
                    item_id: args.item,
                    content_hash: args.content_hash,
                    ..api::Image::default()
                };
                let content = match args.content {
                    Some(file) => blocking(move || read_image(&file)).await?,
                    None => Vec::new(),
                };
                let request = api::AddImageRequest {
                    namespace: args.namespace,
                    image: Some(image),
                    content,
                    spaces: args.spaces,
                };
                let answer = images.add_image(request).await?.into_inner();
                (message_json("quarry.vectors.v1.AddImageResponse", &answer)?, "image")
            }
            Self::List { namespace, limit, page_token } => {
                let request = api::ListImagesRequest { namespace, page_size: limit, page_token };
                let answer = images.list_images(request).await?.into_inner();
                (message_json("quarry.vectors.v1.ListImagesResponse", &answer)?, "images")
            }
            Self::Show { namespace, id } => {
                let request = api::GetImageRequest { namespace, id };
                let answer = images.get_image(request).await?.into_inner();
                (message_json("quarry.vectors.v1.GetImageResponse", &answer)?, "image")
            }
            Self::Delete { namespace, id } => {
                let request = api::DeleteImageRequest { namespace, id: id.clone() };
                images.delete_image(request).await?;
                return output.answer(&json!({}), || format!("image {id} is deleted"));
            }
        };
        output.message(&json, list, &COLUMNS)
    }
}
