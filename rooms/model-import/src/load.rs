//! The import: each version of a source becomes a version here, once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use models_api::v1 as api;
use quarry_client::client::Client;
use quarry_client::client::model_files::{self, Named};
use quarry_client::failure::{Exit, Failure};
use serde::Serialize;
use service_error::{Code, ServiceError};

use crate::source::{Files, Source, SourceModel, SourceVersion};

/// The tag that names where a version came from.
pub const ORIGIN: &str = "quarry.import";
/// When its source made it.
const CREATED: &str = "quarry.import.created";
/// What a version of MLflow's says of its format.
const MLMODEL: &str = "MLmodel";
const MLMODEL_BYTES_MAX: u64 = 1 << 20;
/// Failures that the report names; the rest are counted.
const ROWS_MAX: usize = 1_000;

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where to.
    pub namespace: String,
    /// Only these models; empty: all.
    pub models: Vec<String>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// A number that is taken gives way to the model's next one.
    pub renumber: bool,
    /// A version whose files are out of reach is registered without them.
    pub without_files: bool,
    /// Where files of a server lie for a moment; unset: the system's place.
    pub scratch: Option<PathBuf>,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Created,
    /// An earlier import made it.
    Present,
    /// In a dry run.
    WouldCreate,
    Failed,
}

/// One row of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// As the source names it.
    pub model: String,
    /// Empty: the model itself.
    pub version: String,
    pub state: State,
    /// The number that it has here; 0: none.
    pub number: i64,
    pub files: u64,
    pub bytes: u64,
    pub sent_bytes: u64,
    /// Why it failed, or what of it was left out.
    pub message: String,
}

/// What an import came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub source: String,
    pub dry_run: bool,
    pub models: u64,
    pub models_created: u64,
    pub created: u64,
    pub present: u64,
    pub failed: u64,
    pub files: u64,
    pub bytes: u64,
    /// What went over the wire: the rest was here already.
    pub sent_bytes: u64,
    pub aliases: u64,
    /// Rows that failed or of which something was left out, the first of them.
    pub rows: Vec<Row>,
}

impl Report {
    fn add(&mut self, row: &Row) {
        match row.state {
            State::Created | State::WouldCreate => self.created += 1,
            State::Present => self.present += 1,
            State::Failed => self.failed += 1,
        }
        self.files += row.files;
        self.bytes += row.bytes;
        self.sent_bytes += row.sent_bytes;
        if (row.state == State::Failed || !row.message.is_empty()) && self.rows.len() < ROWS_MAX {
            self.rows.push(row.clone());
        }
    }
}

/// What a model here has already.
#[derive(Debug, Default)]
struct Known {
    exists: bool,
    by_origin: HashMap<String, i64>,
    /// By its version as the source writes it, for aliases.
    by_version: BTreeMap<String, i64>,
    numbers: HashSet<i64>,
}

/// Imports a source. `seen` is told of each row as it is done.
///
/// # Errors
/// A source that cannot be read on, a server that is away or refuses the caller;
/// what was done stays, and the next run goes on.
pub async fn run(
    client: &Client,
    source: &Source,
    options: &Options,
    mut seen: impl FnMut(&Row),
) -> Result<Report, Failure> {
    let mut report =
        Report { source: source.kind().to_owned(), dry_run: options.dry_run, ..Report::default() };
    let mut token = String::new();
    loop {
        let page = source.models(&token).await?;
        for model in page.rows {
            if options.models.is_empty() || options.models.contains(&model.name) {
                let import = Import { client, source, options };
                import.model(&model, &mut report, &mut seen).await?;
            }
        }
        token = page.next;
        if token.is_empty() {
            return Ok(report);
        }
    }
}

/// A failure that every further row would share.
fn ends(failure: &Failure) -> bool {
    matches!(failure.exit(), Exit::Unavailable | Exit::Denied | Exit::Interrupted)
}

struct Import<'a> {
    client: &'a Client,
    source: &'a Source,
    options: &'a Options,
}

