//! Pascal VOC: an XML file an image, splits as lists of ids.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::{Map, Value, json};

use crate::Sample;
use crate::findings::FindingKind;
use crate::splits::split_of;
use crate::tree::{Tree, dir, join, name, stem_path};

/// XML nested deeper is refused.
const DEPTH_MAX: usize = 32;

/// What one XML file says.
#[derive(Debug, Default)]
struct Annotation {
    filename: String,
    size: Option<(u32, u32)>,
    objects: Vec<Map<String, Value>>,
}

pub fn is_there(tree: &mut Tree<'_>) -> bool {
    !tree.images().is_empty()
        && tree
            .with_extension(&["xml"])
            .into_iter()
            .any(|at| dir(&tree.files[at].path).split('/').any(|part| part == "Annotations"))
}

pub fn samples(tree: &mut Tree<'_>) -> Vec<Sample> {
    let (splits, stems) = (splits(tree), tree.image_of_stem());
    let mut samples = Vec::new();
    for at in tree.with_extension(&["xml"]) {
        let path = tree.files[at].path.clone();
        // Until it is read its own name alone tells which image it is about.
        let about = image_of(tree, &stems, &path, "").map(|at| tree.files[at].path.as_str());
        let about = about.unwrap_or_default();
        let Some(text) = tree.read_text(at, about) else { continue };
        let said = match parse(&text) {
            Ok(said) => said,
            Err(why) => {
                tree.unread(&path, about, why);
                continue;
            }
        };
        let Some(image) = image_of(tree, &stems, &path, &said.filename) else {
            let why = format!("the image {:?} is not there", said.filename);
            tree.findings.add(FindingKind::Missing, &path, why);
            continue;
        };
        let Some(mut sample) = tree.sample(image) else { continue };
        sample.split = splits.get(name(stem_path(&path))).cloned();
        if let (Some(said), Some(is)) = (said.size, sample.shown_size)
            && said != is
        {
            let why = format!("says {}x{}, the image is {}x{}", said.0, said.1, is.0, is.1);
            tree.findings.add(FindingKind::Mismatched, &path, why);
        }
        for object in said.objects {
            push_object(tree, &path, object, &mut sample);
        }
        samples.push(sample);
    }
    tree.leave_rest("no XML file is about it");
    samples
}

/// Ids of `ImageSets/Main/train.txt`, with the split of the list's name.
fn splits(tree: &mut Tree<'_>) -> HashMap<String, String> {
    let mut splits = HashMap::new();
    for at in tree.with_extension(&["txt"]) {
        let path = tree.files[at].path.clone();
        let Some(split) = split_of(name(stem_path(&path))) else { continue };
        if !dir(&path).ends_with("ImageSets/Main") {
            continue;
        }
        for line in tree.read_text(at, "").unwrap_or_default().lines() {
            if let Some(id) = line.split_whitespace().next() {
                splits.insert(id.to_owned(), split.to_owned());
            }
        }
    }
    splits
}

fn image_of(
    tree: &Tree<'_>,
    stems: &HashMap<&str, usize>,
    xml: &str,
    filename: &str,
) -> Option<usize> {
    let home = dir(xml);
    let above = dir(home);
    let dirs = [
        join(above, "JPEGImages"),
        join(above, "images"),
        Some(home.to_owned()),
        Some(above.to_owned()),
    ];
    for dir in dirs.into_iter().flatten() {
        let by_name = join(&dir, filename).and_then(|path| tree.at(&path));
        let by_stem =
            || join(&dir, name(stem_path(xml))).and_then(|path| stems.get(path.as_str()).copied());
        if let Some(at) = by_name.or_else(by_stem) {
            return Some(at);
        }
    }
    None
}

fn push_object(
    tree: &mut Tree<'_>,
    path: &str,
    mut object: Map<String, Value>,
    sample: &mut Sample,
) {
    let mut side =
        |name: &str| object.remove(name)?.as_str()?.parse::<f64>().ok().filter(|n| n.is_finite());
    let sides = (side("xmin"), side("ymin"), side("xmax"), side("ymax"));
    let (Some(left), Some(top), Some(right), Some(bottom)) = sides else {
        tree.unread(path, &sample.path, "an object without a box of four numbers");
        return;
    };
    let is_within = sample
        .shown_size
        .is_none_or(|(w, h)| right <= f64::from(w) + 1.0 && bottom <= f64::from(h) + 1.0);
    if !is_within || left > right || top > bottom || left < 0.0 || top < 0.0 {
        tree.findings.add(FindingKind::Mismatched, path, "a box outside of its image");
        return;
    }
    let category = object.remove("name").unwrap_or_default();
    object.insert("category".to_owned(), category);
    object.insert("bbox".to_owned(), json!([left, top, right - left, bottom - top]));
    sample.annotations.push(Value::Object(object));
}

fn parse(text: &str) -> Result<Annotation, String> {
    let mut reader = Reader::from_str(text);
    let (mut said, mut path) = (Annotation::default(), Vec::<String>::new());
    let (mut width, mut height, mut is_annotation) = (0, 0, false);
    loop {
        match reader.read_event().map_err(|err| format!("is no XML: {err}"))? {
            Event::Start(start) => {
                path.push(String::from_utf8_lossy(start.name().as_ref()).into_owned());
                is_annotation |= path == ["annotation"];
                if path.len() > DEPTH_MAX {
                    return Err("its XML is nested too deep".to_owned());
                }
                if path.last().is_some_and(|last| last == "object") {
                    said.objects.push(Map::new());
                }
            }
            Event::End(_) => drop(path.pop()),
            Event::Text(text) => {
                let text = text.decode().map_err(|err| format!("is no XML: {err}"))?;
                let text = text.trim();
                let parts: Vec<&str> = path.iter().map(String::as_str).collect();
                match (parts.as_slice(), said.objects.last_mut()) {
                    (["annotation", "filename"], _) => text.clone_into(&mut said.filename),
                    (["annotation", "size", "width"], _) => width = text.parse().unwrap_or(0),
                    (["annotation", "size", "height"], _) => height = text.parse().unwrap_or(0),
                    (["annotation", "object", field], Some(object))
                    | (["annotation", "object", "bndbox", field], Some(object))
                        if !text.is_empty() =>
                    {
                        object.insert((*field).to_owned(), text.into());
                    }
                    _ => {}
                }
            }
            Event::Eof if !path.is_empty() => return Err("its XML ends early".to_owned()),
            Event::Eof if !is_annotation => return Err("its XML has no annotation".to_owned()),
            Event::Eof => break,
            _ => {}
        }
    }
    said.size = (width > 0 && height > 0).then_some((width, height));
    Ok(said)
}
