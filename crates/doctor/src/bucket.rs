//! The object store: one object written, read, compared and deleted.

use blob_store::BlobStore;
use futures::TryStreamExt;
use sql_store::now_micros;

use crate::{Finding, clock};

const CONTENT: &[u8] = b"quarry doctor";

/// Below a prefix of its own.
const PREFIX: &str = "doctor";

/// What the store at `url` lets us do.
pub async fn bucket(url: &str) -> Vec<Finding> {
    let store = match BlobStore::open(url, PREFIX).await {
        Ok(store) => store,
        Err(error) => {
            return vec![Finding::of_error(
                "objects",
                &error,
                "correct QUARRY_OBJECT_STORE_URL, its credentials (AWS_…) and the bucket's policy: put, get, list and delete are needed",
            )];
        }
    };
    let key = format!("probe-{}", uuid::Uuid::now_v7().simple());
    let refused = |what: &str, error: &service_error::ServiceError| {
        Finding::of_error(
            format!("objects.{what}"),
            error,
            &format!("the bucket's policy must allow to {what} objects below the prefix"),
        )
    };
    let before = now_micros();
    if let Err(error) = store.put(&key, CONTENT).await {
        return vec![refused("put", &error)];
    }
    let here = i64::midpoint(before, now_micros());
    let mut findings = Vec::new();
    match store.get(&key).await {
        Ok(bytes) if bytes.as_ref() == CONTENT => {}
        Ok(_) => findings.push(Finding::problem(
            "objects.get",
            "an object came back with other bytes",
            "nothing may rewrite objects between Quarry and the bucket (a proxy, a transformation)",
        )),
        Err(error) => findings.push(refused("get", &error)),
    }
    match store.head(&key).await {
        // To the second, as S3 tells it.
        Ok(meta) => {
            let ahead = (meta.modified_at - here) as f64 / 1e6;
            let ahead = if ahead.abs() <= 1.5 { 0.0 } else { ahead };
            findings.push(clock("objects.clock", "the object store", ahead));
        }
        Err(error) => findings.push(refused("get", &error)),
    }
    if let Err(error) = store.list("").try_next().await {
        findings.push(refused("list", &error));
    }
    if let Err(error) = store.delete(&key).await {
        findings.push(refused("delete", &error));
    }
    if findings.iter().all(|finding| finding.check == "objects.clock") {
        findings
            .insert(0, Finding::ok("objects", "an object was written, read, listed and deleted"));
    }
    findings
}
