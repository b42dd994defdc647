//! Scans as jobs: of what is registered, once for the same bytes, told by the
//! platform's job door; and a gate that has its scan made.

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
        let store = &house.store;
        let id = house.catalog.namespace("ml");
        let model = store.find_model(id, "m").await.unwrap().unwrap();
        let version = store.find_any_version(model.id, 1).await.unwrap().unwrap();
        let owner = ::jobs::Owner {
            principal: bob.principal,
            name: "bob".into(),
            role: options_api::v1::Role::User,
            token: None,
            service: false,
        };
        store.queue_scan(&version, &owner).await.unwrap();
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
