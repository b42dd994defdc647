//! Paths into JSON texts: what is there, as a column of one type.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Float64Array, StringArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::evaluate::test_array;
use crate::predicate::{Op, Test};
use crate::search::contains;

/// What a test wants of a JSON value. A value of another kind is as if it were
/// not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Text,
    Number,
    Flag,
    /// Whether there is anything but null.
    Anything,
}

/// A place in a JSON text and the test of what is there.
#[derive(Debug, Clone)]
pub(crate) struct JsonTest {
    /// Names of members, from the outside in.
    pub path: Vec<String>,
    pub wanted: Wanted,
    /// Of an array, some element must satisfy the test; of an object, the name
    /// of some member.
    pub elements: bool,
    pub test: Test,
}

impl JsonTest {
    /// Judges each text. Null where there is nothing to judge.
    pub fn judge(&self, array: &ArrayRef) -> Result<BooleanArray, ArrowError> {
        let texts = cast(array, &DataType::Utf8)?;
        let candidates = self.candidates(&texts)?;
        let texts = texts.as_string::<i32>();
        let mut found: Vec<Vec<Value>> = Vec::with_capacity(texts.len());
        for row in 0..texts.len() {
            let looked = candidates.as_ref().is_none_or(|mask| mask.value(row));
            let value =
                (looked && texts.is_valid(row)).then(|| look_up(texts.value(row), &self.path));
            found.push(self.values(value.flatten()));
        }
        let answers = test_array(&self.test, &self.column(&found))?;
        Ok(self.by_row(&found, &answers, texts.nulls()))
    }

    /// The values that the test is put to.
    fn values(&self, value: Option<Value>) -> Vec<Value> {
        match value {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(elements)) if self.elements => elements,
            Some(Value::Object(members)) if self.elements => {
                members.into_iter().map(|(name, _)| Value::String(name)).collect()
            }
            Some(other) => vec![other],
        }
    }

    /// All values of all rows as one column.
    fn column(&self, found: &[Vec<Value>]) -> ArrayRef {
        let all = || found.iter().flatten();
        match self.wanted {
            Wanted::Text => Arc::new(all().map(Value::as_str).collect::<StringArray>()),
            Wanted::Number => Arc::new(all().map(Value::as_f64).collect::<Float64Array>()),
            Wanted::Flag => Arc::new(all().map(Value::as_bool).collect::<BooleanArray>()),
            Wanted::Anything => Arc::new(all().map(|_| Some(true)).collect::<BooleanArray>()),
        }
    }

    fn by_row(
        &self,
        found: &[Vec<Value>],
        answers: &BooleanArray,
        nulls: Option<&NullBuffer>,
    ) -> BooleanArray {
        let absence_passes = matches!(self.test, Test::IsNull);
        let about_absence = absence_passes || matches!(self.test, Test::IsNotNull);
        let mut passes = BooleanBufferBuilder::new(found.len());
        let mut known = BooleanBufferBuilder::new(found.len());
        let mut at = 0;
        for (row, values) in found.iter().enumerate() {
            let own = at..at + values.len();
            at = own.end;
            if about_absence {
                passes.append(values.is_empty() == absence_passes);
                known.append(true);
                continue;
            }
            let judged = |at: &usize| answers.is_valid(*at);
            passes.append(own.clone().any(|at| judged(&at) && answers.value(at)));
            // No text at all is unknown; a text without the place has no elements.
            let some_text = nulls.is_none_or(|nulls| nulls.is_valid(row));
            known.append(if self.elements { some_text } else { own.clone().any(|at| judged(&at)) });
        }
        BooleanArray::new(passes.finish(), Some(known.finish().into()))
    }

    /// The texts that may pass, where a search tells: they hold the value's own
    /// letters. Others need no parsing.
    fn candidates(&self, texts: &ArrayRef) -> Result<Option<BooleanArray>, ArrowError> {
        let (Test::Compare(Op::Eq, operand), Wanted::Text) = (&self.test, self.wanted) else {
            return Ok(None);
        };
        // `NOT` of an absent value is unknown, of another value true: only for
        // membership it is the same either way.
        if !self.elements {
            return Ok(None);
        }
        let text = operand.scalar.as_string::<i32>().value(0);
        // Letters that JSON may write in more than one way.
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || " _-.:".contains(c)) {
            return Ok(None);
        }
        let (found, nulls) = contains(texts, &operand.scalar)?.into_parts();
        let found = match nulls {
            Some(nulls) => &found | &!nulls.inner(),
            None => found,
        };
        Ok(Some(BooleanArray::new(found, None)))
    }
}

/// The value at a path; `None` if there is none or the text is no JSON.
fn look_up(text: &str, path: &[String]) -> Option<Value> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Find { path }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    value
}

/// Reads a document and keeps what is at a path.
struct Find<'a> {
    path: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        if self.path.is_empty() {
            return serde::Deserialize::deserialize(reader).map(Some);
        }
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let Some((name, rest)) = self.path.split_first() else { return Ok(None) };
        while let Some(is_it) = members.next_key_seed(Named { name })? {
            if is_it {
                found = members.next_value_seed(Find { path: rest })?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a member has a name, without keeping it.
struct Named<'a> {
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.name)
    }
}
