//! The typed tree: every leaf fits its column.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use crate::json::JsonTest;

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
}

impl Op {
    pub(crate) const fn symbol(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::NotEq => "!=",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
        }
    }

    /// Whether a value ordered so against the operand passes.
    pub(crate) fn accepts(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::NotEq => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::LtEq => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::GtEq => ordering.is_ge(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Predicate {
    And(Vec<Predicate>),
    Or(Vec<Predicate>),
    Not(Box<Predicate>),
    Leaf(Leaf),
}

impl Predicate {
    pub(crate) fn visit(&self, f: &mut impl FnMut(&Leaf)) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.visit(f)),
            Self::Not(inner) => inner.visit(f),
            Self::Leaf(leaf) => f(leaf),
        }
    }
}

impl Predicate {
    /// How much work a row is, roughly: numbers before texts, texts before
    /// searches in them, those before lists.
    pub(crate) fn effort(&self) -> u32 {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::effort).sum::<u32>() + 1,
            Self::Not(inner) => inner.effort(),
            Self::Leaf(leaf) => leaf.test.effort() + 4 * u32::from(!leaf.column.nested.is_empty()),
        }
    }
}

impl Test {
    fn effort(&self) -> u32 {
        let of_value = |operand: &Operand| match operand.scalar.data_type() {
            DataType::Boolean => 1,
            data_type if data_type.is_primitive() => 2,
            _ => 4,
        };
        match self {
            Self::IsNull | Self::IsNotNull | Self::Always(_) => 3,
            Self::Compare(_, operand) => of_value(operand),
            Self::In(operands) => operands.iter().map(of_value).max().unwrap_or(1) + 1,
            Self::Text(..) => 8,
            Self::Has(inner) => 16 + inner.effort(),
            Self::Json(_) => 32,
        }
    }
}

/// One test of one column.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub column: ColumnPath,
    pub test: Test,
}

#[derive(Debug, Clone)]
pub(crate) struct ColumnPath {
    /// The column of the schema.
    pub top: String,
    /// Fields of structs below it.
    pub nested: Vec<String>,
}

/// What a value must satisfy. Nulls are unknown to all but the first two.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    IsNull,
    IsNotNull,
    /// The same answer for every value that is not null, e.g. a small integer
    /// against a huge one.
    Always(bool),
    Compare(Op, Operand),
    In(Vec<Operand>),
    Text(TextOp, Operand),
    /// Some element of a list satisfies it.
    Has(Box<Test>),
    /// What is at a place in a JSON text satisfies it.
    Json(Box<JsonTest>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextOp {
    Contains,
    StartsWith,
    EndsWith,
}

/// A literal in the column's own type (a dictionary's value type).
#[derive(Debug, Clone)]
pub(crate) struct Operand {
    /// An array of one.
    pub scalar: ArrayRef,
    /// Its one spelling.
    pub text: String,
}

/// The type that values have once a dictionary is resolved.
pub(crate) fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}
