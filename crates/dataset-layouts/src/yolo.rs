//! `images/` beside `labels/`: one line an object, in parts of the image.

use std::collections::HashMap;

use serde_json::json;

use crate::Sample;
use crate::findings::FindingKind;
use crate::splits::split_in;
use crate::tree::{Tree, extension, name, stem_path};

const NAMES: &str = "names:";

/// An image below `images/` has its lines below `labels/`.
pub fn is_there(tree: &mut Tree<'_>) -> bool {
    let images = tree.images();
    images
        .iter()
        .any(|at| labels_path(&tree.files[*at].path).is_some_and(|path| tree.at(&path).is_some()))
}

/// The last `images` of the directories becomes `labels`.
fn labels_path(image: &str) -> Option<String> {
    swapped(image, "images", "labels").map(|path| format!("{}.txt", stem_path(&path)))
}

fn swapped(path: &str, from: &str, to: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let dirs = parts.len().checked_sub(1)?;
    let at = parts[..dirs].iter().rposition(|part| *part == from)?;
    parts[at] = to;
    Some(parts.join("/"))
}

pub fn samples(tree: &mut Tree<'_>) -> Vec<Sample> {
    let names = class_names(tree);
    orphaned_labels(tree);
    let mut samples = Vec::new();
    for image in tree.images() {
        let Some(mut sample) = tree.sample(image) else { continue };
        sample.split = split_in(&sample.path).map(str::to_owned);
        let labels = labels_path(&sample.path).and_then(|path| tree.at(&path));
        match labels {
            Some(at) => objects(tree, at, &names, &mut sample),
            None => {
                tree.findings.add(FindingKind::Orphaned, &sample.path, "no label file is about it")
            }
        }
        samples.push(sample);
    }
    samples
}

fn orphaned_labels(tree: &mut Tree<'_>) {
    let stems = tree.image_of_stem();
    for at in tree.with_extension(&["txt"]) {
        let path = &tree.files[at].path;
        let Some(image) = swapped(path, "labels", "images") else { continue };
        if name(path) != "classes.txt" && !stems.contains_key(stem_path(&image)) {
            tree.findings.add(FindingKind::Missing, path, "labels of an image that is not there");
        }
    }
}

/// Classes by number, of `data.yaml` or `classes.txt`.
fn class_names(tree: &mut Tree<'_>) -> HashMap<usize, String> {
    let mut names = HashMap::new();
    for at in tree.with_extension(&["yaml", "yml", "txt", "names"]) {
        let path = tree.files[at].path.clone();
        let is_list = matches!(name(&path), "classes.txt" | "obj.names");
        let is_yaml = matches!(extension(&path).to_ascii_lowercase().as_str(), "yaml" | "yml");
        if !is_list && !is_yaml {
            continue;
        }
        let Some(text) = tree.read_text(at, "") else { continue };
        let read = if is_list { listed_names(&text) } else { yaml_names(&text) };
        // Other YAML may lie there too.
        let is_data = is_list || matches!(name(stem_path(&path)), "data" | "dataset");
        match read {
            Ok(read) if names.is_empty() => names = read,
            Ok(_) => {}
            Err(why) if is_data || text.lines().any(|line| line.starts_with(NAMES)) => {
                tree.unread(&path, "", why);
            }
            Err(_) => {}
        }
    }
    names
}

/// A class a line.
fn listed_names(text: &str) -> Result<HashMap<usize, String>, String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(text.lines().map(|line| line.trim().to_owned()).enumerate().collect())
}

/// `names:` of a data.yaml, in its three spellings: `[a, b]`, `- a`, `0: a`.
pub fn yaml_names(text: &str) -> Result<HashMap<usize, String>, String> {
    let mut lines = text.lines().map(|line| line.split(" #").next().unwrap_or(line));
    let first = lines.find_map(|line| line.strip_prefix(NAMES)).ok_or("has no names")?;
    let names = if first.trim().starts_with(['[', '{']) {
        inline_names(first, lines)?
    } else {
        block_names(lines)?
    };
    let said = text.lines().find_map(|line| line.strip_prefix("nc:")?.trim().parse::<usize>().ok());
    match (names.len(), said) {
        (0, _) => Err("names no classes".to_owned()),
        (count, Some(said)) if count < said => Err(format!("names {count} of {said} classes")),
        _ => Ok(names),
    }
}

fn plain(word: &str) -> String {
    word.trim().trim_matches(['"', '\'']).to_owned()
}

