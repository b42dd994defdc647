//! ONNX: a protobuf message, walked field by field. What a tensor holds is
//! skipped.

use super::{DIMENSIONS_MAX, Format, Header, HeaderError, NAME_BYTES_MAX, Tensor};
use super::{elements, malformed};
use crate::source::{Cursor, Input, Meter, Numbers, Part};

const NODES_MAX: u64 = 2_000_000;
const VALUES_MAX: usize = 10_000;
const EXTERNAL_MAX: usize = 1_000;
/// Read at once: of a tensor only what stands before its data is wanted.
const AHEAD_BYTES: u64 = 4 << 10;
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// A field of a message: where its bytes are, or its number.
pub(super) enum Field {
    Number(u64),
    Bytes { begin: u64, bytes: u64 },
}

/// Walks the fields of a message; `each` gets their numbers.
pub(super) struct Message<'a> {
    part: Part<'a>,
    input: Cursor<'a>,
}

impl<'a> Message<'a> {
    pub fn new(part: Part<'a>, meter: &'a Meter) -> Self {
        Self { part, input: Cursor::ahead(part, meter, AHEAD_BYTES) }
    }

    pub fn next(&mut self) -> Result<Option<(u64, Field)>, HeaderError> {
        if self.input.left() == 0 {
            return Ok(None);
        }
        let key = varint(&mut self.input)?;
        let (number, wire) = (key >> 3, key & 7);
        if number == 0 || number > u64::from(u32::MAX) {
            return Err(malformed("it is no protobuf message"));
        }
        let field = match wire {
            0 => Field::Number(varint(&mut self.input)?),
            1 => Field::Number(self.input.u64()?),
            5 => Field::Number(u64::from(self.input.u32()?)),
            2 => {
                let bytes = varint(&mut self.input)?;
                let begin = self.input.at();
                self.input.skip(bytes)?;
                Field::Bytes { begin, bytes }
            }
            _ => return Err(malformed("it is no protobuf message")),
        };
        Ok(Some((number, field)))
    }

    pub fn inner(&self, begin: u64, bytes: u64) -> Part<'a> {
        self.part.range(begin, bytes)
    }
}

fn varint(input: &mut Cursor<'_>) -> Result<u64, HeaderError> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = input.u8()?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(malformed("a number is too long"));
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed("a number is too long"))
}

fn text(part: Part<'_>, meter: &Meter, most: u64) -> Result<String, HeaderError> {
    if part.bytes > most {
        return Err(HeaderError::TooLarge { what: "bytes of a text", most });
    }
    let bytes = part.head(meter, most)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub fn read(part: Part<'_>, meter: &Meter) -> Result<Header, HeaderError> {
    let mut header = Header::new(Format::Onnx);
    let mut message = Message::new(part, meter);
    let mut graphs = 0;
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Number(version)) => header.note("ir_version".into(), &version.to_string()),
            (5, Field::Number(version)) => {
                header.note("model_version".into(), &version.to_string());
            }
            (2..=4, Field::Bytes { begin, bytes }) => {
                let key = ["producer_name", "producer_version", "domain"][number as usize - 2];
                let value = text(message.inner(begin, bytes), meter, TEXT_BYTES_MAX)?;
                header.note(key.to_owned(), &value);
            }
            (7, Field::Bytes { begin, bytes }) => {
                graphs += 1;
                graph(message.inner(begin, bytes), meter, &mut header)?;
            }
            (8, Field::Bytes { begin, bytes }) => {
                let (domain, version) = operators(message.inner(begin, bytes), meter)?;
                let domain = if domain.is_empty() { "ai.onnx".to_owned() } else { domain };
                header.note(format!("opset.{domain}"), &version.to_string());
            }
            (14, Field::Bytes { begin, bytes }) => {
                let (key, value) = pair(message.inner(begin, bytes), meter)?;
                header.note(format!("metadata.{key}"), &value);
            }
            _ => {}
        }
    }
    match graphs {
        1 => Ok(header),
        0 => Err(malformed("it has no graph")),
        _ => Err(malformed("it has more than one graph")),
    }
}

fn operators(part: Part<'_>, meter: &Meter) -> Result<(String, u64), HeaderError> {
    let (mut domain, mut version) = (String::new(), 0);
    let mut message = Message::new(part, meter);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes { begin, bytes }) => {
                domain = text(message.inner(begin, bytes), meter, NAME_BYTES_MAX)?;
            }
            (2, Field::Number(of)) => version = of,
            _ => {}
        }
    }
    Ok((domain, version))
}

