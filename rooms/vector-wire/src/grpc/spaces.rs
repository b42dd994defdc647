//! Spaces, from the wire and back.

use ann::{Element, Metric};
use grpc_room::timestamp;
use service_error::ServiceError;
use vector_records::model::Space;
use vectors_api::v1 as wire;

/// A space as the wire has it.
#[must_use]
pub fn space_to_wire(space: Space) -> wire::Space {
    wire::Space {
        id: space.id.to_string(),
        namespace: space.owner.namespace_name,
        dataset: space.owner.dataset_name,
        name: space.name,
        dimension: i32::try_from(space.vectors.dimension()).unwrap_or(i32::MAX),
        metric: metric_to_wire(space.vectors.metric()).into(),
        element: element_to_wire(space.vectors.element()).into(),
        embedder: space.embedder,
        point_count: space.points,
        create_time: Some(timestamp(space.created_at)),
        created_by: space.created_by.to_string(),
        token: space.seq,
    }
}

/// A metric; nothing if none is named.
///
/// # Errors
/// `InvalidArgument` for one that is none.
pub fn metric_from_wire(metric: i32) -> Result<Option<Metric>, ServiceError> {
    let unknown = || ServiceError::invalid("metric", format!("there is no metric {metric}"));
    Ok(match wire::Metric::try_from(metric).map_err(|_| unknown())? {
        wire::Metric::Unspecified => None,
        wire::Metric::Cosine => Some(Metric::Cosine),
        wire::Metric::L2 => Some(Metric::L2),
        wire::Metric::Ip => Some(Metric::InnerProduct),
        wire::Metric::L1 => Some(Metric::L1),
        wire::Metric::Hamming => Some(Metric::Hamming),
        wire::Metric::Jaccard => Some(Metric::Jaccard),
    })
}

const fn metric_to_wire(metric: Metric) -> wire::Metric {
    match metric {
        Metric::Cosine => wire::Metric::Cosine,
        Metric::L2 => wire::Metric::L2,
        Metric::InnerProduct => wire::Metric::Ip,
        Metric::L1 => wire::Metric::L1,
        Metric::Hamming => wire::Metric::Hamming,
        Metric::Jaccard => wire::Metric::Jaccard,
    }
}

/// An element; nothing if none is named.
///
/// # Errors
/// `InvalidArgument` for one that is none.
pub fn element_from_wire(element: i32) -> Result<Option<Element>, ServiceError> {
    let unknown = || ServiceError::invalid("element", format!("there is no element {element}"));
    Ok(match wire::Element::try_from(element).map_err(|_| unknown())? {
        wire::Element::Unspecified => None,
        wire::Element::F32 => Some(Element::F32),
        wire::Element::F16 => Some(Element::F16),
        wire::Element::I8 => Some(Element::I8),
        wire::Element::Bit => Some(Element::Bit),
    })
}

const fn element_to_wire(element: Element) -> wire::Element {
    match element {
        Element::F32 => wire::Element::F32,
        Element::F16 => wire::Element::F16,
        Element::I8 => wire::Element::I8,
        Element::Bit => wire::Element::Bit,
    }
}
