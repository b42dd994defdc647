//! Scans as jobs: of what is registered, once for the same bytes, told by the
//! platform's job door; and a gate that has its scan made.

use futures::StreamExt as _;
use models_api::v1::trust_service_client::TrustServiceClient;
use ops_api::v1 as ops;
use ops_api::v1::jobs_client::JobsClient;
use service_error::Code;

use super::*;

const HOSTILE: &[u8] = b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.";
const CLEAN: &[u8] = b"\x80\x02ccollections\nOrderedDict\n)R.";

async fn in_each_scanning_house<F: Future<Output = ()>>(case: impl Fn(House) -> F) {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        case(House::open_with(&sql, Settings::default()).await).await;
    }
}

impl House {
    fn jobs(&self) -> JobsClient<Transport> {
        JobsClient::new(self.transport.clone())
    }

    /// Jobs of somebody, newest first.
    async fn jobs_of(&self, who: &Who) -> Vec<ops::Job> {
        let request = ops::JobsListRequest::default();
        self.jobs().list(self.by(who, request)).await.unwrap().into_inner().jobs
    }

    async fn scan_ends(&self, who: &Who, version: &str) -> wire::ModelVersion {
        eventually(async || {
            let found = self.get_version(who, "m", version).await.unwrap();
            found.scan() != wire::ScanVerdict::None
        })
        .await;
        eventually(async || {
            self.jobs_of(who).await.iter().all(|job| job.state() == ops::JobState::Completed)
        })
        .await;
        self.get_version(who, "m", version).await.unwrap()
    }

    async fn scan_now(&self, who: &Who, version: &str) -> Result<(), ServiceError> {
        let request = wire::ScanVersionRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: version.into(),
        };
        let mut trust = TrustServiceClient::new(self.transport.clone());
        Ok(trust.scan_version(self.by(who, request)).await.map(drop)?)
    }

    /// Has a version of the model `m` scanned by a job, for somebody.
    async fn queue_scan(&self, who: &Who, number: i64) {
        let id = self.catalog.namespace("ml");
        let model = self.store.find_model(id, "m").await.unwrap().unwrap();
        let version = self.store.find_any_version(model.id, number).await.unwrap().unwrap();
        let owner = ::jobs::Owner {
            principal: who.principal,
            name: "somebody".into(),
            role: options_api::v1::Role::User,
            token: None,
            service: false,
        };
        self.store.queue_scan(&version, &owner).await.unwrap();
    }

    /// The one object of files: lost, or there again.
    fn lose_object(&self, lost: bool) {
        let aside = self.objects.path().join("aside");
        let found = std::process::Command::new("find")
            .arg(self.objects.path())
            .args(["-type", "f", "-path", "*cas/sha256*"])
            .output()
            .unwrap();
        if lost {
            let path = String::from_utf8(found.stdout).unwrap();
            std::fs::write(&aside, path.trim()).unwrap();
            std::fs::rename(path.trim(), aside.with_extension("object")).unwrap();
        } else {
            let path = std::fs::read_to_string(&aside).unwrap();
            std::fs::rename(aside.with_extension("object"), path).unwrap();
        }
    }

    async fn enter(&self, who: &Who, version: &str, stage: &str) -> Result<(), ServiceError> {
        let request = wire::TransitionStageRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: version.into(),
            stage: stage.into(),
            ..Default::default()
        };
        Ok(self.lifecycle().transition_stage(self.by(who, request)).await.map(drop)?)
    }

    async fn scanned_stage(&self, who: &Who) {
        let stage = wire::Stage { name: "prod".into(), require_scan: true, ..Default::default() };
        let request = wire::SetStagesRequest { namespace: "ml".into(), stages: vec![stage] };
        self.lifecycle().set_stages(self.by(who, request)).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_registered_is_scanned_once_for_its_bytes() {
    in_each_scanning_house(async |house| {
        let ana = house.ana().await;
        let files: [(&str, &[u8]); 3] = [("a.pkl", HOSTILE), ("b.pkl", HOSTILE), ("c.pkl", CLEAN)];
        let (made, _) = house.with_files(&ana, "m", &files).await;
        let scanned = house.scan_ends(&ana, "1").await;
        assert_eq!(scanned.scan(), wire::ScanVerdict::Dangerous);
        assert_eq!(scanned.update_time, made.update_time, "a scan changes nothing of it");
        let job = house.jobs_of(&ana).await.remove(0);
        assert_eq!((&*job.kind, &*job.title), ("scan", "ml/m/1"));
        assert_eq!((job.result["files"], job.result["scanned"]), (3, 2), "{job:?}");
        house.with_files(&ana, "m", &[("other.pkl", CLEAN)]).await;
        assert_eq!(house.scan_ends(&ana, "2").await.scan(), wire::ScanVerdict::Clean);
        let job = house.jobs_of(&ana).await.remove(0);
        assert_eq!((job.result["files"], job.result["scanned"]), (1, 0), "{job:?}");
        assert!(house.jobs_of(&Who::user()).await.is_empty(), "nobody else's");
        // A version without files has nothing to scan.
        house.version(&ana, "m").await;
        assert_eq!(house.jobs_of(&ana).await.len(), 2);
        let get = wire::GetScanRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "1".into(),
            ..Default::default()
        };
        let mut trust = TrustServiceClient::new(house.transport.clone());
        let told = trust.get_scan(house.by(&ana, get)).await.unwrap().into_inner();
        assert_eq!((told.verdict(), &*told.job), (wire::ScanVerdict::Dangerous, ""));
    })
    .await;
}

