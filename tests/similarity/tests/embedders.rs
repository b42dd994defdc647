//! Texts through a BERT of a directory and images through the built-in embedders, from the public
//! door; and a dataset whose embedding is cut short by `kill -9`.
//!
//! The model is all-MiniLM-L6-v2, where `QUARRY_TEST_MINILM` says, as `cargo xtask test` sets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the model is where the tester's variable says")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use catalog_api::v1::CreateNamespaceRequest;
use harness::{Database, Platform, Session, Setup, Topology, eventually, put};
use serde_json::Value;
use similarity::picture;
use vectors_api::v1 as api;

const NAMESPACE: &str = "embedders";
const SOON: Duration = Duration::from_secs(90);
/// Texts that a job embeds between two checkpoints.
const BATCH: i64 = 256;

/// The publisher's own examples, in pairs, and what they are like.
const SENTENCES: [&str; 6] = [
    "The cat sits outside",
    "The dog plays in the garden",
    "A man is playing guitar",
    "A woman watches TV",
    "The new movie is awesome",
    "The new movie is so great",
];
const SIMILARITIES: [f64; 3] = [0.2838, -0.0327, 0.8939];

async fn platform(database: Database) -> Platform {
    let model = std::env::var("QUARRY_TEST_MINILM")
        .expect("QUARRY_TEST_MINILM names no model; run by `cargo xtask test`");
    let platform = Setup::new(Topology::OneProcess, database)
        .variable("QUARRY_VECTORS__EMBEDDERS__MINILM__KIND", "local")
        .variable("QUARRY_VECTORS__EMBEDDERS__MINILM__PATH", &model)
        .variable("QUARRY_VECTORS__EMBEDDERS__COPIES__KIND", "perceptual_hash")
        .variable("QUARRY_VECTORS__EMBEDDERS__PALETTES__KIND", "color_histogram")
        .start()
        .await;
    let request = CreateNamespaceRequest { name: NAMESPACE.into(), ..Default::default() };
    platform.admin().namespaces().create_namespace(request).await.unwrap();
    platform
}

fn texts(texts: &[String]) -> RecordBatch {
    let ids = Int64Array::from_iter_values(0..i64::try_from(texts.len()).unwrap());
    let kinds = (0..texts.len()).map(|at| Some(if at % 2 == 0 { "first" } else { "second" }));
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("kind", Arc::new(kinds.collect::<StringArray>()), true),
        ("text", Arc::new(StringArray::from(texts.to_vec())), true),
    ])
    .unwrap()
}

/// (item, score) of what a search finds.
async fn found(platform: &Platform, search: &[&str]) -> Vec<(String, f64)> {
    let mut args = vec!["vectors", "search"];
    args.extend(search);
    args.extend(["-o", "json"]);
    let answer = platform.cli(&args).await.json();
    let hit =
        |hit: &Value| (hit["item_id"].as_str().unwrap().to_owned(), hit["score"].as_f64().unwrap());
    answer["results"].as_array().unwrap().iter().map(hit).collect()
}

fn items(found: &[(String, f64)]) -> Vec<&str> {
    found.iter().map(|(item, _)| item.as_str()).collect()
}

