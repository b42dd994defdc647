//! What an operator asks: who runs, as what, on what.

use std::time::Duration;

use harness::eventually;
use identity_api::v1::{ListAuditEventsRequest, Outcome};
use ops_api::v1 as wire;
use options_api::v1::Role;
use tonic::Code;

use crate::refusal::refused;
use crate::stage::Stage;

const SERVICES: [&str; 6] =
    ["catalog", "file-indexer", "identity", "item-store", "model-registry", "vector-search"];

/// Every role is there once, with the version that answers, and nobody but an admin hears of it.
pub async fn info(stage: &Stage) {
    let said = stage.admin.ops().get_info(wire::GetInfoRequest {}).await.unwrap().into_inner();
    let mut roles: Vec<&str> =
        said.processes.iter().flat_map(|process| &process.roles).map(String::as_str).collect();
    roles.sort_unstable();
    let mut expected = SERVICES.to_vec();
    expected.push("gateway");
    expected.sort_unstable();
    assert_eq!((roles, said.unreachable), (expected, Vec::<String>::new()));
    for process in &said.processes {
        assert!(!process.version.is_empty() && process.pid > 0, "{process:?}");
        let (start, now) = (process.start_time.unwrap(), process.time.unwrap());
        assert!(start.seconds <= now.seconds && !process.instance.is_empty(), "{process:?}");
    }
    let (_, user) = stage.user(Role::User).await;
    refused(user.ops().get_info(wire::GetInfoRequest {}).await, Code::PermissionDenied);
    let nobody = stage.platform.anonymous();
    refused(nobody.ops().get_info(wire::GetInfoRequest {}).await, Code::Unauthenticated);
    let answer = stage.admin.get("/v1/ops/info").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["processes"].as_array().map(Vec::len), Some(said.processes.len()));
    let shown = stage.platform.cli(&["ops", "info", "-o", "json"]).await.json();
    assert_eq!(shown["processes"].as_array().map(Vec::len), Some(said.processes.len()));
}

/// Each setting with its value and its source; a secret is only said to be set.
pub async fn settings(stage: &Stage) {
    let asked = wire::ListSettingsRequest {};
    let said = stage.admin.ops().list_settings(asked).await.unwrap().into_inner();
    assert!(said.unreachable.is_empty());
    for process in &said.processes {
        let of = |key: &str| {
            let found = process.settings.iter().find(|one| one.key == key);
            found.unwrap_or_else(|| panic!("no {key} of {:?}", process.roles))
        };
        assert_eq!(of("drain.grace_seconds").source, "default");
        assert_eq!(of("listen").source, "the command line");
        assert!(of("data_dir").value.contains('/'), "{:?}", of("data_dir"));
        let database = of("database_url");
        let on_postgres = database.value != "null";
        assert!(!on_postgres || database.value == "\"set\"", "{database:?}");
        assert!(!on_postgres || database.source.contains("QUARRY_DATABASE_URL"), "{database:?}");
        assert!(process.settings.len() > 30, "{} settings", process.settings.len());
    }
    let text = format!("{said:?}");
    assert!(!text.contains("postgres://") && !text.contains(stage.platform.admin_token()));
    let rows = stage.platform.cli(&["ops", "settings", "--set", "-o", "json"]).await.json();
    let rows = rows["settings"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["source"] != "default") && !rows.is_empty());
}

/// Rows are counted, sizes are there, and every migration has run.
pub async fn database(stage: &Stage) {
    let before = stage.namespace().await;
    let rows = async |table: &str| {
        let asked = wire::GetDatabaseStatisticsRequest { service: "catalog".into(), exact: true };
        let said = stage.admin.ops().get_database_statistics(asked).await.unwrap().into_inner();
        assert_eq!(said.services.len(), 1);
        let found = said.services[0].tables.iter().find(|one| one.name == table).cloned();
        found.unwrap_or_else(|| panic!("no {table} in {said:?}"))
    };
    let counted = rows("namespace").await;
    assert!(counted.row_count >= 1 && !counted.is_estimate, "{before}: {counted:?}");
    let all = wire::GetDatabaseStatisticsRequest::default();
    let said = stage.admin.ops().get_database_statistics(all).await.unwrap().into_inner();
    let services: Vec<&str> = said.services.iter().map(|one| one.service.as_str()).collect();
    assert_eq!(services, SERVICES);
    for service in &said.services {
        assert!(service.byte_count > 0 && !service.version.is_empty(), "{service:?}");
        assert!(service.pending.is_empty() && service.unknown.is_empty(), "{service:?}");
        assert!(!service.schema_version.is_empty() && !service.tables.is_empty(), "{service:?}");
    }
    let wrong = wire::GetDatabaseStatisticsRequest { service: "kitchen".into(), exact: false };
    let status =
        refused(stage.admin.ops().get_database_statistics(wrong).await, Code::InvalidArgument);
    assert!(status.message().contains("catalog"), "{status:?}");
}

/// The history's bounds; what is in it is tried where samples are taken each second.
pub async fn history(stage: &Stage) {
    let ask = async |hours: i32, step: i32| {
        let asked =
            wire::GetMetricsHistoryRequest { hours, step_seconds: step, ..Default::default() };
        stage.admin.ops().get_metrics_history(asked).await
    };
    ask(1, 0).await.unwrap();
    ask(168, 0).await.unwrap();
    for (hours, step) in [(-1, 0), (169, 0), (1, 1), (1, -5), (168, 60)] {
        refused(ask(hours, step).await, Code::InvalidArgument);
    }
    let answer = stage.admin.get("/v1/ops/metrics?hours=2&component=catalog").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Who is denied is in the audit trail, once for each call, whichever role denied it.
pub async fn denials(stage: &Stage) {
    let (user, session) = stage.user(Role::User).await;
    refused(session.ops().get_info(wire::GetInfoRequest {}).await, Code::PermissionDenied);
    let asked = wire::GetDatabaseStatisticsRequest { service: "catalog".into(), exact: false };
    refused(session.ops().get_database_statistics(asked).await, Code::PermissionDenied);
    let asked = ListAuditEventsRequest {
        principal: user.name.clone(),
        page_size: 1_000,
        ..Default::default()
    };
    for method in ["Ops/GetInfo", "Ops/GetDatabaseStatistics"] {
        let what = format!("the denial of {method}");
        let events = eventually(&what, Duration::from_secs(20), async || {
            let said = stage.admin.audit().list_audit_events(asked.clone()).await.unwrap();
            let of = said.into_inner().events.into_iter().filter(|event| {
                event.action.ends_with(method) && event.outcome == i32::from(Outcome::Denied)
            });
            Some(of.collect::<Vec<_>>()).filter(|events| !events.is_empty())
        })
        .await;
        assert!(events.len() == 1 && events[0].count <= 1, "{events:?}");
    }
}
