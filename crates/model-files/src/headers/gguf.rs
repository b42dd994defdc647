//! GGUF, versions 2 and 3: metadata, then tensors, then the data, aligned.

use super::{
    Format, Header, HeaderError, NAME_BYTES_MAX, TENSORS_MAX, Tensor, elements, is_template,
    malformed,
};
use crate::source::{Cursor, Input, Meter, Numbers, Part};

const ENTRIES_MAX: u64 = 65_536;
const STRING_BYTES_MAX: u64 = 4 << 20;
const DEPTH_MAX: u32 = 4;
/// The format's own bound.
const DIMENSIONS_MAX: u32 = 4;
const ALIGNMENT: u64 = 32;
/// Elements of an array that are told.
const ELEMENTS_SHOWN: u64 = 8;
const ELEMENT_CHARS_SHOWN: usize = 100;

pub fn read(part: Part<'_>, meter: &Meter) -> Result<Header, HeaderError> {
    let mut input = Cursor::new(part, meter);
    if input.take(4)? != b"GGUF" {
        return Err(malformed("it does not begin with GGUF"));
    }
    let version = input.u32()?;
    if version != 2 && version != 3 {
        let what = "only versions 2 and 3 of little-endian GGUF are read";
        return Err(malformed(format!("its version is {version}: {what}")));
    }
    let tensors = input.u64()?;
    let entries = input.u64()?;
    if tensors > TENSORS_MAX as u64 {
        return Err(HeaderError::TooLarge { what: "tensors", most: TENSORS_MAX as u64 });
    }
    if entries > ENTRIES_MAX {
        return Err(HeaderError::TooLarge { what: "metadata entries", most: ENTRIES_MAX });
    }
    let mut header = Header::new(Format::Gguf);
    let mut alignment = ALIGNMENT;
    for _ in 0..entries {
        let key = text(&mut input, NAME_BYTES_MAX * 64)?;
        let kind = input.u32()?;
        let shown = if is_template(&key) { u64::MAX } else { ELEMENTS_SHOWN };
        let value = value(&mut input, kind, 0, shown)?;
        if key == "general.alignment" {
            alignment = value.parse().unwrap_or_default();
        }
        header.note(key, &value);
    }
    if !alignment.is_power_of_two() {
        return Err(malformed("its alignment is no power of two"));
    }
    let mut places = Vec::new();
    for _ in 0..tensors {
        let (tensor, offset) = tensor(&mut input)?;
        if offset % alignment != 0 {
            return Err(malformed(format!("tensor {:?} is not aligned", tensor.name)));
        }
        places.push((offset, tensor.bytes));
        header.add(tensor)?;
    }
    let begin = input.at().next_multiple_of(alignment);
    for (offset, bytes) in places {
        let end = begin.checked_add(offset).and_then(|begin| begin.checked_add(bytes));
        if end.is_none_or(|end| end > part.bytes) {
            return Err(malformed("a tensor lies behind the end of the file"));
        }
    }
    Ok(header)
}

