//! safetensors: the length of a JSON object, the object, the data.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::{DIMENSIONS_MAX, Format, Header, HeaderError, NAME_BYTES_MAX, TENSORS_MAX, Tensor};
use super::{elements, malformed};
use crate::source::{Cursor, Input, Meter, Numbers, Part};

/// Bytes of the JSON object. The format allows 100 MB, which no model comes near.
pub const JSON_BYTES_MAX: u64 = 32 << 20;

pub fn read(part: Part<'_>, meter: &Meter) -> Result<Header, HeaderError> {
    let mut input = Cursor::new(part, meter);
    let length = input.u64()?;
    if length > JSON_BYTES_MAX {
        return Err(HeaderError::TooLarge { what: "header's bytes", most: JSON_BYTES_MAX });
    }
    let json = input.take(usize::try_from(length).map_err(|_| HeaderError::Truncated)?)?;
    if json.first() != Some(&b'{') {
        return Err(malformed("its header is no JSON object"));
    }
    let Entries { tensors, metadata } = serde_json::from_slice(json)
        .map_err(|error| malformed(format!("its header can't be read: {error}")))?;
    let data = part.bytes - 8 - length;
    let mut header = Header::new(Format::Safetensors);
    for (key, value) in &metadata {
        header.note(key.clone(), value);
    }
    let mut ranges = Vec::with_capacity(tensors.len());
    for (name, entry) in tensors {
        let tensor = checked(name, entry, data)?;
        ranges.push(tensor.0);
        header.add(tensor.1)?;
    }
    ranges.sort_unstable();
    let mut end = 0;
    for range in ranges {
        if range.0 != end {
            return Err(malformed("its tensors overlap or leave bytes between them"));
        }
        end = range.1;
    }
    if end != data {
        return Err(malformed(format!(
            "its tensors are {end} bytes, but {data} follow the header"
        )));
    }
    Ok(header)
}

fn checked(name: String, entry: Entry, data: u64) -> Result<((u64, u64), Tensor), HeaderError> {
    let shown: String = name.chars().take(100).collect();
    let wrong = |rule: &str| malformed(format!("tensor {shown:?} {rule}"));
    if name.len() as u64 > NAME_BYTES_MAX {
        return Err(wrong("has a name that is too long"));
    }
    if entry.shape.len() > DIMENSIONS_MAX {
        return Err(wrong("has too many dimensions"));
    }
    let shape = entry.shape.iter().map(|of| i64::try_from(*of)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| wrong("has a dimension that is too large"))?;
    let parameters =
        elements(&shape).ok_or_else(|| wrong("has more elements than can be counted"))?;
    let bits = bits_of(&entry.dtype).ok_or_else(|| wrong("has a type that is not known"))?;
    let (begin, end) = entry.data_offsets;
    let bytes = parameters.checked_mul(bits).map(|bits| bits.div_ceil(8));
    if begin > end || end > data || bytes != Some(end - begin) {
        return Err(wrong("lies outside the file, or is not as large as its shape"));
    }
    let tensor = Tensor { name, kind: entry.dtype, shape, parameters, bytes: end - begin };
    Ok(((begin, end), tensor))
}

fn bits_of(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ"
        | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        "C128" => 128,
        _ => return None,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The object's entries in their order; a name twice is refused.
struct Entries {
    tensors: Vec<(String, Entry)>,
    metadata: Vec<(String, String)>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut seen = HashSet::new();
        let mut entries = Entries { tensors: Vec::new(), metadata: Vec::new() };
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("{name:?} is there twice")));
            }
            if name == "__metadata__" {
                let texts: std::collections::BTreeMap<String, String> = map.next_value()?;
                entries.metadata.extend(texts);
                continue;
            }
            if entries.tensors.len() >= TENSORS_MAX {
                return Err(A::Error::custom(format!("more than {TENSORS_MAX} tensors")));
            }
            entries.tensors.push((name, map.next_value()?));
        }
        Ok(entries)
    }
}
