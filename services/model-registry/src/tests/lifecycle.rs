//! Aliases, stages, deployments, lineage.

use futures::StreamExt;
use service_error::Code;

use super::*;

fn history(alias: &str) -> wire::ListAliasHistoryRequest {
    wire::ListAliasHistoryRequest {
        namespace: "ml".into(),
        model: "m".into(),
        alias: alias.into(),
        ..Default::default()
    }
}

fn transition(version: &str, stage: &str) -> wire::TransitionStageRequest {
    wire::TransitionStageRequest {
        namespace: "ml".into(),
        model: "m".into(),
        version: version.into(),
        stage: stage.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_alias_remembers_where_it_was() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        for _ in 0..3 {
            house.version(&ana, "m").await;
        }
        house.alias(&ana, "m", "prod", "1").await.unwrap();
        let then = sql_store::now_micros();
        house.alias(&ana, "m", "prod", "2").await.unwrap();
        house.alias(&ana, "m", "prod", "3").await.unwrap();
        assert_eq!(house.get_version(&ana, "m", "@prod").await.unwrap().number, 3);
        let as_of = prost_types::Timestamp {
            seconds: then / 1_000_000,
            nanos: i32::try_from(then % 1_000_000 * 1_000).unwrap(),
        };
        let request = wire::GetVersionRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "@prod".into(),
            as_of: Some(as_of),
        };
        let past = house.versions().get_version(house.by(&ana, request)).await.unwrap();
        assert_eq!(past.into_inner().version.unwrap().number, 1);
        let back = wire::RollBackAliasRequest {
            namespace: "ml".into(),
            model: "m".into(),
            alias: "prod".into(),
            as_of: None,
        };
        let back = async || house.lifecycle().roll_back_alias(house.by(&ana, back.clone())).await;
        assert_eq!(back().await.unwrap().into_inner().alias.unwrap().version, 2);
        let request = house.by(&ana, history("prod"));
        let steps = house.lifecycle().list_alias_history(request).await.unwrap().into_inner();
        assert_eq!(steps.steps.iter().map(|step| step.version).collect::<Vec<_>>(), [2, 3, 2, 1]);
    })
    .await;
}

#[tokio::test]
async fn of_two_moves_at_once_one_wins_and_the_other_is_told() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        for _ in 0..9 {
            house.version(&ana, "m").await;
        }
        house.alias(&ana, "m", "prod", "1").await.unwrap();
        let moves = futures::stream::iter(2..=9).map(|number: i64| {
            let request = wire::SetAliasRequest {
                namespace: "ml".into(),
                model: "m".into(),
                alias: "prod".into(),
                version: number.to_string(),
                expected_version: Some(1),
                protected: None,
            };
            let (house, ana) = (&house, &ana);
            async move { house.lifecycle().set_alias(house.by(ana, request)).await }
        });
        let outcomes: Vec<_> = moves.buffer_unordered(8).collect().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for lost in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(ServiceError::from(lost).reason_text(), "ALIAS_MOVED");
        }
    })
    .await;
}

#[tokio::test]
async fn a_protected_alias_is_moved_by_admins_only() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let model = house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        house.version(&ana, "m").await;
        let bob = Who::user();
        house.grant(&bob, Resource::model(model.id.parse().unwrap()), Level::Write).await;
        eventually(async || house.alias(&bob, "m", "free", "1").await.is_ok()).await;
        let protect = wire::SetAliasRequest {
            namespace: "ml".into(),
            model: "m".into(),
            alias: "prod".into(),
            version: "1".into(),
            protected: Some(true),
            expected_version: None,
        };
        let refused = house.lifecycle().set_alias(house.by(&bob, protect.clone())).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::PermissionDenied);
        house.lifecycle().set_alias(house.by(&ana, protect)).await.unwrap();
        let refused = house.alias(&bob, "m", "prod", "2").await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        let delete = wire::DeleteAliasRequest {
            namespace: "ml".into(),
            model: "m".into(),
            alias: "prod".into(),
        };
        let refused = house.lifecycle().delete_alias(house.by(&bob, delete)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        assert!(house.alias(&ana, "m", "prod", "2").await.unwrap().protected, "and stays so");
    })
    .await;
}

