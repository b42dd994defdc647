//! A compiled client for `tests/bench/vectors`: searches one after another on one connection, and
//! for each a line on stdout: nanoseconds, then the ids that were found. It speaks gRPC on a bare
//! HTTP/2 connection, as pgbench does on a bare one of Postgres': what tonic's channel does beside,
//! queues and a task for each connection, would be measured with the server.
//!
//! ```text
//! search-client ADDRESS TOKEN NAMESPACE/DATASET/SPACE QUERIES DIMENSION K EF [FILTER]
//!     QUERIES is a file of f32, little-endian, one query after another
//! ```

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Version};
use prost::Message;
use tokio::net::TcpStream;
use vectors_api::v1::query::Kind;
use vectors_api::v1::{Query, SearchRequest, SearchResponse, Vector};

type Failure = Box<dyn Error>;

/// Searches before the first that is measured.
const WARM: usize = 50;
/// The deadline of each call, as the clients in Python set it: 120 seconds.
const DEADLINE: &str = "120S";
const METHOD: &str = "/quarry.vectors.v1.SearchService/Search";
/// Of a message in gRPC: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// What an answer may be long, so that the server waits for no window.
const WINDOW_BYTES: u32 = 1 << 20;

/// A connection, and the headers of each call.
struct Client {
    connection: SendRequest<Bytes>,
    uri: String,
    bearer: String,
}

impl Client {
    async fn connect(address: &str, token: &str) -> Result<Self, Failure> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut settings = h2::client::Builder::new();
        settings.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (connection, frames) = settings.handshake(socket).await?;
        tokio::spawn(frames);
        let (uri, bearer) = (format!("http://{address}{METHOD}"), format!("Bearer {token}"));
        Ok(Self { connection, uri, bearer })
    }

    async fn search(&mut self, message: &SearchRequest) -> Result<SearchResponse, Failure> {
        let length = message.encoded_len();
        let mut sent = BytesMut::with_capacity(PREFIX_BYTES + length);
        sent.put_u8(0);
        sent.put_u32(u32::try_from(length)?);
        message.encode(&mut sent)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.uri)
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", DEADLINE)
            .header("authorization", &self.bearer)
            .body(())?;
        let mut connection = self.connection.clone().ready().await?;
        let (answer, mut body) = connection.send_request(request, false)?;
        body.send_data(sent.freeze(), true)?;
        let answer = answer.await?;
        succeeded(answer.headers(), true)?;
        let mut body = answer.into_body();
        let mut came = BytesMut::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            came.extend_from_slice(&piece);
        }
        succeeded(&body.trailers().await?.unwrap_or_default(), false)?;
        let answer = came.get(PREFIX_BYTES..).ok_or("an answer without a message")?;
        Ok(SearchResponse::decode(answer)?)
    }
}

/// The call's outcome, which headers have only if there is no answer.
fn succeeded(headers: &HeaderMap, may_lack: bool) -> Result<(), Failure> {
    match headers.get("grpc-status").map(|status| status.to_str()).transpose()? {
        Some("0") => Ok(()),
        None if may_lack => Ok(()),
        status => Err(format!("{status:?}: {:?}", headers.get("grpc-message")).into()),
    }
}

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
    let asked: Vec<SearchRequest> = read(queries, dimension.parse()?)?
        .into_iter()
        .map(|values| {
            let kind = Kind::Vector(Vector { values, bits: Vec::new() });
            SearchRequest { query: Some(Query { kind: Some(kind) }), ..whole.clone() }
        })
        .collect();
    let mut client = Client::connect(address, token).await?;
    for message in asked.iter().cycle().take(WARM) {
        client.search(message).await?;
    }
    let mut found = Vec::with_capacity(asked.len());
    for message in &asked {
        let begin = Instant::now();
        let hits = client.search(message).await?.hits;
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
