//! Sessions on both databases.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use ids::{DatasetId, NamespaceId};
use mlflow_wire::proto::search_logged_models::OrderBy;
use mlflow_wire::proto::{
    CreateExperiment, CreateLoggedModel, CreateRun, Dataset, DatasetInput, GetMetricHistory,
    GetMetricHistoryBulkInterval, InputTag, LogBatch, LogInputs, LogMetric, LogOutputs, LogParam,
    LoggedModelTag, Metric, ModelOutput, Param, RunTag, SearchExperiments, SearchLoggedModels,
    SearchRuns, UpdateRun, ViewType,
};
use sea_orm_migration::prelude::{MigrationTrait, MigratorTrait, SchemaManager, async_trait};
use sql_store::SqlStore;

use super::{DatasetEdge, Migration, Scope, Tracking};

/// Before ours: the counter table, which the registry's first migration makes.
struct Counter;

impl sea_orm_migration::MigrationName for Counter {
    fn name(&self) -> &str {
        "m0001_counter"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Counter {
    async fn up(&self, manager: &SchemaManager) -> Result<(), sea_orm::DbErr> {
        manager.create_table(sql_store::migration::create_counter_table()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), sea_orm::DbErr> {
        manager.drop_table(sql_store::migration::drop_counter_table()).await
    }
}

struct All;

#[async_trait::async_trait]
impl MigratorTrait for All {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Counter), Box::new(Migration)]
    }
}

/// An empty database of each kind, migrated up, down and up again.
async fn grounds(dir: &std::path::Path) -> Vec<(Tracking, Scope)> {
    let mut found = Vec::new();
    for settings in sql_store::testing::databases(dir).await.unwrap() {
        let sql = SqlStore::open(&settings, "models").await.unwrap();
        sql.migrate::<All>().await.unwrap();
        sql.revert::<All>(None).await.unwrap();
        sql.migrate::<All>().await.unwrap();
        found.push((Tracking::new(sql), scope()));
    }
    found
}

