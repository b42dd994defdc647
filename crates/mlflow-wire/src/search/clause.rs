//! Comparisons, read from words.

use crate::search::dialect::{Dialect, python_set};
use crate::search::token::{Token, tokens};
use crate::{MlflowError, Result};

/// What a clause looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    /// A field of the thing itself.
    Attribute,
    /// One of its tags.
    Tag,
    /// One of its parameters.
    Param,
    /// The last value of one of its metrics.
    Metric,
    /// A dataset that it was given.
    Dataset,
}

impl Entity {
    const fn name(self) -> &'static str {
        match self {
            Self::Attribute => "attribute",
            Self::Tag => "tag",
            Self::Param => "parameter",
            Self::Metric => "metric",
            Self::Dataset => "dataset",
        }
    }
}

/// How a clause compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is its own name")]
pub enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    ILike,
    In,
    NotIn,
    IsNull,
    IsNotNull,
}

impl Comparator {
    fn of(text: &str) -> Option<Self> {
        Some(match text.to_ascii_uppercase().as_str() {
            "=" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            "LIKE" => Self::Like,
            "ILIKE" => Self::ILike,
            "IN" => Self::In,
            "NOT IN" => Self::NotIn,
            "IS NULL" => Self::IsNull,
            "IS NOT NULL" => Self::IsNotNull,
            _ => return None,
        })
    }

    const fn is_of_numbers(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Less
                | Self::LessOrEqual
                | Self::Greater
                | Self::GreaterOrEqual
        )
    }

    const fn is_of_texts(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Like | Self::ILike)
    }

    const fn is_of_lists(self) -> bool {
        matches!(self, Self::In | Self::NotIn)
    }

    const fn is_of_null(self) -> bool {
        matches!(self, Self::IsNull | Self::IsNotNull)
    }
}

/// What a clause compares with.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A text.
    Text(String),
    /// An integer.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Texts, at least one.
    List(Vec<String>),
    /// Nothing: `IS NULL`.
    Nothing,
}

/// One comparison; a filter is a list of them, all of which hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause {
    /// What it looks at.
    pub entity: Entity,
    /// Which one.
    pub key: String,
    /// How.
    pub comparator: Comparator,
    /// With what.
    pub value: Operand,
}

/// The clauses of a filter; none for an empty one.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` for what is no AND-ed list of comparisons, or
/// compares what cannot be compared so.
pub fn parse(dialect: &Dialect, filter: &str) -> Result<Vec<Clause>> {
    if filter.trim().is_empty() {
        return Ok(Vec::new());
    }
    let words = tokens(filter)?;
    let mut invalid = Vec::new();
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if words[at].is("AND") {
            at += 1;
            continue;
        }
        match comparison(&words[at..]) {
            Some((raw, length)) => {
                found.push(raw);
                at += length;
            }
            None => {
                invalid.push(shown(dialect, &words[at]));
                at += 1;
            }
        }
    }
    if !invalid.is_empty() {
        return Err(MlflowError::invalid(format!(
            "Invalid clause(s) in filter string: {}",
            invalid.join(", ")
        )));
    }
    found.into_iter().map(|raw| clause(dialect, &raw)).collect()
}

fn shown(dialect: &Dialect, token: &Token) -> String {
    if dialect.quotes_invalid { format!("'{}'", token.text()) } else { token.text().to_owned() }
}

/// Left, comparator, right, as written.
struct Raw<'a> {
    left: &'a Token,
    comparator: String,
    right: Option<&'a Token>,
}

