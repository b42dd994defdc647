//! What a test does to the calls of a neighbour, whatever they ask.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::Request;
use service_channel::Transport;
use service_error::ServiceError;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;

/// The calls of a neighbour, by the method's name (`"GetHead"`). Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    counts: HashMap<String, usize>,
    refused: HashSet<String>,
    away: bool,
    lost: HashMap<String, usize>,
}

impl Calls {
    /// How often a method was called, refused calls included.
    #[must_use]
    pub fn count(&self, method: &str) -> usize {
        self.known.lock().unwrap().counts.get(method).copied().unwrap_or_default()
    }

    /// Whether every call is answered UNAVAILABLE; streams that are open go on.
    pub fn set_away(&self, away: bool) {
        self.known.lock().unwrap().away = away;
    }

    /// Whether calls of a method are answered UNAVAILABLE without being heard.
    pub fn refuse(&self, method: &str, refused: bool) {
        let mut known = self.known.lock().unwrap();
        if refused {
            known.refused.insert(method.to_owned());
        } else {
            known.refused.remove(method);
        }
    }

    /// The next calls of a method are done and then answered UNAVAILABLE.
    pub fn lose_answers(&self, method: &str, answers: usize) {
        self.known.lock().unwrap().lost.insert(method.to_owned(), answers);
    }

    /// The routes, with these calls around them.
    pub(crate) fn around(&self, routes: Routes) -> Transport {
        let (calls, routes) = (self.clone(), routes.prepare());
        service_channel::local(tower::service_fn(move |request: Request<Body>| {
            let (calls, routes) = (calls.clone(), routes.clone());
            async move {
                let path = request.uri().path();
                let method = path.rsplit('/').next().unwrap_or_default().to_owned();
                if !calls.begin(&method) {
                    return Ok(unavailable("the neighbour is away").into_http());
                }
                let answer = routes.oneshot(request).await?;
                let lost = calls.loses(&method);
                let answer =
                    if lost { unavailable("the answer was lost").into_http() } else { answer };
                Ok::<_, Infallible>(answer)
            }
        }))
    }

    fn begin(&self, method: &str) -> bool {
        let mut known = self.known.lock().unwrap();
        *known.counts.entry(method.to_owned()).or_default() += 1;
        !known.away && !known.refused.contains(method)
    }

    fn loses(&self, method: &str) -> bool {
        match self.known.lock().unwrap().lost.get_mut(method) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

fn unavailable(why: &str) -> Status {
    ServiceError::unavailable(why).into()
}