fn scope() -> Scope {
    Scope { namespace: NamespaceId::new(), name: "vision".into() }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

async fn run(tracking: &Tracking, scope: &Scope, name: &str, start: i64) -> String {
    let asked = CreateRun {
        experiment_id: text("0"),
        run_name: text(name),
        start_time: Some(start),
        ..CreateRun::default()
    };
    tracking.create_run(scope, &asked).await.unwrap().info.unwrap().run_id.unwrap()
}

fn metric(key: &str, value: f64, at: i64, step: i64) -> Metric {
    Metric {
        key: text(key),
        value: Some(value),
        timestamp: Some(at),
        step: Some(step),
        ..Metric::default()
    }
}

fn batch(
    run: &str,
    metrics: Vec<Metric>,
    params: &[(&str, &str)],
    tags: &[(&str, &str)],
) -> LogBatch {
    LogBatch {
        run_id: text(run),
        metrics,
        params: params.iter().map(|(k, v)| Param { key: text(k), value: text(v) }).collect(),
        tags: tags.iter().map(|(k, v)| RunTag { key: text(k), value: text(v) }).collect(),
    }
}

#[tokio::test]
async fn experiments_are_numbered_from_the_default_on_and_each_namespace_has_its_own() {
    let dir = tempfile::tempdir().unwrap();
    for (tracking, scope) in grounds(dir.path()).await {
        assert_eq!(tracking.get_experiment(&scope, "0").await.unwrap().name(), "Default");
        let made =
            |name: &str| CreateExperiment { name: text(name), ..CreateExperiment::default() };
        let first = tracking.create_experiment(&scope, &made("a")).await.unwrap();
        assert_eq!(first.experiment_id(), "1");
        let taken = tracking.create_experiment(&scope, &made("a")).await.unwrap_err();
        assert_eq!(taken.code(), mlflow_wire::ErrorCode::ResourceAlreadyExists);
        let other = self::scope();
        assert!(tracking.get_experiment(&other, "1").await.is_err());
        assert_eq!(
            tracking.create_experiment(&other, &made("a")).await.unwrap().experiment_id(),
            "1"
        );

        tracking.set_experiment_tag(&scope, "1", "k", "v").await.unwrap();
        let found = tracking.get_experiment_by_name(&scope, "a").await.unwrap();
        assert_eq!((found.tags.len(), found.artifact_location()), (1, "mlflow-artifacts:/1"));
        tracking.set_experiment_lifecycle(&scope, "1", true).await.unwrap();
        assert!(
            tracking
                .set_experiment_tag(&scope, "1", "k", "v")
                .await
                .unwrap_err()
                .message()
                .contains("active")
        );
        assert!(tracking.rename_experiment(&scope, "1", "b").await.is_err());
        assert!(tracking.set_experiment_lifecycle(&scope, "1", true).await.is_err());
        tracking.set_experiment_lifecycle(&scope, "1", false).await.unwrap();
        tracking.rename_experiment(&scope, "1", "b").await.unwrap();
        tracking.delete_experiment_tag(&scope, "1", "k").await.unwrap();
        assert!(tracking.delete_experiment_tag(&scope, "1", "k").await.is_err());
    }
}

#[tokio::test]
async fn experiments_are_found_by_filter_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    for (tracking, scope) in grounds(dir.path()).await {
        for at in 0..5 {
            let name = format!("e{at}");
            let asked = CreateExperiment { name: text(&name), ..CreateExperiment::default() };
            let id = tracking.create_experiment(&scope, &asked).await.unwrap();
            if at % 2 == 0 {
                tracking
                    .set_experiment_tag(&scope, id.experiment_id(), "even", "yes")
                    .await
                    .unwrap();
            }
        }
        let search = |filter: &str, order: &str, size: i64, token: &str| SearchExperiments {
            max_results: Some(size),
            filter: text(filter),
            order_by: vec![order.to_owned()],
            page_token: text(token),
            view_type: Some(ViewType::ActiveOnly as i32),
        };
        let mut names = Vec::new();
        let mut token = String::new();
        loop {
            let page = tracking
                .search_experiments(&scope, &search("tags.even = 'yes'", "name DESC", 2, &token))
                .await
                .unwrap();
            names.extend(page.experiments.iter().map(|found| found.name().to_owned()));
            token = page.next_page_token().to_owned();
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(names, ["e4", "e2", "e0"]);
        let count = |filter: &'static str| {
            let (tracking, scope) = (&tracking, &scope);
            async move {
                let asked = search(filter, "experiment_id", 100, "");
                tracking.search_experiments(scope, &asked).await.unwrap().experiments.len()
            }
        };
        assert_eq!(count("name LIKE 'e_'").await, 5);
        assert_eq!(count("name LIKE 'E%'").await, 0);
        assert_eq!(count("name ILIKE 'E%'").await, 5);
        assert_eq!(count("experiment_id IN ('1', '3')").await, 2);
        assert_eq!(count("tags.even IS NULL").await, 3);
        assert_eq!(count("creation_time > 5 AND name != 'e1'").await, 5);
        let wrong = tracking.search_experiments(&scope, &search("", "name", 2, "bm9wZQ")).await;
        assert!(wrong.unwrap_err().message().contains("Invalid page token"));
    }
}

#[tokio::test]
async fn a_run_keeps_what_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    for (tracking, scope) in grounds(dir.path()).await {
        let id = run(&tracking, &scope, "first", 10).await;
        let nan = metric("bad", f64::NAN, 1, 0);
        let all = batch(
            &id,
            vec![
                metric("acc", 0.5, 1, 1),
                metric("acc", 0.25, 2, 0),
                metric("inf", f64::INFINITY, 1, 0),
                nan,
            ],
            &[("lr", "0.1")],
            &[("t", "1"), ("t", "2")],
        );
        tracking.log_batch(&scope, &all).await.unwrap();
        tracking.log_batch(&scope, &all).await.unwrap();
        let found = tracking.get_run(&scope, &id).await.unwrap();
        let data = found.data.unwrap();
        let values: HashMap<&str, f64> =
            data.metrics.iter().map(|m| (m.key(), m.value())).collect();
        assert_eq!((values["acc"], values["inf"]), (0.5, f64::MAX));
        assert!(values["bad"].is_nan());
        assert_eq!(data.params.len(), 1);
        let tags: HashMap<&str, &str> = data.tags.iter().map(|t| (t.key(), t.value())).collect();
        assert_eq!((tags["t"], tags["mlflow.runName"]), ("2", "first"));

        let again = LogParam {
            run_id: text(&id),
            key: text("lr"),
            value: text("0.2"),
            ..LogParam::default()
        };
        let refused = tracking.log_param(&scope, &again).await.unwrap_err();
        let why = "Changing param values is not allowed. Param with key='lr'";
        assert!(refused.message().starts_with(why), "{refused}");
        let half = batch(&id, vec![metric("new", 1.0, 1, 0)], &[("lr", "0.3")], &[]);
        assert!(tracking.log_batch(&scope, &half).await.is_err());
        let kept = tracking.get_run(&scope, &id).await.unwrap().data.unwrap().metrics;
        assert_eq!(kept.len(), 3, "all or none");
    }
}

