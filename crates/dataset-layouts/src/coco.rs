//! COCO: JSON files with `images`, `annotations` and `categories`.

use std::collections::{BTreeMap, HashMap};
use std::io::BufReader;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Sample;
use crate::findings::FindingKind;
use crate::splits::{split_in, split_in_name};
use crate::tree::{Tree, dir, join, name};

/// Smaller files are looked into to see whether they are COCO's.
const PEEK_BYTES: usize = 64 << 10;

#[derive(Deserialize)]
struct Document {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: i64,
    #[serde(default)]
    category_id: Option<i64>,
    #[serde(default)]
    bbox: Option<Vec<f64>>,
    #[serde(default)]
    segmentation: Option<Value>,
    #[serde(default)]
    keypoints: Option<Vec<f64>>,
    #[serde(default)]
    iscrowd: Option<i64>,
    #[serde(default)]
    caption: Option<String>,
}

/// Its JSON begins with, or soon holds, `"images"` and `"annotations"`.
pub fn is_there(tree: &mut Tree<'_>) -> bool {
    !tree.images().is_empty() && documents(tree).next().is_some()
}

fn documents<'t>(tree: &'t Tree<'_>) -> impl Iterator<Item = usize> + 't {
    tree.with_extension(&["json"]).into_iter().filter(|at| looks_like_it(tree, *at))
}

fn looks_like_it(tree: &Tree<'_>, at: usize) -> bool {
    use std::io::{Read, Seek, SeekFrom};
    let Ok(mut file) = (tree.open)(&tree.files[at].path) else { return false };
    let mut ends = Vec::new();
    // Writers differ in the order of the lists: one of them is near either end.
    if (&mut file).take(PEEK_BYTES as u64).read_to_end(&mut ends).is_err() {
        return false;
    }
    let back = tree.files[at].size.saturating_sub(PEEK_BYTES as u64).max(ends.len() as u64);
    if file.seek(SeekFrom::Start(back)).is_ok() {
        drop(file.take(PEEK_BYTES as u64).read_to_end(&mut ends));
    }
    let text = String::from_utf8_lossy(&ends);
    let has = |word: &str| text.contains(word);
    has("\"file_name\"") || (has("\"images\"") && has("\"annotations\"")) || has("\"image_id\"")
}

pub fn samples(tree: &mut Tree<'_>) -> Vec<Sample> {
    let mut samples: BTreeMap<usize, Sample> = BTreeMap::new();
    let by_name = by_name(tree);
    for at in documents(tree).collect::<Vec<_>>() {
        let path = tree.files[at].path.clone();
        if tree.files[at].size > tree.limits.json_bytes_max {
            tree.findings.add(FindingKind::Broken, &path, "is larger than the limit of JSON files");
            continue;
        }
        let read = (tree.open)(&path).map_err(|err| err.to_string()).and_then(|file| {
            serde_json::from_reader::<_, Document>(BufReader::new(file))
                .map_err(|err| err.to_string())
        });
        match read {
            Ok(document) => take(tree, &path, document, &by_name, &mut samples),
            Err(why) => {
                tree.findings.add(FindingKind::Broken, &path, format!("is no COCO file: {why}"))
            }
        }
    }
    tree.leave_rest("no COCO file names it");
    samples.into_values().collect()
}

fn by_name(tree: &Tree<'_>) -> HashMap<String, Vec<usize>> {
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for at in tree.images() {
        by_name.entry(name(&tree.files[at].path).to_owned()).or_default().push(at);
    }
    by_name
}

