//! One agent's stream: what is under way, and what may come next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use caller::Caller;
use file_scan::{Listing, names};
use futures::{Stream, StreamExt};
use service_error::{Code, ServiceError};
use tokio::sync::mpsc;

use super::checks::{self, Open, out_of_order};
use super::{AgentDone, AgentOutcome, GIVEN_UP, Hello, Part, Said, Told};
use crate::app::Indexer;
use crate::model::{Location, Mode};
use crate::store::{Batch, Hashed, HashedBy, Listed, Merged, ScanKey, ToHash, Which};

/// Files that are asked for at once.
const NEED_FILES: u32 = 256;
const LOOK_EVERY: Duration = Duration::from_millis(500);
const ALLOW_FOR: Duration = Duration::from_secs(4);
const SEEN_EVERY: Duration = Duration::from_secs(5);
/// An agent says something at least so often.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What is under way.
enum Stage {
    Idle,
    Walking { open: Option<Open> },
    Hashing { asked: Vec<ToHash>, after: (i64, i64), left: bool },
}

/// A stream and the scan that it carries.
pub struct Session {
    indexer: Indexer,
    caller: Arc<Caller>,
    location: Location,
    told: mpsc::Sender<Result<Told, ServiceError>>,
    key: ScanKey,
    stage: Stage,
    seq: i64,
    merged: Merged,
    done: AgentDone,
    /// The wish that the scan fulfils.
    wish: i64,
    accept: bool,
    mode: Mode,
    allowed: Instant,
    seen: Instant,
}

impl Session {
    /// Takes the location and welcomes the agent.
    pub async fn begin(
        indexer: Indexer,
        caller: Arc<Caller>,
        location: Location,
        hello: Hello,
        told: mpsc::Sender<Result<Told, ServiceError>>,
    ) -> Result<Self, ServiceError> {
        let (key, goes_on) = indexer.store.take_for_agent(location.id, hello.generation).await?;
        if location.root.is_some_and(|root| root != hello.root) {
            tracing::warn!(location = %location.uuid, "its root is another directory than before");
        }
        let wanted = indexer.store.wanted(location.id).await?;
        let mut session = Self {
            mode: location.mode,
            wish: 0,
            accept: false,
            stage: if goes_on { Stage::Walking { open: None } } else { Stage::Idle },
            indexer,
            caller,
            location,
            told,
            key,
            seq: 0,
            merged: Merged::default(),
            done: AgentDone::default(),
            allowed: Instant::now(),
            seen: Instant::now(),
        };
        if goes_on && wanted.wanted > wanted.fulfilled {
            (session.wish, session.accept) = (wanted.wanted, wanted.accept_removals);
        }
        let deep = session.mode == Mode::Deep;
        session
            .tell(Told::Welcome {
                path: session.location.path.clone(),
                rules: session.location.rules.clone(),
                generation: if goes_on { session.key.generation } else { 0 },
                deep,
            })
            .await?;
        Ok(session)
    }

    /// Until the agent ends its stream, or says what it may not.
    pub async fn run(
        &mut self,
        said: std::pin::Pin<&mut (impl Stream<Item = Result<Said, ServiceError>> + Send)>,
    ) -> Result<(), ServiceError> {
        let ended = self.listen(said).await;
        if let Err(error) = &ended
            && matches!(error.code(), Code::Conflict | Code::Internal)
        {
            // An agent comes again at once: whoever waits is told, and asks again.
            let problem = format!("{GIVEN_UP}{error}");
            self.indexer.store.set_problem(self.location.id, &problem).await?;
            if self.wish > 0 {
                self.indexer.store.fulfil(self.key, self.wish).await?;
            }
        }
        ended
    }

