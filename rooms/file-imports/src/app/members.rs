//! Members of archives for an import: each archive is read once for what stands
//! beside images, and once for the images that are sent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};

use dataset_layouts::FileFacts;
use file_scan::names;
use file_sources::{ArchiveError, Format, Limits, Source, Spool, read_some};

use crate::model::relative_to;
use crate::store::ListedFile;

/// What stands beside images, by its name.
const BESIDE: [&str; 8] = ["txt", "caption", "json", "jsonl", "csv", "xml", "yaml", "yml"];
/// Of all archives of an import.
const BESIDE_BYTES_MAX: u64 = 4 << 30;

/// Where archives are: path and inode by entry.
pub(super) type Archives = HashMap<i64, (String, i64)>;

/// Files of archives by their archive and their paths within it.
pub(super) fn by_archive<'a, T>(
    files: impl Iterator<Item = (&'a ListedFile, T)>,
    archives: &Archives,
) -> BTreeMap<i64, HashMap<Vec<u8>, T>> {
    let mut groups: BTreeMap<i64, HashMap<Vec<u8>, T>> = BTreeMap::new();
    for (file, of) in files {
        let Some(archive) = file.found.archive else { continue };
        let path = file.found.path();
        let within = archives.get(&archive).and_then(|(at, _)| relative_to(at, &path));
        if let Some(within) = within {
            groups.entry(archive).or_default().insert(names::bytes(within), of);
        }
    }
    groups
}

/// Goes through one archive for some of its members.
///
/// # Errors
/// Why it can't be read to its end.
pub(super) fn through<T>(
    source: &Source,
    (path, ino): &(String, i64),
    wanted: &HashMap<Vec<u8>, T>,
    limits: &Limits,
    sink: &mut dyn FnMut(&T, &mut dyn Read) -> bool,
) -> Result<(), String> {
    let path = names::bytes(path);
    let format = Format::named(&path).ok_or("is no archive by its name any more")?;
    let opened = source.reader().open(&path, ino.cast_unsigned());
    let (mut file, _) = opened.map_err(|error| error.to_string())?;
    let names: HashSet<Vec<u8>> = wanted.keys().cloned().collect();
    read_some(&mut file, format, &names, limits, &mut |name, bytes| {
        wanted.get(name).is_none_or(|of| sink(of, bytes))
    })
    .map_err(|error: ArchiveError| error.to_string())
}

/// Copies of what stands beside images in archives, by the paths of the facts.
///
/// # Errors
/// No room for them.
pub(super) fn beside(
    facts: &[FileFacts],
    files: &[ListedFile],
    archives: &Archives,
    source: &Source,
    limits: &Limits,
) -> io::Result<Spool> {
    let mut spool = Spool::new(BESIDE_BYTES_MAX)?;
    let is_beside = |(facts, file): &(&FileFacts, &ListedFile)| {
        !facts.is_image && BESIDE.contains(&file.found.ext.as_str())
    };
    let texts = facts.iter().zip(files).filter(is_beside);
    let groups = by_archive(texts.map(|(facts, file)| (file, facts.path.clone())), archives);
    for (archive, wanted) in groups {
        let Some(place) = archives.get(&archive) else { continue };
        let read = through(source, place, &wanted, limits, &mut |path, bytes| {
            spool.add(path.clone(), bytes);
            true
        });
        let why = read.err().unwrap_or_else(|| "is not in its archive any more".to_owned());
        for path in wanted.into_values() {
            spool.refuse(path, why.clone());
        }
    }
    Ok(spool)
}