#[tokio::test]
async fn a_run_ends_is_deleted_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    for (tracking, scope) in grounds(dir.path()).await {
        let id = run(&tracking, &scope, "first", 10).await;
        tracking.set_run_tag(&scope, &id, "mlflow.runName", "renamed").await.unwrap();
        let ended = UpdateRun {
            run_id: text(&id),
            status: Some(3),
            end_time: Some(99),
            ..UpdateRun::default()
        };
        let info = tracking.update_run(&scope, &ended).await.unwrap();
        assert_eq!((info.run_name(), info.end_time(), info.status), ("renamed", 99, Some(3)));
        tracking.set_run_lifecycle(&scope, &id, true).await.unwrap();
        let late = LogMetric {
            run_id: text(&id),
            key: text("x"),
            value: Some(1.0),
            timestamp: Some(1),
            ..LogMetric::default()
        };
        let refused = tracking.log_metric(&scope, &late).await.unwrap_err();
        assert!(refused.message().contains("'active' state"), "{refused}");
        tracking.set_run_lifecycle(&scope, &id, false).await.unwrap();
        tracking.log_metric(&scope, &late).await.unwrap();
        assert!(tracking.get_run(&self::scope(), &id).await.is_err(), "another namespace");
    }
}

#[tokio::test]
async fn a_metric_has_a_history_whole_paged_and_thinned() {
    let dir = tempfile::tempdir().unwrap();
    for (tracking, scope) in grounds(dir.path()).await {
        let id = run(&tracking, &scope, "r", 1).await;
        let points = (0..100)
            .map(|at| metric("loss", 1.0 / f64::from(at + 1), i64::from(at), i64::from(at)));
        tracking.log_batch(&scope, &batch(&id, points.collect(), &[], &[])).await.unwrap();
        let mut asked = GetMetricHistory {
            run_id: text(&id),
            metric_key: text("loss"),
            ..GetMetricHistory::default()
        };
        let whole = tracking.metric_history(&scope, &asked).await.unwrap();
        assert_eq!((whole.metrics.len(), whole.next_page_token), (100, None));
        asked.max_results = Some(33);
        let mut steps = Vec::new();
        loop {
            let page = tracking.metric_history(&scope, &asked).await.unwrap();
            steps.extend(page.metrics.iter().map(Metric::step));
            match page.next_page_token {
                Some(token) => asked.page_token = Some(token),
                None => break,
            }
        }
        assert_eq!(steps, (0..100).collect::<Vec<_>>());
        let thin = GetMetricHistoryBulkInterval {
            run_ids: vec![id.clone()],
            metric_key: text("loss"),
            max_results: Some(10),
            ..GetMetricHistoryBulkInterval::default()
        };
        let thin = tracking.metric_history_bulk(&scope, &thin).await.unwrap().metrics;
        assert!((9..=11).contains(&thin.len()), "{}", thin.len());
        assert_eq!((thin[0].step(), thin[thin.len() - 1].step()), (0, 99));
        let between = GetMetricHistoryBulkInterval {
            run_ids: vec![id],
            metric_key: text("loss"),
            start_step: Some(5),
            end_step: Some(7),
            ..GetMetricHistoryBulkInterval::default()
        };
        assert_eq!(tracking.metric_history_bulk(&scope, &between).await.unwrap().metrics.len(), 3);
    }
}

/// `run0` to `run5`: the last one's accuracy is no number, the fourth has none.
async fn six_runs(tracking: &Tracking, scope: &Scope) {
    for at in 0..6_i32 {
        let id = run(tracking, scope, &format!("run{at}"), i64::from(at)).await;
        let acc = if at == 5 { f64::NAN } else { f64::from(at) / 10.0 };
        let metrics = if at == 4 { vec![] } else { vec![metric("acc", acc, 1, 0)] };
        let (rate, even) = (at.to_string(), (at % 2 == 0).to_string());
        let all = batch(&id, metrics, &[("lr", &rate)], &[("even", &even)]);
        tracking.log_batch(scope, &all).await.unwrap();
    }
}