    async fn listen(
        &mut self,
        mut said: std::pin::Pin<&mut (impl Stream<Item = Result<Said, ServiceError>> + Send)>,
    ) -> Result<(), ServiceError> {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                next = said.next() => match next {
                    None => return Ok(()),
                    Some(said) => {
                        self.hear(said?).await?;
                        // What it said may have taken long to do.
                        heard = Instant::now();
                    }
                },
                _ = ticks.tick() => {
                    if heard.elapsed() > SILENCE_MAX {
                        return Err(ServiceError::unavailable("the agent says nothing any more"));
                    }
                    self.look().await?;
                }
            }
        }
    }

    async fn tell(&self, told: Told) -> Result<(), ServiceError> {
        self.told.send(Ok(told)).await.map_err(|_| ServiceError::unavailable("the agent has gone"))
    }

    /// Rights, presence, and scans that are asked for.
    async fn look(&mut self) -> Result<(), ServiceError> {
        if self.allowed.elapsed() > ALLOW_FOR {
            self.indexer.may_serve(&self.caller, &self.location).await?;
            self.allowed = Instant::now();
        }
        self.is_here().await?;
        if matches!(self.stage, Stage::Idle) {
            let wanted = self.indexer.store.wanted(self.location.id).await?;
            if wanted.wanted > wanted.fulfilled {
                (self.wish, self.accept) = (wanted.wanted, wanted.accept_removals);
                return self.start(wanted.mode).await;
            }
        }
        Ok(())
    }

    /// Says now and then that there is an agent, also amid long work for it.
    async fn is_here(&mut self) -> Result<(), ServiceError> {
        if self.seen.elapsed() > SEEN_EVERY {
            self.indexer.store.agent_seen(self.key).await?;
            self.seen = Instant::now();
        }
        Ok(())
    }

    async fn hear(&mut self, said: Said) -> Result<(), ServiceError> {
        match said {
            Said::Hello(_) => Err(out_of_order("a stream has one hello")),
            Said::Ping => self.tell(Told::Pong).await,
            Said::Wish => match self.stage {
                Stage::Idle => {
                    (self.wish, self.accept) = (0, false);
                    self.start(self.mode).await
                }
                _ => Ok(()),
            },
            Said::Batch { seq, parts } => {
                self.follows(seq)?;
                self.batch(parts).await?;
                self.tell(Told::Ack { seq }).await
            }
            Said::WalkEnd { seq, root } => {
                self.follows(seq)?;
                self.walk_end(root).await?;
                self.tell(Told::Ack { seq }).await?;
                self.next_hashes((0, 0), false).await
            }
            Said::Hashes { seq, outcomes } => {
                self.follows(seq)?;
                let (after, left) = self.hashes(outcomes).await?;
                self.tell(Told::Ack { seq }).await?;
                self.next_hashes(after, left).await
            }
        }
    }

    fn follows(&mut self, seq: i64) -> Result<(), ServiceError> {
        if seq != self.seq + 1 {
            let why = format!("message {seq} came after message {}", self.seq);
            return Err(out_of_order(&why));
        }
        self.seq = seq;
        Ok(())
    }

    async fn start(&mut self, mode: Mode) -> Result<(), ServiceError> {
        self.key = self.indexer.store.begin_agent_scan(self.key, mode).await?;
        self.mode = mode;
        self.stage = Stage::Walking { open: None };
        self.merged = Merged::default();
        self.done = AgentDone { generation: self.key.generation, ..AgentDone::default() };
        self.tell(Told::Scan { generation: self.key.generation, deep: mode == Mode::Deep }).await
    }

    async fn batch(&mut self, parts: Vec<Part>) -> Result<(), ServiceError> {
        checks::check(&parts)?;
        let Stage::Walking { open } = &mut self.stage else {
            return Err(out_of_order("no walk is under way"));
        };
        let (mut whole, mut taken) = (Vec::new(), Vec::new());
        for Part { listing, continues } in parts {
            match open.take() {
                None if continues => *open = Some(Open::new(listing)?),
                None => whole.push(listing),
                Some(mut begun) => {
                    begun.go_on(listing)?;
                    if continues {
                        *open = Some(begun);
                    } else {
                        let (listing, its) = begun.close();
                        whole.push(listing);
                        taken.push(its);
                    }
                }
            }
        }
        if whole.is_empty() {
            return Ok(());
        }
        self.parents_are_known(&whole).await?;
        whole.iter_mut().for_each(checks::within_bounds);
        let listed = whole.into_iter().map(Listed::from).collect();
        // A directory that the agent finds here by its inode and birth is here.
        let merged = self.indexer.store.merge(self.key, Batch { listed }, |_| None).await?;
        self.merged += merged;
        drop(taken);
        Ok(())
    }

    /// No directory hangs in the air.
    async fn parents_are_known(&self, whole: &[Listing]) -> Result<(), ServiceError> {
        let mut here: BTreeSet<&[u8]> = BTreeSet::new();
        let mut missing: BTreeSet<&[u8]> = BTreeSet::new();
        for listing in whole {
            if !listing.path.is_empty() {
                let parent = listing.path.iter().rposition(|byte| *byte == b'/');
                let parent = &listing.path[..parent.unwrap_or(0)];
                if !here.contains(parent) {
                    missing.insert(parent);
                }
            }
            here.insert(&listing.path);
        }
        let missing: Vec<String> = missing.into_iter().map(names::text).collect();
        if missing.is_empty() || self.indexer.store.has_dirs(self.location.id, &missing).await? {
            return Ok(());
        }
        let why = "a directory came before the one that holds it";
        Err(ServiceError::invalid("batch.listings.path", why).reason("AGENT_PARENT_UNKNOWN"))
    }

    /// Moves, then what is missing, as after a walk of the server's own.
    async fn walk_end(&mut self, root: (i64, i64)) -> Result<(), ServiceError> {
        match &self.stage {
            Stage::Walking { open: None } => {}
            Stage::Walking { .. } => return Err(out_of_order("a directory is still open")),
            _ => return Err(out_of_order("no walk is under way")),
        }
        let store = self.indexer.store.clone();
        let moved = store.match_moves(self.key).await?;
        let location = store.location(self.location.id).await?;
        self.location =
            location.ok_or_else(|| ServiceError::not_found("location", &self.location.path))?;
        let may = self.indexer.guarded(&self.location, self.key, root, self.accept).await?;
        let mut removed = 0;
        if may.is_some() {
            while let Some(gone) = store.sweep(self.key).await? {
                removed += gone;
                self.is_here().await?;
            }
            store.end_scan(self.key, root, 0, "").await?;
        }
        while store.index_names().await? {
            self.is_here().await?;
        }
        self.done = AgentDone {
            generation: self.key.generation,
            added: self.merged.added,
            changed: self.merged.changed,
            moved: self.merged.moved + moved,
            removed,
            hashed: 0,
            problem: String::new(),
        };
        Ok(())
    }

    async fn hashes(
        &mut self,
        outcomes: Vec<(i64, AgentOutcome)>,
    ) -> Result<((i64, i64), bool), ServiceError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let Stage::Hashing { asked, after, mut left } = stage else {
            return Err(out_of_order("no hashes were asked for"));
        };
        let answers = outcomes.iter().map(|(id, _)| *id);
        if !answers.eq(asked.iter().map(|file| file.id)) {
            return Err(out_of_order("hashes must answer what was asked, in its order"));
        }
        let mut hashed = Vec::new();
        for (file, (_, outcome)) in asked.into_iter().zip(outcomes) {
            match outcome {
                AgentOutcome::Hashed(read) => {
                    let (content, media) = *read;
                    let is_as_listed = content.size == file.size
                        && content.mark.modified == file.modified
                        && content.mark.changed == file.changed;
                    if is_as_listed {
                        hashed.push(Hashed {
                            entry: file.id,
                            path: file.path,
                            content,
                            media,
                            is_fresh: false,
                        });
                    } else {
                        left = true;
                    }
                }
                AgentOutcome::Moved => left = true,
                AgentOutcome::Failed(why) => {
                    left = true;
                    tracing::debug!(location = %self.location.uuid, why, "an agent could not read a file");
                }
            }
        }
        self.done.hashed += i64::try_from(hashed.len()).unwrap_or(0);
        self.indexer.store.put_contents(self.key, hashed, HashedBy::Agent).await?;
        Ok((after, left))
    }

    /// Asks for the next hashes, or ends the scan.
    async fn next_hashes(&mut self, after: (i64, i64), left: bool) -> Result<(), ServiceError> {
        let store = &self.indexer.store;
        let is_unhashed = store.location(self.location.id).await?.is_some_and(|now| now.unhashed);
        if self.mode > Mode::Metadata && is_unhashed {
            let which =
                if self.mode == Mode::Deep { Which::UnhashedOrUnseen } else { Which::Unhashed };
            let asked = store.to_hash(self.location.id, which, after, NEED_FILES).await?;
            if let Some(last) = asked.last() {
                let after = (last.dir, last.id);
                self.stage = Stage::Hashing { asked: asked.clone(), after, left };
                return self.tell(Told::Need(asked)).await;
            }
            store.set_unhashed(self.key, left).await?;
        }
        store.forget_contents().await?;
        if self.wish > 0 {
            store.fulfil(self.key, self.wish).await?;
        }
        self.stage = Stage::Idle;
        let now = store.location(self.location.id).await?;
        let mut done = std::mem::take(&mut self.done);
        done.problem = now.map(|now| now.problem).unwrap_or_default();
        self.tell(Told::Done(done)).await
    }
}
