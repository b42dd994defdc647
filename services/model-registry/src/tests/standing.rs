//! What holds where a change is written, though the caller looked before: stages, gates,
//! protected aliases; and what changes when a version was changed last.

use service_error::Code;

use super::*;
use crate::model::{Approval, Comparison, Gate, ScanVerdict, Stage, TransitionState, VersionRef};
use crate::store::{AliasMove, Judged};

fn transition(version: &str, stage: &str) -> wire::TransitionStageRequest {
    wire::TransitionStageRequest {
        namespace: "ml".into(),
        model: "m".into(),
        version: version.into(),
        stage: stage.into(),
        ..Default::default()
    }
}

impl House {
    /// Stages of which `prod` needs an approval.
    async fn prod(&self, who: &Who) {
        let stage = |name: &str, approvals_required| wire::Stage {
            name: name.into(),
            approvals_required,
            ..Default::default()
        };
        let stages = vec![stage("prod", 1), stage("Staging", 0), stage("Archived", 0)];
        let request = wire::SetStagesRequest { namespace: "ml".into(), stages };
        self.lifecycle().set_stages(self.by(who, request)).await.unwrap();
    }

    async fn go(&self, who: &Who, version: &str, stage: &str) -> wire::Transition {
        let request = self.by(who, transition(version, stage));
        let asked = self.lifecycle().transition_stage(request).await.unwrap();
        asked.into_inner().transition.unwrap()
    }

    async fn live(&self, who: &Who, number: i64) -> crate::model::ModelVersion {
        let model = self.get_model(who, "m").await.unwrap().id.parse().unwrap();
        self.store.find_version(model, &VersionRef::Number(number)).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_version_that_moved_while_it_waited_leaves_the_stage_that_it_is_in() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let model = house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        house.prod(&ana).await;
        let asked = house.go(&ana, "1", "prod").await;
        house.go(&ana, "1", "Staging").await;
        assert_eq!(house.get_version(&ana, "m", "stage:Staging").await.unwrap().number, 1);
        let bob = Who::user();
        house.grant(&bob, Resource::model(model.id.parse().unwrap()), Level::Write).await;
        eventually(async || house.get_model(&bob, "m").await.is_ok()).await;
        let request = wire::ListTransitionsRequest {
            namespace: "ml".into(),
            model: "m".into(),
            ..Default::default()
        };
        let listed = house.lifecycle().list_transitions(house.by(&ana, request)).await.unwrap();
        let listed = listed.into_inner().transitions;
        let required: Vec<i32> = listed.iter().map(|of| of.approvals_required).collect();
        assert_eq!(required, [0, 1], "of Staging and of prod, newest first");

        let decide =
            wire::DecideTransitionRequest { id: asked.id, approve: true, ..Default::default() };
        let decided = house.lifecycle().decide_transition(house.by(&bob, decide)).await.unwrap();
        let decided = decided.into_inner().transition.unwrap();
        assert_eq!((decided.from_stage.as_str(), decided.to_stage.as_str()), ("Staging", "prod"));
        assert_eq!(house.get_version(&ana, "m", "stage:prod").await.unwrap().number, 1);
        let left = house.get_version(&ana, "m", "stage:Staging").await.unwrap_err();
        assert_eq!(left.code(), Code::NotFound);
        let latest = house.get_model(&ana, "m").await.unwrap().latest_by_stage;
        let latest: Vec<_> = latest.iter().map(|of| (of.stage.as_str(), of.version)).collect();
        assert_eq!(latest, [("prod", 1)]);
    })
    .await;
}

#[tokio::test]
async fn a_deletion_looks_anew_at_the_stage_that_the_version_is_in() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        let before = house.live(&ana, 1).await;
        house.go(&ana, "1", "Staging").await;
        // As a deletion that read the version before it moved.
        house.store.delete_version(&before, ana.principal).await.unwrap();
        let model = house.get_model(&ana, "m").await.unwrap();
        assert!(model.latest_by_stage.is_empty(), "{model:?}");
        let id = model.id.parse().unwrap();
        assert!(house.store.latest_versions(&[id]).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn gates_are_judged_again_where_the_version_enters() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        let mut request = new("m");
        request.metrics.push(wire::Metric { key: "acc".into(), value: 0.5, ..Default::default() });
        house.register(&ana, request).await.unwrap();
        let gate = Gate { metric: "acc".into(), comparison: Comparison::AtLeast, threshold: 0.9 };
        let gated = Stage { gates: vec![gate], ..Stage::open("prod") };
        let version = house.live(&ana, 1).await;
        house
            .store
            .set_stages(version.namespace_id, &[Stage::open("None"), gated.clone()])
            .await
            .unwrap();
        let asked = crate::model::Transition {
            id: ids::EventId::new(),
            number: 1,
            from: "None".into(),
            to: "prod".into(),
            state: TransitionState::Requested,
            archive_existing: false,
            comment: String::new(),
            requested_by: ana.principal,
            requested_at: 1,
            decided_at: None,
            approvals: Vec::new(),
        };
        // As somebody who saw the stage before it had its gate.
        let open = Stage::open("prod");
        let judged = Judged { to: &open, scan: ScanVerdict::None };
        let changed = house.store.request_transition(&version, &asked, &judged).await.unwrap_err();
        assert_eq!((changed.code(), changed.reason_text()), (Code::Conflict, "STAGES_CHANGED"));
        // As somebody who saw the metric before it fell.
        let judged = Judged { to: &gated, scan: ScanVerdict::None };
        let lacks = house.store.request_transition(&version, &asked, &judged).await.unwrap_err();
        assert_eq!(lacks.reason_text(), "STAGE_GATE");
        let said = Approval { by: ana.principal, approved: true, comment: String::new(), at: 1 };
        let words = Some((&version, judged));
        let late = house.store.decide(version.model_id, &asked, &said, words).await.unwrap_err();
        assert_eq!(late.reason_text(), "STAGE_GATE");
        assert_eq!(house.get_version(&ana, "m", "1").await.unwrap().stage, "None");
    })
    .await;
}

