//! `images/` beside `labels/`: one line an object, in parts of the image.

use std::collections::HashMap;

use serde_json::json;

use crate::Sample;
use crate::findings::FindingKind;
use crate::splits::split_in;
use crate::tree::{Tree, name, stem_path};

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
    for at in tree.with_extension(&["yaml", "yml", "txt"]) {
        let file = name(&tree.files[at].path);
        let is_list = matches!(file, "classes.txt" | "obj.names");
        if !is_list && file.ends_with(".txt") {
            continue;
        }
        let Some(text) = tree.read_text(at) else { continue };
        let names = if is_list {
            text.lines().map(|line| line.trim().to_owned()).enumerate().collect()
        } else {
            yaml_names(&text)
        };
        if !names.is_empty() {
            return names;
        }
    }
    HashMap::new()
}

/// `names:` of a data.yaml, in its three spellings: `[a, b]`, `- a`, `0: a`.
pub fn yaml_names(text: &str) -> HashMap<usize, String> {
    let plain = |word: &str| word.trim().trim_matches(['"', '\'']).to_owned();
    let mut lines = text.lines().map(|line| line.split(" #").next().unwrap_or(line));
    let mut names = HashMap::new();
    let Some(first) = lines.find_map(|line| line.strip_prefix("names:")) else { return names };
    let mut list = first.trim().to_owned();
    if list.starts_with(['[', '{']) {
        for line in lines {
            if list.ends_with([']', '}']) {
                break;
            }
            list.push_str(line.trim());
        }
        for (nth, word) in list.trim_matches(['[', ']', '{', '}']).split(',').enumerate() {
            let (number, word) = numbered(word, nth);
            if !word.trim().is_empty() {
                names.insert(number, plain(word));
            }
        }
        return names;
    }
    for line in lines {
        let entry = line.trim();
        if entry.is_empty() {
            continue;
        }
        let is_item = entry.starts_with('-');
        if !line.starts_with([' ', '\t']) && !is_item {
            break;
        }
        let (number, word) = numbered(entry.trim_start_matches('-'), names.len());
        names.insert(number, plain(word));
    }
    names
}

fn numbered(word: &str, nth: usize) -> (usize, &str) {
    let pair =
        word.split_once(':').and_then(|(number, word)| Some((number.trim().parse().ok()?, word)));
    pair.unwrap_or((nth, word))
}

fn objects(tree: &mut Tree<'_>, at: usize, names: &HashMap<usize, String>, sample: &mut Sample) {
    let Some(text) = tree.read_text(at) else { return };
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
            tree.findings.add(FindingKind::Broken, &path, why);
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
