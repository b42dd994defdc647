//! Locations: named, found again, forgotten.

use std::path::{Path, PathBuf};

use access::Resource;
use caller::Caller;
use file_scan::{Root, RootError, Rules};
use file_sources::{Bucket, SCHEME, Source};
use jobs::{Job, NewJob, Owner};
use options_api::v1::{Level, Role};
use service_error::ServiceError;

use super::{Indexer, ScanArguments, VerifyArguments, absolute};
use crate::model::{Location, Mode, relative_to};
use crate::store::NewLocation;

const NAME_CHARS_MAX: usize = 200;
const RULES_MAX: usize = 1_000;
const DEVICE_CHARS_MAX: usize = 100;
const GUARD_PERCENT: i32 = 50;
const CREATE_ACTION: &str = "quarry.files.v1.LocationsService/CreateLocation";

/// What a location shall be.
#[derive(Debug)]
pub struct CreateLocation {
    pub path: String,
    pub name: String,
    pub mode: Mode,
    pub rules: Vec<String>,
    pub guard_percent: i32,
    pub nested: bool,
    pub watched: bool,
    /// Whose agent reads it; empty: the server.
    pub device: String,
    /// Archives in it are directories too.
    pub archives: bool,
}

/// What a scan shall do.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScanAsked {
    /// As before, if nothing.
    pub mode: Option<Mode>,
    pub accept_removals: bool,
    /// As before, if nothing.
    pub archives: Option<bool>,
}

impl CreateLocation {
    fn check(&self) -> Result<(), ServiceError> {
        if self.name.chars().count() > NAME_CHARS_MAX {
            return Err(ServiceError::invalid(
                "name",
                format!("is longer than {NAME_CHARS_MAX} characters"),
            ));
        }
        if self.rules.len() > RULES_MAX || self.rules.iter().any(|rule| rule.contains('\n')) {
            return Err(ServiceError::invalid(
                "rules",
                format!("at most {RULES_MAX}, each on one line"),
            ));
        }
        if !(0..=100).contains(&self.guard_percent) {
            return Err(ServiceError::invalid("guard_percent", "must be within 0 and 100"));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.device.len() > DEVICE_CHARS_MAX || !self.device.chars().all(is_name) {
            let why = format!("at most {DEVICE_CHARS_MAX} letters, digits, '-', '_' and '.'");
            return Err(ServiceError::invalid("device", why));
        }
        if self.archives {
            archives_are_read(&self.path, &self.device)?;
        }
        Rules::new(&self.rules).map(drop).map_err(|why| ServiceError::invalid("rules", why))
    }

    fn into_location(self, path: String, caller: &Caller, root: Option<(i64, i64)>) -> NewLocation {
        let last = path.rsplit('/').next().unwrap_or_default();
        NewLocation {
            name: if self.name.is_empty() { last.to_owned() } else { self.name },
            path,
            device: self.device,
            owner: caller.principal,
            mode: self.mode,
            rules: self.rules,
            guard_percent: if self.guard_percent == 0 { GUARD_PERCENT } else { self.guard_percent },
            root,
            watched: self.watched,
            archives: self.archives,
        }
    }
}

impl Indexer {
    /// Makes a location, or finds a known one whose root was renamed; true for
    /// the latter.
    ///
    /// # Errors
    /// A path that may not be read, is none, or overlaps another location.
    pub async fn create_location(
        &self,
        caller: &Caller,
        asked: CreateLocation,
    ) -> Result<(Location, bool), ServiceError> {
        asked.check()?;
        let path = absolute("path", &asked.path)?;
        if path.starts_with(SCHEME) {
            let made = self.create_bucket(caller, asked, path).await?;
            return Ok((made, false));
        }
        if !asked.device.is_empty() {
            // A path of another device is a name to the server, never opened.
            for other in self.store.locations_holding(&path).await? {
                if other.device == asked.device {
                    self.refuse_overlap(caller, &asked, &path, &other).await?;
                }
            }
            let made = self.store.create_location(asked.into_location(path, caller, None)).await?;
            self.announce(&made).await?;
            return Ok((made, false));
        }
        let (path, root) = self.open_allowed(caller, &path).await?;
        let root = Source::Directory(root).identity();
        for other in self.store.locations_beside(&path, root).await? {
            if !other.device.is_empty() {
                continue;
            }
            if other.path == path {
                return Err(ServiceError::already_exists("location", &path));
            }
            if other.root == Some(root) && !is_there(&other.path).await {
                self.require(caller, Level::Owner, &other, &path, CREATE_ACTION).await?;
                self.store.relocate(other.id, &path).await?;
                let moved = Location { path, problem: String::new(), ..other };
                return Ok((moved, true));
            }
            self.refuse_overlap(caller, &asked, &path, &other).await?;
        }
        for other in self.store.locations_holding(&path).await? {
            if !other.device.is_empty() {
                continue;
            }
            if other.path == path {
                return Err(ServiceError::already_exists("location", &path));
            }
            self.refuse_overlap(caller, &asked, &path, &other).await?;
        }
        let made =
            self.store.create_location(asked.into_location(path, caller, Some(root))).await?;
        self.announce(&made).await?;
        Ok((made, false))
    }

