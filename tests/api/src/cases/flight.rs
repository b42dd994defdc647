//! Arrow Flight: reading.

use std::collections::BTreeSet;

use arrow::record_batch::RecordBatch;
use arrow_flight::{Action, Criteria, Empty, FlightDescriptor, HandshakeRequest, Ticket};
use futures::TryStreamExt;
use harness::{Session, data, get_all, put};
use options_api::v1::Role;
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::refusal::{refused, well_formed};
use crate::stage::Stage;

/// A dataset's descriptor, of the newest version.
pub fn path(namespace: &str, dataset: &str) -> FlightDescriptor {
    FlightDescriptor::new_path(vec![namespace.to_owned(), dataset.to_owned()])
}

/// A JSON command's descriptor.
pub fn command(command: &Value) -> FlightDescriptor {
    FlightDescriptor::new_cmd(command.to_string())
}

/// Rows in the order of their key, so that reads can be compared whatever the block order is.
pub fn by_key(batches: &[RecordBatch]) -> RecordBatch {
    let all = data::joined(batches);
    let order = arrow::compute::sort_to_indices(all.column(0), None, None).expect("an order");
    arrow::compute::take_record_batch(&all, &order).expect("rows")
}

/// What was put comes back: types, nulls, order and values.
pub async fn round_trip(stage: &Stage) {
    let ns = stage.namespace().await;
    let batches: Vec<RecordBatch> =
        (0..20).map(|part| data::rows(part * 500, part * 500 + 500)).collect();
    let sent = data::joined(&batches);
    put(&stage.admin, &ns, "rows", batches).await.unwrap();
    let read = get_all(&stage.admin, path(&ns, "rows")).await.unwrap();
    let read = data::joined(&read);
    assert_eq!(read.schema().fields(), sent.schema().fields());
    assert_eq!(read, sent);
    let info = stage.admin.flight().get_flight_info(path(&ns, "rows")).await.unwrap().into_inner();
    assert_eq!(info.total_records, 10_000);
    assert!(info.total_bytes > 0);
    let schema = stage.admin.flight().get_schema(path(&ns, "rows")).await.unwrap().into_inner();
    let schema = arrow::datatypes::Schema::try_from(&schema).unwrap();
    assert_eq!(schema.fields(), sent.schema().fields());
}

async fn rows_of(stage: &Stage, wish: Value) -> RecordBatch {
    by_key(
        &get_all(&stage.admin, command(&wish)).await.unwrap_or_else(|err| panic!("{wish}: {err}")),
    )
}

/// A command picks columns, rows, a number of rows and a version.
pub async fn commands(stage: &Stage) {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 1_000)]).await.unwrap();
    put(&stage.admin, &ns, "rows", vec![data::rows(1_000, 1_500)]).await.unwrap();
    let name = format!("{ns}/rows");
    let all = rows_of(stage, json!({ "dataset": name })).await;
    assert_eq!(all, data::rows(0, 1_500));
    let first = rows_of(stage, json!({ "dataset": name, "version": 1 })).await;
    assert_eq!(first, data::rows(0, 1_000));
    let two = rows_of(stage, json!({ "dataset": name, "columns": ["id", "section"] })).await;
    assert_eq!(two, data::rows(0, 1_500).project(&[0, 3]).unwrap());
    let filter = "width > 3000 AND is_favorite = true";
    let some = rows_of(stage, json!({ "dataset": name, "filter": filter })).await;
    let fits = |id: &i64| data::width(*id) > 3_000 && data::is_favorite(*id);
    assert_eq!(some.num_rows(), (0..1_500).filter(fits).count());
    let few = rows_of(stage, json!({ "dataset": name, "limit": 7 })).await;
    assert_eq!(few.num_rows(), 7);
    let by_version = vec![ns.clone(), "rows".to_owned(), "1".to_owned()];
    let by_version = get_all(&stage.admin, FlightDescriptor::new_path(by_version)).await.unwrap();
    assert_eq!(by_key(&by_version), data::rows(0, 1_000));
}

/// Basic (a name with a token as password) is answered with a Bearer token that works.
pub async fn handshake(stage: &Stage) {
    use arrow_flight::flight_service_client::FlightServiceClient;
    let anonymous = stage.platform.anonymous();
    let basic = |password: &str| {
        let mut request = Request::new(futures::stream::iter([HandshakeRequest::default()]));
        let pair = base64(format!("admin:{password}").as_bytes());
        request.metadata_mut().insert("authorization", format!("Basic {pair}").parse().unwrap());
        request
    };
    let mut client = FlightServiceClient::new(anonymous.authed());
    let answer = client.handshake(basic(stage.platform.admin_token())).await.unwrap();
    let header = answer.metadata().get("authorization").expect("a Bearer token");
    let token = header.to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    drop(answer.into_inner().try_collect::<Vec<_>>().await.unwrap());
    let ns = stage.namespace().await;
    put(&stage.platform.session(&token), &ns, "rows", vec![data::rows(0, 3)]).await.unwrap();
    let wrong = client.handshake(basic("wrong-password")).await;
    let status = match wrong {
        Err(status) => status,
        Ok(answer) => answer.into_inner().try_collect::<Vec<_>>().await.unwrap_err(),
    };
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    let mut request = Request::new(Criteria::default());
    request.metadata_mut().insert("authorization", "Basic !!!".parse().unwrap());
    let status = client.list_flights(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
}

/// Standard base64, for one header.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= chunk.len() { char::from(LETTERS[sextet]) } else { '=' });
        }
    }
    text
}

