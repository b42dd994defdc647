//! Tags, labels, notes.

use std::fs;

use super::*;
use crate::app::{MarkScope, Marking};
use crate::store::{Annotation, TagRow, TagsAfter};

async fn tag(house: &House, name: &str, path: &str, scope: MarkScope, remove: bool) -> i64 {
    let paths = [format!("{}/{path}", house.location.path)];
    let marking = Marking { name, paths: &paths, scope, remove, personal: false };
    house.indexer.tag(&house.caller, marking).await.unwrap()
}

async fn tagged(house: &House, name: &str) -> Vec<String> {
    let query = Query { tags: vec![name.to_owned()], ..Query::default() };
    let mut paths: Vec<String> = house.all(query).await.iter().map(Found::path).collect();
    paths.sort();
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_imply_others_and_follow_files_and_contents() {
    on_each(|house| async move {
        house.write("a/cat.jpg", "cat");
        house.write("a/copy.jpg", "cat");
        house.write("a/dog.jpg", "dog");
        house.scan_as(Mode::Content, false).await;
        assert_eq!(tag(&house, "cat", "a/cat.jpg", MarkScope::Content, false).await, 1);
        assert_eq!(tag(&house, "dog", "a/dog.jpg", MarkScope::Entry, false).await, 1);
        assert_eq!(tag(&house, "dog", "a/dog.jpg", MarkScope::Entry, false).await, 0);
        assert_eq!(tagged(&house, "cat").await, ["a/cat.jpg", "a/copy.jpg"]);
        for name in ["cat", "dog"] {
            house.indexer.set_tag(&house.caller, name, &["animal".to_owned()]).await.unwrap();
        }
        house.indexer.set_tag(&house.caller, "animal", &["living".to_owned()]).await.unwrap();
        assert_eq!(tagged(&house, "living").await.len(), 3);
        let circle =
            house.indexer.set_tag(&house.caller, "living", &["cat".to_owned()]).await.unwrap_err();
        assert_eq!(circle.reason_text(), "TAG_CIRCLE");
        // The file is moved, its directory is moved: the tag goes along.
        fs::rename(house.path("a/dog.jpg"), house.path("hound.jpg")).unwrap();
        fs::rename(house.path("a"), house.path("b")).unwrap();
        house.scan_as(Mode::Content, true).await;
        house.assert_equal().await;
        assert_eq!(tagged(&house, "dog").await, ["hound.jpg"]);
        assert_eq!(tagged(&house, "cat").await, ["b/cat.jpg", "b/copy.jpg"]);
        let tags = async |after: TagsAfter, limit| {
            let locations = [house.location.id];
            let found =
                house.store.tags(&locations, true, house.caller.principal, after, limit).await;
            let found: Vec<TagRow> = found.unwrap();
            found.into_iter().map(|tag| (tag.name, tag.count)).collect::<Vec<_>>()
        };
        let said = |list: &[(&str, i64)]| -> Vec<(String, i64)> {
            list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let by_name = tags(TagsAfter::Name("animal".to_owned()), 10).await;
        assert_eq!(by_name, said(&[("cat", 2), ("dog", 1), ("living", 0)]));
        let by_count = tags(TagsAfter::Count(None), 2).await;
        assert_eq!(by_count, said(&[("cat", 2), ("dog", 1)]));
        let rest = tags(TagsAfter::Count(Some((1, "dog".to_owned()))), 10).await;
        assert_eq!(rest, said(&[("animal", 0), ("living", 0)]));
        assert_eq!(tag(&house, "dog", "hound.jpg", MarkScope::Entry, true).await, 1);
        assert!(tagged(&house, "dog").await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_found_by_what_is_above_them_and_notes_stay() {
    on_each(|house| async move {
        house.write("one", "1");
        house.write("two", "2");
        house.scanned().await;
        let paths = [format!("{}/one", house.location.path)];
        let marking = |remove| Marking {
            name: "animal/cat",
            paths: &paths,
            scope: MarkScope::Entry,
            remove,
            personal: false,
        };
        let label =
            |confidence| house.indexer.label(&house.caller, marking(false), confidence, "m1");
        assert_eq!(label(0.5).await.unwrap(), 1);
        assert_eq!(label(0.9).await.unwrap(), 1);
        assert_eq!(label(1.5).await.unwrap_err().field_name(), Some("confidence"));
        for (name, count) in [("animal", 1), ("animal/cat", 1), ("anim", 0), ("animal/c", 0)] {
            let query = Query { labels: vec![name.to_owned()], ..Query::default() };
            assert_eq!(house.all(query).await.len(), count, "{name}");
        }
        let note = |note: Option<&str>, favorite, hidden| {
            let said = Annotation {
                note: note.map(str::to_owned),
                favorite,
                hidden,
                properties: vec![("project".to_owned(), "x".to_owned())],
            };
            house.indexer.annotate(&house.caller, &paths[0], MarkScope::Entry, false, said)
        };
        note(Some("mind this"), Some(true), None).await.unwrap();
        note(None, None, Some(true)).await.unwrap();
        let found = house.all(Query { with_hidden: true, ..Query::default() }).await;
        let said = house.store.said_of(&found, house.caller.principal).await.unwrap();
        let said = said.values().next().unwrap();
        assert_eq!((said.note.as_str(), said.favorite, said.hidden), ("mind this", true, true));
        let label = said.labels.iter().map(|l| (l.path.as_str(), l.confidence, l.source.as_str()));
        assert_eq!(label.collect::<Vec<_>>(), [("animal/cat", 0.9, "m1")]);
        assert_eq!(said.properties.get("project").map(String::as_str), Some("x"));
        assert_eq!(house.all(Query::default()).await.len(), 1, "the hidden one is not shown");
        let query = Query { favorites_only: true, with_hidden: true, ..Query::default() };
        assert_eq!(house.all(query).await.len(), 1);
        let unknown = Marking {
            name: "x",
            paths: &[format!("{}/nothing", house.location.path)],
            scope: MarkScope::Entry,
            remove: false,
            personal: false,
        };
        assert_eq!(
            house.indexer.tag(&house.caller, unknown).await.unwrap_err().reason_text(),
            "FILE_NOT_FOUND"
        );
        let content = Marking {
            name: "x",
            paths: &paths,
            scope: MarkScope::Content,
            remove: false,
            personal: false,
        };
        let error = house.indexer.tag(&house.caller, content).await.unwrap_err();
        assert_eq!(error.reason_text(), "CONTENT_UNKNOWN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_seen_by_their_files_and_said_by_who_may_write_there() {
    on_each(|house| async move {
        house.write("one", "1");
        house.write("two", "2");
        house.scan_as(Mode::Content, false).await;
        tag(&house, "secret", "one", MarkScope::Entry, false).await;
        tag(&house, "bytes", "two", MarkScope::Content, false).await;
        let implies = async |name: &str, other: &str| {
            house.indexer.set_tag(&house.caller, name, &[other.to_owned()]).await.unwrap();
        };
        implies("secret", "worse").await;
        implies("unused", "nothing").await;
        let (here, other) = ([house.location.id], PrincipalId::new());
        let seen = async |locations: &[i64], is_all, viewer: PrincipalId| {
            let mut names = Vec::new();
            for after in [TagsAfter::Name(String::new()), TagsAfter::Count(None)] {
                let found = house.store.tags(locations, is_all, viewer, after, 100).await.unwrap();
                let mut found: Vec<String> = found.into_iter().map(|tag| tag.name).collect();
                found.sort_unstable();
                names.push(found);
            }
            assert_eq!(names[0], names[1]);
            names.remove(0)
        };
        let nothing: [&str; 0] = [];
        assert_eq!(seen(&[], false, other).await, nothing);
        assert_eq!(seen(&here, false, other).await, ["bytes", "secret", "worse"]);
        // Who put it there knows it, whatever became of the file.
        assert_eq!(seen(&[], false, house.caller.principal).await, ["bytes", "secret", "worse"]);
        let all = ["bytes", "nothing", "secret", "unused", "worse"];
        assert_eq!(seen(&here, true, other).await, all);
        let elsewhere = async |name: &str, by: PrincipalId, locations: &[i64]| {
            house.store.is_used_elsewhere(name, by, locations).await.unwrap()
        };
        for name in ["secret", "bytes", "worse"] {
            assert!(elsewhere(name, other, &[]).await, "{name}");
            assert!(!elsewhere(name, other, &here).await, "{name}");
            assert!(!elsewhere(name, house.caller.principal, &[]).await, "{name}");
        }
        assert!(!elsewhere("unused", other, &[]).await && !elsewhere("new", other, &[]).await);
    })
    .await;
}
