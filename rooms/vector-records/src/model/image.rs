//! Images that are searched for.

use payload_index::{Payload, Value};
use service_error::ServiceError;
use uuid::Uuid;

use crate::model::generation::short;

const PATH_BYTES_MAX: usize = 4_096;
const TAGS_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 512;
const TAGS: &str = "tags";

/// An image, linked to an item rather than copied.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Its id.
    pub id: Uuid,
    /// Unique in the namespace.
    pub path: String,
    /// What is to be seen.
    pub description: String,
    /// In the order given.
    pub tags: Vec<String>,
    /// Pixels.
    pub width: i64,
    /// Pixels.
    pub height: i64,
    /// Of the file.
    pub size_bytes: i64,
    /// E.g. `jpeg`.
    pub format: String,
    /// `dataset` or `namespace/dataset`; empty: none.
    pub source_dataset: String,
    /// The item in it.
    pub item_id: String,
    /// The content of the item's media.
    pub content_hash: String,
    /// When it was added.
    pub created_at: i64,
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

    /// The names of the dataset that it is linked to, for an image of `namespace`.
    #[must_use]
    pub fn source<'a>(&'a self, namespace: &'a str) -> Option<(&'a str, &'a str)> {
        match self.source_dataset.split_once('/') {
            Some(names) => Some(names),
            None if self.source_dataset.is_empty() => None,
            None => Some((namespace, &self.source_dataset)),
        }
    }

    /// Checks what a request brings.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field.
    pub fn check(&self) -> Result<(), ServiceError> {
        if self.path.is_empty() || self.path.len() > PATH_BYTES_MAX {
            let message = format!("has 1 to {PATH_BYTES_MAX} bytes");
            return Err(ServiceError::invalid("image.image_path", message));
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
        for (field, text) in [
            ("image.format", &self.format),
            ("image.source_dataset", &self.source_dataset),
            ("image.item_id", &self.item_id),
            ("image.content_hash", &self.content_hash),
        ] {
            if text.len() > NAME_BYTES_MAX {
                let message = format!("is longer than {NAME_BYTES_MAX} bytes");
                return Err(ServiceError::invalid(field, message));
            }
        }
        if self.source_dataset.is_empty() && !self.item_id.is_empty() {
            let message = "is empty; an item is of a dataset";
            return Err(ServiceError::invalid("image.source_dataset", message));
        }
        let long = self.tags.iter().any(|tag| tag.is_empty() || tag.len() > NAME_BYTES_MAX);
        if self.tags.len() > TAGS_MAX || long {
            let message = format!("at most {TAGS_MAX} tags of 1 to {NAME_BYTES_MAX} bytes");
            return Err(ServiceError::invalid("image.tags", message));
        }
        short("image.description", &self.description)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn image() -> Image {
        Image {
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
            content_hash: String::new(),
            created_at: 0,
        }
    }

    #[test]
    fn tags_survive_their_row() {
        assert_eq!(Image::tags_of(&image().tags_bytes()).unwrap(), ["cat", "chair"]);
        assert!(Image::tags_of(b"no").is_none());
    }

    #[test]
    fn what_no_image_has_is_refused_by_field() {
        image().check().unwrap();
        let refused = |image: Image| image.check().unwrap_err().field_name().unwrap().to_owned();
        assert_eq!(refused(Image { width: -1, ..image() }), "image.width");
        assert_eq!(refused(Image { path: String::new(), ..image() }), "image.image_path");
        assert_eq!(refused(Image { item_id: "7".into(), ..image() }), "image.source_dataset");
        assert_eq!(refused(Image { tags: vec![String::new()], ..image() }), "image.tags");
    }

    #[test]
    fn a_link_is_to_the_same_namespace_unless_it_says_another() {
        let of = |text: &str| Image { source_dataset: text.into(), ..image() };
        assert_eq!(of("").source("ns"), None);
        assert_eq!(of("d").source("ns"), Some(("ns", "d")));
        assert_eq!(of("x/d").source("ns"), Some(("x", "d")));
    }
}
