//! Folders of images, with and without words about them.
#![allow(clippy::unwrap_used, reason = "tests")]

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type};
use image::{DynamicImage, ImageFormat};
use tempfile::TempDir;

use super::*;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn put(dir: &TempDir, name: &str, width: u32, height: u32, format: ImageFormat) {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    DynamicImage::new_rgb8(width, height).save_with_format(path, format).unwrap();
}

fn run(dir: &TempDir) -> (RecordBatch, Vec<IngestError>, usize) {
    let mut scan = scan(dir.path(), &ReadOptions::default()).unwrap();
    let mut rows = scan.rows();
    let mut skipped = Vec::new();
    while let Some(found) = scan.next() {
        match found.and_then(|found| probe(found, scan.limits())) {
            Ok(mut image) => {
                skipped.extend(image.warning.take());
                rows.push(image);
            }
            Err(err) => skipped.push(err),
        }
    }
    let batch = rows.finish().unwrap();
    assert_eq!(batch.schema(), scan.schema());
    (batch, skipped, scan.missing().0)
}

fn column(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(name).unwrap();
    column.as_string::<i32>().iter().map(|cell| cell.map(str::to_owned)).collect()
}

#[test]
fn images_are_measured_hashed_and_sorted() {
    let dir = folder();
    put(&dir, "b/two.JPG", 30, 20, ImageFormat::Jpeg);
    put(&dir, "a.png", 7, 14, ImageFormat::Png);
    put(&dir, "c.png", 5, 5, ImageFormat::Gif);
    std::fs::write(dir.path().join("README.md"), "not an image").unwrap();
    let (batch, skipped, _) = run(&dir);
    assert!(skipped.is_empty());
    assert_eq!(
        column(&batch, "file_path"),
        ["a.png", "b/two.JPG", "c.png"].map(|name| Some(name.to_owned()))
    );
    assert_eq!(column(&batch, "title")[1], Some("two".to_owned()));
    // By content: the last one is a GIF by another name.
    assert_eq!(
        column(&batch, "mime_type"),
        ["image/png", "image/jpeg", "image/gif"].map(|kind| Some(kind.to_owned()))
    );
    assert_eq!(
        batch.column_by_name("width").unwrap().as_primitive::<Int32Type>().values()[..],
        [7, 30, 5]
    );
    assert_eq!(
        batch.column_by_name("aspect_ratio").unwrap().as_primitive::<Float64Type>().value(0),
        0.5
    );
    let bytes = std::fs::read(dir.path().join("a.png")).unwrap();
    assert_eq!(column(&batch, "content_hash")[0], Some(blake3::hash(&bytes).to_hex().to_string()));
    assert_eq!(ImageScan::count(dir.path()), 3);
}

#[test]
fn broken_files_are_named_and_the_rest_lands() {
    let dir = folder();
    put(&dir, "good.png", 4, 4, ImageFormat::Png);
    put(&dir, "cut.png", 64, 64, ImageFormat::Png);
    put(&dir, "cut.jpg", 64, 64, ImageFormat::Jpeg);
    for name in ["cut.png", "cut.jpg"] {
        let path = dir.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    }
    std::fs::write(dir.path().join("text.png"), "hello").unwrap();
    std::fs::write(dir.path().join("empty.gif"), "").unwrap();
    std::fs::write(dir.path().join("drawing.svg"), "<svg/>").unwrap();
    std::os::unix::fs::symlink("nowhere.png", dir.path().join("link.png")).unwrap();
    std::os::unix::fs::symlink("good.png", dir.path().join("same.png")).unwrap();
    let (batch, skipped, _) = run(&dir);
    assert_eq!(column(&batch, "title"), [Some("good".to_owned()), Some("same".to_owned())]);
    let names: Vec<_> =
        skipped.iter().map(|err| err.path().file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["cut.jpg", "cut.png", "drawing.svg", "empty.gif", "link.png", "text.png"]);
}

