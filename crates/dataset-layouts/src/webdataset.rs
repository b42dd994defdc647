//! `WebDataset`: tars whose members of one stem are a sample.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use archive_members::{Member, tar_members};
use serde_json::Value;

use crate::findings::FindingKind;
use crate::splits::split_in_name;
use crate::tree::Tree;
use crate::{Bytes, Sample};

const IMAGES: [&str; 7] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "ppm"];
const MEMBERS_MAX: u64 = 10_000_000;
/// What of an image is read for its size.
const HEAD_BYTES: u64 = 64 << 10;
const BUFFER_BYTES: usize = 256 << 10;
/// The least that is read for an archive to be taken for samples.
const PEEK_MEMBERS: usize = 32;

pub fn is_there(tree: &mut Tree<'_>) -> bool {
    let is_one = |at: usize| {
        let Ok(mut file) = (tree.open)(&tree.files[at].path) else { return false };
        let (mut has_image, mut seen) = (false, 0);
        drop(tar_members(&mut file, MEMBERS_MAX, |member| {
            seen += 1;
            has_image |= key_of(&member).is_some_and(|(_, ext)| IMAGES.contains(&ext.as_str()));
            !has_image && seen < PEEK_MEMBERS
        }));
        has_image
    };
    tree.images().is_empty() && tree.with_extension(&["tar"]).into_iter().any(is_one)
}

/// The key before the first dot of the name, and what follows it.
fn key_of(member: &Member) -> Option<(String, String)> {
    let path = std::str::from_utf8(&member.path).ok()?;
    let name_at = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = path[name_at..].find('.').filter(|dot| *dot > 0)? + name_at;
    Some((path[..dot].to_owned(), path[dot + 1..].to_ascii_lowercase()))
}

pub fn samples(tree: &mut Tree<'_>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for at in tree.with_extension(&["tar"]) {
        let path = tree.files[at].path.clone();
        let mut file = match (tree.open)(&path) {
            Ok(file) => file,
            Err(err) => {
                tree.unread(&path, &path, err.to_string());
                continue;
            }
        };
        let mut groups: BTreeMap<String, Vec<(String, Member)>> = BTreeMap::new();
        let mut strange = Vec::new();
        let end = tar_members(&mut file, MEMBERS_MAX, |member| {
            match key_of(&member) {
                Some((key, ext)) => groups.entry(key).or_default().push((ext, member)),
                None => strange.push(String::from_utf8_lossy(&member.path).into_owned()),
            }
            true
        });
        if let Err(error) = end {
            tree.unread(&path, &path, error.to_string());
        }
        for name in strange {
            tree.findings.add(
                FindingKind::Orphaned,
                &format!("{path}/{name}"),
                "its name tells no sample",
            );
        }
        for (key, members) in groups {
            samples.extend(sample(tree, at, &mut file, &key, members));
        }
    }
    samples
}

fn sample(
    tree: &mut Tree<'_>,
    at: usize,
    file: &mut File,
    key: &str,
    members: Vec<(String, Member)>,
) -> Option<Sample> {
    let archive = tree.files[at].path.clone();
    let whole = format!("{archive}/{key}");
    let Some((ext, image)) = members.iter().find(|(ext, _)| IMAGES.contains(&ext.as_str())) else {
        tree.findings.add(FindingKind::Orphaned, &whole, "a sample without an image");
        return None;
    };
    let path = format!("{whole}.{ext}");
    let (content, head) = match hash(file, image) {
        Ok(read) => read,
        Err(err) => {
            tree.unread(&path, &archive, err.to_string());
            return None;
        }
    };
    let Some(facts) = file_scan::media_facts(&head) else {
        tree.findings.add(FindingKind::Broken, &path, "is no image");
        return None;
    };
    let (width, height) = facts.shown_size();
    let mut sample = Sample {
        bytes: Bytes::Within { file: at, offset: image.offset },
        path,
        size: image.size,
        content,
        shown_size: u32::try_from(width).ok().zip(u32::try_from(height).ok()),
        likeness: None,
        split: split_in_name(&archive).map(str::to_owned),
        label: None,
        caption: None,
        annotations: Vec::new(),
        properties: serde_json::Map::new(),
    };
    for (ext, member) in &members {
        if matches!(ext.as_str(), "txt" | "cls" | "json") {
            told(tree, file, &whole, ext, member, &mut sample);
        }
    }
    Some(sample)
}

fn told(
    tree: &mut Tree<'_>,
    file: &mut File,
    whole: &str,
    ext: &str,
    member: &Member,
    sample: &mut Sample,
) {
    let path = format!("{whole}.{ext}");
    let text = match text_of(file, member, tree.limits.text_bytes_max) {
        Ok(text) => text,
        Err(why) => return tree.unread(&path, &sample.path, why),
    };
    match ext {
        "txt" => sample.caption = Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        "cls" => sample.label = Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        _ => match serde_json::from_str(&text) {
            Ok(Value::Object(fields)) => sample.properties = fields,
            Ok(_) => tree.unread(&path, &sample.path, "is no JSON object"),
            Err(err) => tree.unread(&path, &sample.path, format!("is no JSON: {err}")),
        },
    }
}

fn text_of(file: &mut File, member: &Member, max: u64) -> Result<String, String> {
    if member.size > max {
        return Err(format!("is larger than {max} bytes"));
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(member.offset)).map_err(|err| err.to_string())?;
    file.take(member.size).read_to_end(&mut bytes).map_err(|err| err.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// The hash of a member, and its first bytes.
fn hash(file: &mut File, member: &Member) -> std::io::Result<([u8; 32], Vec<u8>)> {
    file.seek(SeekFrom::Start(member.offset))?;
    let (mut hash, mut head) = (blake3::Hasher::new(), Vec::new());
    let mut part = file.take(member.size);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = part.read(&mut buffer)?;
        if count == 0 {
            return Ok((hash.finalize().into(), head));
        }
        if (head.len() as u64) < HEAD_BYTES {
            head.extend_from_slice(&buffer[..count]);
        }
        hash.update(&buffer[..count]);
    }
}
