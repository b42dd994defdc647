//! Trees on disk, each layout whole and with every fault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use serde_json::json;

use super::*;

struct Yard {
    dir: tempfile::TempDir,
    files: BTreeMap<String, FileFacts>,
}

fn png(width: u32, height: u32, shade: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(width, height, image::Rgb([shade, 0, 0]));
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

impl Yard {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), files: BTreeMap::new() }
    }

    fn file(mut self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let whole = self.dir.path().join(path);
        std::fs::create_dir_all(whole.parent().unwrap()).unwrap();
        std::fs::write(whole, bytes).unwrap();
        let facts = file_scan::media_facts(bytes);
        let is_image = path.ends_with(".png") || path.ends_with(".jpg");
        let file = FileFacts {
            path: path.to_owned(),
            size: bytes.len() as u64,
            content: Some(blake3::hash(bytes).into()),
            is_image,
            shown_size: facts.as_ref().map(|facts| (facts.width as u32, facts.height as u32)),
            is_broken: is_image && facts.is_none(),
            likeness: None,
        };
        self.files.insert(path.to_owned(), file);
        self
    }

    fn image(self, path: &str, shade: u8) -> Self {
        self.file(path, png(40, 30, shade))
    }

    fn with(mut self, path: &str, change: impl FnOnce(&mut FileFacts)) -> Self {
        change(self.files.get_mut(path).unwrap());
        self
    }

    fn recognised(&self, layout: Option<Layout>) -> Recognised {
        let files: Vec<FileFacts> = self.files.values().cloned().collect();
        let root: &Path = self.dir.path();
        let open = |path: &str| std::fs::File::open(root.join(path));
        recognise(&files, layout, &open, Limits::default()).unwrap()
    }

    fn seen(&self) -> (Layout, BTreeMap<String, Sample>, Findings) {
        let found = self.recognised(None);
        let samples = found.samples.into_iter().map(|sample| (sample.path.clone(), sample));
        (found.layout, samples.collect(), found.findings)
    }
}

/// Kind and path of every finding.
fn told(findings: &Findings) -> Vec<(&'static str, &str)> {
    let mut told: Vec<_> = findings
        .kept()
        .iter()
        .map(|finding| (finding.kind.word(), finding.path.as_str()))
        .collect();
    told.sort_unstable();
    told
}

#[test]
fn folders_are_classes_below_splits() {
    let yard = Yard::new()
        .image("train/cat/1.png", 1)
        .image("train/dog/2.png", 2)
        .image("val/cat/3.png", 3)
        .file("val/dog/4.png", "no image")
        .image("test/cat/copy of 1.png", 1);
    let (layout, samples, findings) = yard.seen();
    assert_eq!((layout, samples.len()), (Layout::ImageFolder, 4));
    let sample = &samples["val/cat/3.png"];
    assert_eq!(sample.split.as_deref(), Some("validation"));
    assert_eq!(sample.label.as_deref(), Some("cat"));
    // The test's copy of a training image is a leak.
    assert_eq!(
        told(&findings),
        [("broken", "val/dog/4.png"), ("leaked", "test/cat/copy of 1.png")]
    );
}

#[test]
fn metadata_describes_and_what_it_does_not_is_told() {
    let yard = Yard::new().image("a/1.png", 1).image("a/2.png", 2).file(
        "metadata.csv",
        "file_name,caption,author\na/1.png,a red one,ana\na/gone.png,lost,bo\n../out.png,x,y\n",
    );
    let (_, samples, findings) = yard.seen();
    let sample = &samples["a/1.png"];
    assert_eq!(sample.caption.as_deref(), Some("a red one"));
    assert_eq!(sample.properties["author"], json!("ana"));
    let expected = [("broken", "metadata.csv"), ("missing", "a/gone.png"), ("orphaned", "a/2.png")];
    assert_eq!(told(&findings), expected);
}