pub(super) fn pair(part: Part<'_>, meter: &Meter) -> Result<(String, String), HeaderError> {
    let (mut key, mut value) = (String::new(), String::new());
    let mut message = Message::new(part, meter);
    while let Some((number, field)) = message.next()? {
        let Field::Bytes { begin, bytes } = field else { continue };
        match number {
            1 => key = text(message.inner(begin, bytes), meter, NAME_BYTES_MAX)?,
            2 => value = text(message.inner(begin, bytes), meter, TEXT_BYTES_MAX)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn graph(part: Part<'_>, meter: &Meter, header: &mut Header) -> Result<(), HeaderError> {
    let mut nodes = 0;
    let mut message = Message::new(part, meter);
    while let Some((number, field)) = message.next()? {
        let Field::Bytes { begin, bytes } = field else { continue };
        let inner = message.inner(begin, bytes);
        match number {
            1 => {
                nodes += 1;
                if nodes > NODES_MAX {
                    return Err(HeaderError::TooLarge { what: "nodes", most: NODES_MAX });
                }
            }
            2 => {
                let name = text(inner, meter, NAME_BYTES_MAX * 64)?;
                header.note("graph".to_owned(), &name);
            }
            5 => {
                let tensor = tensor(inner, meter, &mut header.external)?;
                header.add(tensor)?;
            }
            11 | 12 => {
                let list = if number == 11 { &mut header.inputs } else { &mut header.outputs };
                if list.len() >= VALUES_MAX {
                    let most = VALUES_MAX as u64;
                    return Err(HeaderError::TooLarge { what: "inputs or outputs", most });
                }
                list.push(value_info(inner, meter)?);
            }
            _ => {}
        }
    }
    header.note("nodes".to_owned(), &nodes.to_string());
    Ok(())
}

fn tensor(
    part: Part<'_>,
    meter: &Meter,
    external: &mut Vec<String>,
) -> Result<Tensor, HeaderError> {
    let mut tensor = Tensor::default();
    let mut message = Message::new(part, meter);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Number(of)) => dimension(&mut tensor, of)?,
            (1, Field::Bytes { begin, bytes }) => {
                let mut packed = Cursor::new(message.inner(begin, bytes), meter);
                while packed.left() > 0 {
                    dimension(&mut tensor, varint(&mut packed)?)?;
                }
            }
            (2, Field::Number(of)) => tensor.kind = type_name(of),
            (8, Field::Bytes { begin, bytes }) => {
                tensor.name = text(message.inner(begin, bytes), meter, NAME_BYTES_MAX * 4)?;
            }
            (9, Field::Bytes { bytes, .. }) => tensor.bytes = bytes,
            (13, Field::Bytes { begin, bytes }) => {
                let (key, value) = pair(message.inner(begin, bytes), meter)?;
                let new = key == "location" && !external.contains(&value);
                if new && external.len() < EXTERNAL_MAX {
                    external.push(value);
                }
            }
            _ => {}
        }
    }
    tensor.parameters = elements(&tensor.shape)
        .ok_or_else(|| malformed(format!("tensor {:?} has an impossible shape", tensor.name)))?;
    Ok(tensor)
}

fn dimension(tensor: &mut Tensor, of: u64) -> Result<(), HeaderError> {
    if tensor.shape.len() >= DIMENSIONS_MAX {
        return Err(malformed("a tensor has too many dimensions"));
    }
    let of = i64::try_from(of).map_err(|_| malformed("a tensor has an impossible shape"))?;
    tensor.shape.push(of);
    Ok(())
}

/// ValueInfoProto: a name, and below `type.tensor_type` an element type and a shape.
fn value_info(part: Part<'_>, meter: &Meter) -> Result<Tensor, HeaderError> {
    let mut tensor = Tensor::default();
    let mut message = Message::new(part, meter);
    while let Some((number, field)) = message.next()? {
        let Field::Bytes { begin, bytes } = field else { continue };
        let inner = message.inner(begin, bytes);
        match number {
            1 => tensor.name = text(inner, meter, NAME_BYTES_MAX * 4)?,
            2 => {
                let mut kind = Message::new(inner, meter);
                while let Some((number, field)) = kind.next()? {
                    if let (1, Field::Bytes { begin, bytes }) = (number, field) {
                        tensor_type(kind.inner(begin, bytes), meter, &mut tensor)?;
                    }
                }
            }
            _ => {}
        }
    }
    tensor.parameters = elements(&tensor.shape).unwrap_or_default();
    Ok(tensor)
}

fn tensor_type(part: Part<'_>, meter: &Meter, tensor: &mut Tensor) -> Result<(), HeaderError> {
    let mut message = Message::new(part, meter);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Number(of)) => tensor.kind = type_name(of),
            (2, Field::Bytes { begin, bytes }) => {
                let mut shape = Message::new(message.inner(begin, bytes), meter);
                while let Some((number, field)) = shape.next()? {
                    let (1, Field::Bytes { begin, bytes }) = (number, field) else { continue };
                    if tensor.shape.len() >= DIMENSIONS_MAX {
                        return Err(malformed("a value has too many dimensions"));
                    }
                    let mut of = -1;
                    let mut dimension = Message::new(shape.inner(begin, bytes), meter);
                    while let Some((number, field)) = dimension.next()? {
                        if let (1, Field::Number(value)) = (number, field) {
                            of = i64::try_from(value).unwrap_or(-1);
                        }
                    }
                    tensor.shape.push(of);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn type_name(of: u64) -> String {
    const NAMES: [&str; 24] = [
        "UNDEFINED",
        "FLOAT",
        "UINT8",
        "INT8",
        "UINT16",
        "INT16",
        "INT32",
        "INT64",
        "STRING",
        "BOOL",
        "FLOAT16",
        "DOUBLE",
        "UINT32",
        "UINT64",
        "COMPLEX64",
        "COMPLEX128",
        "BFLOAT16",
        "FLOAT8E4M3FN",
        "FLOAT8E4M3FNUZ",
        "FLOAT8E5M2",
        "FLOAT8E5M2FNUZ",
        "UINT4",
        "INT4",
        "FLOAT4E2M1",
    ];
    let known = usize::try_from(of).ok().and_then(|of| NAMES.get(of));
    known.map_or_else(|| format!("type {of}"), ToString::to_string)
}
