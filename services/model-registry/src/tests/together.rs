//! Writes that share a transaction: small files of trees, versions of one model.

use std::collections::BTreeSet;

use caller::{Caller, Secret};
use futures::StreamExt;
use futures::future::join_all;
use model_operations::app::{CreateVersion, Registry};
use options_api::v1::Role;
use registry_model::{ModelPath, NewVersion};
use service_error::Code;
use sha2::{Digest as _, Sha256};

use super::*;

fn caller(who: &Who) -> Caller {
    Caller {
        principal: who.principal,
        name: "ana".into(),
        role: Role::User,
        read_only: false,
        token: None,
        actor: None,
        service: false,
        jwt: Secret::new(String::new()),
        expires_at: 0,
    }
}

pub(super) async fn put(registry: &Registry, who: &Who, path: &str, content: &[u8]) {
    let pieces: Vec<_> = content.chunks(1_000).map(|piece| Ok(piece.to_vec().into())).collect();
    let pieces = futures::stream::iter(pieces).boxed();
    registry.put_tree_file(&caller(who), "ml", path, pieces).await.unwrap();
}

async fn get(registry: &Registry, who: &Who, path: &str) -> Vec<u8> {
    let found = registry.open_tree_file(&caller(who), "ml", path, None).await.unwrap();
    let pieces: Vec<_> = found.1.map(Result::unwrap).collect().await;
    pieces.concat()
}

#[tokio::test]
async fn a_file_that_many_replace_is_counted_once() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        // Two replicas: each gathers its own writes.
        let replicas = [house.registry(), house.registry()];
        let contents: Vec<Vec<u8>> = (0..60_u8)
            .map(|at| vec![at; if at % 10 == 9 { 50_000 } else { 100 + usize::from(at) }])
            .collect();
        let path = |at: usize| format!("run/{}.bin", at % 3);
        let puts = contents.iter().enumerate().map(|(at, content)| {
            let (registry, ana) = (&replicas[at % 2], &ana);
            async move { put(registry, ana, &path(at), content).await }
        });
        join_all(puts).await;
        replicas[0].collect_garbage(None).await.unwrap();
        let mut kept = BTreeSet::new();
        for at in 0..3 {
            let content = get(&replicas[1], &ana, &path(at)).await;
            assert!(contents.iter().skip(at).step_by(3).any(|sent| *sent == content));
            kept.insert(content);
        }
        for content in &contents {
            let is_kept =
                house.store.blob(&Sha256::digest(content).into()).await.unwrap().is_some();
            assert_eq!(is_kept, kept.contains(content), "what was replaced is free, and no more");
        }
        let put_again = contents.iter().take(20).enumerate().map(|(at, content)| {
            let (registry, ana) = (&replicas[at % 2], &ana);
            async move { put(registry, ana, &path(at), content).await }
        });
        let remove = async {
            for _ in 0..10 {
                replicas[0].remove_tree(&caller(&ana), "ml", "run").await.unwrap();
            }
        };
        futures::future::join(join_all(put_again), remove).await;
        replicas[1].remove_tree(&caller(&ana), "ml", "run").await.unwrap();
        replicas[1].collect_garbage(None).await.unwrap();
        for content in &contents {
            let found = house.store.blob(&Sha256::digest(content).into()).await.unwrap();
            assert_eq!(found, None, "nothing stays counted");
        }
        // Bytes that went and come again are kept anew.
        for (at, content) in contents.iter().take(3).enumerate() {
            put(&replicas[0], &ana, &path(at), content).await;
            assert_eq!(get(&replicas[1], &ana, &path(at)).await, *content);
        }
        replicas[0].remove_tree(&caller(&ana), "ml", "run").await.unwrap();
        assert_eq!(replicas[0].collect_garbage(None).await.unwrap().blobs, 3);
    })
    .await;
}