#[test]
fn limits_on_pixels_and_bytes_are_named() {
    let dir = folder();
    put(&dir, "a.png", 200, 100, ImageFormat::Png);
    let found = scan(dir.path(), &ReadOptions::default()).unwrap().next().unwrap().unwrap();
    let err = probe(found.clone(), &Limits { image_pixels_max: 19_999, ..Limits::default() })
        .unwrap_err();
    assert!(err.to_string().contains("200 × 100") && err.to_string().contains("19999"), "{err}");
    let err =
        probe(found.clone(), &Limits { image_bytes_max: 20, ..Limits::default() }).unwrap_err();
    assert!(err.to_string().contains("20 bytes"), "{err}");
    let err =
        probe(found, &Limits { image_memory_bytes_max: 1000, ..Limits::default() }).unwrap_err();
    assert_eq!(err.path().file_name().unwrap(), "a.png");
}

#[test]
fn captions_come_from_text_files() {
    let dir = folder();
    put(&dir, "a.png", 4, 4, ImageFormat::Png);
    put(&dir, "b.png", 4, 4, ImageFormat::Png);
    put(&dir, "c.png", 4, 4, ImageFormat::Png);
    std::fs::write(dir.path().join("a.txt"), "\u{feff} A cat.\n").unwrap();
    std::fs::write(dir.path().join("c.txt"), b"\xff\xfe").unwrap();
    let (batch, warnings, _) = run(&dir);
    assert_eq!(column(&batch, "caption"), [Some("A cat.".to_owned()), None, None]);
    assert!(warnings.len() == 1 && warnings[0].to_string().contains("c.txt"));
}

#[test]
fn metadata_adds_columns_by_file_name() {
    let dir = folder();
    for name in ["a.png", "b.png", "sub/c.png"] {
        put(&dir, name, 4, 4, ImageFormat::Png);
    }
    std::fs::write(dir.path().join("b.txt"), "from the text file").unwrap();
    let csv = "file_name,text,title,stars,is_favorite,width\nsub/c.png,third,7,3,true,999\na.png,first,,5,,999\ngone.png,x,y,1,false,1\n";
    std::fs::write(dir.path().join("metadata.csv"), csv).unwrap();
    let (batch, skipped, missing) = run(&dir);
    assert!(skipped.is_empty());
    assert_eq!(missing, 1);
    let say = |texts: [&str; 3]| texts.map(|text| Some(text.to_owned()));
    assert_eq!(column(&batch, "caption"), say(["first", "from the text file", "third"]));
    assert_eq!(column(&batch, "title"), say(["a", "b", "7"]));
    let stars = batch.column_by_name("stars").unwrap();
    assert_eq!((stars.data_type().to_string().as_str(), stars.is_null(1)), ("Int64", true));
    assert!(batch.column_by_name("is_favorite").unwrap().as_boolean().value(2));
    assert_eq!(batch.column_by_name("width").unwrap().as_primitive::<Int32Type>().value(0), 4);
}

#[test]
fn metadata_of_folders_is_relative_to_them() {
    let dir = folder();
    put(&dir, "train/a.png", 4, 4, ImageFormat::Png);
    put(&dir, "test/a.png", 4, 4, ImageFormat::Png);
    for (folder, label) in [("train", "cat"), ("test", "dog")] {
        let line = format!("{{\"file_name\":\"a.png\",\"label\":\"{label}\"}}\n");
        std::fs::write(dir.path().join(folder).join("metadata.jsonl"), line).unwrap();
    }
    let (batch, _, missing) = run(&dir);
    assert_eq!(column(&batch, "label"), [Some("dog".to_owned()), Some("cat".to_owned())]);
    assert_eq!(missing, 0);
}

#[test]
fn wrong_metadata_is_refused() {
    for (content, says) in [
        ("name\na.png\n", "which image"),
        ("file_name\na.png\na.png\n", "twice"),
        ("file_name,n\na.png,1,2\n", ":2:"),
    ] {
        let dir = folder();
        put(&dir, "a.png", 4, 4, ImageFormat::Png);
        std::fs::write(dir.path().join("metadata.csv"), content).unwrap();
        let err = scan(dir.path(), &ReadOptions::default()).unwrap_err().to_string();
        assert!(err.contains(says), "{content:?}: {err}");
    }
}