/// A dataset is embedded, and searches by text answer in the order and at the similarities that
/// the model's publisher gives.
async fn sentences_are_found(platform: &Platform) {
    let rows: Vec<String> = SENTENCES.map(str::to_owned).to_vec();
    put(&platform.admin(), NAMESPACE, "d", vec![texts(&rows)]).await.unwrap();
    let dataset = format!("{NAMESPACE}/d");
    let embed = ["vectors", "embed", &dataset, "--column", "text", "--embedder", "minilm"];
    let mut embed = embed.to_vec();
    embed.extend(["-o", "json"]);
    let embedded = platform.cli(&embed).await.json();
    assert_eq!(embedded["job"]["state"], "JOB_STATE_COMPLETED", "{embedded}");
    assert_eq!(embedded["job"]["result"]["rows"], 6, "{embedded}");
    let space = format!("{NAMESPACE}/d/text");
    for (pair, similarity) in SIMILARITIES.iter().enumerate() {
        let query = SENTENCES[2 * pair];
        let all = found(platform, &["--space", &space, query, "-k", "6", "--exact"]).await;
        assert_eq!(all[0].0, (2 * pair).to_string(), "{query}: {all:?}");
        assert!((all[0].1 - 1.0).abs() < 1e-3, "{query}: {all:?}");
        let other = (2 * pair + 1).to_string();
        let score = all.iter().find(|(item, _)| *item == other).unwrap().1;
        assert!((score - similarity).abs() < 5e-4, "{query}: {score}, not {similarity}");
    }
    // The film is the one sentence like the other; who plays a guitar is not like who watches TV.
    let film = found(platform, &["--space", &space, SENTENCES[4], "--threshold", "0.5"]).await;
    assert_eq!(items(&film), ["4", "5"]);
    let cat = found(platform, &["--space", &space, "a cat playing", "-k", "3"]).await;
    assert_eq!(cat[0].0, "0", "{cat:?}");
    assert!(!items(&cat).iter().any(|item| ["3", "4", "5"].contains(item)), "{cat:?}");
    let second = ["--space", &space, "a cat playing", "--filter", "kind = \"second\"", "-k", "1"];
    assert_eq!(items(&found(platform, &second).await), ["1"], "the dog plays");
    let image = platform.scratch().join("x.png");
    std::fs::write(&image, picture(8, [1, 2, 3], 1)).unwrap();
    let image = ["vectors", "search", "--space", &space, "--image", image.to_str().unwrap()];
    assert_eq!(platform.cli(&image).await.code, 7, "this embedder takes texts");
}