#[tokio::test]
async fn stages_have_gates_and_approvals() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let model = house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        let prod = wire::Stage {
            name: "prod".into(),
            approvals_required: 1,
            metrics: vec![wire::MetricGate {
                metric: "acc".into(),
                comparison: wire::Comparison::AtLeast.into(),
                threshold: 0.9,
            }],
            ..Default::default()
        };
        let archived = wire::Stage { name: "Archived".into(), ..Default::default() };
        let set = wire::SetStagesRequest { namespace: "ml".into(), stages: vec![prod, archived] };
        let set = house.lifecycle().set_stages(house.by(&ana, set)).await.unwrap();
        assert_eq!(set.into_inner().stages.len(), 3, "None comes by itself");

        let go = async |who: &Who, stage: &str| {
            let mut lifecycle = house.lifecycle();
            let moved = lifecycle.transition_stage(house.by(who, transition("1", stage)));
            moved.await.map(tonic::Response::into_inner).map_err(ServiceError::from)
        };
        assert_eq!(go(&ana, "nowhere").await.unwrap_err().field_name(), Some("stage"));
        let lacks = go(&ana, "prod").await.unwrap_err();
        assert_eq!(lacks.reason_text(), "STAGE_GATE");
        assert!(lacks.message().contains("never logged"), "{lacks}");
        let metric = wire::Metric { key: "acc".into(), value: 0.95, step: 1, time: None };
        let log = wire::LogVersionDataRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "1".into(),
            metrics: vec![metric],
            ..Default::default()
        };
        house.versions().log_version_data(house.by(&ana, log)).await.unwrap();
        let asked = go(&ana, "prod").await.unwrap().transition.unwrap();
        assert_eq!(asked.state(), wire::TransitionState::Requested);
        assert_eq!(house.get_version(&ana, "m", "1").await.unwrap().stage, "None");

        let decide =
            wire::DecideTransitionRequest { id: asked.id, approve: true, comment: "fine".into() };
        let own = house.lifecycle().decide_transition(house.by(&ana, decide.clone())).await;
        assert_eq!(own.unwrap_err().code(), tonic::Code::PermissionDenied);
        let bob = Who::user();
        house.grant(&bob, Resource::model(model.id.parse().unwrap()), Level::Write).await;
        eventually(async || house.get_model(&bob, "m").await.is_ok()).await;
        let decided =
            house.lifecycle().decide_transition(house.by(&bob, decide.clone())).await.unwrap();
        let decided = decided.into_inner().transition.unwrap();
        assert_eq!((decided.state(), decided.approvals.len()), (wire::TransitionState::Done, 1));
        assert_eq!(house.get_version(&ana, "m", "stage:prod").await.unwrap().number, 1);
        let late = house.lifecycle().decide_transition(house.by(&bob, decide)).await.unwrap_err();
        assert_eq!(ServiceError::from(late).reason_text(), "TRANSITION_DECIDED");
        let drop = wire::SetStagesRequest { namespace: "ml".into(), stages: Vec::new() };
        let used = house.lifecycle().set_stages(house.by(&ana, drop)).await.unwrap_err();
        assert_eq!(ServiceError::from(used).reason_text(), "STAGE_IN_USE");
    })
    .await;
}

#[tokio::test]
async fn a_stage_keeps_its_newest_and_archives_the_rest() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        for _ in 0..3 {
            house.version(&ana, "m").await;
        }
        let go = async |request| {
            house.lifecycle().transition_stage(house.by(&ana, request)).await.unwrap();
        };
        go(transition("1", "production")).await;
        go(transition("2", "Production")).await;
        let third = wire::TransitionStageRequest {
            archive_existing: true,
            ..transition("3", "Production")
        };
        go(third).await;
        let latest: Vec<_> = house.get_model(&ana, "m").await.unwrap().latest_by_stage;
        let latest: Vec<_> = latest.into_iter().map(|of| (of.stage, of.version)).collect();
        assert_eq!(latest, [("Archived".to_owned(), 2), ("Production".to_owned(), 3)]);
        go(transition("3", "None")).await;
        let latest: Vec<_> = house.get_model(&ana, "m").await.unwrap().latest_by_stage;
        let latest: Vec<_> = latest.into_iter().map(|of| (of.stage, of.version)).collect();
        assert_eq!(latest, [("Archived".to_owned(), 2), ("None".to_owned(), 3)]);
    })
    .await;
}

