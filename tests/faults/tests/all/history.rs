//! Writers that know what was acknowledged, and a comparison of that with what is
//! there: for tests that kill, stop or double the servers.

use std::collections::{BTreeMap, HashMap};

use catalog_api::v1::Value;
use catalog_api::v1::value::Kind;
use futures::stream;
use harness::{Put, Session, data};
use items_api::v1::bulk_edit_items_request::Change;
use items_api::v1::{
    BatchDeleteItemsRequest, BulkEditItemsRequest, CountItemsRequest, CreateItemRequest,
    ListItemsRequest, PatchChange, PatchItemRequest,
};
use tonic::Status;

/// The dataset of [`write`] and [`put`].
pub const ROWS: &str = "rows";
/// The dataset of [`edit_all`].
pub const WIDE: &str = "wide";

/// A number.
pub fn int(n: i64) -> Value {
    Value { kind: Some(Kind::IntValue(n)) }
}

/// A text.
pub fn text(t: &str) -> Value {
    Value { kind: Some(Kind::StringValue(t.into())) }
}

/// What a writer knows of a key: its width, or that it is deleted; both while an
/// answer is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// As it was acknowledged last.
    pub now: Option<i64>,
    /// As it was asked for since.
    pub asked: Option<Option<i64>>,
}

/// What a writer knows of its keys.
pub type Keys = BTreeMap<i64, Known>;

/// One writer's own keys, written until `until` ends or the server is gone.
pub async fn write(
    session: Session,
    namespace: &str,
    (writer, round): (i64, i64),
    mut known: Keys,
    until: impl Fn() -> bool,
) -> Keys {
    for step in (0..).take_while(|_| until()) {
        let id = writer * 1_000_000 + (round * 7 + step) % 40;
        let before = known.get(&id).cloned().unwrap_or(Known { now: None, asked: None });
        // An answer was lost here: the key is left alone until it is looked at.
        if before.asked.is_some() {
            tokio::task::yield_now().await;
            continue;
        }
        let aim = match (before.now, step % 5) {
            (Some(_), 4) => None,
            _ => Some(round * 1_000 + step),
        };
        known.insert(id, Known { now: before.now, asked: Some(aim) });
        match write_one(&session, namespace, id, (before.now, aim)).await {
            Ok(()) => known.insert(id, Known { now: aim, asked: None }),
            Err(_) => return known,
        };
    }
    known
}

/// Makes, changes or deletes a row.
async fn write_one(
    session: &Session,
    namespace: &str,
    id: i64,
    change: (Option<i64>, Option<i64>),
) -> Result<(), Status> {
    let (namespace, dataset) = (namespace.to_owned(), ROWS.to_owned());
    let mut edits = session.edits();
    match change {
        (_, None) => {
            let keys = vec![id.to_string()];
            let request =
                BatchDeleteItemsRequest { namespace, dataset, keys, ..Default::default() };
            edits.batch_delete_items(request).await.map(drop)
        }
        (Some(_), Some(width)) => {
            let (key, cells) = (id.to_string(), HashMap::from([("width".to_owned(), int(width))]));
            let request = PatchItemRequest { namespace, dataset, key, cells, ..Default::default() };
            edits.patch_item(request).await.map(drop)
        }
        (None, Some(width)) => {
            let favorite = Value { kind: Some(Kind::BoolValue(false)) };
            let section = Value { kind: Some(Kind::StringValue("w".into())) };
            let cells = HashMap::from([
                ("id".to_owned(), int(id)),
                ("width".to_owned(), int(width)),
                ("section".to_owned(), section),
                ("is_favorite".to_owned(), favorite),
            ]);
            let request = CreateItemRequest { namespace, dataset, cells, ..Default::default() };
            edits.create_item(request).await.map(drop)
        }
    }
}

/// Bulk puts of keys of their own, until `until` ends or the server is gone;
/// answers the first part that was not acknowledged.
pub async fn put(session: Session, namespace: &str, from: i64, until: impl Fn() -> bool) -> i64 {
    let mut part = from;
    while until() {
        let rows = vec![data::rows(part * 10, part * 10 + 10)];
        let put = Put::to(namespace, ROWS, data::schema()).option("mode", "upsert");
        if put.send(&session, stream::iter(rows)).await.is_err() {
            return part;
        }
        part += 1;
    }
    part
}

/// Gives all rows of [`WIDE`] one width after another, in bulk, until the server is
/// gone.
pub async fn edit_all(session: Session, namespace: &str, mut known: Known) -> Known {
    while known.asked.is_none() {
        let next = known.now.unwrap_or(0) + 1;
        known.asked = Some(Some(next));
        let patch = PatchChange {
            cells: HashMap::from([("width".to_owned(), int(next))]),
            ..Default::default()
        };
        let request = BulkEditItemsRequest {
            namespace: namespace.to_owned(),
            dataset: WIDE.to_owned(),
            filter: "id >= 0".to_owned(),
            change: Some(Change::Patch(patch)),
            ..Default::default()
        };
        if session.edits().bulk_edit_items(request).await.is_ok() {
            known = Known { now: Some(next), asked: None };
        }
    }
    known
}

/// Every row of a dataset: key and width, by pages; their number is the count.
pub async fn rows(session: &Session, namespace: &str, dataset: &str) -> Vec<(i64, i64)> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListItemsRequest {
            namespace: namespace.to_owned(),
            dataset: dataset.to_owned(),
            page_size: 997,
            page_token,
            ..Default::default()
        };
        let page = session.items().list_items(request).await.expect("a page").into_inner();
        let number = |value: &Value| match value.kind {
            Some(Kind::IntValue(n)) => n,
            ref other => panic!("no number: {other:?}"),
        };
        all.extend(page.items.iter().map(|row| (number(&row.values[0]), number(&row.values[1]))));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let request = CountItemsRequest {
        namespace: namespace.to_owned(),
        dataset: dataset.to_owned(),
        ..Default::default()
    };
    let count = session.items().count_items(request).await.expect("a count").into_inner().count;
    assert_eq!(usize::try_from(count).unwrap(), all.len(), "the count and the pages");
    all
}

/// Compares what is there with what was acknowledged.
pub fn check(found: &[(i64, i64)], known: &mut Keys, parts: i64) {
    let there: BTreeMap<i64, i64> = found.iter().copied().collect();
    assert_eq!(there.len(), found.len(), "a row is there twice");
    for (id, known) in known.iter_mut() {
        let now = there.get(id).copied();
        let may = [Some(known.now), known.asked];
        assert!(may.contains(&Some(now)), "row {id} is {now:?} and was acknowledged as {known:?}");
        *known = Known { now, asked: None };
    }
    for id in 0..parts * 10 {
        assert_eq!(there.get(&id).copied(), Some(data::width(id)), "row {id} of a put");
    }
}

/// All rows have been given the same width: the acknowledged one, or the one that was
/// asked for.
pub fn check_wide(found: &[(i64, i64)], rows: i64, known: &mut Known) {
    let ids: Vec<i64> = found.iter().map(|(id, _)| *id).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..rows).collect::<Vec<_>>(), "rows of a bulk edit");
    let Some((_, first)) = found.first() else { return };
    assert!(found.iter().all(|(_, width)| width == first), "a bulk edit is half there");
    // Before the first one was made, each row has its own.
    let may = [Some(known.now), known.asked];
    assert!(may.contains(&Some(Some(*first))), "all are {first} and {known:?} was acknowledged");
    *known = Known { now: Some(*first), asked: None };
}
