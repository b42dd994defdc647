//! The distinct values of a column, each with a code, kept as Arrow arrays so
//! that the filter's own code tests them.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::PayloadError;
use crate::bytes::{Reader, Writer};
use crate::value::{Kind, Value};

/// Values of one sealed array.
const CHUNK: usize = 4_096;

/// Values in the order of their codes, which begin at 0.
#[derive(Debug)]
pub(crate) struct Dictionary {
    kind: Kind,
    sealed: Vec<ArrayRef>,
    tail: Vec<Value>,
    codes: HashTable<u32>,
    hasher: DefaultHashBuilder,
    text_bytes: usize,
}

impl Dictionary {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            sealed: Vec::new(),
            tail: Vec::new(),
            codes: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            text_bytes: 0,
        }
    }

    pub const fn kind(&self) -> Kind {
        self.kind
    }

    pub fn len(&self) -> usize {
        self.sealed.len() * CHUNK + self.tail.len()
    }

    /// About what it takes in memory.
    pub fn bytes(&self) -> usize {
        self.text_bytes + self.len() * 20
    }

    /// The code of a value, given now if it has none. The value is of the
    /// dictionary's kind.
    pub fn code(&mut self, value: &Value) -> u32 {
        let hash = hash(&self.hasher, value);
        if let Some(code) = self.codes.find(hash, |code| self.is(*code, value)) {
            return *code;
        }
        let code = u32::try_from(self.len()).unwrap_or(u32::MAX);
        if let Value::Text(text) = value {
            self.text_bytes += text.len();
        }
        self.tail.push(value.clone());
        let (sealed, tail, hasher) = (&self.sealed, &self.tail, &self.hasher);
        self.codes.insert_unique(hash, code, |code| hash_of(hasher, sealed, tail, *code));
        if self.tail.len() == CHUNK {
            self.sealed.push(array(self.kind, &self.tail));
            self.tail.clear();
        }
        code
    }

    fn is(&self, code: u32, value: &Value) -> bool {
        let (chunk, at) = (code as usize / CHUNK, code as usize % CHUNK);
        match (self.sealed.get(chunk), value) {
            (None, value) => same(&self.tail[at], value),
            (Some(array), Value::Text(text)) => array.as_string::<i32>().value(at) == text,
            (Some(array), value) => same(&value_at(self.kind, array, at), value),
        }
    }

    /// The value of a code.
    pub fn value(&self, code: u32) -> Value {
        let (chunk, at) = (code as usize / CHUNK, code as usize % CHUNK);
        match self.sealed.get(chunk) {
            Some(array) => value_at(self.kind, array, at),
            None => self.tail[at].clone(),
        }
    }

    /// Which codes' values pass a test of arrays.
    pub fn passing<E>(
        &self,
        mut test: impl FnMut(&ArrayRef) -> Result<BooleanArray, E>,
    ) -> Result<Vec<bool>, E> {
        let mut passing = Vec::with_capacity(self.len());
        let tail = (!self.tail.is_empty()).then(|| array(self.kind, &self.tail));
        for values in self.sealed.iter().chain(&tail) {
            let answer = test(values)?;
            passing.extend((0..answer.len()).map(|at| answer.is_valid(at) && answer.value(at)));
        }
        Ok(passing)
    }

    pub fn write(&self, out: &mut Writer) {
        out.byte(self.kind.code());
        out.count(self.len());
        for code in 0..self.len() {
            match self.value(u32::try_from(code).unwrap_or(u32::MAX)) {
                Value::Text(text) => out.text(&text),
                Value::Float(n) => out.int(i64::from_ne_bytes(n.to_ne_bytes())),
                Value::Int(n) | Value::Time(n) => out.int(n),
                Value::Bool(b) => out.int(i64::from(b)),
                Value::Date(days) => out.int(i64::from(days)),
                Value::List(_) => {}
            }
        }
    }

    pub fn read(from: &mut Reader<'_>) -> Result<Self, PayloadError> {
        let kind = Kind::of_code(from.byte()?)?;
        let mut dictionary = Self::new(kind);
        for expected in 0..from.count(1)? {
            let value = match kind {
                Kind::Text => Value::Text(from.text()?.to_owned()),
                Kind::Float => Value::Float(f64::from_ne_bytes(from.int()?.to_ne_bytes())),
                Kind::Int => Value::Int(from.int()?),
                Kind::Time => Value::Time(from.int()?),
                Kind::Bool => Value::Bool(from.int()? != 0),
                Kind::Date => Value::Date(
                    i32::try_from(from.int()?).map_err(|_| PayloadError::Damaged("a date"))?,
                ),
            };
            if dictionary.code(&value) as usize != expected {
                return Err(PayloadError::Damaged("a value that is there twice"));
            }
        }
        Ok(dictionary)
    }
}

