//! Every mutation is an event of its own kind, in the order of commits.

use std::collections::HashMap;

use wire::EventKind as Kind;

use super::*;

/// Kinds that this brings not about: a signature and lost bytes have their own tests, a purge
/// comes with time.
const ELSEWHERE: [Kind; 3] = [Kind::VersionSigned, Kind::VersionFailed, Kind::ModelPurged];

/// What has been told of version 1 of model `m` so far.
struct Told<'a> {
    house: &'a House,
    ana: &'a Who,
    /// Another one who may write.
    bob: Who,
    model_id: String,
    after: i64,
    seen: Vec<Kind>,
}

/// One call by somebody, and the kinds that it brings, in their order.
macro_rules! brings {
    ($told:ident, $who:ident, $client:ident.$call:ident($request:expr) => $($kind:ident),+) => {{
        let request = $told.house.by($told.who(stringify!($who)), $request);
        let answer = $told.house.$client().$call(request).await.unwrap().into_inner();
        $told.expect(&[$(Kind::$kind),+], stringify!($call)).await;
        answer
    }};
}

impl<'a> Told<'a> {
    async fn of(house: &'a House, ana: &'a Who) -> Self {
        house.catalog.dataset("ml/icons", 1);
        let model_id = house.model(ana, "m").await.id;
        house.version(ana, "m").await;
        let bob = Who::user();
        let resource = Resource::model(model_id.parse().unwrap());
        house.grant(&bob, resource, Level::Write).await;
        eventually(async || house.get_model(&bob, "m").await.is_ok()).await;
        let mut told = Self { house, ana, bob, model_id, after: 0, seen: Vec::new() };
        let made = [Kind::ModelCreated, Kind::VersionCreated, Kind::VersionReady];
        told.expect(&made, "making them").await;
        told
    }

    fn who(&self, name: &str) -> &Who {
        if name == "bob" { &self.bob } else { self.ana }
    }

    /// That since the last look there came events of these kinds and no others.
    async fn expect(&mut self, kinds: &[Kind], by: &str) {
        let request = wire::ListEventsRequest {
            namespace: "ml".into(),
            after: self.after,
            ..Default::default()
        };
        let listed = self.house.events().list_events(self.house.by(self.ana, request)).await;
        let listed = listed.unwrap().into_inner();
        let found: Vec<Kind> = listed.events.iter().map(wire::Event::kind).collect();
        assert_eq!(found, kinds, "{by}");
        assert!(
            listed.events.iter().all(|of| of.model_id == self.model_id && !of.actor.is_empty())
        );
        self.after = listed.next;
        self.seen.extend(found);
    }
}

fn tags() -> HashMap<String, String> {
    HashMap::from([("k".to_owned(), "v".to_owned())])
}

async fn of_the_model(told: &mut Told<'_>) {
    let update = |description: Option<&str>, new_name: Option<&str>| wire::UpdateModelRequest {
        namespace: "ml".into(),
        name: "m".into(),
        description: description.map(str::to_owned),
        new_name: new_name.map(str::to_owned),
    };
    brings!(told, ana, models.update_model(update(Some("d"), None)) => ModelUpdated);
    brings!(told, ana, models.update_model(update(None, Some("n"))) => ModelRenamed);
    let back = wire::UpdateModelRequest { name: "n".into(), ..update(None, Some("m")) };
    brings!(told, ana, models.update_model(back) => ModelRenamed);
    let set = wire::SetModelTagsRequest { namespace: "ml".into(), name: "m".into(), tags: tags() };
    brings!(told, ana, models.set_model_tags(set) => ModelTagSet);
    let gone =
        wire::DeleteModelTagRequest { namespace: "ml".into(), name: "m".into(), key: "k".into() };
    brings!(told, ana, models.delete_model_tag(gone) => ModelTagDeleted);
    let card = wire::SetCardRequest {
        namespace: "ml".into(),
        name: "m".into(),
        version: 0,
        markdown: "#".into(),
    };
    brings!(told, ana, models.set_card(card) => CardSet);
}