/// Where a document's image is: beside it, below the root, or the only file
/// whose path ends so; of several the one in the document's split.
fn find(
    tree: &Tree<'_>,
    json: &str,
    file: &str,
    by_name: &HashMap<String, Vec<usize>>,
) -> Option<usize> {
    let plain = join("", file)?;
    if let Some(at) = join(dir(json), file).and_then(|path| tree.at(&path)) {
        return Some(at);
    }
    let ends = |path: &str| {
        path == plain || path.strip_suffix(plain.as_str()).is_some_and(|rest| rest.ends_with('/'))
    };
    let found: Vec<usize> = by_name
        .get(name(&plain))?
        .iter()
        .copied()
        .filter(|at| ends(&tree.files[*at].path))
        .collect();
    match found.as_slice() {
        [one] => Some(*one),
        several => {
            let split = split_in_name(json)?;
            several.iter().copied().find(|at| split_in(&tree.files[*at].path) == Some(split))
        }
    }
}

fn take(
    tree: &mut Tree<'_>,
    path: &str,
    document: Document,
    by_name: &HashMap<String, Vec<usize>>,
    samples: &mut BTreeMap<usize, Sample>,
) {
    let split = split_in_name(path).map(str::to_owned);
    let categories: HashMap<i64, String> =
        document.categories.into_iter().map(|category| (category.id, category.name)).collect();
    let mut places: HashMap<i64, Option<usize>> = HashMap::new();
    for image in document.images {
        let Some(at) = find(tree, path, &image.file_name, by_name) else {
            places.insert(image.id, None);
            tree.findings.add(FindingKind::Missing, &image.file_name, format!("{path} names it"));
            continue;
        };
        places.insert(image.id, Some(at));
        if let Some(sample) = tree.sample(at) {
            samples.insert(at, Sample { split: split.clone(), ..sample });
        }
        let is = tree.files[at].shown_size;
        let said = (image.width, image.height);
        if said.0 > 0 && is.is_some_and(|is| is != said) {
            let is = is.unwrap_or_default();
            let why = format!("{path} says {}x{}, the image is {}x{}", said.0, said.1, is.0, is.1);
            tree.findings.add(FindingKind::Mismatched, &tree.files[at].path, why);
        }
    }
    for annotation in document.annotations {
        match places.get(&annotation.image_id) {
            None => {
                let why = format!(
                    "an annotation of image {}, which it does not list",
                    annotation.image_id
                );
                tree.findings.add(FindingKind::Orphaned, path, why);
            }
            Some(None) => {}
            Some(Some(at)) => {
                if let Some(sample) = samples.get_mut(at) {
                    annotate(tree, path, annotation, &categories, sample);
                }
            }
        }
    }
}

fn annotate(
    tree: &mut Tree<'_>,
    path: &str,
    said: Annotation,
    categories: &HashMap<i64, String>,
    sample: &mut Sample,
) {
    if let Some(caption) = said.caption {
        match &sample.caption {
            None => sample.caption = Some(caption),
            Some(_) => sample.annotations.push(json!({ "caption": caption })),
        }
        return;
    }
    let category = said.category_id.and_then(|id| categories.get(&id));
    if category.is_none() {
        let why = format!("an annotation of {} names no category that there is", sample.path);
        tree.findings.add(FindingKind::Mismatched, path, why);
    }
    let mut object = Map::new();
    object.insert("category".to_owned(), category.cloned().map_or(Value::Null, Value::String));
    if let Some(bbox) = said.bbox {
        let fits = |(w, h): (u32, u32)| {
            bbox[0] >= -1.0
                && bbox[1] >= -1.0
                && bbox[0] + bbox[2] <= f64::from(w) + 1.0
                && bbox[1] + bbox[3] <= f64::from(h) + 1.0
        };
        if bbox.len() != 4 || !sample.shown_size.is_none_or(fits) {
            let why = format!("{path}: a box outside of its image: {bbox:?}");
            tree.findings.add(FindingKind::Mismatched, &sample.path, why);
        }
        object.insert("bbox".to_owned(), json!(bbox));
    }
    for (name, value) in [
        ("segmentation", said.segmentation),
        ("keypoints", said.keypoints.map(|numbers| json!(numbers))),
        ("iscrowd", said.iscrowd.filter(|crowd| *crowd != 0).map(|crowd| json!(crowd))),
    ] {
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    }
    sample.annotations.push(Value::Object(object));
}
