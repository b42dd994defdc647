//! The one filter language: parsed once into a typed tree that fits an Arrow
//! schema, then evaluated on batches or on statistics.

mod bind;
mod build;
mod canonical;
mod compare;
mod evaluate;
mod json;
mod lexer;
mod literal;
mod node;
mod parser;
mod predicate;
mod prune;
mod saved;
mod search;
#[cfg(test)]
mod tests;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;

use crate::predicate::{Op, Predicate, Test};

pub use build::{Comparison, TextMatch};
pub use node::{Asks, LeafTest, Node};
pub use prune::{ColumnRange, Pruned};
pub use saved::{SAVED_MAX, SavedTexts, is_name, names_in};

/// The longest text of a filter, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// The deepest nesting of parentheses and negations.
pub const DEPTH_MAX: usize = 64;

/// A filter that cannot be understood, or does not fit the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct FilterError {
    /// Where in the text, in characters from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl FilterError {
    pub(crate) fn new(column: usize, message: impl Into<String>) -> Self {
        Self { column, message: message.into() }
    }
}

/// A filter that fits a schema.
#[derive(Debug, Clone)]
pub struct Filter {
    predicate: Predicate,
    columns: Vec<String>,
    canonical: String,
}

fn gather(predicate: &Predicate, found: &mut Vec<Filter>) {
    match predicate {
        Predicate::And(parts) => parts.iter().for_each(|part| gather(part, found)),
        other => found.push(Filter::of(other.clone())),
    }
}

impl Filter {
    /// Parses a filter and checks it against a schema.
    ///
    /// # Errors
    /// What is wrong and at which character.
    pub fn parse(text: &str, schema: &Schema) -> Result<Self, FilterError> {
        Self::parse_saved(text, schema, &SavedTexts::new())
    }

    /// As [`Filter::parse`], with filters that were saved: `saved:name` is the one of that
    /// name, as a whole.
    ///
    /// # Errors
    /// What is wrong and at which character.
    pub fn parse_saved(
        text: &str,
        schema: &Schema,
        saved: &SavedTexts,
    ) -> Result<Self, FilterError> {
        let syntax = saved::expanded(parser::parse(text)?, schema, saved)?;
        Ok(Self::of(bind::bind(syntax, schema)?))
    }

    /// As [`Filter::parse`]; a text of white space is no filter.
    ///
    /// # Errors
    /// What is wrong and at which character.
    pub fn parse_optional(text: &str, schema: &Schema) -> Result<Option<Self>, FilterError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        Self::parse(text, schema).map(Some)
    }

    /// The filter `column = value` for a value given as plain text, e.g. a key
    /// out of a URL. Nothing in the text is special.
    ///
    /// # Errors
    /// No such column, or a text that is no value of its type.
    pub fn equals(schema: &Schema, column: &str, value: &str) -> Result<Self, FilterError> {
        Ok(Self::of(bind::equals(schema, column, value)?))
    }

    fn of(predicate: Predicate) -> Self {
        let mut columns = Vec::new();
        predicate.visit(&mut |leaf| {
            if !columns.contains(&leaf.column.top) {
                columns.push(leaf.column.top.clone());
            }
        });
        let canonical = canonical::canonical(&predicate);
        Self { predicate, columns, canonical }
    }

    /// The top-level columns that it looks at, each once.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The same filter in one fixed spelling, for hashing. Filters of equal
    /// spelling pass the same rows of a schema.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Which rows pass; the answer has no nulls.
    ///
    /// # Errors
    /// A batch that lacks a column or has it in another type.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        evaluate::evaluate(&self.predicate, batch)
    }

    /// What statistics alone tell about a set of `rows` rows. `range` answers
    /// for a top-level column, or `None` where nothing is known.
    pub fn prune<F>(&self, rows: Option<u64>, range: F) -> Pruned
    where
        F: Fn(&str) -> Option<ColumnRange>,
    {
        prune::prune(&self.predicate, rows, &range)
    }

    /// Filters that pass exactly the rows of this one if all of them pass, the
    /// cheap ones first.
    #[must_use]
    pub fn conjuncts(&self) -> Vec<Self> {
        let mut found = Vec::new();
        gather(&self.predicate, &mut found);
        found.sort_by_key(|filter: &Self| filter.predicate.effort());
        found
    }

    /// Columns that must equal a value for any row to pass, each with the value
    /// as an array of one: what a bloom filter can be asked.
    #[must_use]
    pub fn required_values(&self) -> Vec<(&str, &ArrayRef)> {
        fn walk<'a>(predicate: &'a Predicate, found: &mut Vec<(&'a str, &'a ArrayRef)>) {
            match predicate {
                Predicate::And(parts) => parts.iter().for_each(|part| walk(part, found)),
                Predicate::Leaf(leaf) => {
                    if let (Test::Compare(Op::Eq, operand), []) =
                        (&leaf.test, leaf.column.nested.as_slice())
                    {
                        found.push((&leaf.column.top, &operand.scalar));
                    }
                }
                Predicate::Or(_) | Predicate::Not(_) => {}
            }
        }
        let mut found = Vec::new();
        walk(&self.predicate, &mut found);
        found
    }
}