async fn of_the_version(told: &mut Told<'_>) {
    let update = wire::UpdateVersionRequest {
        namespace: "ml".into(),
        model: "m".into(),
        version: "1".into(),
        description: Some("d".into()),
        ..Default::default()
    };
    brings!(told, ana, versions.update_version(update) => VersionUpdated);
    let set = wire::SetVersionTagsRequest {
        namespace: "ml".into(),
        model: "m".into(),
        version: "1".into(),
        tags: tags(),
    };
    brings!(told, ana, versions.set_version_tags(set) => VersionTagSet);
    let gone = wire::DeleteVersionTagRequest {
        namespace: "ml".into(),
        model: "m".into(),
        version: "1".into(),
        key: "k".into(),
    };
    brings!(told, ana, versions.delete_version_tag(gone) => VersionTagDeleted);
    let log = wire::LogVersionDataRequest {
        namespace: "ml".into(),
        model: "m".into(),
        version: "1".into(),
        params: tags(),
        ..Default::default()
    };
    brings!(told, ana, versions.log_version_data(log) => VersionDataLogged);
    let add = wire::AddInputsRequest {
        namespace: "ml".into(),
        model: "m".into(),
        version: "1".into(),
        datasets: vec![wire::DatasetInput {
            namespace: "ml".into(),
            dataset: "icons".into(),
            version: 1,
            context: String::new(),
        }],
        ..Default::default()
    };
    brings!(told, ana, lineage.add_inputs(add) => LineageAdded);
    let scan =
        wire::ScanVersionRequest { namespace: "ml".into(), model: "m".into(), version: "1".into() };
    brings!(told, ana, trust.scan_version(scan) => VersionScanned);
}

async fn of_its_life(told: &mut Told<'_>) {
    let alias = wire::SetAliasRequest {
        namespace: "ml".into(),
        model: "m".into(),
        alias: "a".into(),
        version: "1".into(),
        ..Default::default()
    };
    brings!(told, ana, lifecycle.set_alias(alias) => AliasSet);
    let gone =
        wire::DeleteAliasRequest { namespace: "ml".into(), model: "m".into(), alias: "a".into() };
    brings!(told, ana, lifecycle.delete_alias(gone) => AliasDeleted);
    let stage = |name: &str, approvals_required| wire::Stage {
        name: name.into(),
        approvals_required,
        ..Default::default()
    };
    let stages = wire::SetStagesRequest {
        namespace: "ml".into(),
        stages: vec![stage("open", 0), stage("prod", 1)],
    };
    told.house.lifecycle().set_stages(told.house.by(told.ana, stages)).await.unwrap();
    let go = |stage: &str| wire::TransitionStageRequest {
        namespace: "ml".into(),
        model: "m".into(),
        version: "1".into(),
        stage: stage.into(),
        ..Default::default()
    };
    brings!(told, ana, lifecycle.transition_stage(go("open")) => StageChanged);
    let decide = |asked: wire::TransitionStageResponse, approve| wire::DecideTransitionRequest {
        id: asked.transition.unwrap().id,
        approve,
        comment: String::new(),
    };
    let asked = brings!(told, ana, lifecycle.transition_stage(go("prod")) => StageRequested);
    brings!(told, bob, lifecycle.decide_transition(decide(asked, false)) => StageRejected);
    let asked = brings!(told, ana, lifecycle.transition_stage(go("prod")) => StageRequested);
    let yes = decide(asked, true);
    brings!(told, bob, lifecycle.decide_transition(yes) => StageApproved, StageChanged);
}

async fn of_its_end(told: &mut Told<'_>) {
    let put = wire::PutDeploymentRequest {
        namespace: "ml".into(),
        model: "m".into(),
        environment: "eu".into(),
        name: "api".into(),
        version: "1".into(),
        state: wire::DeploymentState::Running.into(),
        ..Default::default()
    };
    brings!(told, ana, lifecycle.put_deployment(put) => DeploymentChanged);
    let gone = wire::DeleteDeploymentRequest {
        namespace: "ml".into(),
        model: "m".into(),
        environment: "eu".into(),
        name: "api".into(),
    };
    brings!(told, ana, lifecycle.delete_deployment(gone) => DeploymentDeleted);
    let gone = wire::DeleteVersionRequest {
        namespace: "ml".into(),
        model: "m".into(),
        version: "1".into(),
    };
    brings!(told, ana, versions.delete_version(gone) => VersionDeleted);
    let back = wire::RestoreVersionRequest {
        namespace: "ml".into(),
        model: "m".into(),
        version: "1".into(),
    };
    brings!(told, ana, versions.restore_version(back) => VersionRestored);
    let gone = wire::DeleteModelRequest { namespace: "ml".into(), name: "m".into() };
    brings!(told, ana, models.delete_model(gone) => ModelDeleted);
    let back = wire::RestoreModelRequest { id: told.model_id.clone() };
    brings!(told, ana, models.restore_model(back) => ModelRestored);
}

#[tokio::test]
async fn every_mutation_is_an_event_of_its_own_kind() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let mut told = Told::of(&house, &ana).await;
        of_the_model(&mut told).await;
        of_the_version(&mut told).await;
        of_its_life(&mut told).await;
        of_its_end(&mut told).await;
        for kind in crate::model::EventKind::ALL {
            let kind = Kind::try_from(kind as i32).unwrap();
            assert!(ELSEWHERE.contains(&kind) != told.seen.contains(&kind), "{kind:?}");
        }
    })
    .await;
}
