//! What a retrieval-augmented generator logs, and the context it is given.

use payload_index::Payload;
use service_error::ServiceError;
use uuid::Uuid;

use crate::model::no_nul;

/// The longest text of a field, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Examples of one generation.
pub const EXAMPLES_MAX: usize = 1_000;
/// The longest assembled prompt, in bytes.
const CONTEXT_BYTES_MAX: usize = 4 << 20;

/// It made something.
pub const COMPLETED: i16 = 1;
/// It did not.
pub const FAILED: i16 = 2;
/// It has not ended.
pub const RUNNING: i16 = 3;

/// A completed, failed or running generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Its id; ids grow with time.
    pub id: Uuid,
    /// What was asked for.
    pub prompt: String,
    /// What the model was given.
    pub augmented_prompt: String,
    /// Where the output is.
    pub output_path: String,
    /// The sampler's.
    pub seed: Option<i64>,
    /// Of inference.
    pub steps: Option<i64>,
    /// The sampler's.
    pub guidance_scale: Option<f64>,
    /// How long it took.
    pub time_ms: Option<i64>,
    /// What it used, in MB.
    pub memory_mb: Option<f64>,
    /// The model's settings.
    pub model_config: Payload,
    /// What was put into the prompt, best first.
    pub examples: Vec<Example>,
    /// [`COMPLETED`], [`FAILED`] or [`RUNNING`].
    pub status: i16,
    /// Why it failed.
    pub error_message: String,
    /// When it was logged.
    pub created_at: i64,
    /// By whom.
    pub created_by: Uuid,
    /// When it ended; nothing: it runs.
    pub finished_at: Option<i64>,
}

/// How a running generation ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// Where the output is.
    pub output_path: String,
    /// How long it took.
    pub time_ms: Option<i64>,
    /// What it used, in MB.
    pub memory_mb: Option<f64>,
    /// Set: it failed.
    pub error_message: String,
}

/// An item that was put into a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The space's address.
    pub space: String,
    /// Whose point it is.
    pub item_id: String,
    /// How near it was.
    pub score: f64,
    /// What stood in the prompt.
    pub text: String,
}

/// A record of a model in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// E.g. `clip`.
    pub model_type: String,
    /// E.g. `ViT-B-32`.
    pub model_name: String,
    /// Where it is.
    pub cache_path: String,
    /// Of its files.
    pub size_bytes: i64,
    /// How often it was used.
    pub access_count: i64,
    /// When it was used last.
    pub last_accessed: i64,
    /// When it was used first.
    pub created_at: i64,
}

/// Exact counts of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RagStatistics {
    /// Images.
    pub images: i64,
    /// Spaces, of the namespace and its datasets.
    pub spaces: i64,
    /// Their points.
    pub embeddings: i64,
    /// Generations.
    pub generations: i64,
    /// Of them, since the time asked for.
    pub recent: i64,
    /// Of them, failed.
    pub failed: i64,
    /// Of them, running.
    pub running: i64,
    /// Of those that say how long they took.
    pub mean_time_ms: Option<f64>,
    /// Cached models.
    pub models: i64,
    /// Their bytes.
    pub model_bytes: i64,
}

impl Generation {
    /// Checks what a request brings.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field.
    pub fn check(&self) -> Result<(), ServiceError> {
        if self.prompt.is_empty() {
            return Err(ServiceError::invalid("generation.prompt", "is empty"));
        }
        for (field, text) in [
            ("generation.prompt", &self.prompt),
            ("generation.augmented_prompt", &self.augmented_prompt),
            ("generation.error_message", &self.error_message),
            ("generation.output_path", &self.output_path),
        ] {
            short(field, text)?;
        }
        if self.examples.len() > EXAMPLES_MAX {
            let message = format!("{} examples; at most {EXAMPLES_MAX}", self.examples.len());
            return Err(ServiceError::invalid("generation.retrieved_examples", message));
        }
        for example in &self.examples {
            short("generation.retrieved_examples.text", &example.text)?;
            no_nul("generation.retrieved_examples.space", &example.space)?;
            no_nul("generation.retrieved_examples.item_id", &example.item_id)?;
            finite("generation.retrieved_examples.score", Some(example.score))?;
        }
        finite("generation.guidance_scale", self.guidance_scale)?;
        if self.status != FAILED && !self.error_message.is_empty() {
            let message = "is set, and the generation is said to run or to have completed";
            return Err(ServiceError::invalid("generation.error_message", message));
        }
        measured("generation", self.time_ms, self.memory_mb)
    }
}

