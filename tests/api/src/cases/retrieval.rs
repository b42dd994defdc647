//! What stands beside vectors: FAISS' files, images, generations, through the public door.

use std::fs;
use std::path::{Path, PathBuf};

use options_api::v1::Role;
use serde_json::{Value, json};

use crate::stage::{Stage, unique};

/// Twelve vectors of six dimensions in each kind of index, as faiss-cpu wrote them.
fn golden(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/faiss-files/tests/golden");
    Path::new(folder).join(name).display().to_string()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// A namespace of its own and a file's path in a folder of its own.
async fn place(stage: &Stage, file: &str) -> (String, PathBuf) {
    let ns = unique("faiss");
    stage.platform.cli(&["namespaces", "create", &ns, "-o", "json"]).await.json();
    let folder = stage.platform.scratch().join(&ns);
    fs::create_dir_all(&folder).expect("a folder");
    (ns, folder.join(file))
}

fn counts(report: &Value) -> Vec<(i64, i64, i64)> {
    let number = |file: &Value, name: &str| file[name].as_i64().expect("a number");
    let file = |file: &Value| {
        (number(file, "inserted"), number(file, "updated"), number(file, "unchanged"))
    };
    report["files"].as_array().expect("files").iter().map(file).collect()
}

/// FAISS' files become points, with metadata; again, they change nothing; and back.
pub async fn faiss(stage: &Stage) {
    let platform = &stage.platform;
    let (ns, meta) = place(stage, "m.jsonl").await;
    let lines: String =
        (0..12).map(|n| json!({ "name": format!("n{n}"), "size": n }).to_string() + "\n").collect();
    fs::write(&meta, lines).expect("a file");
    let (space, file) = (format!("{ns}/s"), golden("id-map-2.index"));
    let import =
        ["vectors", "import-faiss", &file, &space, "--metadata", text(&meta), "-o", "json"];
    let mut dry = import.to_vec();
    dry.push("--dry-run");
    let report = platform.cli(&dry).await.json();
    assert_eq!((&report["created"], counts(&report)), (&json!(true), vec![(0, 0, 0)]), "{report}");
    assert_eq!(platform.cli(&["spaces", "show", &space]).await.code, 3, "a dry run makes nothing");
    let report = platform.cli(&import).await.json();
    assert_eq!(counts(&report), [(12, 0, 0)], "{report}");
    assert_eq!(report["files"][0]["kinds"], "IDMap > Flat", "{report}");
    let again = platform.cli(&import).await.json();
    assert_eq!(counts(&again), [(0, 0, 12)], "it goes on where nothing is left: {again}");
    let shown = platform.cli(&["spaces", "show", &space, "-o", "json"]).await.json();
    assert_eq!(
        (&shown["space"]["metric"], &shown["space"]["point_count"]),
        (&json!("METRIC_IP"), &json!(12))
    );
    // The ids that FAISS was given, and the row beside each.
    let search = [
        "vectors",
        "search",
        "--space",
        &space,
        "--item",
        "17",
        "-k",
        "1",
        "--filter",
        "size = 3",
        "--payload",
        "-o",
        "json",
    ];
    let found = platform.cli(&search).await.json();
    assert_eq!(found["results"][0]["item_id"], "37", "{found}");
    assert_eq!(found["results"][0]["payload"]["name"], "n3", "{found}");
    // Half of it gone: only that half is sent again.
    let url = format!("/v1/namespaces/{ns}/spaces/s/points:delete");
    let gone = json!({ "item_ids": ["7", "17", "27", "37", "47", "57"] });
    assert_eq!(stage.admin.post(&url, &gone).await.status, 200);
    let rest = platform.cli(&import).await.json();
    assert_eq!(counts(&rest), [(6, 0, 6)], "{rest}");
    faiss_back(stage, (&ns, &space), &meta.with_file_name("out.index")).await;
    faiss_refused(stage, &ns, &meta).await;
}

/// What is exported is what FAISS had written, imported again.
async fn faiss_back(stage: &Stage, (ns, space): (&str, &str), out: &Path) {
    let platform = &stage.platform;
    let export = ["vectors", "export-faiss", space, text(out), "-o", "json"];
    let made = platform.cli(&export).await.json();
    assert_eq!((&made["vectors"], &made["ids_are_items"]), (&json!(12), &json!(true)), "{made}");
    assert_eq!(platform.cli(&export).await.code, 5, "a file that is there is kept");
    let lines = out.with_extension("metadata.jsonl");
    let (other, beside) = (format!("{ns}/other"), text(&lines));
    let import = [
        "vectors",
        "import-faiss",
        text(out),
        &other,
        "--metadata",
        beside,
        "--id-column",
        "item_id",
        "-o",
        "json",
    ];
    let report = platform.cli(&import).await.json();
    assert_eq!(counts(&report), [(12, 0, 0)], "{report}");
    let points =
        |space: &str| format!("/v1/namespaces/{ns}/spaces/{space}/points?with_vector=true");
    let before = stage.admin.get(&points("s")).await.json();
    let after = stage.admin.get(&points("other")).await.json();
    assert_eq!(before["points"].as_array().map(Vec::len), Some(12), "{before}");
    assert_eq!(before["points"], after["points"], "vectors, ids and payload, all the same");
}

/// Lossy ones say so; what cannot be had back, contradicts itself or does not fit is refused.
async fn faiss_refused(stage: &Stage, ns: &str, meta: &Path) {
    let platform = &stage.platform;
    let lossy = format!("{ns}/lossy");
    let (quantised, flat) = (golden("sq-8bit.index"), golden("flat-l2.index"));
    let import = ["vectors", "import-faiss", &quantised, &flat, &lossy, "-o", "json"];
    let report = platform.cli(&import).await.json();
    assert_eq!(
        (&report["files"][0]["lossy"], &report["files"][1]["lossy"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(counts(&report), [(12, 0, 0), (12, 0, 0)], "two files' ids are apart: {report}");
    let folder = Path::new(&flat).parent().map(text).expect("a folder").to_owned();
    let listed = platform.cli(&["vectors", "list-faiss", &folder, "-o", "json"]).await.json();
    let of = |name: &str| {
        let files = listed["files"].as_array().expect("files").iter();
        let mut named =
            files.filter(|file| file["file"].as_str().is_some_and(|f| f.ends_with(name)));
        named.next().cloned().unwrap_or_default()
    };
    assert_eq!(
        (&of("/hnsw.index")["kinds"], &of("/hnsw.index")["vectors"]),
        (&json!("HNSW > Flat"), &json!(12))
    );
    assert!(
        of("/pq.index")["error"].as_str().is_some_and(|e| e.contains("not supported")),
        "{listed}"
    );
    let lying = meta.with_file_name("lying.index");
    let mut bytes = fs::read(&flat).expect("a golden file");
    // Its count of vectors, and so of floats, is beyond the file's end.
    bytes[8..16].copy_from_slice(&(1_i64 << 40).to_le_bytes());
    fs::write(&lying, &bytes).expect("a file");
    let short = meta.with_file_name("short.jsonl");
    fs::write(&short, "{\"n\":1}\n").expect("a file");
    let pickle = meta.with_file_name("metadata.pkl");
    fs::write(&pickle, b"cos\nsystem\n(S'true'\ntR.").expect("a file");
    let (absent, to) = (meta.with_file_name("absent.index"), format!("{ns}/new"));
    let pq = golden("pq.index");
    let wrong: [(&[&str], i32); 6] = [
        (&[text(&lying)], 7),
        (&[&pq], 7),
        (&[text(&absent)], 3),
        (&[&flat, "--metadata", text(&short)], 7),
        (&[&flat, "--metadata", text(&pickle)], 7),
        (&[&flat, &flat, "--metadata", text(&short)], 2),
    ];
    for (args, exit) in wrong {
        let files = args.iter().take_while(|arg| !arg.starts_with("--")).count();
        let mut command = vec!["vectors", "import-faiss"];
        command.extend(&args[..files]);
        command.push(&to);
        command.extend(&args[files..]);
        let refused = platform.cli(&command).await;
        assert_eq!(refused.code, exit, "{command:?}: {refused:?}");
    }
    let narrow = format!("{ns}/narrow");
    platform.cli(&["spaces", "create", &narrow, "--dimension", "5", "-o", "json"]).await.json();
    let refused = platform.cli(&["vectors", "import-faiss", &flat, &narrow]).await;
    assert_eq!(refused.code, 7, "another dimension: {refused:?}");
}

/// An image is added, found, linked; a generation is logged in full; counts are exact.
pub async fn generations(stage: &Stage) {
    let (admin, platform) = (&stage.admin, &stage.platform);
    let ns = stage.namespace().await;
    let image = json!({ "image": {
        "image_path": "data/images/cat.jpg",
        "description": "A cute cat sitting on a chair",
        "tags": ["cat", "chair", "cute"],
        "width": 800,
        "height": "600",
        "file_size_bytes": "6000000000",
    }});
    let url = format!("/v1/namespaces/{ns}/images");
    let added = admin.post(&url, &image).await;
    assert_eq!(added.status, 200, "{added:?}");
    assert_eq!(admin.post(&url, &image).await.status, 409, "a path is taken once");
    let listed = platform.cli(&["images", "list", &ns, "-o", "json"]).await.json();
    assert_eq!(listed["images"][0]["file_size_bytes"], 6_000_000_000_i64, "{listed}");
    let log = [
        "generations",
        "log",
        &ns,
        "a cat sitting on a chair",
        "--output-path",
        "output/generated_cat.png",
        "--time",
        "2500",
        "--memory",
        "512.5",
        "--seed",
        "-3",
        "--steps",
        "30",
        "--guidance-scale",
        "7.5",
        "-o",
        "json",
    ];
    let logged = platform.cli(&log).await.json();
    assert_eq!(logged["generation"]["status"], "GENERATION_STATUS_COMPLETED", "{logged}");
    let id = logged["generation"]["id"].as_str().expect("an id");
    let shown = platform.cli(&["generations", "show", &ns, id, "-o", "json"]).await.json();
    assert_eq!(shown["generation"], logged["generation"]);
    let running = json!({ "generation": { "prompt": "x", "status": "GENERATION_STATUS_RUNNING" } });
    let running = admin.post(&format!("/v1/namespaces/{ns}/generations"), &running).await.json();
    let finish = format!(
        "/v1/namespaces/{ns}/generations/{}:finish",
        running["generation"]["id"].as_str().expect("an id")
    );
    let ended = admin.post(&finish, &json!({ "error_message": "out of memory" })).await.json();
    assert_eq!(ended["generation"]["status"], "GENERATION_STATUS_FAILED", "{ended}");
    assert_eq!(admin.post(&finish, &json!({})).await.status, 400, "it ends once");
    commands(stage, &ns).await;
    let counted = platform.cli(&["generations", "stats", &ns, "-o", "json"]).await.json();
    let counted = &counted["statistics"];
    for (name, expected) in [
        ("total_images", json!(1)),
        ("total_generations", json!(3)),
        ("recent_generations", json!(3)),
        ("failed_generations", json!(1)),
        ("avg_generation_time_ms", json!(2_500.0)),
        ("cached_models", json!(1)),
    ] {
        assert_eq!(counted[name], expected, "{name}: {counted}");
    }
    contexts(stage, &ns).await;
    let (_, stranger) = stage.user(Role::User).await;
    assert_eq!(stranger.get(&url).await.status, 404);
}

/// A generation is begun and ended, and a cached model used and forgotten, by the command line.
async fn commands(stage: &Stage, ns: &str) {
    let platform = &stage.platform;
    let retrieved = platform.scratch().join(format!("{ns}-retrieved.json"));
    let example = json!({ "space": "ns/s", "item_id": "7", "score": 0.5, "text": "a cat" });
    let assembled = json!({ "augmented_prompt": "…", "retrieved_examples": [example] });
    fs::write(&retrieved, assembled.to_string()).expect("a file");
    let log = ["generations", "log", ns, "a dog", "--running", "--config", "scheduler=ddim,cfg=2"];
    let mut log = log.to_vec();
    log.extend(["--retrieved", text(&retrieved), "-o", "json"]);
    let begun = platform.cli(&log).await.json();
    let generation = &begun["generation"];
    assert_eq!(generation["status"], "GENERATION_STATUS_RUNNING", "{begun}");
    assert_eq!(generation["retrieved_examples"][0], example, "{begun}");
    assert_eq!(generation["model_config"]["cfg"]["string_value"], "2", "{begun}");
    let id = generation["id"].as_str().expect("an id");
    let finish = ["generations", "finish", ns, id, "--output-path", "dog.png", "--memory", "9.5"];
    let mut finish = finish.to_vec();
    finish.extend(["-o", "json"]);
    let ended = platform.cli(&finish).await.json();
    assert_eq!(ended["generation"]["status"], "GENERATION_STATUS_COMPLETED", "{ended}");
    assert_eq!(ended["generation"]["output_path"], "dog.png", "{ended}");
    assert_eq!(platform.cli(&finish).await.code, 5, "it ends once");
    fs::write(&retrieved, "{\"no\":1}").expect("a file");
    assert_eq!(platform.cli(&log).await.code, 7, "a file of something else");
    let touch = json!({ "model_type": "clip", "model_name": "ViT-B-32", "size_bytes": "7" });
    let url = format!("/v1/namespaces/{ns}/cachedModels:touch");
    let touched = stage.admin.post(&url, &touch).await;
    assert_eq!(touched.json()["model"]["access_count"], "1", "{touched:?}");
    let touch = ["generations", "touch-model", ns, "bert", "minilm", "--bytes", "9", "-o", "json"];
    platform.cli(&touch).await.json();
    let touched = platform.cli(&touch).await.json();
    assert_eq!(touched["model"]["access_count"], 2, "{touched}");
    let models = platform.cli(&["generations", "models", ns, "-o", "json"]).await.json();
    assert_eq!(models["models"].as_array().map(Vec::len), Some(2), "{models}");
    let forget = ["generations", "forget-model", ns, "bert", "minilm"];
    assert_eq!(platform.cli(&forget).await.code, 0);
    assert_eq!(platform.cli(&forget).await.code, 3, "it is forgotten");
}

/// A prompt and what is near to it, in a template.
async fn contexts(stage: &Stage, ns: &str) {
    let admin = &stage.admin;
    let create = json!({ "space": "s", "dimension": 2 });
    let made = admin.post(&format!("/v1/namespaces/{ns}/spaces"), &create).await;
    assert_eq!(made.status, 200, "{made:?}");
    let point = |item: &str, values: [f32; 2], words: &str| {
        json!({
            "item_id": item,
            "vector": { "values": values },
            "payload": { "words": { "string_value": words } },
        })
    };
    let points = json!({ "points": [
        point("cat", [1.0, 0.1], "a cat {prompt}"),
        point("dog", [0.1, 1.0], "a dog"),
    ]});
    admin.post(&format!("/v1/namespaces/{ns}/spaces/s/points"), &points).await;
    let url = format!("/v1/namespaces/{ns}/spaces/s:assemble");
    let mut asked = json!({
        "prompt": "draw",
        "query": { "vector": { "values": [1.0, 0.0] } },
        "threshold": 0.5,
        "text_column": "words",
        "template": "{examples}=> {prompt}",
    });
    let made = admin.post(&url, &asked).await.json();
    assert_eq!(made["augmented_prompt"], "- a cat {prompt}\n=> draw", "{made}");
    assert_eq!(made["retrieved_examples"][0]["item_id"], "cat", "{made}");
    asked["template"] = json!("no place for it");
    assert_eq!(admin.post(&url, &asked).await.status, 400);
}