#[tokio::test]
async fn an_alias_that_was_protected_meanwhile_is_not_moved() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        let version = house.live(&ana, 1).await;
        let moved = |protected, by_admin| AliasMove {
            name: "prod",
            to: &version,
            protected,
            expected: None,
            by_admin,
        };
        let by = ana.principal;
        house.store.set_alias(&moved(Some(true), true), by).await.unwrap();
        let refused = house.store.set_alias(&moved(None, false), by).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.reason_text()),
            (Code::PermissionDenied, "ALIAS_PROTECTED")
        );
        let refused = house.store.delete_alias(version.model_id, "prod", by, false).await;
        assert_eq!(refused.unwrap_err().reason_text(), "ALIAS_PROTECTED");
        assert!(house.store.delete_alias(version.model_id, "prod", by, true).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn tags_and_aliases_change_no_order_and_a_new_name_does() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        house.version(&ana, "m").await;
        let model = house.get_model(&ana, "m").await.unwrap().update_time;
        let first = house.get_version(&ana, "m", "1").await.unwrap().update_time;
        let tags = std::collections::HashMap::from([("k".to_owned(), "v".to_owned())]);
        let set = wire::SetVersionTagsRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "1".into(),
            tags: tags.clone(),
        };
        house.versions().set_version_tags(house.by(&ana, set)).await.unwrap();
        let delete = wire::DeleteVersionTagRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "1".into(),
            key: "k".into(),
        };
        house.versions().delete_version_tag(house.by(&ana, delete)).await.unwrap();
        let set = wire::SetModelTagsRequest { namespace: "ml".into(), name: "m".into(), tags };
        house.models().set_model_tags(house.by(&ana, set)).await.unwrap();
        house.alias(&ana, "m", "prod", "1").await.unwrap();
        house.alias(&ana, "m", "prod", "2").await.unwrap();
        let now = house.get_version(&ana, "m", "1").await.unwrap();
        assert_eq!(now.update_time, first);
        assert_eq!(house.get_model(&ana, "m").await.unwrap().update_time, model);
        let rename = wire::UpdateModelRequest {
            namespace: "ml".into(),
            name: "m".into(),
            new_name: Some("renamed".into()),
            ..Default::default()
        };
        house.models().update_model(house.by(&ana, rename)).await.unwrap();
        let at = |time: Option<prost_types::Timestamp>| time.map(|at| (at.seconds, at.nanos));
        let renamed = house.get_version(&ana, "renamed", "1").await.unwrap().update_time;
        assert!(at(renamed) > at(first), "{renamed:?} {first:?}");
    })
    .await;
}

#[tokio::test]
async fn cards_come_back_and_totals_are_those_of_the_files() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.with_files(&ana, "m", &[("a", &[1; 1_000])]).await;
        house.with_files(&ana, "m", &[("a", &[2; 3_000]), ("b", b"")]).await;
        house.model(&ana, "empty").await;
        let set = |version, markdown: &str| wire::SetCardRequest {
            namespace: "ml".into(),
            name: "m".into(),
            version,
            markdown: markdown.into(),
        };
        let get = async |version| {
            let request =
                wire::GetCardRequest { namespace: "ml".into(), name: "m".into(), version };
            let found = house.models().get_card(house.by(&ana, request)).await;
            found.map(|found| found.into_inner().card.map(|card| card.markdown))
        };
        assert_eq!(get(0).await.ok().flatten().unwrap_or_default(), "", "none yet");
        for (version, text) in [(0, "# m"), (2, "the second"), (2, "the second, again")] {
            house.models().set_card(house.by(&ana, set(version, text))).await.unwrap();
        }
        assert_eq!(get(0).await.unwrap().unwrap(), "# m");
        assert_eq!(get(2).await.unwrap().unwrap(), "the second, again");
        let none = house.models().set_card(house.by(&ana, set(9, "x"))).await.unwrap_err();
        assert_eq!(none.code(), tonic::Code::NotFound);
        let long = "x".repeat((1 << 20) + 1);
        let long = house.models().set_card(house.by(&ana, set(0, &long))).await.unwrap_err();
        assert_eq!(ServiceError::from(long).field_name(), Some("markdown"));

        let request = wire::GetStatisticsRequest { namespace: "ml".into() };
        let counted = house.models().get_statistics(house.by(&ana, request)).await.unwrap();
        let counted = counted.into_inner();
        assert_eq!(
            (counted.model_count, counted.version_count, counted.total_bytes),
            (2, 2, 4_000)
        );
        assert!((counted.average_bytes - 2_000.0).abs() < f64::EPSILON, "{counted:?}");
        let nobody = wire::GetStatisticsRequest::default();
        let hidden = house.models().get_statistics(house.by(&Who::user(), nobody)).await.unwrap();
        assert_eq!(hidden.into_inner().total_bytes, 0);
    })
    .await;
}
