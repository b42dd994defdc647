//! A compiled client for `tests/bench/vectors`: searches one after another on one connection, and
//! for each a line on stdout: nanoseconds, then the ids that were found.
//!
//! ```text
//! search-client ADDRESS TOKEN NAMESPACE/DATASET/SPACE QUERIES DIMENSION K EF [FILTER]
//!     QUERIES is a file of f32, little-endian, one query after another
//! ```

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;
use vectors_api::v1::query::Kind;
use vectors_api::v1::search_service_client::SearchServiceClient;
use vectors_api::v1::{Query, SearchRequest, Vector};

type Failure = Box<dyn Error>;

/// Searches before the first that is measured.
const WARM: usize = 50;
/// The deadline of each call, as the clients in Python set it.
const DEADLINE: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let ([address, token, space, queries, dimension, k, ef], filter) = match words[..] {
        [a, t, s, q, d, k, e] => ([a, t, s, q, d, k, e], ""),
        [a, t, s, q, d, k, e, filter] => ([a, t, s, q, d, k, e], filter),
        _ => return Err("see the head of its source".into()),
    };
    let names: Vec<&str> = space.split('/').collect();
    let [namespace, dataset, space] = names[..] else {
        return Err("a space has three names".into());
    };
    let whole = SearchRequest {
        namespace: namespace.to_owned(),
        dataset: dataset.to_owned(),
        space: space.to_owned(),
        k: Some(k.parse()?),
        ef: ef.parse()?,
        filter: filter.to_owned(),
        ..SearchRequest::default()
    };
    let bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
    let asked: Vec<SearchRequest> = read(queries, dimension.parse()?)?
        .into_iter()
        .map(|values| {
            let kind = Kind::Vector(Vector { values, bits: Vec::new() });
            SearchRequest { query: Some(Query { kind: Some(kind) }), ..whole.clone() }
        })
        .collect();
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut client = SearchServiceClient::new(channel);
    let request = |message: &SearchRequest| {
        let mut request = Request::new(message.clone());
        request.metadata_mut().insert("authorization", bearer.clone());
        request.set_timeout(DEADLINE);
        request
    };
    for message in asked.iter().cycle().take(WARM) {
        client.search(request(message)).await?;
    }
    let mut found = Vec::with_capacity(asked.len());
    for message in &asked {
        let request = request(message);
        let begin = Instant::now();
        let hits = client.search(request).await?.into_inner().hits;
        found.push((begin.elapsed(), hits));
    }
    let mut out = std::io::stdout().lock();
    for (took, hits) in found {
        let ids: Vec<&str> = hits.iter().map(|hit| hit.item_id.as_str()).collect();
        writeln!(out, "{} {}", took.as_nanos(), ids.join(" "))?;
    }
    Ok(())
}

/// Vectors from a file.
fn read(path: &str, dimension: usize) -> Result<Vec<Vec<f32>>, Failure> {
    let bytes = std::fs::read(path)?;
    let values: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|value| f32::from_le_bytes([value[0], value[1], value[2], value[3]]))
        .collect();
    Ok(values.chunks_exact(dimension).map(<[f32]>::to_vec).collect())
}
