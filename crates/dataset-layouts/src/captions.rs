//! `image.txt` beside `image.png`.

use crate::Sample;
use crate::findings::FindingKind;
use crate::splits::split_in;
use crate::tree::{Tree, name, stem_path};

/// At least half of the images have a text beside them.
pub fn is_there(tree: &mut Tree<'_>) -> bool {
    let images = tree.images();
    let beside = images.iter().filter(|at| text_of(tree, **at).is_some()).count();
    !images.is_empty() && beside * 2 >= images.len()
}

fn text_of(tree: &Tree<'_>, image: usize) -> Option<usize> {
    let stem = stem_path(&tree.files[image].path);
    tree.at(&format!("{stem}.txt")).or_else(|| tree.at(&format!("{stem}.caption")))
}

pub fn samples(tree: &mut Tree<'_>) -> Vec<Sample> {
    let stems = tree.image_of_stem();
    for text in tree.with_extension(&["txt", "caption"]) {
        let path = &tree.files[text].path;
        let is_about_all =
            matches!(name(path).to_ascii_lowercase().as_str(), "readme.txt" | "license.txt");
        if !is_about_all && !stems.contains_key(stem_path(path)) {
            tree.findings.add(FindingKind::Orphaned, path, "a caption without an image");
        }
    }
    let mut samples = Vec::new();
    for image in tree.images() {
        let Some(mut sample) = tree.sample(image) else { continue };
        sample.split = split_in(&sample.path).map(str::to_owned);
        match text_of(tree, image) {
            Some(text) => {
                let caption = tree.read_text(text, &sample.path).map(|text| text.trim().to_owned());
                if caption.as_ref().is_some_and(String::is_empty) {
                    tree.unread(&tree.files[text].path, &sample.path, "is empty");
                }
                sample.caption = caption.filter(|caption| !caption.is_empty());
            }
            None => {
                tree.findings.add(FindingKind::Missing, &sample.path, "has no caption beside it")
            }
        }
        samples.push(sample);
    }
    samples
}