fn file(folder: &Path, name: &str, bytes: Vec<u8>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Images are added with their files and found by other images: copies by one space, palettes by
/// another, words of their descriptions by a third.
async fn images_are_found(platform: &Platform) {
    for (space, dimension, metric) in
        [("copies", "64", "hamming"), ("palettes", "64", "cosine"), ("words", "384", "cosine")]
    {
        let embedder = if space == "words" { "minilm" } else { space };
        let name = format!("{NAMESPACE}/{space}");
        let create = ["spaces", "create", &name, "--dimension", dimension, "--metric", metric];
        let mut create = create.to_vec();
        create.extend(["--embedder", embedder, "-o", "json"]);
        platform.cli(&create).await.json();
    }
    let folder = platform.scratch();
    let mut ids = Vec::new();
    for (name, color, at, words) in [
        ("cat.png", [150, 20, 20], 2, "A cute cat sitting on a chair"),
        ("sea.png", [20, 20, 150], 6, "A blue sea under the sun"),
    ] {
        let content = file(&folder, name, picture(96, color, at));
        let content = content.to_str().unwrap();
        let path = format!("data/images/{name}");
        let add = ["images", "add", NAMESPACE, &path, "--content", content, "--description", words];
        let mut add = add.to_vec();
        add.extend(["--space", "copies,palettes,words", "-o", "json"]);
        let added = platform.cli(&add).await.json();
        assert_eq!(
            (&added["image"]["width"], &added["image"]["format"]),
            (&96.into(), &"png".into())
        );
        assert_eq!(added["points"][2]["embedding_type"], "text", "{added}");
        ids.push(added["image"]["id"].as_str().unwrap().to_owned());
    }
    let copy = file(&folder, "copy.png", picture(192, [20, 140, 20], 2));
    let palette = file(&folder, "palette.png", picture(64, [150, 20, 20], 6));
    for (space, query) in [("copies", &copy), ("palettes", &palette)] {
        let space = format!("{NAMESPACE}/{space}");
        let like = ["--space", &space, "--image", query.to_str().unwrap(), "-k", "2"];
        let like = found(platform, &like).await;
        assert_eq!(items(&like), [&ids[0], &ids[1]], "{space}: {like:?}");
    }
    let words = format!("{NAMESPACE}/words");
    let by_words = found(platform, &["--space", &words, "a cat playing", "-k", "2"]).await;
    assert_eq!(by_words[0].0, ids[0], "{by_words:?}");
    assert_eq!(platform.cli(&["images", "delete", NAMESPACE, &ids[0]]).await.code, 0);
    let left = found(platform, &["--space", &words, "a cat playing", "-k", "2"]).await;
    assert_eq!(items(&left), [&ids[1]], "its points went with it");
}

async fn space(session: &Session, name: &str) -> Option<api::Space> {
    let request = api::GetSpaceRequest {
        namespace: NAMESPACE.into(),
        dataset: name.into(),
        space: "text".into(),
    };
    session.spaces().get_space(request).await.ok()?.into_inner().space
}

/// `kill -9` in the middle of an embedding: it goes on where it was. Each write of a point takes a
/// number of the space, so its token says how many rows were written twice.
async fn an_embedding_goes_on_after_a_kill(platform: &mut Platform) {
    let rows: Vec<String> =
        (0..BATCH * 3).map(|n| format!("note {n} about topic {}", n % 17)).collect();
    put(&platform.admin(), NAMESPACE, "many", vec![texts(&rows)]).await.unwrap();
    let dataset = format!("{NAMESPACE}/many");
    let embed = ["vectors", "embed", &dataset, "--column", "text", "--embedder", "minilm"];
    let mut embed = embed.to_vec();
    embed.extend(["--no-wait", "-o", "json"]);
    let queued = platform.cli(&embed).await.json();
    let job = queued["job"]["name"].as_str().unwrap().to_owned();
    let admin = platform.admin();
    refused_meanwhile(platform, &embed, &job).await;
    let begun = eventually("a batch", SOON, async || {
        space(&admin, "many").await.filter(|space| space.point_count > 0)
    })
    .await;
    assert!(begun.point_count < BATCH * 3, "it was killed too late to tell anything");
    platform.kill9();
    platform.restart().await;
    let watched = platform.cli(&["jobs", "watch", &job, "-o", "json"]).await;
    assert_eq!(watched.code, 0, "{watched:?}");
    let after = space(&platform.admin(), "many").await.unwrap();
    assert_eq!(after.point_count, BATCH * 3, "none is lost");
    let twice = after.token - BATCH * 3;
    assert!((0..=BATCH).contains(&twice), "{twice} rows were embedded twice");
    let text = format!("{dataset}/text");
    let last = rows.last().unwrap();
    let last = found(platform, &["--space", &text, last, "-k", "1", "--exact"]).await;
    assert_eq!(last[0].0, (BATCH * 3 - 1).to_string());
}

/// One job fills a space at a time: the same request is that job, another one is told of it.
async fn refused_meanwhile(platform: &Platform, embed: &[&str], job: &str) {
    let again = platform.cli(embed).await.json();
    assert_eq!(again["job"]["name"], job, "{again}");
    let mut other = embed.to_vec();
    other.extend(["--payload", "id"]);
    let other = platform.cli(&other).await;
    assert!(other.code != 0 && other.stderr.contains(job), "{other:?}");
}

/// Nothing is made before it is known that it can be filled.
async fn pictures_do_not_embed_texts(platform: &Platform) {
    let dataset = format!("{NAMESPACE}/d");
    let embed = ["vectors", "embed", &dataset, "--column", "text", "--embedder", "copies"];
    let mut embed = embed.to_vec();
    embed.extend(["--space", "pictures"]);
    let refused = platform.cli(&embed).await;
    assert!(refused.code == 7 && refused.stderr.contains("images"), "{refused:?}");
    let space = format!("{dataset}/pictures");
    assert_eq!(platform.cli(&["spaces", "show", &space]).await.code, 3, "it was not made");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite() {
    let mut platform = platform(Database::Sqlite).await;
    sentences_are_found(&platform).await;
    pictures_do_not_embed_texts(&platform).await;
    images_are_found(&platform).await;
    an_embedding_goes_on_after_a_kill(&mut platform).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    let platform = platform(Database::Postgres).await;
    sentences_are_found(&platform).await;
    images_are_found(&platform).await;
}
