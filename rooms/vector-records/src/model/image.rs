//! Images that are searched for.

use payload_index::{Payload, Value};
use service_error::ServiceError;
use uuid::Uuid;

use crate::model::generation::short;
use crate::model::no_nul;

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
    /// What its points can be filtered by; `embedded` is what their vectors are of.
    ///
    /// # Errors
    /// `InvalidArgument` for more than a payload holds.
    pub fn payload(&self, embedded: &str) -> Result<Payload, ServiceError> {
        let text = |name: &str, text: &str| {
            (!text.is_empty()).then(|| (name.to_owned(), Value::Text(text.to_owned())))
        };
        let number = |name: &str, n: i64| (n > 0).then(|| (name.to_owned(), Value::Int(n)));
        let tags: Vec<Value> = self.tags.iter().cloned().map(Value::Text).collect();
        let fields = [
            text("image_path", &self.path),
            text("description", &self.description),
            (!tags.is_empty()).then(|| (TAGS.to_owned(), Value::List(tags))),
            number("width", self.width),
            number("height", self.height),
            number("file_size_bytes", self.size_bytes),
            text("format", &self.format),
            text("source_dataset", &self.source_dataset),
            text("source_item", &self.item_id),
            text("embedding_type", embedded),
        ];
        Payload::new(fields.into_iter().flatten().collect())
            .map_err(|error| ServiceError::invalid("image", error))
    }

    /// Takes what its file says where nothing was said.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field that says otherwise than the file.
    pub fn told_by_file(
        &mut self,
        (width, height): (u32, u32),
        bytes: usize,
        format: &str,
    ) -> Result<(), ServiceError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        for (field, said, is) in [
            ("image.width", &mut self.width, i64::from(width)),
            ("image.height", &mut self.height, i64::from(height)),
            ("image.file_size_bytes", &mut self.size_bytes, bytes),
        ] {
            if *said != 0 && *said != is {
                let message = format!("is {said}, and {is} in the content: leave it out");
                return Err(ServiceError::invalid(field, message));
            }
            *said = is;
        }
        if self.format.is_empty() {
            format.clone_into(&mut self.format);
        }
        Ok(())
    }

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
        no_nul("image.image_path", &self.path)?;
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
            no_nul(field, text)?;
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
    fn a_file_says_what_nobody_said_and_is_not_contradicted() {
        let mut new = Image { width: 0, height: 0, size_bytes: 0, ..image() };
        new.told_by_file((640, 480), 9_000, "png").unwrap();
        assert_eq!((new.width, new.height, new.size_bytes), (640, 480, 9_000));
        assert_eq!(new.format, "png");
        let error = new.told_by_file((640, 481), 9_000, "png").unwrap_err();
        assert_eq!(error.field_name(), Some("image.height"), "{error}");
        let payload = new.payload("image").unwrap();
        assert_eq!(payload.get("width"), Some(&Value::Int(640)));
        assert_eq!(payload.get("embedding_type"), Some(&Value::Text("image".into())));
        assert_eq!(payload.get("description"), None, "what is not known is left out");
    }

    #[test]
    fn a_link_is_to_the_same_namespace_unless_it_says_another() {
        let of = |text: &str| Image { source_dataset: text.into(), ..image() };
        assert_eq!(of("").source("ns"), None);
        assert_eq!(of("d").source("ns"), Some(("ns", "d")));
        assert_eq!(of("x/d").source("ns"), Some(("x", "d")));
    }
}