#[tokio::test]
async fn a_gate_has_the_scan_made_that_it_waits_for() {
    // Versions of before, and of an older scanner, are scanned by nobody.
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.scanned_stage(&ana).await;
        house.with_files(&ana, "m", &[("model.pkl", CLEAN)]).await;
        let refused = house.enter(&ana, "1", "prod").await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(refused.reason_text(), "STAGE_GATE");
        let job = house.jobs_of(&ana).await.remove(0);
        let name = refused.detail("job").expect("the job's name");
        assert!(name == job.name && refused.message().contains(name), "{refused}");
        house.scan_ends(&ana, "1").await;
        house.enter(&ana, "1", "prod").await.unwrap();
        // Nothing is scanned where there is nothing.
        house.version(&ana, "m").await;
        let refused = house.enter(&ana, "2", "prod").await.unwrap_err();
        assert_eq!((refused.reason_text(), refused.detail("job")), ("STAGE_GATE", None));
    })
    .await;
}

#[tokio::test]
async fn whose_right_is_gone_has_nothing_scanned() {
    in_each_house(async |house| {
        let (ana, bob) = (house.ana().await, Who::user());
        house.with_files(&ana, "m", &[("model.pkl", CLEAN)]).await;
        house.queue_scan(&bob, 1).await;
        eventually(async || {
            house.jobs_of(&bob).await.iter().any(|job| job.state() == ops::JobState::Failed)
        })
        .await;
        let unscanned = house.get_version(&ana, "m", "1").await.unwrap();
        assert_eq!(unscanned.scan(), wire::ScanVerdict::None);
    })
    .await;
}

#[tokio::test]
async fn a_collection_in_the_background_counts_what_it_removes() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.with_files(&ana, "m", &[("model.pkl", CLEAN), ("big.bin", &[7; 40_000])]).await;
        let delete = wire::DeleteModelRequest { namespace: "ml".into(), name: "m".into() };
        house.models().delete_model(house.by(&ana, delete)).await.unwrap();
        house.store.end_leases().await.unwrap();
        let admin = Who::admin();
        let request = wire::CollectGarbageRequest {
            trash_seconds: Some(0),
            background: true,
            ..Default::default()
        };
        let queued = house.artifacts().collect_garbage(house.by(&admin, request)).await.unwrap();
        let name = queued.into_inner().job;
        eventually(async || {
            house.jobs_of(&admin).await.iter().any(|job| job.state() == ops::JobState::Completed)
        })
        .await;
        let job = house.jobs_of(&admin).await.remove(0);
        assert_eq!((&*job.kind, &job.name), ("gc", &name));
        assert_eq!((job.result["blobs"], job.result["purged_models"]), (2, 1), "{job:?}");
        assert!(job.result["freed_bytes"] > 40_000, "{job:?}");
    })
    .await;
}