#[tokio::test]
async fn runs_are_found_and_ordered_with_what_is_missing_last() {
    let dir = tempfile::tempdir().unwrap();
    for (tracking, scope) in grounds(dir.path()).await {
        six_runs(&tracking, &scope).await;
        let asked = |filter: &str, order: &[&str], token: &str| SearchRuns {
            experiment_ids: vec!["0".into()],
            filter: text(filter),
            order_by: order.iter().map(|text| (*text).to_owned()).collect(),
            max_results: Some(2),
            page_token: text(token),
            ..SearchRuns::default()
        };
        let names = |filter: &'static str, order: &'static [&'static str]| {
            let (tracking, scope) = (&tracking, &scope);
            async move {
                let (mut names, mut token) = (Vec::new(), String::new());
                loop {
                    let page =
                        tracking.search_runs(scope, &asked(filter, order, &token)).await.unwrap();
                    names.extend(
                        page.runs
                            .iter()
                            .map(|run| run.info.as_ref().unwrap().run_name().to_owned()),
                    );
                    token = page.next_page_token.unwrap_or_default();
                    if token.is_empty() {
                        return names;
                    }
                }
            }
        };
        assert_eq!(names("", &[]).await, ["run5", "run4", "run3", "run2", "run1", "run0"]);
        assert_eq!(
            names("", &["metrics.acc DESC"]).await,
            ["run3", "run2", "run1", "run0", "run5", "run4"]
        );
        assert_eq!(
            names("metrics.acc >= 0.1 AND params.lr != '2'", &["params.lr ASC"]).await,
            ["run1", "run3"]
        );
        assert_eq!(
            names("metrics.acc != 0.1", &["start_time ASC"]).await,
            ["run0", "run2", "run3", "run5"]
        );
        assert_eq!(names("tags.even = 'true' AND run_name LIKE '%4'", &[]).await, ["run4"]);
        assert_eq!(
            names("status = 'RUNNING' AND attributes.start_time < 2", &["run_name DESC"]).await,
            ["run1", "run0"]
        );
        assert_eq!(
            names("params.none IS NULL", &["tags.even", "params.lr DESC"]).await,
            ["run5", "run3", "run1", "run4", "run2", "run0"]
        );
    }
}

#[tokio::test]
async fn pages_ordered_by_long_values_go_on() {
    let dir = tempfile::tempdir().unwrap();
    for (tracking, scope) in grounds(dir.path()).await {
        for at in 0..3_i64 {
            let id = run(&tracking, &scope, &format!("run{at}"), at).await;
            let (long, other) = (format!("{}{at}", "ü".repeat(5_999)), "x".repeat(6_000));
            let all = batch(&id, vec![], &[("a", &other), ("b", &long)], &[]);
            tracking.log_batch(&scope, &all).await.unwrap();
        }
        let (mut names, mut token) = (Vec::new(), String::new());
        for _ in 0..3 {
            let asked = SearchRuns {
                experiment_ids: vec!["0".into()],
                order_by: vec!["params.a".into(), "params.b DESC".into()],
                max_results: Some(1),
                page_token: text(&token),
                ..SearchRuns::default()
            };
            let page = tracking.search_runs(&scope, &asked).await.unwrap();
            names.push(page.runs[0].info.as_ref().unwrap().run_name().to_owned());
            token = page.next_page_token.unwrap_or_default();
        }
        assert_eq!(
            (names, token),
            (["run2", "run1", "run0"].map(str::to_owned).to_vec(), String::new())
        );
        let asked = SearchRuns {
            experiment_ids: vec!["0".into()],
            filter: text("run_name ILIKE 'RUN1'"),
            ..SearchRuns::default()
        };
        assert_eq!(tracking.search_runs(&scope, &asked).await.unwrap().runs.len(), 1);
    }
}

#[tokio::test]
async fn a_dataset_of_the_catalog_is_an_edge() {
    let dir = tempfile::tempdir().unwrap();
    for (tracking, scope) in grounds(dir.path()).await {
        let id = run(&tracking, &scope, "r", 1).await;
        let dataset = |name: &str, source: &str| DatasetInput {
            dataset: Some(Dataset {
                name: text(name),
                digest: text("d1"),
                source_type: text("x"),
                source: text(source),
                ..Dataset::default()
            }),
            tags: vec![InputTag { key: text("mlflow.data.context"), value: text("training") }],
        };
        let asked = LogInputs {
            run_id: text(&id),
            datasets: vec![
                dataset("ours", "quarry://vision/cats@3"),
                dataset("other", "s3://b/k"),
                dataset("ours", "quarry://vision/cats@3"),
            ],
            models: vec![],
        };
        let edge = DatasetEdge {
            id: DatasetId::new(),
            name: "vision/cats".into(),
            version: 3,
            context: String::new(),
        };
        let resolved = HashMap::from([("quarry://vision/cats@3".to_owned(), edge.clone())]);
        tracking.log_inputs(&scope, &asked, &resolved).await.unwrap();
        tracking.log_inputs(&scope, &asked, &resolved).await.unwrap();
        let edges = tracking.dataset_edges(&scope, &id).await.unwrap();
        assert_eq!(edges, [DatasetEdge { context: "training".into(), ..edge }]);
        let inputs = tracking.get_run(&scope, &id).await.unwrap().inputs.unwrap();
        assert_eq!(inputs.dataset_inputs.len(), 2);
        let search = SearchRuns {
            experiment_ids: vec!["0".into()],
            filter: text("dataset.name = 'ours' AND dataset.context IN ('training')"),
            ..SearchRuns::default()
        };
        assert_eq!(tracking.search_runs(&scope, &search).await.unwrap().runs.len(), 1);
        let summaries = mlflow_wire::proto::SearchDatasets { experiment_ids: vec!["0".into()] };
        assert_eq!(
            tracking.search_datasets(&scope, &summaries).await.unwrap().dataset_summaries.len(),
            2
        );
    }
}

