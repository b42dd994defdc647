//! Predicates over batches, column by column.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, Scalar, make_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::kernels::comparison::{ends_with, starts_with};
use arrow::compute::{and_kleene, cast, is_not_null, is_null, not, or_kleene};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use crate::compare::compare;
use crate::predicate::{Leaf, Op, Operand, Predicate, Test, TextOp};
use crate::search::contains;

/// Longer `IN` lists are looked up by hash instead of compared one by one.
const IN_COMPARED_MAX: usize = 16;

pub(crate) fn evaluate(
    predicate: &Predicate,
    batch: &RecordBatch,
) -> Result<BooleanArray, ArrowError> {
    let (values, nulls) = unknown(predicate, batch)?.into_parts();
    // Unknown does not pass.
    Ok(match nulls {
        Some(known) => BooleanArray::new(&values & known.inner(), None),
        None => BooleanArray::new(values, None),
    })
}

/// Three-valued: null where it is unknown.
fn unknown(predicate: &Predicate, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
    match predicate {
        Predicate::Not(inner) => not(&unknown(inner, batch)?),
        Predicate::Leaf(leaf) => test_column(leaf, batch),
        Predicate::And(parts) => {
            fold(parts, batch, and_kleene, |so_far| so_far.null_count() == 0 && !so_far.has_true())
        }
        Predicate::Or(parts) => {
            fold(parts, batch, or_kleene, |so_far| so_far.null_count() == 0 && !so_far.has_false())
        }
    }
}

fn fold(
    parts: &[Predicate],
    batch: &RecordBatch,
    join: fn(&BooleanArray, &BooleanArray) -> Result<BooleanArray, ArrowError>,
    decided: fn(&BooleanArray) -> bool,
) -> Result<BooleanArray, ArrowError> {
    let mut answer: Option<BooleanArray> = None;
    for part in parts {
        let next = unknown(part, batch)?;
        let joined = match answer {
            Some(so_far) => join(&so_far, &next)?,
            None => next,
        };
        if decided(&joined) {
            return Ok(joined);
        }
        answer = Some(joined);
    }
    answer.ok_or_else(|| ArrowError::InvalidArgumentError("a filter without terms".to_owned()))
}

fn test_column(leaf: &Leaf, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
    let missing = |name: &str| ArrowError::SchemaError(format!("the batch has no column {name:?}"));
    let mut array =
        batch.column_by_name(&leaf.column.top).cloned().ok_or_else(|| missing(&leaf.column.top))?;
    for name in &leaf.column.nested {
        let parent = array.as_struct_opt().ok_or_else(|| missing(name))?;
        let child = parent.column_by_name(name).ok_or_else(|| missing(name))?;
        array = below(parent.nulls(), child)?;
    }
    test_array(&leaf.test, &array)
}

/// A struct's child, null where the struct is.
fn below(parent: Option<&NullBuffer>, child: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if parent.is_none() {
        return Ok(ArrayRef::clone(child));
    }
    let nulls = NullBuffer::union(parent, child.logical_nulls().as_ref());
    Ok(make_array(child.to_data().into_builder().nulls(nulls).build()?))
}

pub(crate) fn test_array(test: &Test, array: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    if let DataType::Dictionary(_, values) = array.data_type() {
        let of_value = !matches!(test, Test::IsNull | Test::IsNotNull | Test::Json(_));
        let dictionary = array.as_any_dictionary();
        if of_value && dictionary.values().len() < array.len() {
            // Each value once, then each row by its key.
            let answers = test_array(test, dictionary.values())?;
            let rows = dictionary.with_values(Arc::new(answers));
            return Ok(cast(&rows, &DataType::Boolean)?.as_boolean().clone());
        }
        return test_array(test, &cast(array, values)?);
    }
    match test {
        Test::IsNull => is_null(array),
        Test::IsNotNull => is_not_null(array),
        Test::Always(answer) => {
            let values = if *answer {
                BooleanBuffer::new_set(array.len())
            } else {
                BooleanBuffer::new_unset(array.len())
            };
            Ok(BooleanArray::new(values, array.logical_nulls()))
        }
        Test::Compare(op, operand) => compare(*op, array, operand),
        Test::In(operands) => within(array, operands),
        Test::Text(op, operand) => {
            let pattern = Scalar::new(ArrayRef::clone(&operand.scalar));
            match op {
                TextOp::Contains => contains(array, &operand.scalar),
                TextOp::StartsWith => starts_with(array, &pattern),
                TextOp::EndsWith => ends_with(array, &pattern),
            }
        }
        Test::Has(inner) => any_element(inner, array),
        Test::Json(json) => json.judge(array),
    }
}

fn within(array: &ArrayRef, operands: &[Operand]) -> Result<BooleanArray, ArrowError> {
    if operands.len() <= IN_COMPARED_MAX || array.data_type().is_floating() {
        let mut answer: Option<BooleanArray> = None;
        for operand in operands {
            let next = compare(Op::Eq, array, operand)?;
            answer = Some(match answer {
                Some(so_far) => or_kleene(&so_far, &next)?,
                None => next,
            });
        }
        return answer.ok_or_else(|| ArrowError::InvalidArgumentError("an empty list".to_owned()));
    }
    let converter = RowConverter::new(vec![SortField::new(array.data_type().clone())])?;
    let scalars: Vec<&dyn Array> = operands.iter().map(|o| o.scalar.as_ref()).collect();
    let wanted = converter.convert_columns(&[arrow::compute::concat(&scalars)?])?;
    let wanted: HashSet<&[u8]> = (0..wanted.num_rows()).map(|i| wanted.row(i).data()).collect();
    let rows = converter.convert_columns(std::slice::from_ref(array))?;
    let found = BooleanBuffer::collect_bool(array.len(), |i| wanted.contains(rows.row(i).data()));
    Ok(BooleanArray::new(found, array.logical_nulls()))
}

fn any_element(inner: &Test, array: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    let (elements, bounds): (ArrayRef, Vec<(usize, usize)>) = match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let bounds = list.offsets().windows(2).map(|w| (w[0] as usize, w[1] as usize));
            (ArrayRef::clone(list.values()), bounds.collect())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let bounds = list.offsets().windows(2).map(|w| (w[0] as usize, w[1] as usize));
            (ArrayRef::clone(list.values()), bounds.collect())
        }
        DataType::FixedSizeList(_, size) => {
            let list = array.as_fixed_size_list();
            let size = usize::try_from(*size).unwrap_or(0);
            (
                ArrayRef::clone(list.values()),
                (0..list.len()).map(|i| (i * size, (i + 1) * size)).collect(),
            )
        }
        other => return Err(ArrowError::SchemaError(format!("{other} has no elements"))),
    };
    let (hits, known) = test_array(inner, &elements)?.into_parts();
    let hits = match known {
        Some(known) => &hits & known.inner(),
        None => hits,
    };
    let mut answer = BooleanBufferBuilder::new(bounds.len());
    for (begin, end) in bounds {
        answer.append(hits.slice(begin, end - begin).has_true());
    }
    Ok(BooleanArray::new(answer.finish(), array.logical_nulls()))
}