/// Kinds of a version's events, in their order.
async fn told(house: &House, who: &Who, version: i64) -> Vec<wire::EventKind> {
    let request = wire::ListEventsRequest { namespace: "ml".into(), ..Default::default() };
    let listed = house.events().list_events(house.by(who, request)).await.unwrap().into_inner();
    let of = listed.events.iter().filter(|event| event.version == version);
    of.map(wire::Event::kind).collect()
}

/// Has events of these kinds sent to an address.
async fn tell(house: &House, who: &Who, url: String, kinds: [wire::EventKind; 2]) {
    let hook = wire::CreateWebhookRequest {
        namespace: "ml".into(),
        name: "ci".into(),
        url,
        kinds: kinds.map(i32::from).to_vec(),
        ..Default::default()
    };
    house.events().create_webhook(house.by(who, hook)).await.unwrap();
}

#[tokio::test]
async fn a_version_fails_when_its_bytes_are_lost_and_is_ready_when_they_are_read_again() {
    use wire::EventKind as Kind;
    in_each_house(async |house| {
        let ana = house.ana().await;
        let (url, received) = events::receiver().await;
        tell(&house, &ana, url, [Kind::VersionReady, Kind::VersionFailed]).await;
        let large = |pickle: &[u8]| [pickle, &[0; 50_000]].concat();
        let (made, _) = house.with_files(&ana, "m", &[("model.pkl", &large(CLEAN))]).await;
        assert_eq!(made.status(), wire::VersionStatus::Ready);
        assert_eq!(told(&house, &ana, 1).await, [Kind::VersionCreated, Kind::VersionReady]);
        let watch = wire::WatchEventsRequest { after: 3, ..Default::default() };
        let watched = house.events().watch_events(house.by(&ana, watch)).await;
        let mut watched = watched.unwrap().into_inner();

        house.lose_object(true);
        for _ in 0..2 {
            let lost = house.scan_now(&ana, "1").await.unwrap_err();
            assert_eq!(lost.reason_text(), "BLOB_LOST");
        }
        let failed = house.get_version(&ana, "m", "1").await.unwrap();
        assert_eq!(failed.status(), wire::VersionStatus::Failed);
        assert!(failed.status_message.starts_with("model.pkl: "), "{failed:?}");
        let batch = watched.next().await.unwrap().unwrap();
        let event = batch.events.iter().find(|event| event.kind() == Kind::VersionFailed).unwrap();
        assert_eq!((&*event.subject, &*event.before), ("status", "ready"));
        assert_eq!(event.after, failed.status_message);
        house.lose_object(false);
        house.scan_now(&ana, "1").await.unwrap();
        let ready = house.get_version(&ana, "m", "1").await.unwrap();
        assert_eq!((ready.status(), &*ready.status_message), (wire::VersionStatus::Ready, ""));
        let (scanned, failed) = (Kind::VersionScanned, Kind::VersionFailed);
        assert_eq!(
            told(&house, &ana, 1).await[2..],
            [scanned, failed, scanned, scanned, Kind::VersionReady],
            "what changed nothing is not told"
        );

        // The same by a job, of other bytes: what is left of the first is out of the way.
        house.lose_object(true);
        std::fs::remove_file(house.objects.path().join("aside.object")).unwrap();
        house.with_files(&ana, "m", &[("model.pkl", &large(HOSTILE))]).await;
        house.lose_object(true);
        house.queue_scan(&ana, 2).await;
        eventually(async || {
            told(&house, &ana, 2).await
                == [Kind::VersionCreated, Kind::VersionReady, scanned, failed]
        })
        .await;
        eventually(async || {
            house.store.deliveries_waiting().await.unwrap() == 0
                && received.lock().unwrap().len() >= 6
        })
        .await;
        let bodies = received.lock().unwrap().clone();
        let actions: Vec<String> = bodies[1..]
            .iter()
            .map(|(_, body)| {
                let body: serde_json::Value = serde_json::from_str(body).unwrap();
                assert_eq!(body["entity"], "model_version");
                body["action"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(actions, ["ready", "failed", "ready", "ready", "failed"]);
    })
    .await;
}