/// NaN is one value, and 0 and −0 are two: codes are by bits.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

fn hash(hasher: &DefaultHashBuilder, value: &Value) -> u64 {
    match value {
        Value::Text(text) => hasher.hash_one(text.as_str()),
        Value::Int(n) | Value::Time(n) => hasher.hash_one(n),
        Value::Float(n) => hasher.hash_one(n.to_bits()),
        Value::Bool(b) => hasher.hash_one(b),
        Value::Date(days) => hasher.hash_one(days),
        Value::List(_) => 0,
    }
}

fn hash_of(hasher: &DefaultHashBuilder, sealed: &[ArrayRef], tail: &[Value], code: u32) -> u64 {
    let (chunk, at) = (code as usize / CHUNK, code as usize % CHUNK);
    let Some(array) = sealed.get(chunk) else { return hash(hasher, &tail[at]) };
    if let Some(texts) = array.as_string_opt::<i32>() {
        return hasher.hash_one(texts.value(at));
    }
    if let Some(numbers) = array.as_primitive_opt::<Int64Type>() {
        return hasher.hash_one(numbers.value(at));
    }
    if let Some(numbers) = array.as_primitive_opt::<Float64Type>() {
        return hasher.hash_one(numbers.value(at).to_bits());
    }
    if let Some(times) = array.as_primitive_opt::<TimestampMicrosecondType>() {
        return hasher.hash_one(times.value(at));
    }
    if let Some(days) = array.as_primitive_opt::<Date32Type>() {
        return hasher.hash_one(days.value(at));
    }
    array.as_boolean_opt().map_or(0, |flags| hasher.hash_one(flags.value(at)))
}

fn value_at(kind: Kind, array: &ArrayRef, at: usize) -> Value {
    match kind {
        Kind::Bool => Value::Bool(array.as_boolean().value(at)),
        Kind::Int => Value::Int(array.as_primitive::<Int64Type>().value(at)),
        Kind::Float => Value::Float(array.as_primitive::<Float64Type>().value(at)),
        Kind::Text => Value::Text(array.as_string::<i32>().value(at).to_owned()),
        Kind::Time => Value::Time(array.as_primitive::<TimestampMicrosecondType>().value(at)),
        Kind::Date => Value::Date(array.as_primitive::<Date32Type>().value(at)),
    }
}

/// Values of one kind as an array.
pub(crate) fn array(kind: Kind, values: &[Value]) -> ArrayRef {
    macro_rules! gather {
        ($array:ty, $pattern:pat => $value:expr) => {
            values
                .iter()
                .map(|value| match value {
                    $pattern => Some($value),
                    _ => None,
                })
                .collect::<$array>()
        };
    }
    match kind {
        Kind::Bool => Arc::new(gather!(BooleanArray, Value::Bool(b) => *b)),
        Kind::Int => Arc::new(gather!(Int64Array, Value::Int(n) => *n)),
        Kind::Float => Arc::new(gather!(Float64Array, Value::Float(n) => *n)),
        Kind::Text => Arc::new(gather!(StringArray, Value::Text(text) => text.as_str())),
        Kind::Time => Arc::new(
            gather!(TimestampMicrosecondArray, Value::Time(at) => *at).with_timezone("UTC"),
        ),
        Kind::Date => Arc::new(gather!(Date32Array, Value::Date(days) => *days)),
    }
}