#[tokio::test]
async fn a_deployment_is_one_record_of_what_runs_where() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        let put = |state: wire::DeploymentState, ready_replicas| wire::PutDeploymentRequest {
            namespace: "ml".into(),
            model: "m".into(),
            environment: "eu".into(),
            name: "api".into(),
            version: "latest".into(),
            state: state.into(),
            replicas: 3,
            ready_replicas,
            ..Default::default()
        };
        for (state, ready) in
            [(wire::DeploymentState::Pending, 0), (wire::DeploymentState::Running, 3)]
        {
            house.lifecycle().put_deployment(house.by(&ana, put(state, ready))).await.unwrap();
        }
        let list = wire::ListDeploymentsRequest { namespace: "ml".into(), ..Default::default() };
        let found = house.lifecycle().list_deployments(house.by(&ana, list.clone())).await.unwrap();
        let found = found.into_inner();
        assert_eq!(found.deployments.len(), 1);
        assert_eq!(found.deployments[0].state(), wire::DeploymentState::Running);
        assert_eq!((found.counts.len(), found.counts[0].count), (1, 1));
        let unset = put(wire::DeploymentState::Unspecified, 0);
        let error = house.lifecycle().put_deployment(house.by(&ana, unset)).await.unwrap_err();
        assert_eq!(ServiceError::from(error).field_name(), Some("state"));
        let bob = Who::user();
        let hidden = house.lifecycle().list_deployments(house.by(&bob, list)).await.unwrap();
        assert!(hidden.into_inner().counts.is_empty(), "counts are of what one may see");
    })
    .await;
}

#[tokio::test]
async fn lineage_leads_from_a_dataset_to_what_was_made_of_it() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.catalog.dataset("ml/icons", 4);
        let input = |version| wire::DatasetInput {
            namespace: "ml".into(),
            dataset: "icons".into(),
            version,
            context: "training".into(),
        };
        let base = wire::CreateVersionRequest {
            datasets: vec![input(3)],
            create_model: true,
            ..new("base")
        };
        house.register(&ana, base).await.unwrap();
        let tuned = wire::CreateVersionRequest {
            base_models: vec![wire::BaseModelInput {
                namespace: "ml".into(),
                model: "base".into(),
                version: 0,
                relation: "finetune".into(),
            }],
            create_model: true,
            ..new("tuned")
        };
        house.register(&ana, tuned).await.unwrap();
        let gone = wire::CreateVersionRequest { datasets: vec![input(9)], ..new("base") };
        let error = house.register(&ana, gone).await.unwrap_err();
        assert_eq!(error.field_name(), Some("datasets.version"));

        let impact = async |version| {
            let request = wire::ListImpactRequest {
                namespace: "ml".into(),
                dataset: "icons".into(),
                version,
            };
            let found = house.lineage().list_impact(house.by(&ana, request)).await.unwrap();
            let versions = found.into_inner().versions.into_iter();
            versions.map(|of| (of.version.unwrap().model, of.depth)).collect::<Vec<_>>()
        };
        assert_eq!(impact(3).await, [("base".to_owned(), 1), ("tuned".to_owned(), 2)]);
        assert_eq!(impact(0).await.len(), 2);
        assert_eq!(impact(4).await, []);
        let request = wire::GetLineageRequest {
            namespace: "ml".into(),
            model: "tuned".into(),
            version: "1".into(),
        };
        let found = house.lineage().get_lineage(house.by(&ana, request)).await.unwrap();
        let found = found.into_inner();
        assert_eq!(found.base_models[0].relation, "finetune");
    })
    .await;
}
