//! Texts and images as vectors.

mod endpoint;
mod images;
mod local;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use service_error::ServiceError;
use settings::Secret;

pub use images::{ImageFacts, image_facts};

use endpoint::Endpoint;
use local::Bert;

/// An embedder as the settings name it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EmbedderSettings {
    /// A sentence-transformers BERT in a directory.
    Local {
        /// Holds `config.json`, `tokenizer.json` and `model.safetensors`.
        path: PathBuf,
        /// Tokens of a text that are looked at; 0: what the model was trained with.
        #[serde(default)]
        tokens_max: usize,
    },
    /// An endpoint as OpenAI's.
    #[serde(rename = "openai")]
    OpenAi {
        /// E.g. `http://host:port/v1`.
        url: String,
        /// The model's name there.
        model: String,
        /// Coordinates of its vectors.
        dimension: usize,
        /// Sent as a bearer token.
        #[serde(default)]
        api_key: Option<Secret>,
        /// Texts of one request.
        #[serde(default = "batch_default")]
        batch: usize,
        /// Whether its model takes images too, as CLIP does, and how they are sent.
        #[serde(default)]
        images: ImageInput,
    },
    /// 64 bits of an image: copies are near.
    PerceptualHash,
    /// 64 shares of an image's colours.
    ColorHistogram,
}

const fn batch_default() -> usize {
    64
}

/// How an endpoint takes an image; OpenAI's own takes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageInput {
    /// It does not.
    #[default]
    None,
    /// As an input `data:image/png;base64,…`, with `"modality": "image"` beside it.
    DataUri,
    /// As an input `{"image": "…"}` of base64.
    Object,
}

/// One vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Embedding {
    /// Numbers.
    Floats(Vec<f32>),
    /// Bits, the first in the lowest bit of a byte.
    Bits(Vec<u8>),
}

/// One embedder.
#[derive(Debug, Clone)]
pub struct Embedder {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Local(Arc<Bert>),
    Endpoint(Arc<Endpoint>),
    PerceptualHash,
    ColorHistogram,
}

impl Embedder {
    /// Opens an embedder; a local model is read.
    ///
    /// # Errors
    /// Files that are missing or no such model, a URL that is none.
    pub fn open(settings: &EmbedderSettings) -> Result<Self, ServiceError> {
        let kind = match settings {
            EmbedderSettings::Local { path, tokens_max } => {
                Kind::Local(Arc::new(Bert::open(path, *tokens_max)?))
            }
            EmbedderSettings::OpenAi { url, model, dimension, api_key, batch, images } => {
                let endpoint = Endpoint::new(url, model, *dimension, api_key.clone(), *batch)?;
                Kind::Endpoint(Arc::new(endpoint.with_images(*images)))
            }
            EmbedderSettings::PerceptualHash => Kind::PerceptualHash,
            EmbedderSettings::ColorHistogram => Kind::ColorHistogram,
        };
        Ok(Self { kind })
    }

    /// Coordinates of its vectors.
    #[must_use]
    pub fn dimension(&self) -> usize {
        match &self.kind {
            Kind::Local(bert) => bert.dimension(),
            Kind::Endpoint(endpoint) => endpoint.dimension(),
            Kind::PerceptualHash => images::HASH_BITS,
            Kind::ColorHistogram => images::COLORS,
        }
    }

    /// Whether its vectors are bits.
    #[must_use]
    pub const fn is_of_bits(&self) -> bool {
        matches!(self.kind, Kind::PerceptualHash)
    }

    /// Whether it makes vectors of texts.
    #[must_use]
    pub const fn takes_texts(&self) -> bool {
        matches!(self.kind, Kind::Local(_) | Kind::Endpoint(_))
    }

    /// Whether it makes vectors of images.
    #[must_use]
    pub fn takes_images(&self) -> bool {
        match &self.kind {
            Kind::Local(_) => false,
            Kind::Endpoint(endpoint) => endpoint.takes_images(),
            Kind::PerceptualHash | Kind::ColorHistogram => true,
        }
    }

    /// Vectors of texts, in their order.
    ///
    /// # Errors
    /// `InvalidArgument` for an embedder of images, `Unavailable` for an endpoint that is away.
    pub async fn texts(&self, texts: Vec<String>) -> Result<Vec<Embedding>, ServiceError> {
        let vectors = match &self.kind {
            Kind::Local(bert) => {
                let bert = Arc::clone(bert);
                let work = tokio::task::spawn_blocking(move || bert.embed(&texts));
                work.await.map_err(|error| {
                    ServiceError::internal("an embedding was cut short").caused_by(error)
                })??
            }
            Kind::Endpoint(endpoint) => endpoint.embed(&texts).await?,
            Kind::PerceptualHash | Kind::ColorHistogram => {
                return Err(ServiceError::invalid(
                    "query.text",
                    "the space's embedder takes images",
                ));
            }
        };
        Ok(vectors.into_iter().map(Embedding::Floats).collect())
    }

    /// The vector of an image file.
    ///
    /// # Errors
    /// `InvalidArgument` for an embedder of texts, or bytes that are no image.
    pub async fn image(&self, bytes: Vec<u8>) -> Result<Embedding, ServiceError> {
        let make = match &self.kind {
            Kind::PerceptualHash => images::perceptual_hash,
            Kind::ColorHistogram => images::color_histogram,
            Kind::Endpoint(endpoint) if endpoint.takes_images() => {
                return endpoint.embed_image(&bytes).await.map(Embedding::Floats);
            }
            Kind::Local(_) | Kind::Endpoint(_) => {
                return Err(ServiceError::invalid(
                    "query.image",
                    "the space's embedder takes texts",
                ));
            }
        };
        tokio::task::spawn_blocking(move || make(&bytes)).await.map_err(|error| {
            ServiceError::internal("an embedding was cut short").caused_by(error)
        })?
    }
}

/// Embedders by name.
#[derive(Debug, Clone, Default)]
pub struct Embedders {
    known: BTreeMap<String, Embedder>,
}

impl Embedders {
    /// Opens all that the settings name.
    ///
    /// # Errors
    /// As [`Embedder::open`], with the name.
    pub fn open(settings: &BTreeMap<String, EmbedderSettings>) -> Result<Self, ServiceError> {
        let open = |(name, settings): (&String, &EmbedderSettings)| {
            let opened = Embedder::open(settings);
            let opened = opened.map_err(|error| error.context(format!("embedder {name}")))?;
            Ok((name.clone(), opened))
        };
        Ok(Self { known: settings.iter().map(open).collect::<Result<_, ServiceError>>()? })
    }

    /// The embedder of a name; of no name, the only one there is.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `NO_EMBEDDER` that names those there are.
    pub fn get(&self, name: &str) -> Result<(&str, &Embedder), ServiceError> {
        let found = match (name, self.known.len()) {
            ("", 1) => self.known.iter().next(),
            (name, _) => self.known.get_key_value(name),
        };
        found.map(|(name, embedder)| (name.as_str(), embedder)).ok_or_else(|| {
            let names: Vec<&str> = self.known.keys().map(String::as_str).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let message = format!(
                "no embedder {name:?} is set up (vectors.embedders has: {known}); search by vector or item, or set it up"
            );
            ServiceError::precondition(message).reason("NO_EMBEDDER")
        })
    }
}

#[cfg(test)]
mod tests;
