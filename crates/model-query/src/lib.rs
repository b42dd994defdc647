//! The language in which models and their versions are searched: parsed once
//! into a typed tree that a store turns into one statement.

mod lexer;
mod parser;
#[cfg(test)]
mod tests;

/// The longest text of a query, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// The deepest nesting of parentheses and negations.
pub const DEPTH_MAX: usize = 32;
/// The most tests of one query.
pub const TESTS_MAX: usize = 100;

/// A text that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct QueryError {
    /// Where in the text, in characters from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl QueryError {
    pub(crate) fn new(column: usize, message: impl Into<String>) -> Self {
        Self { column, message: message.into() }
    }
}

/// What is searched; not every field is one of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Models.
    Models,
    /// Versions of models.
    Versions,
}

/// A condition on a model or a version.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// All of them.
    And(Vec<Expr>),
    /// One of them at least.
    Or(Vec<Expr>),
    /// Not it.
    Not(Box<Expr>),
    /// A field compared.
    Test(Test),
}

/// A field compared with a literal of its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// What is looked at.
    pub field: Field,
    /// How.
    pub op: Op,
    /// With what.
    pub value: Value,
}

/// How a field is compared. A field of many values passes if one of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `=`
    Eq,
    /// `!=`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
    /// `LIKE`, with `%` and `_`.
    Like,
    /// `LIKE` that ignores case.
    ILike,
    /// One of a list.
    In,
    /// None of a list.
    NotIn,
}

/// A literal.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// Microseconds UTC.
    Time(i64),
    /// Yes or no.
    Bool(bool),
    /// Texts, for `IN`.
    Texts(Vec<String>),
    /// Numbers, for `IN`.
    Numbers(Vec<f64>),
}

/// What can be searched by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The model's name.
    Name,
    /// The namespace's name.
    Namespace,
    /// The description.
    Description,
    /// When it was made.
    CreateTime,
    /// When it was changed last.
    UpdateTime,
    /// Bytes of its files.
    Size,
    /// A tag by its key.
    Tag(String),
    /// An alias that points to it, or that the model has.
    Alias,
    /// How many versions the model has.
    VersionCount,
    /// The version's number.
    Number,
    /// The author's name for the version.
    Label,
    /// `pending`, `ready`, `failed`.
    Status,
    /// The stage.
    Stage,
    /// Where it came from.
    Source,
    /// The run that made it.
    RunId,
    /// MLflow's logged model.
    LoggedModelId,
    /// A flavor it can be loaded as.
    Flavor,
    /// The manifest's digest, or that of one of its files; in hex.
    Digest,
    /// How many files it has.
    FileCount,
    /// `none`, `clean`, `suspicious`, `dangerous`, `unreadable`.
    Scan,
    /// A signature was verified.
    Signed,
    /// The last point of a metric by its key.
    Metric(String),
    /// A parameter by its key.
    Param(String),
    /// A dataset it was made from, `namespace/dataset` or `namespace/dataset@version`.
    Dataset,
    /// A model it was made from, `namespace/model` or `namespace/model@version`.
    BaseModel,
}

/// What literals a field is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Time,
    Bool,
    /// A text or a number.
    Either,
}

impl Field {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::CreateTime | Self::UpdateTime => Kind::Time,
            Self::Size | Self::VersionCount | Self::Number | Self::FileCount | Self::Metric(_) => {
                Kind::Number
            }
            Self::Signed => Kind::Bool,
            Self::Param(_) => Kind::Either,
            _ => Kind::Text,
        }
    }

    /// Whether it is a field of what is searched.
    #[must_use]
    pub const fn is_of(&self, subject: Subject) -> bool {
        match subject {
            Subject::Versions => !matches!(self, Self::VersionCount),
            Subject::Models => matches!(
                self,
                Self::Name
                    | Self::Namespace
                    | Self::Description
                    | Self::CreateTime
                    | Self::UpdateTime
                    | Self::Size
                    | Self::Tag(_)
                    | Self::Alias
                    | Self::VersionCount
            ),
        }
    }
}

/// Parses a query; a text of white space is none.
///
/// # Errors
/// What is wrong and at which character.
pub fn parse(text: &str, subject: Subject) -> Result<Option<Expr>, QueryError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the query has {} bytes; at most {TEXT_BYTES_MAX}", text.len());
        return Err(QueryError::new(1, message));
    }
    parser::parse(text, subject).map(Some)
}