impl Ending {
    /// What the status is then.
    #[must_use]
    pub const fn status(&self) -> i16 {
        if self.error_message.is_empty() { COMPLETED } else { FAILED }
    }

    /// Checks what a request brings.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field.
    pub fn check(&self) -> Result<(), ServiceError> {
        short("output_path", &self.output_path)?;
        short("error_message", &self.error_message)?;
        measured("", self.time_ms, self.memory_mb)
    }
}

fn measured(
    parent: &str,
    time_ms: Option<i64>,
    memory_mb: Option<f64>,
) -> Result<(), ServiceError> {
    let field = |name: &str| match parent {
        "" => name.to_owned(),
        parent => format!("{parent}.{name}"),
    };
    if time_ms.is_some_and(|time| time < 0) {
        return Err(ServiceError::invalid(&field("generation_time_ms"), "is negative"));
    }
    finite(&field("memory_usage_mb"), memory_mb)?;
    if memory_mb.is_some_and(|memory| memory < 0.0) {
        return Err(ServiceError::invalid(&field("memory_usage_mb"), "is negative"));
    }
    Ok(())
}

fn finite(field: &str, number: Option<f64>) -> Result<(), ServiceError> {
    match number {
        Some(number) if !number.is_finite() => {
            Err(ServiceError::invalid(field, "is no finite number"))
        }
        _ => Ok(()),
    }
}

/// Refuses a text that a row does not take.
///
/// # Errors
/// `InvalidArgument` naming the field.
pub(super) fn short(field: &str, text: &str) -> Result<(), ServiceError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ServiceError::invalid(field, format!("is longer than {TEXT_BYTES_MAX} bytes")));
    }
    no_nul(field, text)
}

/// Puts examples and a prompt into templates. Braces in what is put in mean nothing.
///
/// # Errors
/// A template without `{prompt}`, or a context that is too long.
pub fn assemble(
    template: &str,
    example_template: &str,
    prompt: &str,
    examples: &[Example],
) -> Result<String, ServiceError> {
    let template = if template.is_empty() { "Examples:\n{examples}\n{prompt}" } else { template };
    let each = if example_template.is_empty() { "- {text}\n" } else { example_template };
    if !template.contains("{prompt}") {
        return Err(ServiceError::invalid("template", "has no {prompt}"));
    }
    let mut shown = String::new();
    for example in examples {
        let score = format!("{:.4}", example.score);
        let fields = [
            ("{text}", example.text.as_str()),
            ("{item_id}", &example.item_id),
            ("{score}", &score),
        ];
        shown.push_str(&filled(each, &fields));
    }
    let whole = filled(template, &[("{prompt}", prompt), ("{examples}", &shown)]);
    if whole.len() > CONTEXT_BYTES_MAX {
        let message = format!("makes a prompt of {} bytes; ask for fewer examples", whole.len());
        return Err(ServiceError::invalid("k", message));
    }
    Ok(whole)
}

/// Replaces each name once, from left to right, never inside of what was put in.
fn filled(template: &str, fields: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match fields.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                out.push_str(value);
                rest = &rest[name.len()..];
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn templates_are_filled_once() {
        let example = |text: &str| Example {
            space: "s".into(),
            item_id: "i".into(),
            score: 0.5,
            text: text.into(),
        };
        let made = assemble("", "", "draw a {cat}", &[example("{prompt}"), example("b")]).unwrap();
        assert_eq!(made, "Examples:\n- {prompt}\n- b\n\ndraw a {cat}");
        let made = assemble("{prompt}|{examples}|{x}", "{item_id}={score};", "p", &[example("")]);
        assert_eq!(made.unwrap(), "p|i=0.5000;|{x}");
        assert_eq!(assemble("no", "", "p", &[]).unwrap_err().field_name(), Some("template"));
    }
}
