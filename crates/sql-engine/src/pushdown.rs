//! Predicates that the filter language means exactly as SQL does.
//!
//! What is not sure stays with DataFusion: functions, columns against columns. Floats
//! are sure: NaN is above all numbers in both.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use filter::{Comparison, Filter, TextMatch};

/// The filter that passes exactly the rows for which `expr` is true.
pub(crate) fn filter(expr: &Expr, schema: &Schema) -> Option<Filter> {
    match expr {
        Expr::Column(column) => {
            let scalar = ScalarValue::Boolean(Some(true));
            let compared = Compared::of(column, schema)?;
            (compared.data_type == &DataType::Boolean).then_some(())?;
            compared.with(Comparison::Eq, &scalar)
        }
        Expr::Not(inner) => filter(inner, schema).map(Filter::negated),
        Expr::IsNull(inner) => Filter::is_null(schema, column_of(inner)?.name()),
        Expr::IsNotNull(inner) => {
            Filter::is_null(schema, column_of(inner)?.name()).map(Filter::negated)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => binary(left, *op, right, schema),
        Expr::Between(Between { expr, negated, low, high }) => {
            let compared = Compared::of(column_of(expr)?, schema)?;
            let low = compared.with(Comparison::GtEq, literal_of(low)?)?;
            let high = compared.with(Comparison::LtEq, literal_of(high)?)?;
            let both = Filter::all(vec![low, high])?;
            Some(if *negated { both.negated() } else { both })
        }
        Expr::InList(InList { expr, list, negated }) => {
            let compared = Compared::of(column_of(expr)?, schema)?;
            let each: Option<Vec<ArrayRef>> =
                list.iter().map(|item| compared.value(literal_of(item)?)).collect();
            let any = Filter::within(schema, compared.name, &each?)?;
            Some(if *negated { any.negated() } else { any })
        }
        Expr::Like(like) => text(like, schema),
        _ => None,
    }
}

fn binary(left: &Expr, op: Operator, right: &Expr, schema: &Schema) -> Option<Filter> {
    match op {
        Operator::And => Filter::all(vec![filter(left, schema)?, filter(right, schema)?]),
        Operator::Or => Filter::any(vec![filter(left, schema)?, filter(right, schema)?]),
        _ => {
            if let (Some(column), Some(value)) = (column_of(left), literal_of(right)) {
                return Compared::of(column, schema)?.with(comparison(op)?, value);
            }
            let (column, value) = (column_of(right)?, literal_of(left)?);
            Compared::of(column, schema)?.with(comparison(op.swap()?)?, value)
        }
    }
}

const fn comparison(op: Operator) -> Option<Comparison> {
    Some(match op {
        Operator::Eq => Comparison::Eq,
        Operator::NotEq => Comparison::NotEq,
        Operator::Lt => Comparison::Lt,
        Operator::LtEq => Comparison::LtEq,
        Operator::Gt => Comparison::Gt,
        Operator::GtEq => Comparison::GtEq,
        _ => return None,
    })
}

fn column_of(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        _ => None,
    }
}

fn literal_of(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(value),
        _ => None,
    }
}

/// A column that values are compared with.
struct Compared<'a> {
    name: &'a str,
    data_type: &'a DataType,
    schema: &'a Schema,
}

impl<'a> Compared<'a> {
    fn of(column: &'a Column, schema: &'a Schema) -> Option<Self> {
        let field = schema.field_with_name(column.name()).ok()?;
        let data_type = match field.data_type() {
            DataType::Dictionary(_, values) => values.as_ref(),
            other => other,
        };
        Some(Self { name: column.name(), data_type, schema })
    }

    /// The value in the column's type, if it is one.
    fn value(&self, value: &ScalarValue) -> Option<ArrayRef> {
        let plain = match value {
            ScalarValue::Dictionary(_, value) => value.as_ref(),
            other => other,
        };
        let is_same = plain.data_type() == *self.data_type;
        let is_text = |data_type: &DataType| {
            matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        };
        let both_texts = is_text(&plain.data_type()) && is_text(self.data_type);
        if !is_same && !both_texts {
            return None;
        }
        plain.cast_to(self.data_type).ok()?.to_array().ok()
    }

    fn with(&self, op: Comparison, value: &ScalarValue) -> Option<Filter> {
        Filter::compare(self.schema, self.name, op, &self.value(value)?)
    }
}

/// `LIKE` without `_` and escapes, with `%` at the ends only.
fn text(like: &Like, schema: &Schema) -> Option<Filter> {
    if like.case_insensitive || like.escape_char.is_some() {
        return None;
    }
    let compared = Compared::of(column_of(&like.expr)?, schema)?;
    let pattern = literal_of(&like.pattern)?.try_as_str()??;
    if pattern.contains(['_', '\\']) {
        return None;
    }
    let inner = pattern.trim_matches('%');
    let (start, end) = (pattern.starts_with('%'), pattern.ends_with('%'));
    if inner.contains('%') || inner.is_empty() {
        return None;
    }
    let how = match (start, end) {
        (true, true) => TextMatch::Contains,
        (false, true) => TextMatch::StartsWith,
        (true, false) => TextMatch::EndsWith,
        (false, false) => {
            let value = ScalarValue::Utf8(Some(inner.to_owned()));
            let op = if like.negated { Comparison::NotEq } else { Comparison::Eq };
            return compared.with(op, &value);
        }
    };
    let found = Filter::text(schema, compared.name, how, inner)?;
    Some(if like.negated { found.negated() } else { found })
}