#[test]
fn coco_boxes_captions_and_faults() {
    let instances = json!({
        "images": [
            { "id": 1, "file_name": "1.png", "width": 40, "height": 30 },
            { "id": 2, "file_name": "2.png", "width": 41, "height": 30 },
            { "id": 3, "file_name": "gone.png", "width": 40, "height": 30 },
        ],
        "annotations": [
            { "id": 1, "image_id": 1, "category_id": 7, "bbox": [1.0, 2.0, 10.0, 10.0], "segmentation": [[1, 2, 3, 4, 5, 6]] },
            { "id": 2, "image_id": 1, "category_id": 9, "bbox": [1.0, 2.0, 100.0, 10.0] },
            { "id": 3, "image_id": 99, "category_id": 7, "bbox": [0, 0, 1, 1] },
        ],
        "categories": [{ "id": 7, "name": "cat" }],
    });
    let captions = json!({
        "images": [{ "id": 1, "file_name": "1.png" }],
        "annotations": [{ "id": 1, "image_id": 1, "caption": "a cat" }, { "id": 2, "image_id": 1, "caption": "red" }],
    });
    let yard = Yard::new()
        .image("train2017/1.png", 1)
        .image("train2017/2.png", 2)
        .image("train2017/unnamed.png", 3)
        .file("annotations/instances_train2017.json", instances.to_string())
        .file("annotations/captions_train2017.json", captions.to_string())
        .file("annotations/instances_val2017.json", "{\"images\": [{\"file_name\"");
    let (layout, samples, findings) = yard.seen();
    assert_eq!((layout, samples.len()), (Layout::Coco, 2));
    let sample = &samples["train2017/1.png"];
    assert_eq!(
        (sample.split.as_deref(), sample.caption.as_deref()),
        (Some("train"), Some("a cat"))
    );
    let cat = sample.annotations.iter().find(|object| object["category"] == "cat").unwrap();
    assert_eq!(
        (&cat["bbox"], &cat["segmentation"]),
        (&json!([1.0, 2.0, 10.0, 10.0]), &json!([[1, 2, 3, 4, 5, 6]]))
    );
    assert!(sample.annotations.contains(&json!({ "caption": "red" })));
    let instances = "annotations/instances_train2017.json";
    let expected = [
        ("broken", "annotations/instances_val2017.json"),
        ("mismatched", instances),
        ("mismatched", "train2017/1.png"),
        ("mismatched", "train2017/2.png"),
        ("missing", "gone.png"),
        ("orphaned", instances),
        ("orphaned", "train2017/unnamed.png"),
    ];
    assert_eq!(told(&findings), expected);
}

/// Each sidecar that could not be read, with what it is about.
fn unread(found: &Recognised) -> Vec<(&str, &str)> {
    found.unread.iter().map(|one| (one.path.as_str(), one.about.as_str())).collect()
}

const COCO: &str = r#"{"images":[{"id":1,"file_name":"1.png","width":40,"height":30}],
    "annotations":[{"id":1,"image_id":1,"category_id":1,"bbox":[0,0,4,4]}],
    "categories":[{"id":1,"name":"cat"}]}"#;

#[test]
fn broken_coco_files_are_told_however_they_are_broken_and_whoever_asks() {
    let place = "annotations/instances_train.json";
    let deep = "[".repeat(100_000);
    for text in [
        &COCO[..COCO.len() / 2],
        r#"{"images": ["#,
        "",
        "\u{feff}",
        "[1,2]",
        "{}",
        r#"{"annotations": []}"#,
        r#"{"images":[{"id":1,"file_name":"1.png"}]}"#,
        r#"{"images":null,"annotations":null,"categories":null}"#,
        &deep,
    ] {
        let yard = Yard::new().image("images/1.png", 1).image("images/2.png", 2).file(place, text);
        for layout in [None, Some(Layout::Coco)] {
            let found = yard.recognised(layout);
            let text: String = text.chars().take(50).collect();
            assert_eq!(found.layout, Layout::Coco, "{text}");
            assert!(told(&found.findings).contains(&("broken", place)), "{text}");
            assert_eq!(unread(&found), [(place, "")], "{text}");
        }
    }
}