    /// Refuses a path that overlaps another location, which is named only to those who may see it.
    async fn refuse_overlap(
        &self,
        caller: &Caller,
        asked: &CreateLocation,
        path: &str,
        other: &Location,
    ) -> Result<(), ServiceError> {
        if asked.nested {
            return Ok(());
        }
        let chain = [Resource::location(other.uuid)];
        let other = match self.grants.level(caller, &chain, false).await? {
            Some(_) => format!("the location {}", other.path),
            None => "another location".to_owned(),
        };
        let message = format!("path: {path} and {other} overlap; say `nested` if that is meant");
        Err(ServiceError::precondition(message).reason("LOCATION_OVERLAPS").field("path"))
    }

    /// A prefix of a bucket becomes a location. Whether there is one is told only
    /// to those who may name it.
    async fn create_bucket(
        &self,
        caller: &Caller,
        asked: CreateLocation,
        path: String,
    ) -> Result<Location, ServiceError> {
        if !asked.device.is_empty() {
            let why = "a bucket is read by the server, by no device's agent";
            return Err(ServiceError::invalid("device", why));
        }
        self.allow_bucket(caller, &path)?;
        let source = Source::Bucket(Bucket::open(&path, &self.paths.closed_objects).await?);
        let root = source.identity();
        let mut others = self.store.locations_beside(&path, root).await?;
        others.extend(self.store.locations_holding(&path).await?);
        for other in others {
            if other.path == path {
                return Err(ServiceError::already_exists("location", &path));
            }
            self.refuse_overlap(caller, &asked, &path, &other).await?;
        }
        let made =
            self.store.create_location(asked.into_location(path, caller, Some(root))).await?;
        self.announce(&made).await?;
        Ok(made)
    }

    /// As [`Self::open_allowed`], by the same settings: `paths.allowed` names
    /// prefixes of buckets too.
    fn allow_bucket(&self, caller: &Caller, path: &str) -> Result<(), ServiceError> {
        let any = caller.role == Role::Admin && self.paths.any_for_admins;
        let is_below = |prefix: &str| relative_to(prefix.trim_end_matches('/'), path).is_some();
        let mut allowed = self.paths.allowed.iter().filter_map(|allowed| allowed.to_str());
        if !any && !allowed.any(is_below) {
            return Err(not_allowed(path));
        }
        let own = self.paths.closed_objects.replacen("s3a://", SCHEME, 1);
        if !own.is_empty() && is_below(&own) {
            let message =
                format!("path: {path} lies in the platform's own objects, which are never read");
            return Err(ServiceError::denied(message).reason("PATH_CLOSED").field("path"));
        }
        Ok(())
    }

    async fn announce(&self, location: &Location) -> Result<(), ServiceError> {
        let revision = self.announcer.made(location).await.map_err(|error| {
            let message = "it is made, but identity does not answer to make you its owner; that happens by itself soon";
            ServiceError::unavailable(message).reason("GRANT_PENDING").caused_by(error)
        })?;
        self.store.mark_announced(location.id).await?;
        self.grants.wait_for(revision, self.settings.grant_wait()).await
    }

