//! A library service and an upstream for it, shared by the tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;
use tonic::Status;
use tonic::body::Body;
use tower::service_fn;

use crate::{Exposure, Inbound, Limits, Miss, RouteTable, call, frame};

/// One pool for all: messages of two pools are never equal.
pub fn pool() -> DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(compile).clone()
}

fn compile() -> DescriptorPool {
    // Asked when it runs: clones that share a build directory share this program.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let manifest = Path::new(&manifest);
    let mut compiler =
        protox::Compiler::new([manifest.join("tests/proto"), manifest.join("../../proto")])
            .unwrap();
    compiler.include_imports(true).include_source_info(true).open_files(["library.proto"]).unwrap();
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
}

pub fn table() -> RouteTable {
    RouteTable::new(&pool(), |method| match method.name() {
        "Secret" => Exposure::Hidden,
        "SearchBooks" => Exposure::Public,
        _ => Exposure::Authenticated,
    })
    .unwrap()
}

/// A message of the library from its JSON.
pub fn message(name: &str, json: Value) -> DynamicMessage {
    let descriptor = pool().get_message_by_name(&format!("library.v1.{name}")).unwrap();
    DynamicMessage::deserialize(descriptor, json).unwrap()
}

/// What the upstream was asked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    /// Frames without their five bytes.
    pub messages: Vec<Bytes>,
}

/// What the upstream answers.
#[derive(Clone, Default)]
pub struct Upstream {
    pub messages: Vec<DynamicMessage>,
    pub status: Option<Status>,
    /// Metadata before the messages.
    pub metadata: Vec<(&'static str, &'static str)>,
    pub asked: Arc<Mutex<Asked>>,
}

impl Upstream {
    pub fn answering(messages: Vec<DynamicMessage>) -> Self {
        Self { messages, ..Self::default() }
    }

    pub fn failing(messages: Vec<DynamicMessage>, status: Status) -> Self {
        Self { messages, status: Some(status), ..Self::default() }
    }

    /// The only message that was asked, of a type of the library.
    pub fn asked_message(&self, name: &str) -> DynamicMessage {
        let asked = self.asked.lock().unwrap();
        assert_eq!(asked.messages.len(), 1, "messages");
        self.decode(name, &asked.messages[0])
    }

    pub fn decode(&self, name: &str, bytes: &Bytes) -> DynamicMessage {
        let descriptor = pool().get_message_by_name(&format!("library.v1.{name}")).unwrap();
        DynamicMessage::decode(descriptor, bytes.clone()).unwrap()
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let mut bytes = body.collect().await?.to_bytes();
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
            messages.push(bytes.slice(5..5 + length));
            bytes = bytes.slice(5 + length..);
        }
        *self.asked.lock().unwrap() =
            Asked { path: parts.uri.path().to_owned(), headers: parts.headers, messages };
        if let (true, Some(status)) = (self.messages.is_empty(), &self.status) {
            return Ok(status.clone().into_http());
        }
        let mut trailers = HeaderMap::new();
        self.status.clone().unwrap_or_else(|| Status::ok("")).add_header(&mut trailers).unwrap();
        // In pieces of three bytes, to cut every frame somewhere.
        let all: Vec<u8> =
            self.messages.iter().flat_map(|message| frame::encode(message).to_vec()).collect();
        let mut frames: Vec<Result<Frame<Bytes>, Status>> =
            all.chunks(3).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
        frames.push(Ok(Frame::trailers(trailers)));
        let mut response = Response::new(Body::new(StreamBody::new(stream::iter(frames))));
        for (name, value) in &self.metadata {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        Ok(response)
    }
}

/// A finished answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// None when the body broke off.
    pub body: Option<Bytes>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(self.body.as_ref().unwrap()).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.as_ref().unwrap().to_vec()).unwrap()
    }
}

/// Sends one request through the table to the upstream.
pub async fn send(
    method: &str,
    url: &str,
    headers: &[(&'static str, &str)],
    body: impl Into<Bytes>,
    upstream: &Upstream,
) -> Answer {
    send_limited(method, url, headers, body, upstream, Limits::default()).await
}

pub async fn send_limited(
    method: &str,
    url: &str,
    headers: &[(&'static str, &str)],
    body: impl Into<Bytes>,
    upstream: &Upstream,
    limits: Limits,
) -> Answer {
    let method: Method = method.parse().unwrap();
    let (path, query) =
        url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query.to_owned())));
    let matched = match table().find(&method, path) {
        Ok(matched) => matched,
        Err(miss) => panic!("{method} {path}: {miss:?}"),
    };
    let headers = headers
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    let metadata = HeaderMap::from_iter([(
        "authorization".parse().unwrap(),
        HeaderValue::from_static("Bearer internal"),
    )]);
    let inbound = Inbound {
        http_method: method,
        query,
        headers,
        body: Body::new(Full::new(body.into())),
        metadata,
    };
    let upstream = upstream.clone();
    let response =
        call(matched, inbound, limits, service_fn(move |request| upstream.clone().answer(request)))
            .await;
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.collect().await.ok().map(|body| body.to_bytes()),
    }
}

/// Who answers a path, with the variables' texts.
pub fn found(method: &str, path: &str) -> Result<(String, Vec<String>), Miss> {
    table()
        .find(&method.parse().unwrap(), path)
        .map(|matched| (matched.route.method().name().to_owned(), matched.variables))
}