#[test]
fn sound_coco_files_may_begin_with_a_mark_and_other_json_is_none() {
    let yard = Yard::new()
        .image("1.png", 1)
        .file("any.json", format!("\u{feff}{COCO}"))
        .file("image_info_test.json", r#"{"images":[{"id":1,"file_name":"1.png"}]}"#)
        .file("package.json", r#"{"name":"x"}"#);
    let found = yard.recognised(None);
    assert_eq!((found.layout, found.samples.len()), (Layout::Coco, 1));
    assert_eq!((told(&found.findings), unread(&found)), (vec![], vec![]));
    let found = yard.recognised(Some(Layout::Coco));
    assert_eq!(told(&found.findings), [("broken", "package.json")]);
    assert!(unread(&found).is_empty());
    // Beside images that no COCO file is about it is told, and nothing more.
    let yard = Yard::new().image("a/1.png", 1).file("a/notes.json", "{\"x\": 1");
    let found = yard.recognised(None);
    assert_eq!((found.layout, found.samples.len()), (Layout::ImageFolder, 1));
    assert_eq!(told(&found.findings), [("broken", "a/notes.json")]);
    assert!(unread(&found).is_empty());
    // So it is among files of one image each.
    let yard = Yard::new()
        .image("a/1.png", 1)
        .file("annotations/1.json", r#"{"shapes":[]}"#)
        .file("annotations/2.json", "");
    let found = yard.recognised(None);
    assert_eq!((found.layout, found.samples.len()), (Layout::ImageFolder, 1));
    assert_eq!(
        (told(&found.findings), unread(&found)),
        (vec![("broken", "annotations/2.json")], vec![])
    );
    // Captions by file, as some tools write them, are no list of COCO's.
    let yard = Yard::new().image("1.png", 1).file("captions.json", r#"{"1.png":"a cat"}"#);
    assert_eq!(yard.recognised(None).layout, Layout::ImageFolder);
}

#[test]
fn what_is_partly_broken_is_unread() {
    let xml =
        "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax>
        <ymax>BOX</ymax></bndbox></object></annotation>";
    for (label, is_unread) in [
        ("0 .5 .5 .1 .1\n0 .5 .5", true),
        ("0 .5 .5 .1 .1\n\0\0\0", true),
        ("0 .5 .5 .1 .1\n", false),
        // Nothing is on it.
        ("", false),
    ] {
        let yard = Yard::new().image("images/1.png", 1).file("labels/1.txt", label);
        let expected = [("labels/1.txt", "images/1.png")];
        assert_eq!(unread(&yard.recognised(None)), expected[..usize::from(is_unread)], "{label}");
    }
    for (bottom, is_unread) in [("4", false), ("four", true), ("", true)] {
        let text = xml.replace("BOX", bottom);
        let yard = Yard::new().image("JPEGImages/1.png", 1).file("Annotations/1.xml", text);
        let expected = [("Annotations/1.xml", "JPEGImages/1.png")];
        assert_eq!(unread(&yard.recognised(None)), expected[..usize::from(is_unread)], "{bottom}");
    }
}

#[test]
fn broken_sidecars_say_what_they_are_about() {
    let yard = |yaml: &str| {
        Yard::new()
            .image("images/1.png", 1)
            .file("labels/1.txt", b"\xff")
            .file("data.yaml", yaml)
            .file("docker-compose.yaml", "services: {}")
    };
    for yaml in [
        "names: [cat\n  : }{",
        "names: [cat, dog",
        "nc: 2\nnames:\n  0: cat\n",
        "names:\n  0: cat\n  1",
        "train: images",
        "names:",
        "",
        "\u{feff}",
    ] {
        let found = yard(yaml).recognised(None);
        let expected = [("data.yaml", ""), ("labels/1.txt", "images/1.png")];
        assert_eq!(
            (found.layout, unread(&found).as_slice()),
            (Layout::Yolo, &expected[..]),
            "{yaml}"
        );
        assert_eq!(told(&found.findings), [("broken", "data.yaml"), ("broken", "labels/1.txt")]);
    }
    let found = yard("names: [cat]").recognised(None);
    assert_eq!(unread(&found), [("labels/1.txt", "images/1.png")]);
    for (name, text) in [
        ("metadata.csv", ""),
        ("metadata.csv", "name,text\n1.png,hi\n"),
        ("metadata.jsonl", "\u{feff}"),
        ("metadata.csv", "file_name,text\n1.png,\"unclosed\n2.png,z\n"),
        ("metadata.csv", "file_name,text\n1.png,\"cut he"),
        ("metadata.jsonl", "{\"file_name\":\"1.png\"}\n{\"file_na"),
    ] {
        let path = format!("a/{name}");
        let found = Yard::new().image("a/1.png", 1).file(&path, text).recognised(None);
        assert_eq!(unread(&found), [(path.as_str(), "a")], "{text}");
        assert_eq!(found.samples.len(), 1);
    }
    let yard = Yard::new()
        .image("JPEGImages/1.png", 1)
        .file("Annotations/1.xml", "")
        .file("Annotations/2.xml", "<annotation><filename>");
    let found = yard.recognised(None);
    let expected = [("Annotations/1.xml", "JPEGImages/1.png"), ("Annotations/2.xml", "")];
    assert_eq!((found.layout, unread(&found).as_slice()), (Layout::Voc, &expected[..]));
    let quoted = "file_name,text\n1.png,\"it's \"\"one\"\"\nof two\"\n";
    let found = Yard::new().image("1.png", 1).file("metadata.csv", quoted).recognised(None);
    assert_eq!(found.samples[0].caption.as_deref(), Some("it's \"one\"\nof two"));
    assert!(unread(&found).is_empty());
    let marked = Yard::new()
        .image("1.png", 1)
        .file("metadata.csv", "\u{feff}file_name,caption\n1.png,one\n")
        .recognised(None);
    assert_eq!(marked.samples[0].caption.as_deref(), Some("one"));
}

#[test]
fn yolo_lines_are_boxes_in_pixels() {
    let yard = Yard::new()
        .file("data.yaml", "path: .\ntrain: images/train\nnames:\n  0: person\n  1: 'red car'\n")
        .image("images/train/1.png", 1)
        .file("labels/train/1.txt", "1 0.5 0.5 0.5 1.0\n0 0.1 0.1 0.2 0.1 0.2 0.3\n7 0.5 0.5 0.1 0.1\n0 1.5 0.5 0.1 0.1\nzero 1 2\n")
        .image("images/val/2.png", 2)
        .file("labels/val/3.txt", "0 0.5 0.5 0.1 0.1\n");
    let (layout, samples, findings) = yard.seen();
    assert_eq!(layout, Layout::Yolo);
    let objects = &samples["images/train/1.png"].annotations;
    assert_eq!(
        objects[0],
        json!({ "category": "red car", "bbox": [10.0, 0.0, 20.0, 30.0], "unit": "pixels" })
    );
    assert_eq!(objects[1]["bbox"], json!([4.0, 3.0, 4.0, 6.0]));
    assert_eq!(objects.len(), 3);
    let labels = "labels/train/1.txt";
    let expected = [
        ("broken", labels),
        ("mismatched", labels),
        ("mismatched", labels),
        ("missing", "labels/val/3.txt"),
        ("orphaned", "images/val/2.png"),
    ];
    assert_eq!(told(&findings), expected);
}

#[test]
fn yaml_names_in_each_spelling() {
    for text in [
        "names: [a, \"b c\"]\nnc: 2",
        "nc: 2\nnames:\n- a\n- b c\n",
        "names:\n  0: a\n  1: b c\nnc: 2",
        "names: ['a',\n  'b c']\n",
        "names: {0: a, 1: b c}",
    ] {
        let names = yolo::yaml_names(text).unwrap();
        assert_eq!(
            (names.len(), names[&0].as_str(), names[&1].as_str()),
            (2, "a", "b c"),
            "{text}"
        );
    }
}

#[test]
fn voc_files_with_splits_and_faults() {
    let xml = |name: &str, width: u32, boxed: &str| {
        format!(
            "<annotation><filename>{name}</filename><size><width>{width}</width><height>30</height></size>
             <object><name>dog</name><difficult>1</difficult><bndbox>{boxed}</bndbox></object></annotation>"
        )
    };
    let fine = "<xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>22</ymax>";
    let yard = Yard::new()
        .image("JPEGImages/1.png", 1)
        .image("JPEGImages/2.png", 2)
        .image("JPEGImages/bare.png", 3)
        .file("Annotations/1.xml", xml("1.png", 40, fine))
        .file(
            "Annotations/2.xml",
            xml("2.png", 50, "<xmin>1</xmin><ymin>2</ymin><xmax>500</xmax><ymax>22</ymax>"),
        )
        .file("Annotations/3.xml", xml("3.png", 40, fine))
        .file("Annotations/4.xml", "<annotation><filename>4.png")
        .file("ImageSets/Main/train.txt", "1\n")
        .file("ImageSets/Main/val.txt", "2\n");
    let (layout, samples, findings) = yard.seen();
    assert_eq!((layout, samples.len()), (Layout::Voc, 2));
    let sample = &samples["JPEGImages/1.png"];
    assert_eq!(sample.split.as_deref(), Some("train"));
    let expected = json!([{ "category": "dog", "bbox": [1.0, 2.0, 10.0, 20.0], "difficult": "1" }]);
    assert_eq!(json!(sample.annotations), expected);
    let expected = [
        ("broken", "Annotations/4.xml"),
        ("mismatched", "Annotations/2.xml"),
        ("mismatched", "Annotations/2.xml"),
        ("missing", "Annotations/3.xml"),
        ("orphaned", "JPEGImages/bare.png"),
    ];
    assert_eq!(told(&findings), expected);
}

#[test]
fn captions_beside_images() {
    let yard = Yard::new()
        .image("a/1.png", 1)
        .file("a/1.txt", "\u{feff} one \n")
        .image("a/2.png", 2)
        .file("a/2.txt", b"\xff\xfe")
        .image("a/3.png", 3)
        .file("a/4.txt", "nobody's")
        .image("a/5.png", 5)
        .file("a/5.txt", " \n");
    let found = yard.recognised(None);
    assert_eq!(unread(&found), [("a/2.txt", "a/2.png"), ("a/5.txt", "a/5.png")]);
    let (layout, samples, findings) = yard.seen();
    assert_eq!((layout, samples.len()), (Layout::Captions, 4));
    assert_eq!(samples["a/1.png"].caption.as_deref(), Some("one"));
    let expected = [
        ("broken", "a/2.txt"),
        ("broken", "a/5.txt"),
        ("missing", "a/3.png"),
        ("orphaned", "a/4.txt"),
    ];
    assert_eq!(told(&findings), expected);
}

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn samples_of_tars() {
    let (one, two) = (png(40, 30, 1), png(20, 10, 2));
    let whole = tar_of(&[
        ("0001.png", &one),
        ("0001.cls", b"3"),
        ("0001.txt", b"red"),
        ("0001.json", b"{\"source\":\"web\"}"),
        ("0002.png", &two),
        ("0003.txt", b"no image"),
        ("0004.png", b"no image"),
    ]);
    let cut = whole[..whole.len() / 3].to_vec();
    let yard = Yard::new().file("shard-train-000.tar", &whole).file("shard-val-000.tar", cut);
    let (layout, samples, findings) = yard.seen();
    assert_eq!(layout, Layout::WebDataset);
    let sample = &samples["shard-train-000.tar/0001.png"];
    assert_eq!((sample.content, sample.size), (blake3::hash(&one).into(), one.len() as u64));
    assert_eq!((sample.split.as_deref(), sample.label.as_deref()), (Some("train"), Some("3")));
    assert_eq!((sample.caption.as_deref(), sample.shown_size), (Some("red"), Some((40, 30))));
    assert_eq!(sample.properties["source"], json!("web"));
    let Bytes::Within { offset, .. } = sample.bytes else { panic!("a range") };
    let offset = usize::try_from(offset).unwrap();
    assert_eq!(&whole[offset..offset + one.len()], &one[..]);
    let told = told(&findings);
    for expected in [
        ("broken", "shard-train-000.tar/0004.png"),
        ("broken", "shard-val-000.tar"),
        ("leaked", "shard-train-000.tar/0001.png"),
        ("orphaned", "shard-train-000.tar/0003"),
    ] {
        assert!(told.contains(&expected), "{expected:?} in {told:?}");
    }
}

#[test]
fn images_that_look_alike_leak_and_unhashed_ones_are_told() {
    let a = 0x0123_4567_89ab_cdef_i64;
    let yard = Yard::new()
        .image("train/x/1.png", 1)
        .image("test/x/2.png", 2)
        .image("test/x/3.png", 3)
        .with("train/x/1.png", |file| file.likeness = Some(a))
        .with("test/x/2.png", |file| file.likeness = Some(a ^ 0b11))
        .with("test/x/3.png", |file| file.content = None);
    let (_, samples, findings) = yard.seen();
    assert_eq!(samples.len(), 2);
    assert_eq!(told(&findings), [("near_leaked", "test/x/2.png"), ("unhashed", "test/x/3.png")]);
}

#[test]
fn words_of_layouts_come_back() {
    for (layout, word) in Layout::ALL {
        assert_eq!((Layout::named(word), layout.word()), (Some(layout), word));
    }
    assert_eq!(Layout::named("tfrecord"), None);
}