    /// Announces what could not be, and forgets what was deleted.
    ///
    /// # Errors
    /// The first that happened.
    pub async fn tidy_up(&self) -> Result<(), ServiceError> {
        let (deleted, new) = self.store.unfinished_locations().await?;
        for location in new {
            self.announcer.made(&location).await?;
            self.store.mark_announced(location.id).await?;
        }
        for id in deleted {
            while self.store.forget_location(id).await? {}
            self.store.forget_contents().await?;
        }
        Ok(())
    }

    /// Opens a path of this machine if the caller may have it read (rule 11 of
    /// the correctness rules): resolved, below an allowed one, not the data dir.
    async fn open_allowed(
        &self,
        caller: &Caller,
        path: &str,
    ) -> Result<(String, Root), ServiceError> {
        let any = caller.role == Role::Admin && self.paths.any_for_admins;
        let allowed = self.paths.allowed.clone();
        let closed = self.paths.closed.clone();
        let asked = PathBuf::from(path);
        // Whoever may not read a path does not learn whether it is there.
        if !any && !allowed.iter().any(|allowed| asked.starts_with(allowed)) {
            return Err(not_allowed(path));
        }
        let shown = path.to_owned();
        blocking(move || {
            let resolved = std::fs::canonicalize(&asked).map_err(|err| {
                ServiceError::invalid("path", format!("{shown}: {err}")).reason("LOCATION_OFFLINE")
            })?;
            let allowed = allowed.iter().filter_map(|path| std::fs::canonicalize(path).ok());
            if !any && !allowed.into_iter().any(|allowed| resolved.starts_with(allowed)) {
                return Err(not_allowed(&shown));
            }
            let closed = std::fs::canonicalize(&closed).unwrap_or(closed);
            if resolved.starts_with(&closed) {
                let message = format!(
                    "path: {shown} lies in the platform's data directory, which is never read"
                );
                return Err(ServiceError::denied(message).reason("PATH_CLOSED").field("path"));
            }
            let root = Root::open(&resolved)
                .map_err(|error| ServiceError::invalid("path", error).reason("LOCATION_OFFLINE"))?;
            let resolved = resolved.to_str().map(str::to_owned).ok_or_else(|| {
                ServiceError::invalid(
                    "path",
                    "the root's own path must be UTF-8; what lies in it need not be",
                )
            })?;
            Ok((resolved, root))
        })
        .await
    }

    /// Whether a job's owner still may have it done.
    ///
    /// # Errors
    /// Its denial.
    pub async fn may_go_on(&self, job: &jobs::Job) -> Result<(), ServiceError> {
        fn read<T: serde::de::DeserializeOwned>(job: &jobs::Job) -> Result<T, ServiceError> {
            serde_json::from_str(&job.arguments)
                .map_err(|err| ServiceError::internal("a job's arguments").caused_by(err))
        }
        let arguments: VerifyArguments = read(job)?;
        let location = self.store.location(arguments.location).await?;
        let location = location.ok_or_else(|| ServiceError::not_found("location", &job.title))?;
        let caller = job.owner.caller();
        if caller::Refused::refused(&self.grants, &caller) {
            return Err(ServiceError::denied("the job's owner was disabled or its token revoked")
                .reason("JOB_OWNER_REFUSED"));
        }
        if job.kind == "import" {
            return self.may_import(&caller, &location, &job.arguments).await;
        }
        let action = "quarry.files.v1.LocationsService/ScanLocation";
        self.require(&caller, Level::Write, &location, &location.uuid.to_string(), action).await
    }

    /// A location that the caller may read.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_location(&self, caller: &Caller, id: &str) -> Result<Location, ServiceError> {
        self.location_for(caller, Level::Read, id, "quarry.files.v1.LocationsService/GetLocation")
            .await
    }

    /// Up to `limit` locations that the caller may read, after a number; only
    /// those that hold a path, if one is given.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_locations(
        &self,
        caller: &Caller,
        holding: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Location>, ServiceError> {
        let mut visible: Vec<Location> = self.visible(caller).await?.into_values().collect();
        if !holding.is_empty() {
            let path = absolute("holding", holding)?;
            visible.retain(|location| relative_to(&location.path, &path).is_some());
        }
        visible.retain(|location| location.id > after);
        visible.sort_by_key(|location| location.id);
        visible.truncate(limit as usize);
        Ok(visible)
    }

