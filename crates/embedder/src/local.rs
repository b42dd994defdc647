//! A sentence-transformers BERT from a directory.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use service_error::ServiceError;
use tokenizers::{PaddingParams, Tokenizer, TruncationParams};

/// Texts that go through the model together.
const BATCH: usize = 32;
/// The largest model that is read into memory.
const MODEL_BYTES_MAX: u64 = 4 << 30;
const CONFIG_BYTES_MAX: u64 = 64 << 20;

/// A model in memory.
pub struct Bert {
    model: BertModel,
    tokenizer: Tokenizer,
    dimension: usize,
}

impl std::fmt::Debug for Bert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bert").field("dimension", &self.dimension).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Trained {
    max_seq_length: usize,
}

impl Bert {
    /// Reads the model's files.
    pub fn open(dir: &Path, tokens_max: usize) -> Result<Self, ServiceError> {
        let config: Config = json(&dir.join("config.json"))?;
        let trained = json::<Trained>(&dir.join("sentence_bert_config.json"));
        let limit = trained.map_or(config.max_position_embeddings, |t| t.max_seq_length);
        let tokens = if tokens_max == 0 { limit } else { tokens_max };
        let tokens = tokens.clamp(1, config.max_position_embeddings);
        let path = dir.join("tokenizer.json");
        let bytes = read(&path, CONFIG_BYTES_MAX)?;
        let mut tokenizer =
            Tokenizer::from_bytes(bytes).map_err(|error| unusable(&path, &error.to_string()))?;
        let truncation = TruncationParams { max_length: tokens, ..TruncationParams::default() };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| unusable(&path, &error.to_string()))?;
        tokenizer.with_padding(Some(PaddingParams::default()));
        let path = dir.join("model.safetensors");
        let bytes = read(&path, MODEL_BYTES_MAX)?;
        let wrong = |error: candle_core::Error| unusable(&path, &error.to_string());
        let weights = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu)
            .map_err(wrong)?;
        let model = BertModel::load(weights, &config).map_err(wrong)?;
        Ok(Self { model, tokenizer, dimension: config.hidden_size })
    }

    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// Unit vectors of texts.
    pub fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ServiceError> {
        let failed = |error: candle_core::Error| {
            ServiceError::internal("the model could not embed").caused_by(error)
        };
        let mut vectors = Vec::with_capacity(texts.len());
        for some in texts.chunks(BATCH) {
            let encoded = self.tokenizer.encode_batch(some.to_vec(), true).map_err(|error| {
                ServiceError::internal(format!("a text could not be tokenized: {error}"))
            })?;
            let width = encoded.first().map_or(0, tokenizers::Encoding::len);
            let ids: Vec<u32> = encoded.iter().flat_map(|e| e.get_ids().to_vec()).collect();
            let mask: Vec<u32> =
                encoded.iter().flat_map(|e| e.get_attention_mask().to_vec()).collect();
            vectors.extend(self.pooled(ids, mask, (some.len(), width)).map_err(failed)?);
        }
        Ok(vectors)
    }

    /// The mean of the tokens' vectors, of unit length.
    fn pooled(
        &self,
        ids: Vec<u32>,
        mask: Vec<u32>,
        shape: (usize, usize),
    ) -> candle_core::Result<Vec<Vec<f32>>> {
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let kinds = ids.zeros_like()?;
        let tokens = self.model.forward(&ids, &kinds, Some(&mask))?;
        let weights = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        let sum = tokens.broadcast_mul(&weights)?.sum(1)?;
        let mean = sum.broadcast_div(&weights.sum(1)?)?;
        let length = mean.sqr()?.sum_keepdim(1)?.sqrt()?;
        mean.broadcast_div(&length)?.to_vec2()
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, ServiceError> {
    let bytes = read(path, CONFIG_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| unusable(path, &error.to_string()))
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ServiceError> {
    let length = fs::metadata(path).map_err(|error| unusable(path, &error.to_string()))?.len();
    if length > bytes_max {
        return Err(unusable(path, &format!("{length} bytes; at most {bytes_max} are read")));
    }
    fs::read(path).map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, why: &str) -> ServiceError {
    let message = format!(
        "{}: {why}; a local embedder is a directory with config.json, tokenizer.json and model.safetensors of a sentence-transformers BERT",
        path.display()
    );
    ServiceError::invalid("vectors.embedders", message).reason("EMBEDDER_UNUSABLE")
}