/// `m0` to `m2` with accuracies of 0.3, 0.9 and 0.6; answers their ids.
async fn three_logged_models(tracking: &Tracking, scope: &Scope, run: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for (at, value) in [0.3, 0.9, 0.6].into_iter().enumerate() {
        let asked = CreateLoggedModel {
            experiment_id: text("0"),
            name: text(&format!("m{at}")),
            source_run_id: text(run),
            tags: vec![LoggedModelTag { key: text("t"), value: text("1") }],
            ..CreateLoggedModel::default()
        };
        let model = tracking.create_logged_model(scope, &asked).await.unwrap().info.unwrap();
        let id = model.model_id.clone().unwrap();
        assert_eq!(model.artifact_uri(), format!("mlflow-artifacts:/0/models/{id}/artifacts"));
        let mut point = metric("acc", value, 1, 0);
        point.model_id = text(&id);
        tracking.log_batch(scope, &batch(run, vec![point], &[], &[])).await.unwrap();
        ids.push(id);
    }
    ids
}

#[tokio::test]
async fn logged_models_are_made_measured_found_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    for (tracking, scope) in grounds(dir.path()).await {
        let run = run(&tracking, &scope, "r", 1).await;
        let ids = three_logged_models(&tracking, &scope, &run).await;
        let search = |filter: &str, token: &str| SearchLoggedModels {
            experiment_ids: vec!["0".into()],
            filter: text(filter),
            max_results: Some(2),
            order_by: vec![OrderBy {
                field_name: text("metrics.acc"),
                ascending: Some(false),
                ..OrderBy::default()
            }],
            page_token: text(token),
            ..SearchLoggedModels::default()
        };
        let first =
            tracking.search_logged_models(&scope, &search("tags.t = '1'", "")).await.unwrap();
        let names: Vec<_> =
            first.models.iter().map(|m| m.info.as_ref().unwrap().name().to_owned()).collect();
        assert_eq!(names, ["m1", "m2"]);
        let second = tracking
            .search_logged_models(&scope, &search("tags.t = '1'", first.next_page_token()))
            .await
            .unwrap();
        assert_eq!((second.models.len(), second.next_page_token), (1, None));
        let narrow = search("metrics.acc > 0.5 AND name = 'm2'", "");
        let found = tracking.search_logged_models(&scope, &narrow).await.unwrap();
        assert_eq!(found.models.len(), 1);

        tracking.finalize_logged_model(&scope, &ids[0], 2).await.unwrap();
        tracking.registered(&scope, &ids[0], "model", 7).await.unwrap();
        let found = tracking.get_logged_model(&scope, &ids[0], false).await.unwrap();
        assert!(
            found
                .info
                .as_ref()
                .unwrap()
                .tags
                .iter()
                .any(|tag| tag.key() == "mlflow.modelVersions" && tag.value().contains("7"))
        );
        assert_eq!(found.data.unwrap().metrics.len(), 1);
        let outputs = LogOutputs {
            run_id: text(&run),
            models: vec![ModelOutput { model_id: text(&ids[0]), step: Some(4) }],
        };
        tracking.log_outputs(&scope, &outputs).await.unwrap();
        assert_eq!(
            tracking.get_run(&scope, &run).await.unwrap().outputs.unwrap().model_outputs[0].step(),
            4
        );
        tracking.delete_logged_model(&scope, &ids[0]).await.unwrap();
        assert!(tracking.get_logged_model(&scope, &ids[0], false).await.is_err());
        assert!(tracking.get_logged_model(&scope, &ids[0], true).await.is_ok());
        assert!(tracking.delete_logged_model_tag(&scope, &ids[1], "none").await.is_err());
    }
}
