//! A filter's shape, for an index that answers it leaf by leaf from the values
//! that a column has, instead of row by row.

use arrow::array::{ArrayRef, BooleanArray};
use arrow::error::ArrowError;

use crate::Filter;
use crate::evaluate::test_array;
use crate::predicate::{Leaf, Predicate, Test};

/// A part of a filter.
#[derive(Debug, Clone)]
pub enum Node<'a> {
    /// All of them.
    And(Vec<Node<'a>>),
    /// One of them.
    Or(Vec<Node<'a>>),
    /// Known not to pass; unknown stays unknown.
    Not(Box<Node<'a>>),
    /// A test of one column.
    Leaf(LeafTest<'a>),
}

/// What a leaf asks of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Whether it is null.
    Null,
    /// Whether it is not null.
    NotNull,
    /// Whether its value passes.
    Value,
    /// Whether one of its elements passes.
    Element,
}

/// A test of one column.
#[derive(Debug, Clone, Copy)]
pub struct LeafTest<'a>(&'a Leaf);

impl LeafTest<'_> {
    /// The top-level column.
    #[must_use]
    pub fn column(&self) -> &str {
        &self.0.column.top
    }

    /// What is asked of it.
    #[must_use]
    pub fn asks(&self) -> Asks {
        match self.0.test {
            Test::IsNull => Asks::Null,
            Test::IsNotNull => Asks::NotNull,
            Test::Has(_) => Asks::Element,
            _ => Asks::Value,
        }
    }

    /// Which of these values (or elements) pass. The values are none of them null.
    ///
    /// # Errors
    /// Values of another type than the filter was parsed for.
    pub fn passing(&self, values: &ArrayRef) -> Result<BooleanArray, ArrowError> {
        match &self.0.test {
            Test::Has(inner) => test_array(inner, values),
            test => test_array(test, values),
        }
    }
}

fn node(predicate: &Predicate) -> Node<'_> {
    match predicate {
        Predicate::And(parts) => Node::And(parts.iter().map(node).collect()),
        Predicate::Or(parts) => Node::Or(parts.iter().map(node).collect()),
        Predicate::Not(inner) => Node::Not(Box::new(node(inner))),
        Predicate::Leaf(leaf) => Node::Leaf(LeafTest(leaf)),
    }
}

impl Filter {
    /// The filter's shape.
    #[must_use]
    pub fn node(&self) -> Node<'_> {
        node(&self.predicate)
    }
}