/// ListFlights shows what the caller may see; an unlisted action is refused.
pub async fn lists(stage: &Stage) {
    let (_, user) = stage.user(Role::User).await;
    let own = stage.namespace_of(&user).await.name;
    let others = stage.namespace().await;
    put(&user, &own, "rows", vec![data::rows(0, 3)]).await.unwrap();
    put(&stage.admin, &others, "rows", vec![data::rows(0, 3)]).await.unwrap();
    let flights = user.flight().list_flights(Criteria::default()).await.unwrap().into_inner();
    let flights: Vec<_> = flights.try_collect().await.unwrap();
    let paths: BTreeSet<Vec<String>> =
        flights.into_iter().filter_map(|info| info.flight_descriptor).map(|d| d.path).collect();
    assert!(paths.contains(&vec![own, "rows".to_owned()]), "{paths:?}");
    assert!(!paths.contains(&vec![others, "rows".to_owned()]), "{paths:?}");
    let actions = user.flight().list_actions(Empty {}).await.unwrap().into_inner();
    let actions: Vec<_> = actions.try_collect().await.unwrap();
    assert!(actions.iter().all(|action| !action.description.is_empty()), "{actions:?}");
    let unknown = Action { r#type: "format-the-disk".into(), body: Default::default() };
    let status = match user.flight().do_action(unknown).await {
        Err(status) => status,
        Ok(answer) => answer.into_inner().try_collect::<Vec<_>>().await.unwrap_err(),
    };
    let closed =
        [Code::Unimplemented, Code::InvalidArgument, Code::PermissionDenied, Code::NotFound];
    assert!(closed.contains(&status.code()), "{status:?}");
}

async fn redeem(
    session: &Session,
    ticket: impl Into<bytes::Bytes>,
) -> Result<usize, tonic::Status> {
    let ticket = Ticket { ticket: ticket.into() };
    let answer = session.flight().do_get(ticket).await?.into_inner();
    Ok(answer.try_collect::<Vec<_>>().await?.len())
}

/// A ticket is good for the one it was made for, unchanged, with the grant still there.
pub async fn tickets(stage: &Stage) {
    let (_, user) = stage.user(Role::User).await;
    let ns = stage.namespace_of(&user).await.name;
    put(&user, &ns, "rows", vec![data::rows(0, 1_000)]).await.unwrap();
    let info = user.flight().get_flight_info(path(&ns, "rows")).await.unwrap().into_inner();
    let ticket = info.endpoint[0].ticket.clone().unwrap().ticket;
    assert!(redeem(&user, ticket.clone()).await.unwrap() > 0);
    let (_, thief) = stage.user(Role::User).await;
    let stolen = redeem(&thief, ticket.clone()).await.unwrap_err();
    assert!(matches!(stolen.code(), Code::NotFound | Code::PermissionDenied), "{stolen:?}");
    well_formed(&stolen);
    let nobody = redeem(&stage.platform.anonymous(), ticket.clone()).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated, "{nobody:?}");
    let mut changed = ticket.to_vec();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    for wrong in [changed, ticket[..last].to_vec(), Vec::new(), b"{\"dataset\":\"a/b\"}".to_vec()] {
        let status = redeem(&user, wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        well_formed(&status);
    }
}

/// Descriptors of no dataset, no version, no command.
pub async fn bad_descriptors(stage: &Stage) {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 3)]).await.unwrap();
    let name = format!("{ns}/rows");
    let text = |parts: &[&str]| {
        FlightDescriptor::new_path(parts.iter().map(|part| (*part).to_owned()).collect())
    };
    let wrong = [
        (text(&[&ns, "nothing"]), Code::NotFound),
        (text(&["no-such-namespace", "rows"]), Code::NotFound),
        (text(&[&ns, "rows", "9"]), Code::NotFound),
        (text(&[&ns, "rows", "new"]), Code::InvalidArgument),
        (text(&[&ns]), Code::InvalidArgument),
        (text(&[]), Code::InvalidArgument),
        (text(&["..", "etc"]), Code::InvalidArgument),
        (FlightDescriptor::new_cmd("SELECT 1"), Code::InvalidArgument),
        (FlightDescriptor::new_cmd(vec![0xff; 8]), Code::InvalidArgument),
        (command(&json!({ "dataset": "rows" })), Code::InvalidArgument),
        (command(&json!({ "dataset": name, "colums": ["id"] })), Code::InvalidArgument),
        (command(&json!({ "dataset": name, "columns": ["nothing"] })), Code::InvalidArgument),
        (command(&json!({ "dataset": name, "filter": "width >" })), Code::InvalidArgument),
        (command(&json!({ "dataset": name, "limit": -1 })), Code::InvalidArgument),
        (FlightDescriptor::default(), Code::InvalidArgument),
    ];
    for (descriptor, code) in wrong {
        let answer = stage.admin.flight().get_flight_info(descriptor.clone()).await;
        let got = answer.as_ref().err().map(tonic::Status::code);
        assert_eq!(got, Some(code), "{descriptor:?}: {answer:?}");
        refused(answer, code);
    }
}
