//! What a stream took, in the trailers behind its rows.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use sql_engine::RunStats;
use tonic::body::Body;

/// In a response's extensions: what its trailers will say.
#[derive(Debug, Clone)]
pub(super) struct Trailers(pub Vec<Arc<RunStats>>);

impl Trailers {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let sum =
            |of: &dyn Fn(&RunStats) -> u128| self.0.iter().map(|stats| of(stats)).sum::<u128>();
        headers.insert("quarry-rows", number(sum(&|stats| u128::from(stats.rows()))));
        headers.insert("quarry-queued-ms", number(sum(&|stats| stats.queued().as_millis())));
        headers.insert("quarry-run-ms", number(sum(&|stats| stats.run().as_millis())));
        headers
    }
}

fn number(number: u128) -> HeaderValue {
    HeaderValue::try_from(number.to_string()).unwrap_or(HeaderValue::from_static("0"))
}

/// Puts them behind the body of a response that carries them.
pub(super) fn appended(mut response: Response<Body>) -> Response<Body> {
    let Some(trailers) = response.extensions_mut().remove::<Trailers>() else { return response };
    response.map(|body| {
        Body::new(body.map_frame(move |frame| match frame.into_trailers() {
            Ok(mut found) => {
                found.extend(trailers.headers());
                Frame::trailers(found)
            }
            Err(frame) => frame,
        }))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use futures::stream;
    use http_body_util::StreamBody;

    #[tokio::test]
    async fn trailers_join_those_of_the_call() {
        let status = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )]);
        let frames: Vec<Result<Frame<bytes::Bytes>, tonic::Status>> =
            vec![Ok(Frame::data("x".into())), Ok(Frame::trailers(status))];
        let mut response = Response::new(Body::new(StreamBody::new(stream::iter(frames))));
        response.extensions_mut().insert(Trailers(vec![Arc::default()]));
        let body = appended(response).into_body().collect().await.unwrap();
        let trailers = body.trailers().unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["quarry-rows"]),
            (&"0".parse().unwrap(), &"0".parse().unwrap())
        );
    }
}
