//! Reads a location beside its files and tells the file indexer what is there.

mod hashing;
mod listings;
mod walking;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use file_scan::Root;
use file_watch::Watch;
use files_api::v1 as wire;
use files_api::v1::connect_request::Message as Say;
use files_api::v1::connect_response::Message as Told;
use quarry_client::client::Client;
use quarry_client::failure::Failure;
use service_error::{Code, ServiceError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use walking::Walk;

/// Messages between this end's parts and the network.
const QUEUE: usize = 4;
const PING_EVERY: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The longest pause after a stream that the server welcomed: it is there.
const PAUSE_MAX_WELCOMED: Duration = Duration::from_secs(2);

/// What an agent is told by its user.
#[derive(Debug, Clone)]
pub struct Options {
    /// The location's id.
    pub location: String,
    /// The device, as the location has it.
    pub device: String,
    /// Where the location's root is on this machine.
    pub root: PathBuf,
    /// Directories and files that are read at once.
    pub threads: usize,
    /// A scan of its own so often; none: only when it is asked.
    pub every: Option<Duration>,
    /// A scan of its own when something changes.
    pub watch: bool,
    /// Ends after one scan.
    pub once: bool,
}

/// An agent of one location.
pub struct Agent {
    client: Client,
    options: Options,
    state: Scan,
    scanned: u64,
    last_wish: Option<Instant>,
    watch: Option<Watch>,
    /// Something changed since the last scan began.
    is_dirty: bool,
    /// The server has welcomed this stream.
    is_welcome: bool,
}

/// The scan that is under way, across streams.
#[derive(Default)]
struct Scan {
    generation: i64,
    deep: bool,
    walk: Option<Walk>,
    /// Sent and not acknowledged, in order, without their numbers.
    unacknowledged: VecDeque<Say>,
    /// Acknowledged parts of a directory that is not whole yet: another stream
    /// begins with it anew.
    held: Vec<Say>,
    /// Of these, so many were sent on this stream.
    sent: usize,
    /// The walk has ended, and what it came to.
    ended: Option<wire::AgentWalkEnd>,
    /// Hashes that are asked for.
    hashing: Option<tokio::task::JoinHandle<Vec<wire::AgentHash>>>,
    /// Its rules.
    rules: Vec<String>,
}

/// Why a stream ended.
enum End {
    /// Told to, or done.
    Stopped,
    /// It broke: the next one goes on.
    Broken(Failure),
}

impl Agent {
    /// An agent that has not said hello yet.
    #[must_use]
    pub fn new(client: Client, options: Options) -> Self {
        Self {
            client,
            options,
            state: Scan::default(),
            scanned: 0,
            last_wish: None,
            watch: None,
            is_dirty: false,
            is_welcome: false,
        }
    }

    /// Serves until `stop`, or for one scan.
    ///
    /// # Errors
    /// The server's refusal, a root that can't be read.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Failure> {
        let mut pause = PAUSE_MIN;
        if self.options.watch {
            let root = self.options.root.clone();
            match blocking(move || Watch::begin(&root)).await? {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => tracing::warn!(%error, "changes are found by scans alone"),
            }
        }
        loop {
            let acknowledged = self.scanned;
            self.is_welcome = false;
            let ended = tokio::select! {
                ended = self.stream() => ended,
                () = stop.cancelled() => return Ok(()),
            };
            match ended {
                Ok(End::Stopped) => return Ok(()),
                Ok(End::Broken(failure)) if may_pass(&failure) => {
                    tracing::warn!(error = %failure, "the stream broke; it is made again");
                }
                Ok(End::Broken(failure)) | Err(failure) => return Err(failure),
            }
            let longest = if self.is_welcome { PAUSE_MAX_WELCOMED } else { PAUSE_MAX };
            pause = if self.scanned > acknowledged { PAUSE_MIN } else { (pause * 2).min(longest) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn stream(&mut self) -> Result<End, Failure> {
        let root = self.options.root.clone();
        let root = blocking(move || Root::open(&root)).await?;
        let root = match root {
            Ok(root) => root,
            Err(error) => {
                let message = format!("{error}; nothing is told of it");
                let error = ServiceError::unavailable(message).reason("LOCATION_OFFLINE");
                // A disk may come back.
                return if self.options.once {
                    Err(error.into())
                } else {
                    Ok(End::Broken(error.into()))
                };
            }
        };
        let identity = root.identity();
        let (say, said) = mpsc::channel::<wire::ConnectRequest>(QUEUE);
        let hello = wire::AgentHello {
            location_id: self.options.location.clone(),
            device: self.options.device.clone(),
            root_device: identity.dev,
            root_inode: identity.ino,
            generation: self.state.generation,
        };
        self.state.sent = 0;
        let talk = Talk { say, seq: 0, credits: 1 };
        if talk.send(Say::Hello(hello)).await.is_err() {
            return Ok(End::Broken(gone()));
        }
        let answers = self.client.agent().connect(ReceiverStream::new(said)).await;
        match answers {
            Ok(answers) => self.converse(talk, answers.into_inner(), &root).await,
            Err(status) => Ok(End::Broken(status.into())),
        }
    }

    async fn converse(
        &mut self,
        mut talk: Talk,
        mut answers: Streaming<wire::ConnectResponse>,
        root: &Root,
    ) -> Result<End, Failure> {
        let mut pings = tokio::time::interval(PING_EVERY);
        loop {
            self.send_more(&mut talk).await;
            let event = tokio::select! {
                told = answers.message() => match told {
                    Ok(Some(told)) => Event::Told(told),
                    Ok(None) => return Ok(End::Broken(gone())),
                    Err(status) => return Ok(End::Broken(status.into())),
                },
                more = next_of(&mut self.state.walk), if self.state.unacknowledged.len() < talk.credits => Event::Walked(more),
                hashes = hashed(&mut self.state.hashing) => Event::Hashed(hashes),
                () = changed(self.watch.as_ref()) => Event::Changed,
                _ = pings.tick() => Event::Tick,
            };
            match event {
                Event::Told(told) => {
                    if self.hear(told, &mut talk, root).await? {
                        return Ok(End::Stopped);
                    }
                }
                Event::Walked(Some(batch)) => {
                    self.state.unacknowledged.push_back(Say::Batch(batch))
                }
                Event::Walked(None) => self.walked(root).await?,
                Event::Hashed(hashes) => {
                    let hashes = hashes
                        .map_err(|err| ServiceError::internal("hashing failed").caused_by(err))?;
                    self.state.hashing = None;
                    self.state
                        .unacknowledged
                        .push_back(Say::Hashes(wire::AgentHashes { seq: 0, hashes }));
                }
                Event::Changed => {
                    self.is_dirty = true;
                    self.wish(&mut talk).await;
                }
                Event::Tick => {
                    if talk.send(Say::Ping(wire::AgentPing {})).await.is_err() {
                        continue;
                    }
                    self.wish(&mut talk).await;
                }
            }
        }
    }

    /// Asks for a scan when it is time for one.
    async fn wish(&mut self, talk: &mut Talk) {
        let is_idle = self.state.walk.is_none()
            && self.state.unacknowledged.is_empty()
            && self.state.hashing.is_none();
        let is_due = match (self.options.every, self.last_wish) {
            _ if self.options.once => self.last_wish.is_none(),
            _ if self.is_dirty => true,
            (None, _) => false,
            (Some(_), None) => true,
            (Some(every), Some(last)) => last.elapsed() >= every,
        };
        if is_idle && is_due && talk.send(Say::Wish(wire::AgentWish {})).await.is_ok() {
            self.last_wish = Some(Instant::now());
            self.is_dirty = false;
        }
    }

    /// The walk has ended: the last message of it says so.
    async fn walked(&mut self, root: &Root) -> Result<(), Failure> {
        let Some(walk) = self.state.walk.take() else { return Ok(()) };
        let unreadable_count = walk.end().await?;
        let identity = root.identity();
        let end = wire::AgentWalkEnd {
            seq: 0,
            unreadable_count,
            root_device: identity.dev,
            root_inode: identity.ino,
        };
        self.state.ended = Some(end);
        self.state.unacknowledged.push_back(Say::WalkEnd(end));
        Ok(())
    }

    /// Sends what has not gone out on this stream yet.
    async fn send_more(&mut self, talk: &mut Talk) {
        while self.state.sent < self.state.unacknowledged.len().min(talk.credits) && self.is_welcome
        {
            let message = self.state.unacknowledged[self.state.sent].clone();
            if talk.send(numbered(message, talk.seq + 1)).await.is_err() {
                // The answers say why.
                return;
            }
            talk.seq += 1;
            self.state.sent += 1;
        }
    }

    /// True when the agent is done.
    async fn hear(
        &mut self,
        told: wire::ConnectResponse,
        talk: &mut Talk,
        root: &Root,
    ) -> Result<bool, Failure> {
        match told.message {
            Some(Told::Welcome(welcome)) => {
                talk.credits = usize::try_from(welcome.credits).unwrap_or(1).clamp(1, 64);
                self.is_welcome = true;
                self.welcomed(welcome);
                self.wish(talk).await;
            }
            Some(Told::Scan(scan)) => {
                let rules = std::mem::take(&mut self.state.rules);
                let walk = Walk::begin(root.clone(), &rules, self.options.threads)?;
                self.state = Scan {
                    generation: scan.generation,
                    deep: scan.deep,
                    walk: Some(walk),
                    rules,
                    ..Scan::default()
                };
                self.last_wish = Some(Instant::now());
            }
            Some(Told::Ack(_)) => {
                self.state.acknowledged();
                self.scanned += 1;
            }
            Some(Told::Need(need)) => {
                let (root, deep, threads) = (root.clone(), self.state.deep, self.options.threads);
                self.state.hashing = Some(tokio::task::spawn_blocking(move || {
                    hashing::hash_all(&root, &need.files, deep, threads)
                }));
            }
            Some(Told::Done(done)) => {
                tracing::info!(
                    generation = done.generation,
                    added = done.added,
                    changed = done.changed,
                    moved = done.moved,
                    removed = done.removed,
                    hashed = done.hashed,
                    problem = done.problem,
                    "a scan is done"
                );
                self.state =
                    Scan { rules: std::mem::take(&mut self.state.rules), ..Scan::default() };
                self.wish(talk).await;
                return Ok(self.options.once);
            }
            Some(Told::Pong(_)) | None => {}
        }
        Ok(false)
    }

    /// What this end was doing goes on if the server knows it still.
    fn welcomed(&mut self, welcome: wire::AgentWelcome) {
        let goes_on = welcome.generation > 0 && welcome.generation == self.state.generation;
        if !goes_on {
            self.state = Scan::default();
            self.last_wish = None;
        } else if let Some(end) = self.state.ended {
            // Hashes of the other stream were asked for there; after the end of
            // the walk they are asked for anew.
            self.state.hashing = None;
            self.state
                .unacknowledged
                .retain(|message| matches!(message, Say::Batch(_) | Say::WalkEnd(_)));
            if self.state.unacknowledged.is_empty() {
                self.state.unacknowledged.push_back(Say::WalkEnd(end));
            }
        }
        for message in std::mem::take(&mut self.state.held).into_iter().rev() {
            self.state.unacknowledged.push_front(message);
        }
        self.state.rules = welcome.rules;
    }
}

impl Scan {
    fn acknowledged(&mut self) {
        self.sent = self.sent.saturating_sub(1);
        let Some(Say::Batch(batch)) = self.unacknowledged.pop_front() else { return };
        if batch.listings.last().is_some_and(|last| last.continues) {
            self.held.push(Say::Batch(batch));
        } else {
            self.held.clear();
        }
    }
}

enum Event {
    Told(wire::ConnectResponse),
    Walked(Option<wire::AgentBatch>),
    Hashed(Result<Vec<wire::AgentHash>, tokio::task::JoinError>),
    Changed,
    Tick,
}

/// This end's half of a stream.
struct Talk {
    say: mpsc::Sender<wire::ConnectRequest>,
    seq: i64,
    credits: usize,
}

impl Talk {
    async fn send(&self, message: Say) -> Result<(), ()> {
        let request = wire::ConnectRequest { message: Some(message) };
        self.say.send(request).await.map_err(drop)
    }
}

fn numbered(message: Say, number: i64) -> Say {
    match message {
        Say::Batch(batch) => Say::Batch(wire::AgentBatch { seq: number, ..batch }),
        Say::WalkEnd(end) => Say::WalkEnd(wire::AgentWalkEnd { seq: number, ..end }),
        Say::Hashes(hashes) => Say::Hashes(wire::AgentHashes { seq: number, ..hashes }),
        other => other,
    }
}

async fn changed(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn next_of(walk: &mut Option<Walk>) -> Option<wire::AgentBatch> {
    match walk {
        Some(walk) => walk.next().await,
        None => std::future::pending().await,
    }
}

async fn hashed(
    hashing: &mut Option<tokio::task::JoinHandle<Vec<wire::AgentHash>>>,
) -> Result<Vec<wire::AgentHash>, tokio::task::JoinError> {
    match hashing {
        Some(hashing) => hashing.await,
        None => std::future::pending().await,
    }
}

/// What may be otherwise at the next try.
fn may_pass(failure: &Failure) -> bool {
    matches!(
        failure.code(),
        Code::Unavailable
            | Code::Conflict
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Internal
            | Code::ResourceExhausted
            | Code::DataLoss
    )
}

fn gone() -> Failure {
    ServiceError::unavailable("the server ended the stream").into()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let died = |err| ServiceError::internal("a reader stopped unexpectedly").caused_by(err);
    Ok(tokio::task::spawn_blocking(work).await.map_err(died)?)
}