fn comparison(words: &[Token]) -> Option<(Raw<'_>, usize)> {
    let left = words.first()?;
    let second = words.get(1)?;
    if let Token::Comparison(comparator) = second {
        let is_side = |token: &Token| {
            matches!(
                token,
                Token::Name(_)
                    | Token::Text(_)
                    | Token::Int(_)
                    | Token::Float(_)
                    | Token::Parenthesis(_)
            )
        };
        let right = words.get(2)?;
        return (is_side(left) && is_side(right))
            .then(|| (Raw { left, comparator: comparator.clone(), right: Some(right) }, 3));
    }
    let Token::Name(_) = left else { return None };
    let keyword = |at: usize, word: &str| words.get(at).is_some_and(|token| token.is(word));
    let list = |at: usize| words.get(at).filter(|token| matches!(token, Token::Parenthesis(_)));
    let raw = |comparator: &str, right| Raw { left, comparator: comparator.to_owned(), right };
    if keyword(1, "IN") {
        return list(2).map(|right| (raw("IN", Some(right)), 3));
    }
    if keyword(1, "NOT") && keyword(2, "IN") {
        return list(3).map(|right| (raw("NOT IN", Some(right)), 4));
    }
    if keyword(1, "IS") && keyword(2, "NULL") {
        return Some((raw("IS NULL", None), 3));
    }
    if keyword(1, "IS") && keyword(2, "NOT") && keyword(3, "NULL") {
        return Some((raw("IS NOT NULL", None), 4));
    }
    None
}

fn clause(dialect: &Dialect, raw: &Raw<'_>) -> Result<Clause> {
    let Token::Name(name) = raw.left else {
        return Err(MlflowError::invalid(format!(
            "Invalid comparison clause. Expected 'Identifier' found '{}'",
            raw.left.text()
        )));
    };
    let Some(right) = raw.right else { return null_clause(dialect, name, &raw.comparator) };
    let (entity, key) = identifier(dialect, name, dialect.attributes)?;
    let value = operand(dialect, entity, &key, right)?;
    let comparator = comparator(dialect, entity, &key, &raw.comparator)?;
    if comparator.is_of_lists() != matches!(value, Operand::List(_)) {
        return Err(bad_comparator(dialect, entity, &key, &raw.comparator));
    }
    Ok(Clause { entity, key: alias(key), comparator, value })
}

/// Other spellings of runs' attributes.
fn alias(key: String) -> String {
    match key.as_str() {
        "created" | "Created" => "start_time".to_owned(),
        "run name" | "Run name" | "Run Name" => "run_name".to_owned(),
        _ => key,
    }
}

fn null_clause(dialect: &Dialect, name: &str, text: &str) -> Result<Clause> {
    if !dialect.has_null {
        return Err(MlflowError::invalid("Invalid comparison clause. Expected 3 tokens found 2"));
    }
    let (entity, key) = identifier(dialect, name, dialect.attributes)?;
    let is_allowed = match entity {
        Entity::Tag => true,
        Entity::Param => dialect.has_measures,
        _ => false,
    };
    if !is_allowed {
        return Err(MlflowError::invalid(if dialect.has_measures {
            format!(
                "IS NULL / IS NOT NULL is only supported for tags and params, not for '{}' '{key}'",
                entity.name()
            )
        } else {
            format!("IS NULL / IS NOT NULL is only supported for tags, not for attribute '{key}'")
        }));
    }
    let comparator = if text == "IS NULL" { Comparator::IsNull } else { Comparator::IsNotNull };
    Ok(Clause { entity, key, comparator, value: Operand::Nothing })
}

/// What a name stands for.
pub fn identifier(dialect: &Dialect, name: &str, attributes: &[&str]) -> Result<(Entity, String)> {
    let (entity, key) = match name.split_once('.') {
        None => (Entity::Attribute, name),
        Some((entity, key)) => (entity_of(dialect, entity)?, key),
    };
    let bare = unquoted(key);
    // The registry's searches look the quoted key up.
    let looked_up = if dialect.is_registry { key } else { bare };
    if entity == Entity::Attribute && !attributes.contains(&looked_up) {
        return Err(MlflowError::invalid(format!(
            "Invalid attribute key '{looked_up}' specified. Valid keys are '{}'",
            python_set(attributes)
        )));
    }
    if entity == Entity::Dataset && !DATASET_KEYS.contains(&bare) {
        return Err(MlflowError::invalid(format!(
            "Invalid dataset key '{bare}' specified. Valid keys are '{}'",
            python_set(&DATASET_KEYS)
        )));
    }
    Ok((entity, bare.to_owned()))
}

