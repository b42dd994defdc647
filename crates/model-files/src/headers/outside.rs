//! Where an ONNX file says that parts of it lie: every tensor of it may say so,
//! not only those of its graph.

use super::HeaderError;
use super::onnx::{Field, Message, pair};
use crate::source::{Meter, Part};

/// Messages in messages: graphs in attributes of nodes of graphs.
const DEPTH_MAX: u32 = 60;

/// The messages on the way to a tensor.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    Training,
    Sparse,
    Tensor,
}

impl Kind {
    /// What a field of it is, if it is on the way.
    fn inner(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) | (Self::Training, 1 | 2) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Self::Tensor,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::Sparse,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            _ => return None,
        })
    }
}

/// Gives each place to `each`. Fields cost as much as opcodes.
pub(crate) fn locations(
    part: Part<'_>,
    meter: &Meter,
    each: &mut dyn FnMut(&str),
) -> Result<(), HeaderError> {
    walk(Kind::Model, part, meter, 0, each)
}

fn walk(
    kind: Kind,
    part: Part<'_>,
    meter: &Meter,
    depth: u32,
    each: &mut dyn FnMut(&str),
) -> Result<(), HeaderError> {
    if depth > DEPTH_MAX {
        let most = u64::from(DEPTH_MAX);
        return Err(HeaderError::TooLarge { what: "messages in each other", most });
    }
    let mut message = Message::new(part, meter);
    while let Some((number, field)) = message.next()? {
        meter.take_opcodes(1)?;
        let Field::Bytes { begin, bytes } = field else { continue };
        let inner = message.inner(begin, bytes);
        if let (Kind::Tensor, 13) = (kind, number) {
            let (key, value) = pair(inner, meter)?;
            if key == "location" {
                each(&value);
            }
        } else if let Some(kind) = kind.inner(number) {
            walk(kind, inner, meter, depth + 1, each)?;
        }
    }
    Ok(())
}
