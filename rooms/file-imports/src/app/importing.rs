//! The job of an import: what the index knows is recognised, compared with what
//! was imported before, and the difference is put.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;

use dataset_layouts::{FileFacts, FindingKind, Layout, Limits, Recognised, recognise};
use file_scan::names;
use file_sources::Source;
use ids::PrincipalId;
use jobs::{Interrupt, JobResult, Work};
use service_error::ServiceError;
use uuid::Uuid;

use super::asked::ImportArguments;
use super::datasets::PutMode;
use super::members::{self, Archives};
use super::pace::Pace;
use super::rows::{self, Row};
use super::sending::Disk;
use super::{Imports, sending};
use crate::model::{Location, Sort, SortBy, relative_to};
use crate::store::{Import, ImportDone, ImportKey, ListedFile, Log, SortValue, Store};

/// Files of one import; all are in memory.
const FILES_MAX: usize = 5_000_000;
const PAGE: u32 = 10_000;
/// What counts as an image by its name until its bytes are known.
const IMAGE_EXTENSIONS: [&str; 9] =
    ["jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "avif"];
const IMAGE: i16 = 4;

/// An import that has something to do, perhaps.
#[derive(Debug)]
pub struct ToImport {
    arguments: ImportArguments,
    /// Where the files are.
    pub location: Location,
    import: Import,
}

/// What an import begins with.
#[derive(Debug)]
pub enum Begun {
    /// Nothing changed since the last one; its numbers.
    Unchanged(BTreeMap<String, i64>),
    /// The location's source has to be opened.
    Differs(Box<ToImport>),
}

/// Files as the index has them, and how to open one.
#[derive(Default)]
struct Listed {
    facts: Vec<FileFacts>,
    /// Of each: its entry, and what it was when it was listed.
    files: Vec<ListedFile>,
    archives: Archives,
}

impl Listed {
    /// Archives whose members are there are directories and no files.
    async fn with_archives(&mut self, store: &Store) -> Result<(), ServiceError> {
        let ids: BTreeSet<i64> = self.files.iter().filter_map(|file| file.found.archive).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut keep = self.files.iter().map(|file| !ids.contains(&file.found.id));
        self.facts.retain(|_| keep.next().unwrap_or(true));
        self.files.retain(|file| !ids.contains(&file.found.id));
        self.archives = store.archives_at(&ids.into_iter().collect::<Vec<_>>()).await?;
        Ok(())
    }
}

impl Imports {
    /// What a job asks for, and whether there is anything to do.
    ///
    /// # Errors
    /// A location that is gone; the database's.
    pub async fn begin(&self, work: &Work) -> Result<Begun, ServiceError> {
        let arguments: ImportArguments = work.arguments()?;
        let location = self.store.location(arguments.location).await?;
        let location = location
            .ok_or_else(|| ServiceError::not_found("location", work.job().title.as_str()))?;
        let import = self.store.open_import(key_of(&arguments)?).await?;
        if import.seq > 0 && self.is_as_imported(&import, location.change_seq).await? {
            let done = [("unchanged", 1), ("samples", import.samples), ("version", import.version)];
            return Ok(Begun::Unchanged(
                done.map(|(name, number)| (name.to_owned(), number)).into(),
            ));
        }
        Ok(Begun::Differs(Box::new(ToImport { arguments, location, import })))
    }

    /// Runs an import from its location's source.
    ///
    /// # Errors
    /// A dataset that is gone, the neighbours'.
    pub async fn run(&self, work: &Work, begun: ToImport, source: Source) -> JobResult {
        let ToImport { arguments, location, import } = begun;
        work.phase("listing", "files");
        let mut pace = Pace::new(work);
        let listed =
            self.list(&mut pace, &location, &arguments, work.job().owner.principal).await?;
        work.phase("recognising", "files");
        let limits = self.limits;
        let recognised = recognised(&listed, &source, &arguments, limits).await?;
        let Listed { facts, files: listed, archives } = listed;
        let mut result = tell(work, &mut pace, &recognised, &arguments).await?;
        result.insert("samples".to_owned(), count(recognised.samples.len()));
        let doubt = Doubt::of(&location, &arguments, &facts, &recognised);
        drop(facts);
        let rows = rows_of(&location, &arguments, &listed, recognised.samples);
        let seq = location.change_seq;
        self.put_difference(
            work,
            &import,
            &arguments,
            &location,
            Disk { source: &source, files: &listed, archives: &archives },
            rows,
            &doubt,
            seq,
            &mut result,
        )
        .await?;
        Ok(result)
    }

    /// Nothing at or below, or above, the directory changed since.
    async fn is_as_imported(&self, import: &Import, newest: i64) -> Result<bool, ServiceError> {
        let mut after = import.seq;
        let is_about = |path: &str| {
            relative_to(&import.path, path).is_some()
                || import.path.is_empty()
                || relative_to(path, &import.path).is_some()
        };
        while after < newest {
            let Log::Changes(changes, _) = self.store.changes(import.location, after, PAGE).await?
            else {
                return Ok(false);
            };
            let is_one = |change: &crate::store::Change| {
                is_about(&change.path) || change.old_path.as_deref().is_some_and(is_about)
            };
            if changes.iter().any(is_one) {
                return Ok(false);
            }
            let Some(last) = changes.last() else { break };
            after = last.seq;
        }
        Ok(true)
    }

    async fn list(
        &self,
        pace: &mut Pace<'_>,
        location: &Location,
        arguments: &ImportArguments,
        viewer: PrincipalId,
    ) -> Result<Listed, Interrupt> {
        let admitted = self.admitted(pace, location, arguments, viewer).await?;
        let (mut listed, mut after) = (Listed::default(), (0, 0));
        loop {
            let (below, archives) = (&arguments.path, arguments.archives);
            let page = self.store.files_below(location.id, below, after, PAGE, archives).await?;
            let Some(last) = page.last() else { break };
            after = (last.dir, last.found.id);
            for file in page {
                let facts = facts_of(&file, &arguments.path);
                let is_in = admitted.as_ref().is_none_or(|ids| ids.contains(&file.found.id));
                if !facts.is_image || is_in {
                    listed.facts.push(facts);
                    listed.files.push(file);
                }
            }
            if listed.files.len() > FILES_MAX {
                let message = format!(
                    "{} holds more than {FILES_MAX} files; import directories below it",
                    arguments.path
                );
                return Err(ServiceError::precondition(message).reason("IMPORT_TOO_LARGE").into());
            }
            pace.step().await?;
        }
        listed.with_archives(&self.store).await?;
        Ok(listed)
    }

    /// The entries that the import's query finds; nothing if it is everything.
    async fn admitted(
        &self,
        pace: &mut Pace<'_>,
        location: &Location,
        arguments: &ImportArguments,
        viewer: PrincipalId,
    ) -> Result<Option<HashSet<i64>>, Interrupt> {
        if arguments.query.is_all() {
            return Ok(None);
        }
        let mut query = arguments.query.query()?;
        query.within = Some((location.id, arguments.path.clone()));
        query.locations = vec![location.id].into();
        query.viewer = viewer.uuid();
        let sort = Sort { by: SortBy::Number, descending: false };
        let (mut ids, mut after) = (HashSet::new(), None);
        loop {
            let page = self.store.search(&query, sort, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(Some(ids)) };
            after = Some((SortValue::Number(0), last.id));
            let is_one =
                |name: &str| query.matcher.as_ref().is_none_or(|matcher| matcher.matches(name));
            ids.extend(page.iter().filter(|found| is_one(&found.name)).map(|found| found.id));
            pace.step().await?;
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one call: the last step of the job")]
    async fn put_difference(
        &self,
        work: &Work,
        import: &Import,
        arguments: &ImportArguments,
        location: &Location,
        disk: Disk<'_>,
        rows: Vec<Row>,
        doubt: &Doubt,
        seq: i64,
        result: &mut BTreeMap<String, i64>,
    ) -> Result<(), Interrupt> {
        let known = self.store.import_items(import.id).await?;
        doubt.check(known.len())?;
        let sample_count = count(rows.len());
        let Difference { mut fresh, prints, gone, kept, stayed } =
            Difference::of(location, rows, &known, doubt);
        if kept > 0 {
            let why = format!("{kept} items stay as they were: what tells of them is broken");
            work.item_failed(&names::shown(&location.absolute(&arguments.path)), &why);
        }
        // Should this run end between the commit and its note, the next one
        // knows which items may be there.
        self.store
            .claim_items(import.id, &fresh.iter().map(|row| row.id).collect::<Vec<_>>())
            .await?;
        work.step(&"putting").await?;
        let mut version = import.version;
        let mut failed = HashSet::new();
        if !fresh.is_empty() {
            let sent;
            let put;
            (put, sent) = sending::put(self, work, arguments, location, disk, &mut fresh).await?;
            version = put.unwrap_or(version);
            failed = sent;
        }
        if !gone.is_empty() {
            work.phase("removing", "items");
            let key = format!(
                "{}-{}",
                work.job().id,
                digest(gone.iter().map(|id| id.as_bytes().as_slice()))
            );
            let name = arguments.name();
            version =
                self.datasets.put(&name, PutMode::Delete, "", &key, rows::keys(&gone)?).await?;
        }
        let added = fresh.iter().filter(|row| known.get(&row.id).is_none_or(Vec::is_empty)).count();
        for (name, number) in [
            ("added", count(added)),
            ("updated", count(fresh.len() - added)),
            ("removed", count(gone.len())),
            ("kept", count(kept)),
            ("unreadable", count(failed.len())),
            ("version", version),
        ] {
            result.insert(name.to_owned(), number);
        }
        let put = prints.into_iter().filter(|(id, _)| !failed.contains(id)).collect();
        // What could not be read is tried again, changed or not.
        let seq = if failed.is_empty() && kept == 0 { seq } else { 0 };
        let samples = sample_count - count(failed.len()) + count(stayed);
        self.store.end_import(import.id, ImportDone { seq, version, samples, put, gone }).await?;
        Ok(())
    }
}

/// Items that stay as they are, since what tells of them could not be read.
#[derive(Default)]
struct Doubt {
    /// A sidecar that may be about everything.
    all: Option<String>,
    /// Items of what is there.
    items: HashSet<Uuid>,
    /// There may be more than is seen.
    is_more: bool,
}

impl Doubt {
    fn of(
        location: &Location,
        arguments: &ImportArguments,
        facts: &[FileFacts],
        recognised: &Recognised,
    ) -> Self {
        let unread = &recognised.unread;
        let all = unread.iter().find(|one| one.about.is_empty());
        let abouts: HashSet<&str> = unread.iter().map(|one| one.about.as_str()).collect();
        let mut doubt = Self {
            all: all.map(|one| names::shown(&arguments.whole(&one.path))),
            items: HashSet::new(),
            // What else a tar held that ends early is not told.
            is_more: recognised.layout == Layout::WebDataset && !abouts.is_empty(),
        };
        if !abouts.is_empty() && doubt.all.is_none() {
            let is_one = |path: &&str| {
                let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
                abouts.contains(path) || above.any(|above| abouts.contains(above))
            };
            let samples = recognised.samples.iter().map(|sample| sample.path.as_str());
            let paths = facts.iter().map(|file| file.path.as_str()).chain(samples);
            let ids = paths.filter(is_one).map(|path| Row::id_of(location, &arguments.whole(path)));
            doubt.items = ids.collect();
        }
        doubt
    }

    /// Refuses to change what a sidecar may be about that could not be read.
    fn check(&self, known: usize) -> Result<(), ServiceError> {
        let Some(sidecar) = self.all.as_ref().filter(|_| known > 0) else { return Ok(()) };
        let message = format!(
            "{sidecar} is broken: the {known} items that were imported stay as they are; mend it, or take it away, and import again"
        );
        Err(ServiceError::precondition(message).reason("SIDECAR_BROKEN").with("path", sidecar))
    }
}

/// What is to be done to a dataset.
struct Difference {
    fresh: Vec<Row>,
    prints: HashMap<Uuid, [u8; 16]>,
    gone: Vec<Uuid>,
    /// Items that are in doubt and would have been changed or removed.
    kept: usize,
    /// Those of them that would have been removed.
    stayed: usize,
}

impl Difference {
    fn of(
        location: &Location,
        rows: Vec<Row>,
        known: &HashMap<Uuid, Vec<u8>>,
        doubt: &Doubt,
    ) -> Self {
        let here: HashSet<Uuid> = rows.iter().map(|row| row.id).collect();
        let not_here = known.keys().filter(|id| !here.contains(id)).copied();
        let (stayed, gone): (Vec<Uuid>, Vec<Uuid>) =
            not_here.partition(|id| doubt.is_more || doubt.items.contains(id));
        let mut prints = HashMap::with_capacity(rows.len());
        let (mut fresh, mut kept) = (Vec::new(), stayed.len());
        for row in rows {
            let (print, known) = (row.print(location), known.get(&row.id));
            if known.is_some_and(|known| known[..] == print) {
                continue;
            }
            // Without a print it was about to be put, and may not be there.
            if known.is_some_and(|known| !known.is_empty()) && doubt.items.contains(&row.id) {
                kept += 1;
                continue;
            }
            prints.insert(row.id, print);
            fresh.push(row);
        }
        Self { fresh, prints, gone, kept, stayed: stayed.len() }
    }
}

fn key_of(arguments: &ImportArguments) -> Result<ImportKey, ServiceError> {
    let query = match arguments.archives {
        false => serde_json::to_string(&(&arguments.query, arguments.by_reference)),
        true => serde_json::to_string(&(&arguments.query, arguments.by_reference, "archives")),
    };
    let query = query.map_err(|err| ServiceError::internal("an import's query").caused_by(err))?;
    Ok(ImportKey {
        location: arguments.location,
        path: arguments.path.clone(),
        dataset_id: arguments.dataset_id,
        dataset: arguments.name(),
        layout: arguments.layout.clone(),
        query,
    })
}

fn facts_of(file: &ListedFile, below: &str) -> FileFacts {
    let found = &file.found;
    let content = found.content.as_ref();
    let shown_size = content.and_then(|content| {
        let (width, height) = content.size?;
        let is_turned = (5..=8).contains(&content.orientation);
        let (width, height) = if is_turned { (height, width) } else { (width, height) };
        u32::try_from(width).ok().zip(u32::try_from(height).ok())
    });
    let has_name = IMAGE_EXTENSIONS.contains(&found.ext.as_str());
    let path = found.path();
    FileFacts {
        path: relative_to(below, &path)
            .filter(|_| !below.is_empty())
            .map_or_else(|| path.clone(), str::to_owned),
        size: found.size.cast_unsigned(),
        content: content.and_then(|content| content.hash.get(..32)?.try_into().ok()),
        is_image: content.map_or(has_name, |content| content.kind == IMAGE || has_name),
        shown_size,
        // Named like an image and none by its bytes, or one that does not decode.
        is_broken: content
            .is_some_and(|content| content.is_broken || (has_name && content.kind != IMAGE)),
        likeness: file.likeness,
    }
}

async fn recognised(
    listed: &Listed,
    source: &Source,
    arguments: &ImportArguments,
    limits: file_sources::Limits,
) -> Result<Recognised, ServiceError> {
    let (facts, files, archives) =
        (listed.facts.clone(), listed.files.clone(), listed.archives.clone());
    let source = source.clone();
    let layout = Layout::named(&arguments.layout);
    let at: HashMap<String, (Vec<u8>, u64)> = listed
        .facts
        .iter()
        .zip(&listed.files)
        .map(|(facts, file)| {
            let place = (names::bytes(&file.found.path()), file.found.ino.cast_unsigned());
            (facts.path.clone(), place)
        })
        .collect();
    blocking(move || {
        let spool =
            members::beside(&facts, &files, &archives, &source, &limits).map_err(|err| {
                ServiceError::unavailable("no room for files of archives").caused_by(err)
            })?;
        let open = |path: &str| -> io::Result<File> {
            if let Some(opened) = spool.open(path) {
                return opened;
            }
            let (path, ino) = at.get(path).ok_or(io::ErrorKind::NotFound)?;
            let opened = source.reader().open(path, *ino);
            opened.map(|(file, _)| file).map_err(|error| io::Error::other(error.to_string()))
        };
        recognise(&facts, layout, &open, Limits::default())
            .map_err(|why| ServiceError::precondition(why).reason("IMPORT_TOO_LARGE"))
    })
    .await
}

/// Tells what is wrong, item by item, and counts it.
async fn tell(
    work: &Work,
    pace: &mut Pace<'_>,
    recognised: &Recognised,
    arguments: &ImportArguments,
) -> Result<BTreeMap<String, i64>, Interrupt> {
    for (nth, finding) in recognised.findings.kept().iter().enumerate() {
        let path = arguments.whole(&finding.path);
        let message = format!("{}: {}", finding.kind.word(), finding.message);
        work.item_failed(&names::shown(&path), &message);
        if nth % 500 == 499 {
            pace.now().await?;
        }
    }
    let counts =
        FindingKind::ALL.map(|(kind, word)| (word.to_owned(), recognised.findings.count(kind)));
    Ok(counts.into())
}

fn rows_of(
    location: &Location,
    arguments: &ImportArguments,
    listed: &[ListedFile],
    samples: Vec<dataset_layouts::Sample>,
) -> Vec<Row> {
    let rows = samples.into_iter().map(|sample| {
        let path = arguments.whole(&sample.path);
        let at = match sample.bytes {
            dataset_layouts::Bytes::File(at) | dataset_layouts::Bytes::Within { file: at, .. } => {
                at
            }
        };
        let entry = listed.get(at).map_or(0, |file| file.found.id);
        Row {
            id: Row::id_of(location, &path),
            mime_type: sending::mime_of(&path),
            path,
            entry,
            sample,
        }
    });
    rows.collect()
}

/// Bytes of many parts in one short word.
pub(super) fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = blake3::Hasher::new();
    parts.for_each(|part| {
        hash.update(part);
    });
    hash.finalize().to_hex().chars().take(32).collect()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Runs what reads the disk.
async fn blocking<T, F>(work: F) -> Result<T, ServiceError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ServiceError> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|err| Err(ServiceError::internal("reading the disk failed").caused_by(err)))
}
