//! An endpoint that embeds as OpenAI's does.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use service_error::{Code, ServiceError};
use settings::Secret;
use tokio::time::sleep;

use crate::ImageInput;
use crate::images::image_facts;

const TRIES: u32 = 5;
const DELAY: Duration = Duration::from_millis(250);
const DELAY_MAX: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(60);
const BATCH_MAX: usize = 2_048;
/// Bytes of an answer for one coordinate, generously.
const COORDINATE_BYTES: usize = 40;

/// Where it is and what is asked of it.
#[derive(Debug)]
pub struct Endpoint {
    client: Client,
    url: String,
    model: String,
    dimension: usize,
    api_key: Option<Secret>,
    batch: usize,
    images: ImageInput,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [Input],
    #[serde(skip_serializing_if = "Option::is_none")]
    modality: Option<&'static str>,
}

/// What a vector is made of, as the wire has it.
#[derive(Serialize)]
#[serde(untagged)]
enum Input {
    /// A text, or an image as a URI.
    Text(String),
    /// An image.
    Image { image: String },
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    index: usize,
    embedding: Vec<f32>,
}

impl Endpoint {
    pub fn new(
        url: &str,
        model: &str,
        dimension: usize,
        api_key: Option<Secret>,
        batch: usize,
    ) -> Result<Self, ServiceError> {
        let wrong = |why: String| ServiceError::invalid("vectors.embedders", why);
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(wrong(format!("{url:?} is no URL; write http://host:port/v1")));
        }
        if dimension == 0 || batch == 0 || batch > BATCH_MAX {
            return Err(wrong(format!("dimension and batch (at most {BATCH_MAX}) are positive")));
        }
        let client = Client::builder().timeout(TIMEOUT).build().map_err(|error| {
            ServiceError::internal("no HTTP client can be made").caused_by(error)
        })?;
        Ok(Self {
            client,
            url: format!("{}/embeddings", url.trim_end_matches('/')),
            model: model.to_owned(),
            dimension,
            api_key,
            batch,
            images: ImageInput::None,
        })
    }

    pub fn with_images(self, images: ImageInput) -> Self {
        Self { images, ..self }
    }

    pub const fn takes_images(&self) -> bool {
        !matches!(self.images, ImageInput::None)
    }

    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// Vectors of texts, some at a time.
    pub async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ServiceError> {
        let mut vectors = Vec::with_capacity(texts.len());
        for some in texts.chunks(self.batch) {
            let inputs: Vec<Input> = some.iter().cloned().map(Input::Text).collect();
            vectors.extend(self.embed_some(&inputs, None).await?);
        }
        Ok(vectors)
    }

    /// The vector of an image file, whose format its head says.
    pub async fn embed_image(&self, bytes: &[u8]) -> Result<Vec<f32>, ServiceError> {
        let facts = image_facts(bytes)?;
        let base64 = STANDARD.encode(bytes);
        let (input, modality) = match self.images {
            ImageInput::Object => (Input::Image { image: base64 }, None),
            ImageInput::None | ImageInput::DataUri => {
                let uri = format!("data:image/{};base64,{base64}", facts.format);
                (Input::Text(uri), Some("image"))
            }
        };
        let made = self.embed_some(&[input], modality).await?.pop();
        made.ok_or_else(|| wrong("lacks the vector of the image"))
    }

    /// Tries again what may succeed later.
    async fn embed_some(
        &self,
        texts: &[Input],
        modality: Option<&'static str>,
    ) -> Result<Vec<Vec<f32>>, ServiceError> {
        let mut delay = DELAY;
        let mut tries = 1;
        loop {
            let (error, after) = match self.ask(texts, modality).await {
                Ok(vectors) => return Ok(vectors),
                Err(failure) => failure,
            };
            if error.code() != Code::Unavailable || tries == TRIES {
                return Err(error);
            }
            tries += 1;
            sleep(after.unwrap_or(delay).min(DELAY_MAX)).await;
            delay = (delay * 2).min(DELAY_MAX);
        }
    }

    async fn ask(
        &self,
        texts: &[Input],
        modality: Option<&'static str>,
    ) -> Result<Vec<Vec<f32>>, (ServiceError, Option<Duration>)> {
        let request = Request { model: &self.model, input: texts, modality };
        let mut call = self.client.post(&self.url).json(&request);
        if let Some(key) = &self.api_key {
            call = call.bearer_auth(key.expose());
        }
        let away = |error: reqwest::Error| {
            let message =
                format!("the embedding endpoint does not answer: {}", error.without_url());
            (ServiceError::unavailable(message).reason("EMBEDDER_AWAY"), None)
        };
        let answer = call.send().await.map_err(away)?;
        let status = answer.status();
        if !status.is_success() {
            let after = retry_after(&answer);
            return Err((refused(status), after));
        }
        let bytes = self.body(answer, texts.len()).await.map_err(|error| (error, None))?;
        self.vectors(&bytes, texts.len()).map_err(|error| (error, None))
    }

    async fn body(&self, mut answer: Response, texts: usize) -> Result<Vec<u8>, ServiceError> {
        let limit = (texts * (self.dimension * COORDINATE_BYTES + 1_000)).max(1 << 20);
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|_| {
            ServiceError::unavailable("the embedding endpoint broke off").reason("EMBEDDER_AWAY")
        })? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > limit {
                return Err(wrong("is longer than its vectors can be"));
            }
        }
        Ok(bytes)
    }

    /// In the order of the texts, whatever the order of the answer.
    fn vectors(&self, bytes: &[u8], texts: usize) -> Result<Vec<Vec<f32>>, ServiceError> {
        let answer: Answer =
            serde_json::from_slice(bytes).map_err(|_| wrong("is not the JSON of embeddings"))?;
        let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts];
        for entry in answer.data {
            let slot =
                vectors.get_mut(entry.index).ok_or_else(|| wrong("has more vectors than texts"))?;
            if entry.embedding.len() != self.dimension {
                let found = entry.embedding.len();
                return Err(wrong(&format!("has dimension {found}, not {}", self.dimension)));
            }
            if entry.embedding.iter().any(|value| !value.is_finite()) {
                return Err(wrong("holds a number that is none"));
            }
            *slot = Some(entry.embedding);
        }
        let whole: Option<Vec<Vec<f32>>> = vectors.into_iter().collect();
        whole.ok_or_else(|| wrong("lacks the vector of a text"))
    }
}

fn wrong(what: &str) -> ServiceError {
    ServiceError::precondition(format!("the answer of the embedding endpoint {what}"))
        .reason("EMBEDDER_ANSWER")
}

fn refused(status: StatusCode) -> ServiceError {
    let message = format!("the embedding endpoint answered {status}");
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return ServiceError::unavailable(message).reason("EMBEDDER_AWAY");
    }
    ServiceError::precondition(format!("{message}; check vectors.embedders: url, model, api_key"))
        .reason("EMBEDDER_REFUSED")
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