const DATASET_KEYS: [&str; 3] = ["context", "digest", "name"];

fn entity_of(dialect: &Dialect, text: &str) -> Result<Entity> {
    if !dialect.has_measures {
        return match text {
            "attribute" => Ok(Entity::Attribute),
            "tag" | "tags" => Ok(Entity::Tag),
            _ => Err(MlflowError::invalid(format!(
                "Invalid entity type '{text}'. Valid entity types are ('attribute', 'tag', 'tags')"
            ))),
        };
    }
    let bare = text.trim_matches('`');
    match bare {
        "metric" | "metrics" => Ok(Entity::Metric),
        "parameter" | "parameters" | "param" | "params" => Ok(Entity::Param),
        "tag" | "tags" => Ok(Entity::Tag),
        "attribute" | "attr" | "attributes" | "run" => Ok(Entity::Attribute),
        "dataset" | "datasets" => Ok(Entity::Dataset),
        _ => Err(MlflowError::invalid(format!(
            "Invalid entity type '{bare}'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']"
        ))),
    }
}

fn unquoted(text: &str) -> &str {
    for quote in ['"', '\'', '`'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    text
}

fn operand(dialect: &Dialect, entity: Entity, key: &str, token: &Token) -> Result<Operand> {
    let is_number = dialect.numeric.contains(&key);
    match (entity, token) {
        (Entity::Metric, Token::Int(_) | Token::Float(_)) => numeric(token),
        (Entity::Metric, _) => Err(MlflowError::invalid(format!(
            "Expected numeric value type for metric. Found {}",
            token.text()
        ))),
        (Entity::Attribute, Token::Int(_) | Token::Float(_))
            if is_number || dialect.takes_numbers =>
        {
            if !is_number {
                return Err(MlflowError::invalid(format!(
                    "Only the '{}' attributes support comparison with numeric values.",
                    python_set(dialect.numeric)
                )));
            }
            numeric(token)
        }
        (Entity::Attribute, _) if is_number && !dialect.is_registry => {
            Err(MlflowError::invalid(format!(
                "Expected numeric value type for numeric attribute: {key}. Found {}",
                token.text()
            )))
        }
        (_, Token::Text(text) | Token::Name(text)) => quoted(text),
        (Entity::Attribute | Entity::Dataset, Token::Parenthesis(text)) => {
            if entity == Entity::Attribute {
                lists_are_taken(dialect, key)?;
            }
            list(text)
        }
        (Entity::Attribute, _) if dialect.is_registry => Err(MlflowError::invalid(format!(
            "Expected a quoted string value or a list of quoted string values for attributes. Got value {}",
            token.text()
        ))),
        (Entity::Attribute, _) => Err(MlflowError::invalid(format!(
            "Expected a quoted string value for attributes. Got value {}",
            token.text()
        ))),
        (Entity::Dataset, _) => Err(MlflowError::invalid(format!(
            "Expected a quoted string value for dataset attributes. Got value {}",
            token.text()
        ))),
        (Entity::Tag | Entity::Param, _) => Err(MlflowError::invalid(format!(
            "Expected a quoted string value for {} (e.g. 'my-value'). Got value {}",
            entity.name(),
            token.text()
        ))),
    }
}

fn numeric(token: &Token) -> Result<Operand> {
    let text = token.text();
    if let (Token::Int(_), Ok(number)) = (token, text.parse()) {
        return Ok(Operand::Int(number));
    }
    text.parse()
        .map(Operand::Float)
        .map_err(|_| MlflowError::invalid(format!("Expected a number. Found {text}")))
}

fn quoted(text: &str) -> Result<Operand> {
    let inner = ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)));
    inner.map(|inner| Operand::Text(inner.to_owned())).ok_or_else(|| {
        MlflowError::invalid(format!(
            "Parameter value is either not quoted or unidentified quote types used for string value {text}. \
             Use either single or double quotes."
        ))
    })
}