fn text(input: &mut Cursor<'_>, most: u64) -> Result<String, HeaderError> {
    let length = input.u64()?;
    if length > most {
        return Err(HeaderError::TooLarge { what: "bytes of a text", most });
    }
    let bytes = input.take(usize::try_from(length).map_err(|_| HeaderError::Truncated)?)?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// A value as text; of an array, so many elements.
fn value(input: &mut Cursor<'_>, kind: u32, depth: u32, shown: u64) -> Result<String, HeaderError> {
    let bytes = |bytes: &[u8]| -> [u8; 8] {
        let mut all = [0; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        all
    };
    Ok(match kind {
        0 => input.u8()?.to_string(),
        1 => i8::from_le_bytes([input.u8()?]).to_string(),
        2 => input.u16()?.to_string(),
        3 => i16::from_le_bytes(input.u16()?.to_le_bytes()).to_string(),
        4 => input.u32()?.to_string(),
        5 => i32::from_le_bytes(input.u32()?.to_le_bytes()).to_string(),
        6 => f32::from_bits(input.u32()?).to_string(),
        7 => match input.u8()? {
            0 => "false".to_owned(),
            1 => "true".to_owned(),
            _ => return Err(malformed("a boolean is neither 0 nor 1")),
        },
        8 => text(input, STRING_BYTES_MAX)?,
        9 => return array(input, depth, shown),
        10 => u64::from_le_bytes(bytes(input.take(8)?)).to_string(),
        11 => i64::from_le_bytes(bytes(input.take(8)?)).to_string(),
        12 => f64::from_le_bytes(bytes(input.take(8)?)).to_string(),
        _ => return Err(malformed(format!("its metadata has a value of unknown type {kind}"))),
    })
}

/// The first elements of an array, and how many it has.
fn array(input: &mut Cursor<'_>, depth: u32, most: u64) -> Result<String, HeaderError> {
    if depth >= DEPTH_MAX {
        return Err(malformed("its metadata has arrays in arrays in arrays"));
    }
    let kind = input.u32()?;
    let count = input.u64()?;
    // Each element is a byte at least: a count that lies is found here.
    if count > input.left() {
        return Err(HeaderError::Truncated);
    }
    let chars = if most == ELEMENTS_SHOWN { ELEMENT_CHARS_SHOWN } else { usize::MAX };
    let (mut shown, mut bytes) = (Vec::new(), 0);
    for _ in 0..count.min(most) {
        let element = value(input, kind, depth + 1, most)?;
        bytes += element.len() as u64;
        if bytes > STRING_BYTES_MAX {
            return Err(HeaderError::TooLarge { what: "bytes of a text", most: STRING_BYTES_MAX });
        }
        shown.push(element.chars().take(chars).collect::<String>());
    }
    let rest = count.saturating_sub(most);
    match size_of(kind) {
        Some(size) => {
            input.skip(rest.checked_mul(size).ok_or(HeaderError::Truncated)?)?;
        }
        None if kind == 8 => {
            for _ in 0..rest {
                let length = input.u64()?;
                input.skip(length)?;
            }
        }
        None => {
            for _ in 0..rest {
                value(input, kind, depth + 1, ELEMENTS_SHOWN)?;
            }
        }
    }
    let more = if rest > 0 { format!(", … {count} in all") } else { String::new() };
    Ok(format!("[{}{more}]", shown.join(", ")))
}

const fn size_of(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

fn tensor(input: &mut Cursor<'_>) -> Result<(Tensor, u64), HeaderError> {
    let name = text(input, NAME_BYTES_MAX)?;
    let dimensions = input.u32()?;
    if dimensions > DIMENSIONS_MAX {
        return Err(malformed(format!("tensor {name:?} has {dimensions} dimensions")));
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        let of = i64::try_from(input.u64()?);
        shape.push(of.map_err(|_| malformed(format!("tensor {name:?} is too large")))?);
    }
    let kind = input.u32()?;
    let offset = input.u64()?;
    let too_large = || malformed(format!("tensor {name:?} is too large"));
    let parameters = elements(&shape).ok_or_else(too_large)?;
    let (word, per_block, block_bytes) = type_of(kind);
    let kind = if word.is_empty() { format!("type {kind}") } else { word.to_owned() };
    let blocks = if per_block == 0 { 0 } else { parameters.div_ceil(per_block) };
    let bytes = blocks.checked_mul(block_bytes).ok_or_else(too_large)?;
    Ok((Tensor { name, kind, shape, parameters, bytes }, offset))
}

/// A type's name, elements of a block, bytes of a block; nothing for one that is
/// newer than this table.
const fn type_of(kind: u32) -> (&'static str, u64, u64) {
    match kind {
        0 => ("F32", 1, 4),
        1 => ("F16", 1, 2),
        2 => ("Q4_0", 32, 18),
        3 => ("Q4_1", 32, 20),
        6 => ("Q5_0", 32, 22),
        7 => ("Q5_1", 32, 24),
        8 => ("Q8_0", 32, 34),
        9 => ("Q8_1", 32, 36),
        10 => ("Q2_K", 256, 84),
        11 => ("Q3_K", 256, 110),
        12 => ("Q4_K", 256, 144),
        13 => ("Q5_K", 256, 176),
        14 => ("Q6_K", 256, 210),
        15 => ("Q8_K", 256, 292),
        16 => ("IQ2_XXS", 256, 66),
        17 => ("IQ2_XS", 256, 74),
        18 => ("IQ3_XXS", 256, 98),
        19 => ("IQ1_S", 256, 50),
        20 => ("IQ4_NL", 32, 18),
        21 => ("IQ3_S", 256, 110),
        22 => ("IQ2_S", 256, 82),
        23 => ("IQ4_XS", 256, 136),
        24 => ("I8", 1, 1),
        25 => ("I16", 1, 2),
        26 => ("I32", 1, 4),
        27 => ("I64", 1, 8),
        28 => ("F64", 1, 8),
        29 => ("IQ1_M", 256, 56),
        30 => ("BF16", 1, 2),
        34 => ("TQ1_0", 256, 54),
        35 => ("TQ2_0", 256, 66),
        39 => ("MXFP4", 32, 17),
        _ => ("", 0, 0),
    }
}
