//! What people and models say of files.

use access::{Resource, Visible};
use caller::Caller;
use options_api::v1::{Level, ResourceKind};
use service_error::ServiceError;

use super::Indexer;
use crate::store::{Annotation, Author, NewLabel, TagRow, TagsAfter, Target};

const NAME_CHARS_MAX: usize = 200;
const PATHS_MAX: usize = 1_000;
const NOTE_CHARS_MAX: usize = 10_000;
const PROPERTIES_MAX: usize = 100;

/// What a mark is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkScope {
    Entry,
    Content,
}

/// A mark on some paths.
#[derive(Debug)]
pub struct Marking<'a> {
    pub name: &'a str,
    pub paths: &'a [String],
    pub scope: MarkScope,
    pub remove: bool,
    /// The caller alone sees it.
    pub personal: bool,
}

const fn author(caller: &Caller, personal: bool) -> Author {
    Author { by: caller.principal, personal }
}

/// What all see takes more than what one sees alone.
const fn need(personal: bool) -> Level {
    if personal { Level::Read } else { Level::Write }
}

impl Indexer {
    /// Tags files, or takes a tag off.
    ///
    /// # Errors
    /// `NotFound` for a path that is not known or may not be seen.
    pub async fn tag(&self, caller: &Caller, asked: Marking<'_>) -> Result<i64, ServiceError> {
        checked_name("tag", asked.name)?;
        let action = "quarry.files.v1.MarksService/TagFiles";
        let need = need(asked.personal);
        let targets = self.targets(caller, need, asked.paths, asked.scope, action).await?;
        let author = author(caller, asked.personal);
        self.store.tag(asked.name, &targets, asked.remove, author).await
    }

    /// Labels files, or takes a label off.
    ///
    /// # Errors
    /// As [`Self::tag`].
    pub async fn label(
        &self,
        caller: &Caller,
        asked: Marking<'_>,
        confidence: f64,
        source: &str,
    ) -> Result<i64, ServiceError> {
        checked_name("label", asked.name)?;
        let is_plain = asked.name.split('/').all(|part| !part.trim().is_empty());
        if !is_plain {
            return Err(ServiceError::invalid("label", "has an empty part; write e.g. animal/cat"));
        }
        if !(0.0..=1.0).contains(&confidence) {
            return Err(ServiceError::invalid("confidence", "must be within 0 and 1"));
        }
        let action = "quarry.files.v1.MarksService/LabelFiles";
        let need = need(asked.personal);
        let targets = self.targets(caller, need, asked.paths, asked.scope, action).await?;
        let label = NewLabel { path: asked.name, confidence, source };
        self.store.label(label, &targets, asked.remove, author(caller, asked.personal)).await
    }

    /// Notes something of a file.
    ///
    /// # Errors
    /// As [`Self::tag`].
    pub async fn annotate(
        &self,
        caller: &Caller,
        path: &str,
        scope: MarkScope,
        personal: bool,
        said: Annotation,
    ) -> Result<(), ServiceError> {
        if said.note.as_ref().is_some_and(|note| note.chars().count() > NOTE_CHARS_MAX) {
            return Err(ServiceError::invalid(
                "note",
                format!("is longer than {NOTE_CHARS_MAX} characters"),
            ));
        }
        if said.properties.len() > PROPERTIES_MAX {
            return Err(ServiceError::invalid(
                "properties",
                format!("are more than {PROPERTIES_MAX}"),
            ));
        }
        for (name, value) in &said.properties {
            checked_name("properties", name)?;
            if value.chars().count() > NOTE_CHARS_MAX {
                let why = format!("{name:?} is longer than {NOTE_CHARS_MAX} characters");
                return Err(ServiceError::invalid("properties", why));
            }
        }
        let action = "quarry.files.v1.MarksService/AnnotateFile";
        let paths = [path.to_owned()];
        let targets = self.targets(caller, need(personal), &paths, scope, action).await?;
        let target = targets.first().ok_or_else(|| ServiceError::not_found("file", path))?;
        self.store.annotate(*target, said, author(caller, personal)).await
    }