#[tokio::test]
async fn a_small_file_is_read_by_ranges_and_becomes_a_version_s() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let registry = house.registry();
        let content: Vec<u8> = (0..=255).cycle().take(32 << 10).collect();
        put(&registry, &ana, "run/model/a.bin", &content).await;
        put(&registry, &ana, "run/model/empty", b"").await;
        for range in [0..1, 5..300, 32_767..32_768, 40..40] {
            let (ana, part) = (caller(&ana), Some(range.clone()));
            let found = registry.open_tree_file(&ana, "ml", "run/model/a.bin", part).await;
            let pieces: Vec<_> = found.unwrap().1.map(Result::unwrap).collect().await;
            let (begin, end) = (range.start as usize, range.end as usize);
            assert_eq!(pieces.concat(), content[begin..end]);
        }
        assert_eq!(get(&registry, &ana, "run/model/empty").await, b"");
        let kept =
            std::fs::read_dir(house.objects.path().join("models")).map_or(0, Iterator::count);
        assert_eq!(kept, 0, "rows hold them");
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_a_directory_too_becomes_no_version() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let registry = house.registry();
        house.model(&ana, "torn").await;
        let namespace = house.catalog.namespace("ml");
        for path in ["run/m/a.bin", "run/m", "run/m/b/c.bin"] {
            put(&registry, &ana, path, path.as_bytes()).await;
        }
        let path = ModelPath::new("ml", "torn");
        let register = async || {
            let tree = Some((namespace, "run".to_owned()));
            let new = NewVersion { tree, ..NewVersion::default() };
            let create = CreateVersion { new, ..CreateVersion::default() };
            registry.create_version(&caller(&ana), &path, create).await
        };
        let error = register().await.unwrap_err();
        assert_eq!((error.code(), error.field_name()), (Code::InvalidArgument, Some("source")));
        let removed = registry.remove_tree(&caller(&ana), "ml", "run/m").await.unwrap();
        assert_eq!(removed, 1, "the file goes, and what lies below its name stays");
        assert_eq!(get(&registry, &ana, "run/m/a.bin").await, b"run/m/a.bin");
        assert_eq!(register().await.unwrap().number, 1);
        let removed = registry.remove_tree(&caller(&ana), "ml", "run/m").await.unwrap();
        assert_eq!(removed, 2);
    })
    .await;
}

#[tokio::test]
async fn versions_of_many_writers_are_numbered_without_a_gap() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "busy").await;
        house.model(&ana, "other").await;
        let mut labelled = new("busy");
        labelled.label = "1.0.0".into();
        house.register(&ana, labelled.clone()).await.unwrap();
        let made = join_all((0..64).map(|at| {
            let mut request = if at % 8 == 7 { new("other") } else { new("busy") };
            request.tags.insert("at".into(), at.to_string());
            if at == 20 {
                request.label = "1.0.0".into();
            }
            house.register(&ana, request)
        }));
        let mut numbers = BTreeSet::new();
        for (at, made) in made.await.into_iter().enumerate() {
            match made {
                Ok(version) if at % 8 != 7 => assert!(numbers.insert(version.number)),
                Ok(version) => assert_eq!(version.tags["at"], at.to_string()),
                Err(error) => {
                    assert_eq!((at, error.code()), (20, Code::AlreadyExists), "{error}");
                    assert_eq!(error.field_name(), Some("label"));
                }
            }
        }
        assert_eq!(numbers, (2..=56).collect(), "one failed, and took no number");
        let model = house.get_model(&ana, "busy").await.unwrap();
        assert_eq!((model.latest_version, model.version_count), (56, 56));
        let request = wire::ListEventsRequest {
            namespace: "ml".into(),
            model: "busy".into(),
            page_size: 200,
            ..Default::default()
        };
        let listed = house.events().list_events(house.by(&ana, request)).await.unwrap();
        let told: Vec<i64> = listed
            .into_inner()
            .events
            .iter()
            .filter(|event| event.kind() == wire::EventKind::VersionCreated)
            .map(|event| event.version)
            .collect();
        assert_eq!(told, (1..=56).collect::<Vec<_>>(), "in the order of their numbers");
    })
    .await;
}
