//! Filters made of typed parts instead of text, for planners that have parsed
//! another language. `None` is the answer where the parts do not fit.

use std::sync::Arc;

use arrow::array::{ArrayRef, LargeStringArray, StringArray, StringViewArray};
use arrow::datatypes::{DataType, Schema};

use crate::Filter;
use crate::literal::spelling;
use crate::predicate::{ColumnPath, Leaf, Op, Operand, Predicate, Test, TextOp, value_type};

/// How a column is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the operators' own names")]
pub enum Comparison {
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
}

/// Where a text is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the operators' own names")]
pub enum TextMatch {
    Contains,
    StartsWith,
    EndsWith,
}

impl Filter {
    /// `column op value`; the value is an array of one, not null, in the
    /// column's own type (a dictionary's value type).
    #[must_use]
    pub fn compare(
        schema: &Schema,
        column: &str,
        op: Comparison,
        value: &ArrayRef,
    ) -> Option<Self> {
        let operand = operand(column_type(schema, column)?, value)?;
        let op = match op {
            Comparison::Eq => Op::Eq,
            Comparison::NotEq => Op::NotEq,
            Comparison::Lt => Op::Lt,
            Comparison::LtEq => Op::LtEq,
            Comparison::Gt => Op::Gt,
            Comparison::GtEq => Op::GtEq,
        };
        Some(leaf(column, Test::Compare(op, operand)))
    }

    /// `column IN (values)`, values as for [`Filter::compare`].
    #[must_use]
    pub fn within(schema: &Schema, column: &str, values: &[ArrayRef]) -> Option<Self> {
        let data_type = column_type(schema, column)?;
        let operands: Option<Vec<Operand>> =
            values.iter().map(|value| operand(data_type, value)).collect();
        let mut operands = operands?;
        operands.sort_by(|a, b| a.text.cmp(&b.text));
        operands.dedup_by(|a, b| a.text == b.text);
        (!operands.is_empty()).then(|| leaf(column, Test::In(operands)))
    }

    /// The column's text has `text` at this place.
    #[must_use]
    pub fn text(schema: &Schema, column: &str, how: TextMatch, text: &str) -> Option<Self> {
        let scalar: ArrayRef = match column_type(schema, column)? {
            DataType::Utf8 => Arc::new(StringArray::from(vec![text])),
            DataType::LargeUtf8 => Arc::new(LargeStringArray::from(vec![text])),
            DataType::Utf8View => Arc::new(StringViewArray::from(vec![text])),
            _ => return None,
        };
        let op = match how {
            TextMatch::Contains => TextOp::Contains,
            TextMatch::StartsWith => TextOp::StartsWith,
            TextMatch::EndsWith => TextOp::EndsWith,
        };
        let operand = Operand { text: format!("{text:?}"), scalar };
        Some(leaf(column, Test::Text(op, operand)))
    }

    /// The column is null.
    #[must_use]
    pub fn is_null(schema: &Schema, column: &str) -> Option<Self> {
        column_type(schema, column)?;
        Some(leaf(column, Test::IsNull))
    }

    /// All of them pass; `None` of none.
    #[must_use]
    pub fn all(filters: Vec<Self>) -> Option<Self> {
        Self::joined(filters, Predicate::And)
    }

    /// One of them passes; `None` of none.
    #[must_use]
    pub fn any(filters: Vec<Self>) -> Option<Self> {
        Self::joined(filters, Predicate::Or)
    }

    /// It is known not to pass.
    #[must_use]
    pub fn negated(self) -> Self {
        Self::of(Predicate::Not(Box::new(self.predicate)))
    }

    fn joined(filters: Vec<Self>, join: fn(Vec<Predicate>) -> Predicate) -> Option<Self> {
        let mut parts: Vec<Predicate> = filters.into_iter().map(|part| part.predicate).collect();
        match parts.len() {
            0 => None,
            1 => parts.pop().map(Self::of),
            _ => Some(Self::of(join(parts))),
        }
    }
}

fn leaf(column: &str, test: Test) -> Filter {
    let column = ColumnPath { top: column.to_owned(), nested: Vec::new() };
    Filter::of(Predicate::Leaf(Leaf { column, test }))
}

fn column_type<'a>(schema: &'a Schema, column: &str) -> Option<&'a DataType> {
    schema.field_with_name(column).ok().map(|field| value_type(field.data_type()))
}

fn operand(data_type: &DataType, value: &ArrayRef) -> Option<Operand> {
    let fits = value.len() == 1 && value.is_valid(0) && value.data_type() == data_type;
    fits.then(|| {
        let plain = spelling(value);
        // As the parser spells a text.
        let text = if is_text(data_type) { format!("{plain:?}") } else { plain };
        Operand { scalar: ArrayRef::clone(value), text }
    })
}

const fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::Int32Array;
    use arrow::datatypes::Field;

    #[test]
    fn built_filters_are_spelled_as_parsed_ones() {
        let schema = Schema::new(vec![
            Field::new("n", DataType::Int32, true),
            Field::new("t", DataType::Utf8, true),
        ]);
        let value = |n: i32| -> ArrayRef { Arc::new(Int32Array::from(vec![n])) };
        let built = Filter::all(vec![
            Filter::compare(&schema, "n", Comparison::Gt, &value(3)).unwrap(),
            Filter::any(vec![
                Filter::within(&schema, "n", &[value(7), value(5), value(7)]).unwrap(),
                Filter::text(&schema, "t", TextMatch::StartsWith, "x").unwrap().negated(),
                Filter::is_null(&schema, "t").unwrap(),
            ])
            .unwrap(),
        ])
        .unwrap();
        let parsed =
            Filter::parse("n > 3 AND (n IN (5, 7) OR NOT t = \"x*\" OR t = null)", &schema);
        assert_eq!(built.canonical(), parsed.unwrap().canonical());
        assert_eq!(built.columns(), ["n", "t"]);
    }

    #[test]
    fn what_does_not_fit_is_no_filter() {
        let schema = Schema::new(vec![Field::new("n", DataType::Int32, true)]);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
        let null: ArrayRef = Arc::new(Int32Array::from(vec![None::<i32>]));
        assert!(Filter::compare(&schema, "n", Comparison::Eq, &text).is_none());
        assert!(Filter::compare(&schema, "n", Comparison::Eq, &null).is_none());
        assert!(Filter::is_null(&schema, "m").is_none());
        assert!(Filter::text(&schema, "n", TextMatch::Contains, "1").is_none());
        assert!(Filter::within(&schema, "n", &[]).is_none());
        assert!(Filter::all(Vec::new()).is_none());
    }
}
