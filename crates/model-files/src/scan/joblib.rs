//! joblib's arrays: their bytes stand between the opcodes, behind the state of
//! a wrapper that says how many they are.

use super::value::Value;

/// What follows a wrapper's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raw {
    /// So many bytes, behind a byte that counts padding if `padded`.
    Bytes { count: u64, padded: bool },
    /// A pickle of its own: the elements are Python objects.
    Pickle,
}

/// Reads a wrapper's state; nothing if it does not say how large the array is.
pub fn raw_of(state: &Value) -> Option<Raw> {
    let Value::State(entries) = state else { return None };
    let entry = |key: &str| entries.iter().find(|(known, _)| &**known == key).map(|(_, of)| of);
    let Some(Value::Dtype(dtype)) = entry("dtype") else { return None };
    if dtype.objects.get()? {
        return Some(Raw::Pickle);
    }
    let Some(Value::Tuple(shape)) = entry("shape") else { return None };
    let mut count = dtype.bytes?;
    for of in shape.iter() {
        let Value::Int(of) = of else { return None };
        count = count.checked_mul(u64::try_from(*of).ok()?)?;
    }
    let padded = matches!(entry("numpy_array_alignment_bytes"), Some(Value::Int(_)));
    Some(Raw::Bytes { count, padded })
}