    async fn targets(
        &self,
        caller: &Caller,
        need: Level,
        paths: &[String],
        scope: MarkScope,
        action: &str,
    ) -> Result<Vec<Target>, ServiceError> {
        if paths.is_empty() || paths.len() > PATHS_MAX {
            return Err(ServiceError::invalid("paths", format!("must be 1 to {PATHS_MAX}")));
        }
        let mut targets = Vec::with_capacity(paths.len());
        for path in paths {
            let (location, relative) = self.place_of(caller, need, path, action).await?;
            let (dir, name) = relative.rsplit_once('/').unwrap_or(("", &relative));
            let found = self.store.entry_at(location.id, dir, name).await?;
            let found = found.ok_or_else(|| ServiceError::not_found("file", path))?;
            targets.push(match (scope, found.content) {
                (MarkScope::Entry, _) => Target::Entry(found.id),
                (MarkScope::Content, Some(content)) => Target::Content(content.id),
                (MarkScope::Content, None) => {
                    let message = format!(
                        "{path} is not hashed yet: scan its location with mode content first"
                    );
                    return Err(ServiceError::precondition(message).reason("CONTENT_UNKNOWN"));
                }
            });
        }
        Ok(targets)
    }

    /// Tags that the caller sees, with their uses and what they imply.
    ///
    /// # Errors
    /// The database's.
    pub async fn tags(
        &self,
        caller: &Caller,
        after: TagsAfter,
        limit: u32,
    ) -> Result<Vec<TagRow>, ServiceError> {
        let mut ids: Vec<i64> = self.visible(caller).await?.into_keys().collect();
        ids.sort_unstable();
        let is_all = self.sees_all(caller).await?;
        self.store.tags(&ids, is_all, caller.principal, after, limit).await
    }

    async fn sees_all(&self, caller: &Caller) -> Result<bool, ServiceError> {
        let visible = self.grants.visible(caller, ResourceKind::Location).await?;
        Ok(matches!(visible, Visible::All))
    }

    /// Says which tags a tag implies. It changes what is found of every file that has the tag:
    /// what others tagged has to be in locations that the caller may write.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `TAG_CIRCLE`, `PermissionDenied` with `TAG_OF_OTHERS`.
    pub async fn set_tag(
        &self,
        caller: &Caller,
        name: &str,
        implies: &[String],
    ) -> Result<(), ServiceError> {
        checked_name("name", name)?;
        if implies.len() > PROPERTIES_MAX {
            return Err(ServiceError::invalid(
                "implies",
                format!("are more than {PROPERTIES_MAX}"),
            ));
        }
        for other in implies {
            checked_name("implies", other)?;
        }
        if !self.sees_all(caller).await? {
            let mut writable = Vec::new();
            for location in self.visible(caller).await?.into_values() {
                let chain = [Resource::location(location.uuid)];
                let level = self.grants.level(caller, &chain, false).await?;
                if level.is_some_and(|level| level as i32 >= Level::Write as i32) {
                    writable.push(location.id);
                }
            }
            if self.store.is_used_elsewhere(name, caller.principal, &writable).await? {
                let message = format!(
                    "name: others use {name} where you may not write; an admin may say what it implies"
                );
                return Err(ServiceError::denied(message).reason("TAG_OF_OTHERS").field("name"));
            }
        }
        self.store.set_implied(name, implies).await
    }
}

fn checked_name(field: &str, name: &str) -> Result<(), ServiceError> {
    let is_plain = !name.trim().is_empty() && !name.chars().any(char::is_control);
    if is_plain && name.chars().count() <= NAME_CHARS_MAX {
        return Ok(());
    }
    Err(ServiceError::invalid(
        field,
        format!("must be 1 to {NAME_CHARS_MAX} characters without control characters"),
    ))
}