fn lists_are_taken(dialect: &Dialect, key: &str) -> Result<()> {
    match dialect.lists {
        Some(taken) if !taken.contains(&key) => {
            let names: Vec<String> = taken.iter().map(|name| format!("'{name}'")).collect();
            Err(MlflowError::invalid(format!(
                "Only [{}] attributes support comparison with a list of quoted string values.",
                names.join(", ")
            )))
        }
        _ => Ok(()),
    }
}

fn list(text: &str) -> Result<Operand> {
    let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or_default();
    let ill_formed = || {
        MlflowError::invalid(
            "While parsing a list in the query, expected a non-empty list of string values, but got ill-formed list.",
        )
    };
    let mut items = Vec::new();
    let mut after_item = false;
    for token in tokens(inner)? {
        match token {
            Token::Text(item) | Token::Name(item) if !after_item => {
                let Ok(Operand::Text(item)) = quoted(&item) else { return Err(ill_formed()) };
                items.push(item);
                after_item = true;
            }
            Token::Other(comma) if comma == "," && after_item => after_item = false,
            Token::Int(_) | Token::Float(_) => {
                let shown = if inner.contains(',') { text.into() } else { format!("({inner},)") };
                return Err(MlflowError::invalid(format!(
                    "While parsing a list in the query, expected string value, punctuation, or whitespace, \
                     but got different type in list: {shown}"
                )));
            }
            _ => return Err(ill_formed()),
        }
    }
    if items.is_empty() {
        return Err(MlflowError::invalid(
            "While parsing a list in the query, expected a non-empty list of string values, but got empty list",
        ));
    }
    Ok(Operand::List(items))
}

fn comparator(dialect: &Dialect, entity: Entity, key: &str, text: &str) -> Result<Comparator> {
    let wrong = || bad_comparator(dialect, entity, key, text);
    let found = Comparator::of(text).ok_or_else(wrong)?;
    let fits = match entity {
        Entity::Metric => found.is_of_numbers(),
        Entity::Tag | Entity::Param => {
            found.is_of_texts() || (dialect.has_null && found.is_of_null())
        }
        Entity::Attribute if dialect.numeric.contains(&key) => found.is_of_numbers(),
        Entity::Attribute | Entity::Dataset => found.is_of_texts() || found.is_of_lists(),
    };
    if fits { Ok(found) } else { Err(wrong()) }
}

fn bad_comparator(dialect: &Dialect, entity: Entity, key: &str, text: &str) -> MlflowError {
    let shown = text.to_ascii_uppercase();
    if dialect.is_registry {
        return MlflowError::invalid(match entity {
            Entity::Tag => format!("Invalid comparator for tag: {shown}"),
            _ if dialect.numeric.contains(&key) => {
                format!("Invalid comparator for attribute {key}: {shown}")
            }
            _ => format!("Invalid comparator for attribute: {shown}"),
        });
    }
    let numbers = ["!=", "<", "<=", "=", ">", ">="];
    let texts = ["!=", "=", "ILIKE", "LIKE"];
    let with_null = ["!=", "=", "ILIKE", "IS NOT NULL", "IS NULL", "LIKE"];
    let with_lists = ["!=", "=", "ILIKE", "IN", "LIKE", "NOT IN"];
    let valid = match entity {
        Entity::Metric => python_set(&numbers),
        Entity::Tag | Entity::Param if dialect.has_null => python_set(&with_null),
        Entity::Tag | Entity::Param => python_set(&texts),
        Entity::Attribute | Entity::Dataset => python_set(&with_lists),
    };
    // MLflow closes the quote for some of them only.
    let is_closed = match entity {
        Entity::Param => true,
        Entity::Attribute => !dialect.numeric.contains(&key),
        Entity::Metric | Entity::Tag | Entity::Dataset => false,
    };
    let quote = if is_closed { "'" } else { "" };
    MlflowError::invalid(format!("Invalid comparator '{shown}' not one of '{valid}{quote}"))
}
