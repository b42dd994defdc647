//! `saved:name`: filters that are kept under names, put in where they are named.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;

use crate::lexer::SAVED;
use crate::parser::{self, Saved, Syntax, ValueKind};
use crate::{FilterError, bind};

/// The most names of one filter.
pub const SAVED_MAX: usize = 16;
/// The longest name, in characters.
const NAME_CHARS_MAX: usize = 63;

/// Texts of saved filters by their names.
pub type SavedTexts = BTreeMap<String, String>;

/// Whether a filter can be kept under a name: a letter, then letters, digits, `_` and `-`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    first
        && name.len() <= NAME_CHARS_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// The names of saved filters that a text uses, each once.
///
/// # Errors
/// A text that cannot be parsed, or uses more than [`SAVED_MAX`].
pub fn names_in(text: &str, schema: &Schema) -> Result<Vec<String>, FilterError> {
    let mut names = Vec::new();
    if text.contains(SAVED) && !text.trim().is_empty() {
        gather(&parser::parse(text)?, schema, &mut names)?;
    }
    Ok(names)
}

fn gather(syntax: &Syntax, schema: &Schema, names: &mut Vec<String>) -> Result<(), FilterError> {
    match syntax {
        Syntax::And(parts) | Syntax::Or(parts) => {
            parts.iter().try_for_each(|part| gather(part, schema, names))
        }
        Syntax::Not(inner) => gather(inner, schema, names),
        Syntax::Saved(saved) => {
            let Some(name) = name_of(saved, schema) else { return Ok(()) };
            if !names.iter().any(|known| known == name) {
                if names.len() == SAVED_MAX {
                    let message = format!("names more than {SAVED_MAX} saved filters");
                    return Err(FilterError::new(saved.name.column, message));
                }
                names.push(name.to_owned());
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The filter's name; `None` where a column of this name is meant.
fn name_of<'a>(saved: &'a Saved, schema: &Schema) -> Option<&'a str> {
    let is_column = !saved.bare && schema.field_with_name(SAVED).is_ok();
    match &saved.name.kind {
        ValueKind::Text(text) if !is_column => Some(&text.verbatim),
        _ => None,
    }
}

/// The tree with what is saved in place of its names.
pub(crate) fn expanded(
    syntax: Syntax,
    schema: &Schema,
    texts: &SavedTexts,
) -> Result<Syntax, FilterError> {
    let all = |parts: Vec<Syntax>| {
        parts.into_iter().map(|part| expanded(part, schema, texts)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match syntax {
        Syntax::And(parts) => Syntax::And(all(parts)?),
        Syntax::Or(parts) => Syntax::Or(all(parts)?),
        Syntax::Not(inner) => Syntax::Not(Box::new(expanded(*inner, schema, texts)?)),
        Syntax::Saved(saved) => match name_of(&saved, schema) {
            Some(name) => within(name, saved.name.column, schema, texts)?,
            None => Syntax::Saved(saved),
        },
        other => other,
    })
}

/// What is saved under a name, checked against the schema as it is now.
fn within(
    name: &str,
    column: usize,
    schema: &Schema,
    texts: &SavedTexts,
) -> Result<Syntax, FilterError> {
    let wrong = |message: String| FilterError::new(column, message);
    let text =
        texts.get(name).ok_or_else(|| wrong(format!("there is no saved filter {name:?}")))?;
    let unfit = |error: FilterError| {
        wrong(format!("the saved filter {name:?} does not fit the dataset: {}", error.message))
    };
    let syntax = parser::parse(text).map_err(unfit)?;
    let mut inner = Vec::new();
    gather(&syntax, schema, &mut inner)?;
    if !inner.is_empty() {
        return Err(wrong(format!("the saved filter {name:?} names another; write it out")));
    }
    bind::bind(syntax.clone(), schema).map_err(unfit)?;
    Ok(syntax)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::Filter;
    use arrow::datatypes::{DataType, Field};

    fn schema(more: &[Field]) -> Schema {
        let mut fields = vec![Field::new("n", DataType::Int32, true)];
        fields.extend_from_slice(more);
        Schema::new(fields)
    }

    fn texts() -> SavedTexts {
        [
            ("large", "n > 3 OR n = null"),
            ("very-large", "n > 9"),
            ("old", "m = 1"),
            ("loop", "saved:large"),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into()
    }

    #[test]
    fn a_name_stands_for_its_filter_as_a_whole() {
        let schema = schema(&[]);
        for (text, same) in [
            ("saved:large", "n > 3 OR n = null"),
            ("saved:large AND n != 5", "(n > 3 OR n = null) AND n != 5"),
            ("NOT saved:\"very-large\"", "NOT n > 9"),
            ("saved:very-large OR n = 1", "n > 9 OR n = 1"),
        ] {
            let filter = Filter::parse_saved(text, &schema, &texts()).unwrap();
            let written = Filter::parse(same, &schema).unwrap();
            assert_eq!(filter.canonical(), written.canonical(), "{text}");
        }
        let names = names_in("saved:large OR saved:very-large OR saved:large", &schema).unwrap();
        assert_eq!(names, ["large", "very-large"]);
    }

    #[test]
    fn what_is_not_there_or_does_not_fit_is_said_where_it_is_named() {
        let schema = schema(&[]);
        for (text, column, word) in [
            ("n = 1 AND saved:gone", 17, "no saved filter \"gone\""),
            ("saved:old", 7, "does not fit"),
            ("saved:loop", 7, "names another"),
        ] {
            let error = Filter::parse_saved(text, &schema, &texts()).unwrap_err();
            assert_eq!(error.column, column, "{text}: {error}");
            assert!(error.message.contains(word), "{error}");
        }
        assert!(Filter::parse("saved:large", &schema).is_err());
        let many: Vec<String> = (0..=SAVED_MAX).map(|n| format!("saved:f{n}")).collect();
        assert!(names_in(&many.join(" OR "), &schema).is_err());
    }

    #[test]
    fn a_column_of_that_name_is_still_reached() {
        let schema = schema(&[Field::new("saved", DataType::Utf8, true)]);
        assert!(Filter::parse("saved:\"large\"", &schema).is_ok());
        assert!(names_in("saved:\"large\"", &schema).unwrap().is_empty());
        assert_eq!(names_in("saved:large", &schema).unwrap(), ["large"]);
    }

    #[test]
    fn names_are_words() {
        assert!(is_name("wide-cats_2"));
        for name in ["", "2x", "a b", "a.b", "ü", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
