//! Orders of a search.

use crate::search::clause::{Entity, identifier};
use crate::search::dialect::{Dialect, MODELS, python_set};
use crate::{MlflowError, Result};

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What it looks at.
    pub entity: Entity,
    /// Which one.
    pub key: String,
    /// From low to high.
    pub ascending: bool,
}

/// Reads `attribute.start_time DESC`, `` metrics.`a b` ``, ….
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` for what is no order, or by what cannot be ordered.
pub fn order_by(dialect: &Dialect, text: &str) -> Result<Order> {
    let (name, ascending) = parts(text)?;
    let (entity, key) = identifier(dialect, &name, dialect.orders)?;
    let key = match key.as_str() {
        "created" | "Created" => "start_time".to_owned(),
        _ => key,
    };
    Ok(Order { entity, key, ascending })
}

/// Reads an order of registered models, whose keys are few: `name`,
/// `timestamp`, `last_updated_timestamp`.
///
/// # Errors
/// As [`order_by`].
pub fn order_by_models(text: &str) -> Result<Order> {
    let (name, ascending) = parts(text)?;
    if !MODELS.orders.contains(&name.as_str()) {
        return Err(MlflowError::invalid(format!(
            "Invalid order by key '{name}' specified. Valid keys are '{}'",
            python_set(&["name", "timestamp"])
        )));
    }
    let key = if name == "timestamp" { "last_updated_timestamp".to_owned() } else { name };
    Ok(Order { entity: Entity::Attribute, key, ascending })
}

fn parts(text: &str) -> Result<(String, bool)> {
    let unparsed =
        || MlflowError::invalid(format!("Invalid order_by clause '{text}'. Could not be parsed."));
    let words = split(text).ok_or_else(unparsed)?;
    match words.as_slice() {
        [name] => Ok((name.clone(), true)),
        [name, direction] => match direction.to_ascii_lowercase().as_str() {
            "asc" => Ok((name.clone(), true)),
            "desc" => Ok((name.clone(), false)),
            // Any other word is an alias to SQL's lexer.
            _ if direction.chars().all(|letter| letter.is_alphanumeric() || letter == '_') => Err(
                MlflowError::invalid(format!("Invalid ordering key in order_by clause '{text}'.")),
            ),
            _ => Err(unparsed()),
        },
        _ => Err(unparsed()),
    }
}

/// Words at spaces, quotes removed; none if a quote is not closed.
fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.trim().chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '"' | '`') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}
