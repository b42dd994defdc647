//! What a retrieval-augmented generator logs, and the context it is given.

use payload_index::{Payload, Value};
use service_error::ServiceError;
use uuid::Uuid;

/// The longest text of a field, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Examples of one generation.
pub const EXAMPLES_MAX: usize = 1_000;
/// The longest assembled prompt, in bytes.
const CONTEXT_BYTES_MAX: usize = 4 << 20;
const TAGS: &str = "tags";

/// A finished, failed or running generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    pub id: Uuid,
    pub prompt: String,
    pub augmented_prompt: String,
    pub output_path: String,
    pub seed: Option<i64>,
    pub steps: Option<i64>,
    pub guidance_scale: Option<f64>,
    pub time_ms: Option<i64>,
    pub memory_mb: Option<f64>,
    pub model_config: Payload,
    pub examples: Vec<Example>,
    /// As the wire numbers it: 1 completed, 2 failed, 3 running.
    pub status: i16,
    pub error_message: String,
    pub created_at: i64,
    pub created_by: Uuid,
}

/// An item that was put into a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    pub space: String,
    pub item_id: String,
    pub score: f64,
    pub text: String,
}

/// An image, linked to an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub id: Uuid,
    pub path: String,
    pub description: String,
    pub tags: Vec<String>,
    pub width: i64,
    pub height: i64,
    pub size_bytes: i64,
    pub format: String,
    pub source_dataset: String,
    pub item_id: String,
    pub created_at: i64,
}

/// A model in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    pub model_type: String,
    pub model_name: String,
    pub cache_path: String,
    pub size_bytes: i64,
}

/// Exact counts of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RagStatistics {
    pub images: i64,
    pub embeddings: i64,
    pub generations: i64,
    pub recent: i64,
    pub failed: i64,
    pub mean_time_ms: Option<f64>,
    pub models: i64,
}

impl Image {
    /// The tags as a row has them.
    #[must_use]
    pub fn tags_bytes(&self) -> Vec<u8> {
        let tags = self.tags.iter().cloned().map(Value::Text).collect();
        let payload = Payload::new(vec![(TAGS.to_owned(), Value::List(tags))]);
        payload.map(|payload| payload.to_bytes()).unwrap_or_default()
    }

    /// The tags of a row.
    #[must_use]
    pub fn tags_of(bytes: &[u8]) -> Option<Vec<String>> {
        let payload = Payload::from_bytes(bytes).ok()?;
        let Some(Value::List(tags)) = payload.get(TAGS) else { return Some(Vec::new()) };
        let text = |tag: &Value| match tag {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        tags.iter().map(text).collect()
    }

    /// Checks what a request brings.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field.
    pub fn check(&self) -> Result<(), ServiceError> {
        if self.path.is_empty() || self.path.len() > 4_096 {
            return Err(ServiceError::invalid("image.image_path", "has 1 to 4096 bytes"));
        }
        for (field, number) in [
            ("image.width", self.width),
            ("image.height", self.height),
            ("image.file_size_bytes", self.size_bytes),
        ] {
            if number < 0 {
                return Err(ServiceError::invalid(field, "is negative"));
            }
        }
        short("image.description", &self.description)
    }
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
        if self.time_ms.is_some_and(|time| time < 0) {
            return Err(ServiceError::invalid("generation.generation_time_ms", "is negative"));
        }
        Ok(())
    }
}

fn short(field: &str, text: &str) -> Result<(), ServiceError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ServiceError::invalid(field, format!("is longer than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(())
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

    #[test]
    fn tags_survive_their_row() {
        let image = Image {
            id: Uuid::nil(),
            path: "p".into(),
            description: String::new(),
            tags: vec!["cat".into(), "chair".into()],
            width: 1,
            height: 1,
            size_bytes: 1,
            format: String::new(),
            source_dataset: String::new(),
            item_id: String::new(),
            created_at: 0,
        };
        assert_eq!(Image::tags_of(&image.tags_bytes()).unwrap(), image.tags);
        assert!(Image::tags_of(b"no").is_none());
        image.check().unwrap();
        assert!(Image { width: -1, ..image }.check().is_err());
    }
}