    /// Forgets a location.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn delete_location(&self, caller: &Caller, id: &str) -> Result<(), ServiceError> {
        let action = "quarry.files.v1.LocationsService/DeleteLocation";
        let location = self.location_for(caller, Level::Owner, id, action).await?;
        self.store.delete_location(location.id).await?;
        if let Err(error) = self.announcer.deleted(&location).await {
            tracing::warn!(%error, location = %location.uuid, "identity was not told of a deletion");
        }
        Ok(())
    }

    /// Queues a scan; answers the job's id.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn scan_location(
        &self,
        caller: &Caller,
        id: &str,
        asked: ScanAsked,
    ) -> Result<uuid::Uuid, ServiceError> {
        let action = "quarry.files.v1.LocationsService/ScanLocation";
        let location = self.location_for(caller, Level::Write, id, action).await?;
        if let Some(archives) = asked.archives.filter(|archives| *archives != location.archives) {
            if archives {
                archives_are_read(&location.path, &location.device)?;
            }
            self.store.set_archives(location.id, archives).await?;
        }
        let arguments = ScanArguments {
            location: location.id,
            mode: asked.mode.unwrap_or(location.mode) as i32,
            accept_removals: asked.accept_removals,
        };
        let job = NewJob::new("scan", Owner::of(caller))
            .title(&location.path)
            .key(format!("location:{}", location.id))
            .arguments(&arguments)?;
        let queued = self.queued(job, "scan").await?;
        let accepts = |running: ScanArguments| running.accept_removals;
        if asked.accept_removals && !serde_json::from_str(&queued.arguments).is_ok_and(accepts) {
            let message = format!(
                "accept_removals: a scan is under way that does not accept them; wait for it or cancel {}/{}",
                crate::ROLE,
                queued.id
            );
            return Err(ServiceError::conflict(message).reason("JOB_KEY_TAKEN"));
        }
        Ok(queued.id)
    }

    /// Queues a verification; answers the job's id.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn verify_location(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<uuid::Uuid, ServiceError> {
        let action = "quarry.files.v1.LocationsService/VerifyLocation";
        let location = self.location_for(caller, Level::Write, id, action).await?;
        super::elsewhere(&location, "verified by the server")?;
        let job = NewJob::new("verify", Owner::of(caller))
            .title(&location.path)
            .key(format!("location:{}", location.id))
            .arguments(&VerifyArguments { location: location.id })?;
        Ok(self.queued(job, "verify").await?.id)
    }

    /// A location is scanned or verified by one job at a time.
    async fn queued(&self, job: NewJob, kind: &str) -> Result<Job, ServiceError> {
        let queued = self.jobs.submit(job).await?;
        if queued.kind == kind {
            return Ok(queued);
        }
        let message = format!(
            "the location's {} is under way; wait for it or cancel {}/{}",
            queued.kind,
            crate::ROLE,
            queued.id
        );
        Err(ServiceError::conflict(message).reason("JOB_KEY_TAKEN"))
    }
}

/// Refuses to look into archives that are not on a disk of the server.
fn archives_are_read(path: &str, device: &str) -> Result<(), ServiceError> {
    let why = if !device.is_empty() {
        "are looked into by the server alone, not by a device's agent"
    } else if path.starts_with(SCHEME) {
        "in a bucket are not looked into; they are objects like others"
    } else {
        return Ok(());
    };
    Err(ServiceError::invalid("archives", why).reason("ARCHIVES_NOT_READ"))
}

fn not_allowed(path: &str) -> ServiceError {
    let message = format!(
        "path: the server may not read {path}; its operator allows paths by `paths.allowed`"
    );
    ServiceError::denied(message).reason("PATH_NOT_ALLOWED").field("path")
}

/// Why a root can't be read.
pub(super) fn offline(error: &RootError) -> ServiceError {
    ServiceError::precondition(format!("{error}; what is known of it stays as it is"))
        .reason("LOCATION_OFFLINE")
}

async fn is_there(path: &str) -> bool {
    let path = Path::new(path).to_owned();
    blocking(move || Ok(Root::open(&path).is_ok())).await.unwrap_or(true)
}

/// Runs what reads the disk.
pub(super) async fn blocking<T, F>(work: F) -> Result<T, ServiceError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ServiceError> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|err| Err(ServiceError::internal("reading the disk failed").caused_by(err)))
}