impl Import<'_> {
    async fn model(
        &self,
        model: &SourceModel,
        report: &mut Report,
        seen: &mut impl FnMut(&Row),
    ) -> Result<(), Failure> {
        report.models += 1;
        let known = match self.prepare(model, report).await {
            Ok(known) => known,
            Err(failure) if ends(&failure) => return Err(failure),
            Err(failure) => {
                let row = failed(model, "", &failure);
                seen(&row);
                report.add(&row);
                return Ok(());
            }
        };
        let mut known = known;
        let mut token = String::new();
        loop {
            let page = self.source.versions(&model.name, &token).await?;
            for mut version in page.rows {
                let row = match self.version(model, &mut version, &mut known).await {
                    Ok(row) => row,
                    Err(failure) if ends(&failure) => return Err(failure),
                    Err(failure) => failed(model, &version.version, &failure),
                };
                if row.number > 0 {
                    known.by_version.insert(version.version.clone(), row.number);
                    known.numbers.insert(row.number);
                }
                seen(&row);
                report.add(&row);
            }
            token = page.next;
            if token.is_empty() {
                break;
            }
        }
        self.aliases(model, &known, report).await
    }

    /// Looks what is here already, and makes the model.
    async fn prepare(&self, model: &SourceModel, report: &mut Report) -> Result<Known, Failure> {
        let mut known = Known::default();
        let request = api::GetModelRequest {
            namespace: self.options.namespace.clone(),
            name: model.name.clone(),
        };
        match self.client.models().get_model(request).await.map_err(Failure::from) {
            Ok(_) => known.exists = true,
            Err(failure) if failure.code() == Code::NotFound => {}
            Err(failure) => return Err(failure),
        }
        if known.exists {
            for deleted in [false, true] {
                self.look(model, deleted, &mut known).await?;
            }
            return Ok(known);
        }
        report.models_created += 1;
        if self.options.dry_run {
            return Ok(known);
        }
        let request = api::CreateModelRequest {
            namespace: self.options.namespace.clone(),
            name: model.name.clone(),
            description: model.description.clone(),
            tags: model.tags.clone().into_iter().collect(),
        };
        self.client.models().create_model(request).await.map_err(|status| {
            report.models_created -= 1;
            Failure::from(status)
        })?;
        Ok(known)
    }

    async fn look(
        &self,
        model: &SourceModel,
        deleted: bool,
        known: &mut Known,
    ) -> Result<(), Failure> {
        let mut page_token = String::new();
        loop {
            let request = api::SearchVersionsRequest {
                namespace: self.options.namespace.clone(),
                model: model.name.clone(),
                order_by: "number".to_owned(),
                page_size: 1_000,
                page_token,
                deleted,
                ..Default::default()
            };
            let page = self.client.model_versions().search_versions(request).await?.into_inner();
            for version in page.versions {
                known.numbers.insert(version.number);
                if let Some(origin) = version.tags.get(ORIGIN) {
                    known.by_origin.insert(origin.clone(), version.number);
                }
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(());
            }
        }
    }

    async fn version(
        &self,
        model: &SourceModel,
        version: &mut SourceVersion,
        known: &mut Known,
    ) -> Result<Row, Failure> {
        let kind = self.source.origin();
        let origin = format!("{kind}:{}/{}@{}", model.name, version.version, version.created);
        let mut row = Row {
            model: model.name.clone(),
            version: version.version.clone(),
            state: State::Present,
            number: 0,
            files: 0,
            bytes: 0,
            sent_bytes: 0,
            message: String::new(),
        };
        if let Some(number) = known.by_origin.get(&origin) {
            row.number = *number;
            return Ok(row);
        }
        let number = self.number_for(version, known)?;
        self.source.complete(&model.name, version).await?;
        let place = self.files(version, &mut row).await?;
        let files = place.as_ref().map_or(&[][..], |(files, _)| files.as_slice());
        if self.options.dry_run {
            row.state = State::WouldCreate;
            row.number = number.unwrap_or_default();
            row.files = files.len() as u64;
            row.bytes += sizes(files);
            return Ok(row);
        }
        let mut upload_id = String::new();
        if !files.is_empty() {
            let namespace = &self.options.namespace;
            let sent = model_files::upload(self.client, namespace, files, |_| {}).await?;
            (row.files, row.bytes, row.sent_bytes) = (sent.files, sent.bytes, sent.sent_bytes);
            upload_id = sent.upload_id;
        }
        let request = self.request(model, version, (number, upload_id, origin), files);
        let made = self.client.model_versions().create_version(request).await?.into_inner();
        let made = made.version.unwrap_or_default();
        row.state = State::Created;
        row.number = made.number;
        if let Err(failure) = self.stage(&made, &version.stage).await {
            if ends(&failure) {
                return Err(failure);
            }
            let left = format!("it was not moved to stage {}: {failure}", version.stage);
            note(&mut row, &left);
        }
        Ok(row)
    }

    /// The number that a version keeps; none: the model's next one.
    fn number_for(&self, version: &SourceVersion, known: &Known) -> Result<Option<i64>, Failure> {
        let Some(number) = version.number() else { return Ok(None) };
        let highest = known.numbers.iter().max().copied().unwrap_or_default();
        if number > highest {
            return Ok(Some(number));
        }
        if self.options.renumber {
            return Ok(None);
        }
        let message = if known.numbers.contains(&number) {
            format!("number {number} is another version's here; --renumber gives it the next one")
        } else {
            format!(
                "number {number} lies below {highest}, which was given here; --renumber gives it the next one"
            )
        };
        Err(ServiceError::precondition(message).reason("VERSION_NUMBER_TAKEN").into())
    }

    fn request(
        &self,
        model: &SourceModel,
        version: &SourceVersion,
        (number, upload_id, origin): (Option<i64>, String, String),
        files: &[Named],
    ) -> api::CreateVersionRequest {
        let mut tags: HashMap<String, String> = version.tags.clone().into_iter().collect();
        tags.insert(ORIGIN.to_owned(), origin);
        if !version.created.is_empty() {
            tags.insert(CREATED.to_owned(), version.created.clone());
        }
        let label =
            if version.number().is_some() { String::new() } else { version.version.clone() };
        let metrics = version.metrics.iter().map(|metric| api::Metric {
            key: metric.key.clone(),
            value: metric.value,
            step: metric.step,
            time: (metric.at_ms > 0).then(|| timestamp(metric.at_ms)),
        });
        api::CreateVersionRequest {
            namespace: self.options.namespace.clone(),
            model: model.name.clone(),
            label,
            description: version.description.clone(),
            source: version.source.clone(),
            run_id: version.run_id.clone(),
            run_link: version.run_link.clone(),
            flavors: flavors(files),
            tags,
            upload_id,
            metrics: metrics.collect(),
            params: version.params.clone().into_iter().collect(),
            number: number.unwrap_or_default(),
            create_model: true,
            ..Default::default()
        }
    }

    async fn stage(&self, made: &api::ModelVersion, stage: &str) -> Result<(), Failure> {
        if stage.is_empty() {
            return Ok(());
        }
        let request = api::TransitionStageRequest {
            namespace: made.namespace.clone(),
            model: made.model.clone(),
            version: made.number.to_string(),
            stage: stage.to_owned(),
            comment: "imported".to_owned(),
            ..Default::default()
        };
        self.client.model_lifecycle().transition_stage(request).await?;
        Ok(())
    }

    /// Sets the aliases that the model here has not.
    async fn aliases(
        &self,
        model: &SourceModel,
        known: &Known,
        report: &mut Report,
    ) -> Result<(), Failure> {
        if self.options.dry_run {
            return Ok(());
        }
        for (alias, version) in &model.aliases {
            let Some(number) = known.by_version.get(version) else { continue };
            let request = api::SetAliasRequest {
                namespace: self.options.namespace.clone(),
                model: model.name.clone(),
                alias: alias.clone(),
                version: number.to_string(),
                protected: None,
                expected_version: Some(0),
            };
            match self.client.model_lifecycle().set_alias(request).await.map_err(Failure::from) {
                Ok(_) => report.aliases += 1,
                // It is there, and somebody may have moved it since.
                Err(failure) if failure.code() == Code::Conflict => {}
                Err(failure) if ends(&failure) => return Err(failure),
                Err(failure) => {
                    let mut row = failed(model, version, &failure);
                    row.message = format!("alias {alias}: {}", row.message);
                    report.add(&row);
                }
            }
        }
        Ok(())
    }

    /// The files of a version, and the folder that holds them meanwhile.
    async fn files(&self, version: &SourceVersion, row: &mut Row) -> Result<Placed, Failure> {
        let reached = match &version.files {
            Files::None => return Ok(None),
            Files::Local(location) => self.local(location, version),
            Files::Proxied(root) => return self.proxied(root, row).await.map(Some),
            Files::Elsewhere(location) => {
                let message =
                    format!("its files are at {location}, which an import does not reach");
                Err(ServiceError::precondition(message).reason("FILES_ELSEWHERE").into())
            }
        };
        match reached {
            Ok(files) => Ok(Some((files, None))),
            Err(failure) if self.options.without_files => {
                note(row, &format!("without its files: {failure}"));
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    fn local(&self, location: &Path, version: &SourceVersion) -> Result<Vec<Named>, Failure> {
        let real = self
            .source
            .roots()
            .resolve(location)
            .map_err(|why| ServiceError::precondition(why).reason("FILES_MISSING"))?;
        let files = model_files::files(&real, false)?;
        let bytes = sizes(&files);
        match version.bytes {
            Some(said) if said != bytes => {
                let message =
                    format!("{} has {bytes} bytes, and the registry says {said}", real.display());
                Err(ServiceError::data_loss(message).reason("FILE_SIZE").into())
            }
            _ => Ok(files),
        }
    }

    async fn proxied(
        &self,
        root: &str,
        row: &mut Row,
    ) -> Result<(Vec<Named>, Option<tempfile::TempDir>), Failure> {
        let Source::Server(server) = self.source else {
            return Err(ServiceError::internal("only a server has a proxy").into());
        };
        let remote = server.files(root).await?;
        if remote.is_empty() {
            note(row, "it has no files");
        }
        if self.options.dry_run {
            row.bytes = remote.iter().map(|file| file.bytes).sum();
            let named = remote.into_iter().map(|file| (file.name, PathBuf::new()));
            return Ok((named.collect(), None));
        }
        let scratch = match &self.options.scratch {
            Some(place) => tempfile::tempdir_in(place),
            None => tempfile::tempdir(),
        };
        let scratch = scratch.map_err(|err| {
            ServiceError::precondition(format!("no folder for files on their way: {err}"))
        })?;
        let mut files = Vec::with_capacity(remote.len());
        for file in remote {
            let to = scratch.path().join(&file.name);
            server.fetch(&file, &to).await?;
            files.push((file.name, to));
        }
        Ok((files, Some(scratch)))
    }
}

type Placed = Option<(Vec<Named>, Option<tempfile::TempDir>)>;

fn note(row: &mut Row, text: &str) {
    if !row.message.is_empty() {
        row.message.push_str("; ");
    }
    row.message.push_str(text);
}

fn failed(model: &SourceModel, version: &str, failure: &Failure) -> Row {
    Row {
        model: model.name.clone(),
        version: version.to_owned(),
        state: State::Failed,
        number: 0,
        files: 0,
        bytes: 0,
        sent_bytes: 0,
        message: failure.to_string(),
    }
}

fn sizes(files: &[Named]) -> u64 {
    files.iter().filter_map(|(_, path)| std::fs::metadata(path).ok()).map(|meta| meta.len()).sum()
}

fn timestamp(ms: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1_000) * 1_000_000).unwrap_or_default();
    prost_types::Timestamp { seconds: ms.div_euclid(1_000), nanos }
}

/// The names below `flavors:` of a version's MLmodel.
fn flavors(files: &[Named]) -> Vec<String> {
    let Some((_, path)) = files.iter().find(|(name, _)| name == MLMODEL) else { return Vec::new() };
    if !std::fs::metadata(path).is_ok_and(|meta| meta.len() <= MLMODEL_BYTES_MAX) {
        return Vec::new();
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let below = text.lines().skip_while(|line| line.trim_end() != "flavors:").skip(1);
    let below = below.take_while(|line| line.starts_with(' ') || line.trim().is_empty());
    let name = |line: &str| {
        let word = line.strip_prefix("  ")?.strip_suffix(':')?;
        (!word.starts_with([' ', '-']) && !word.is_empty()).then(|| word.to_owned())
    };
    below.filter_map(name).collect()
}
