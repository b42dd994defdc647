//! Doors: this process's roles and their neighbours.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::DateTime;
use http::{Request, Response, StatusCode, header};
use service_channel::remote;
use sql_store::now_micros;
use tonic::body::Body;
use tower::ServiceExt;

use crate::{Finding, clock};

const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Any method that needs a token: who answers, refuses.
const METHOD: &str = "/quarry.ops.v1.Ops/GetInfo";

/// What the operations door says of the roles; a server that does not run is
/// no finding unless it should.
pub async fn readiness(door: SocketAddr, should_run: bool) -> Vec<Finding> {
    let url = format!("http://{door}");
    let request = Request::get("/readyz").body(Body::empty());
    let answer = match request {
        Ok(request) => ask(&url, request).await,
        Err(error) => Err(error.to_string()),
    };
    let (status, json) = match answer {
        Ok(answer) => read(answer).await,
        Err(_) if !should_run => {
            return vec![Finding::ok("roles", format!("nothing listens at {door}"))];
        }
        Err(why) => {
            return vec![Finding::problem(
                "roles",
                format!("the operations door {door} says nothing: {why}"),
                "look at the server's log; `--ops-listen` names the door",
            )];
        }
    };
    let Some(checks) = json["checks"].as_array() else {
        let remedy = "another program listens there: name another --ops-listen";
        return vec![Finding::problem("roles", format!("{door} is no operations door"), remedy)];
    };
    if status == StatusCode::OK {
        return vec![Finding::ok("roles", format!("ready: {} checks hold", checks.len()))];
    }
    if json["draining"] == true {
        return vec![Finding::warning("roles", "the server is draining", "wait for its end")];
    }
    let missing = checks.iter().filter(|check| check["ok"] != true);
    missing
        .map(|check| {
            let name = check["name"].as_str().unwrap_or("?");
            let why = check["error"].as_str().unwrap_or("it does not hold");
            Finding::problem(format!("roles.{name}"), why, "it becomes ready once that is there")
        })
        .collect()
}

/// Whether a neighbour is reached, and its clock.
pub async fn neighbour(role: &str, url: &str) -> Vec<Finding> {
    let check = format!("neighbours.{role}");
    let request =
        Request::post(METHOD).header(header::CONTENT_TYPE, "application/grpc").body(Body::empty());
    let before = now_micros();
    let answer = match request {
        Ok(request) => ask(url, request).await,
        Err(error) => Err(error.to_string()),
    };
    let here = i64::midpoint(before, now_micros());
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => {
            let variable = role.to_uppercase().replace('-', "_");
            return vec![Finding::problem(
                check,
                format!("{role} at {url} is not reached: {why}"),
                format!(
                    "start it, correct QUARRY_NEIGHBOURS__{variable}, or allow the way in the network policy"
                ),
            )];
        }
    };
    let mut findings = vec![Finding::ok(check, format!("{role} answers at {url}"))];
    if let Some(theirs) = date(&answer) {
        // To the second, rounded down.
        let ahead = theirs as f64 - here as f64 / 1e6 + 0.5;
        let ahead = if ahead.abs() <= 1.0 { 0.0 } else { ahead };
        findings.push(clock(&format!("neighbours.{role}.clock"), role, ahead));
    }
    findings
}

fn date(answer: &Response<Body>) -> Option<i64> {
    let text = answer.headers().get(header::DATE)?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(text).ok()?.timestamp())
}

async fn ask(url: &str, request: Request<Body>) -> Result<Response<Body>, String> {
    let transport = remote(url).map_err(|error| error.message().to_owned())?;
    match tokio::time::timeout(PATIENCE, transport.oneshot(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn read(answer: Response<Body>) -> (StatusCode, serde_json::Value) {
    let status = answer.status();
    let body = axum::body::Body::new(answer.into_body());
    let bytes = axum::body::to_bytes(body, ANSWER_BYTES_MAX).await.unwrap_or_default();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}
