//! COCO: JSON files with `images`, `annotations` and `categories`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Sample;
use crate::findings::FindingKind;
use crate::splits::{split_in, split_in_name};
use crate::tree::{BOM, Tree, dir, join, name};

/// Smaller files are looked into to see whether they are COCO's.
const PEEK_BYTES: usize = 64 << 10;

#[derive(Deserialize)]
struct Document {
    images: Vec<Image>,
    annotations: Option<Vec<Annotation>>,
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

/// What a look at both ends of a JSON file tells.
enum Look {
    /// It names images.
    Coco,
    /// JSON of something else, perhaps; true: it may have been COCO's.
    Other(bool),
    /// It is no JSON, or not all of one: why; true: by its name or its words it was COCO's.
    Broken(String, bool),
}

/// Its JSON begins with, or soon holds, `"images"` and `"annotations"`; or it is called as
/// COCO's are, or lies alone where they do, and is broken. What is broken otherwise is told,
/// whatever the layout.
pub fn is_there(tree: &mut Tree<'_>) -> bool {
    if tree.images().is_empty() {
        return false;
    }
    let (mut broken, mut others) = (Vec::new(), HashSet::new());
    for at in tree.with_extension(&["json"]) {
        let path = tree.files[at].path.as_str();
        match look(tree, at) {
            Look::Coco | Look::Broken(_, true) => return true,
            Look::Other(true) if is_called_so(path) => return true,
            // Some keep a file an image there.
            Look::Other(_) => {
                others.insert(dir(path));
            }
            Look::Broken(why, false) => broken.push((path, why)),
        }
    }
    if broken.iter().any(|(path, _)| is_placed_so(path) && !others.contains(dir(path))) {
        return true;
    }
    for (path, why) in broken {
        tree.findings.add(FindingKind::Broken, path, why);
    }
    false
}

/// As COCO's own files and those of common tools are.
fn is_called_so(path: &str) -> bool {
    let name = name(path).to_ascii_lowercase();
    ["coco", "instances", "captions_", "keypoints_", "panoptic_", "image_info"]
        .iter()
        .any(|word| name.contains(word))
}

/// Where they are kept.
fn is_placed_so(path: &str) -> bool {
    name(path).to_ascii_lowercase().contains("annotation")
        || dir(path).rsplit('/').next().is_some_and(|dir| dir.eq_ignore_ascii_case("annotations"))
}

fn look(tree: &Tree<'_>, at: usize) -> Look {
    let path = &tree.files[at].path;
    let ends = match ends(tree, at) {
        Ok(ends) => ends,
        Err(err) => return Look::Broken(format!("can't be read: {err}"), is_called_so(path)),
    };
    let text = String::from_utf8_lossy(&ends);
    let has = |word: &str| text.contains(word);
    let has_a_word =
        ["\"images\"", "\"annotations\"", "\"categories\""].iter().any(|word| has(word));
    let is_named = has("\"file_name\"") || has("\"image_id\"");
    let json = ends.strip_prefix(BOM).unwrap_or(&ends).trim_ascii();
    let why = match (json.first(), json.last()) {
        (None, _) => "is empty",
        (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) => {
            return match is_named || (has("\"images\"") && has("\"annotations\"")) {
                true => Look::Coco,
                false => Look::Other(has_a_word || json[0] == b'[' || json.len() == 2),
            };
        }
        (Some(b'{' | b'['), _) => "is cut off: its JSON has no end",
        _ => "is no JSON",
    };
    Look::Broken(why.to_owned(), is_called_so(path) || has_a_word || is_named)
}

/// A file's first and last bytes. Writers differ in the order of the lists: one of them is
/// near either end.
fn ends(tree: &Tree<'_>, at: usize) -> std::io::Result<Vec<u8>> {
    let mut file = (tree.open)(&tree.files[at].path)?;
    let mut ends = Vec::new();
    (&mut file).take(PEEK_BYTES as u64).read_to_end(&mut ends)?;
    // It may have grown since it was listed.
    let size = file.metadata()?.len();
    let back = size.saturating_sub(PEEK_BYTES as u64).max(ends.len() as u64);
    file.seek(SeekFrom::Start(back))?;
    file.take(PEEK_BYTES as u64).read_to_end(&mut ends)?;
    Ok(ends)
}

pub fn samples(tree: &mut Tree<'_>) -> Vec<Sample> {
    let mut samples: BTreeMap<usize, Sample> = BTreeMap::new();
    let by_name = by_name(tree);
    for at in tree.with_extension(&["json"]) {
        let path = tree.files[at].path.clone();
        match look(tree, at) {
            Look::Coco => {}
            Look::Other(was) if is_called_so(&path) && (was || tree.is_asked) => {}
            Look::Other(was) if tree.is_asked && was => {}
            Look::Other(_) => {
                if tree.is_asked {
                    let why = "is no COCO file: it names no images";
                    tree.findings.add(FindingKind::Broken, &path, why);
                }
                continue;
            }
            Look::Broken(why, was) => {
                let why = format!("is no COCO file: it {why}");
                if was || tree.is_asked || is_placed_so(&path) {
                    tree.unread(&path, "", why);
                } else {
                    tree.findings.add(FindingKind::Broken, &path, why);
                }
                continue;
            }
        }
        match document(tree, at) {
            Ok(document) => take(tree, &path, document, &by_name, &mut samples),
            Err(why) => tree.unread(&path, "", format!("is no COCO file: {why}")),
        }
    }
    tree.leave_rest("no COCO file names it");
    samples.into_values().collect()
}

fn document(tree: &Tree<'_>, at: usize) -> Result<Document, String> {
    let file = &tree.files[at];
    if file.size > tree.limits.json_bytes_max {
        return Err("it is larger than the limit of JSON files".to_owned());
    }
    let mut reader = BufReader::new((tree.open)(&file.path).map_err(|err| err.to_string())?);
    if reader.fill_buf().map_err(|err| err.to_string())?.starts_with(BOM) {
        reader.consume(BOM.len());
    }
    serde_json::from_reader(reader).map_err(|err| err.to_string())
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
    // COCO's own lists of images that nobody annotated have none.
    if document.annotations.is_none() && !name(path).to_ascii_lowercase().contains("image_info") {
        let why = "has no annotations; if there are none, write \"annotations\": []";
        tree.unread(path, "", why);
    }
    for annotation in document.annotations.unwrap_or_default() {
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