fn inline_names<'a>(
    first: &str,
    lines: impl Iterator<Item = &'a str>,
) -> Result<HashMap<usize, String>, String> {
    let mut list = first.trim().to_owned();
    for line in lines {
        if list.ends_with([']', '}']) {
            break;
        }
        list.push_str(line.trim());
    }
    let inner = match list.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']'),
        None => list.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')),
    };
    let inner = inner.ok_or("its list of names has no end")?;
    let words = inner.split(',').enumerate().map(|(nth, word)| numbered(word, nth));
    let words = words.filter(|(_, word)| !word.trim().is_empty());
    Ok(words.map(|(number, word)| (number, plain(word))).collect())
}

fn block_names<'a>(lines: impl Iterator<Item = &'a str>) -> Result<HashMap<usize, String>, String> {
    let mut names = HashMap::new();
    for line in lines {
        let entry = line.trim();
        if entry.is_empty() || entry.starts_with('#') {
            continue;
        }
        let is_item = entry.starts_with('-');
        if !line.starts_with([' ', '\t']) && !is_item {
            break;
        }
        if !is_item && !entry.contains(':') {
            return Err(format!("{:?} is no name of a class", short(entry)));
        }
        let (number, word) = numbered(entry.trim_start_matches('-'), names.len());
        names.insert(number, plain(word));
    }
    Ok(names)
}

fn numbered(word: &str, nth: usize) -> (usize, &str) {
    let pair =
        word.split_once(':').and_then(|(number, word)| Some((number.trim().parse().ok()?, word)));
    pair.unwrap_or((nth, word))
}

fn objects(tree: &mut Tree<'_>, at: usize, names: &HashMap<usize, String>, sample: &mut Sample) {
    let Some(text) = tree.read_text(at, &sample.path) else { return };
    let path = tree.files[at].path.clone();
    for (nth, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let numbers: Option<Vec<f64>> =
            line.split_whitespace().map(|word| word.parse().ok()).collect();
        let is_object = |numbers: &Vec<f64>| {
            let rest = numbers.len().saturating_sub(1);
            (rest == 4 || rest == 5 || (rest >= 6 && rest.is_multiple_of(2)))
                && numbers.iter().all(|n| n.is_finite())
        };
        let class = |numbers: &Vec<f64>| {
            (numbers[0] >= 0.0 && numbers[0].fract() == 0.0).then_some(numbers[0] as usize)
        };
        let object =
            numbers.filter(is_object).and_then(|numbers| Some((class(&numbers)?, numbers)));
        let Some((class, numbers)) = object else {
            let why = format!("line {} is no object: {:?}", nth + 1, short(line));
            tree.unread(&path, &sample.path, why);
            continue;
        };
        let category = names.get(&class).cloned();
        if category.is_none() && !names.is_empty() {
            let why = format!("line {}: class {class} is none of {}", nth + 1, names.len());
            tree.findings.add(FindingKind::Mismatched, &path, why);
        }
        if numbers[1..]
            .iter()
            .take(if numbers.len() == 6 { 4 } else { usize::MAX })
            .any(|n| !(0.0..=1.0).contains(n))
        {
            let why = format!("line {}: a box outside of its image", nth + 1);
            tree.findings.add(FindingKind::Mismatched, &path, why);
            continue;
        }
        sample.annotations.push(object_json(
            &category.unwrap_or_else(|| class.to_string()),
            &numbers[1..],
            sample.shown_size,
        ));
    }
}

fn short(line: &str) -> String {
    line.chars().take(80).collect()
}

/// In pixels where the image's size is known, else in parts of it.
fn object_json(category: &str, numbers: &[f64], size: Option<(u32, u32)>) -> serde_json::Value {
    let (w, h) = size.map_or((1.0, 1.0), |(w, h)| (f64::from(w), f64::from(h)));
    let unit = if size.is_some() { "pixels" } else { "parts" };
    if numbers.len() <= 5 {
        let [cx, cy, bw, bh] = [numbers[0] * w, numbers[1] * h, numbers[2] * w, numbers[3] * h];
        let mut object = json!({ "category": category, "bbox": [cx - bw / 2.0, cy - bh / 2.0, bw, bh], "unit": unit });
        if let Some(confidence) = numbers.get(4) {
            object["confidence"] = json!(confidence);
        }
        return object;
    }
    let points: Vec<f64> =
        numbers.chunks(2).flat_map(|point| [point[0] * w, point[1] * h]).collect();
    let of = |nth: usize| points.iter().skip(nth).step_by(2).copied();
    let (left, right) = (of(0).fold(f64::MAX, f64::min), of(0).fold(f64::MIN, f64::max));
    let (top, bottom) = (of(1).fold(f64::MAX, f64::min), of(1).fold(f64::MIN, f64::max));
    let bbox = [left, top, right - left, bottom - top];
    json!({ "category": category, "bbox": bbox, "segmentation": [points], "unit": unit })
}
