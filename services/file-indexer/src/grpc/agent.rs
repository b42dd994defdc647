//! `quarry.files.v1.AgentService`: an agent's messages into what it says, and
//! what it is told into messages.

use file_scan::{Content, ContentKind, Entry, Kind, Listing, Mark, MediaFacts, Times, names};
use files_api::v1 as wire;
use files_api::v1::agent_service_server::AgentService;
use files_api::v1::connect_request::Message as Heard;
use files_api::v1::connect_response::Message as Answered;
use futures::StreamExt;
use service_error::ServiceError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::app::{AgentOutcome, CREDITS, Hello, Indexer, Part, Said, ToHash, Told};

/// Messages to an agent that wait to be read.
const WAITING: usize = 4;
const TEXT_CHARS_MAX: usize = 100;
const ERROR_CHARS_MAX: usize = 500;

/// The service over the use cases.
pub struct Agents(pub Indexer);

#[tonic::async_trait]
impl AgentService for Agents {
    type ConnectStream = futures::stream::BoxStream<'static, Result<wire::ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<wire::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let caller = caller::of(&request)?;
        let said = request.into_inner().map(|message| said(message.map_err(broken)?));
        let (tell, told) = mpsc::channel(WAITING);
        let indexer = self.0.clone();
        let end = tell.clone();
        // The two halves of the stream run apart: neither waits for the other
        // but for its messages.
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = indexer.serve_agent(caller, said, tell) => ended,
                () = end.closed() => Ok(()),
            };
            if let Err(error) = ended {
                drop(end.send(Err(error)).await);
            }
        });
        let told = ReceiverStream::new(told).map(|told| told.map(to_wire).map_err(Status::from));
        Ok(Response::new(told.boxed()))
    }
}

/// A message over the limit is the agent's fault, and says so.
fn broken(status: Status) -> ServiceError {
    if status.code() == tonic::Code::OutOfRange {
        return ServiceError::exhausted("a message of an agent takes at most 2 MiB")
            .reason("AGENT_BATCH_TOO_LARGE");
    }
    ServiceError::from(status)
}

fn said(message: wire::ConnectRequest) -> Result<Said, ServiceError> {
    let message = message.message.ok_or_else(|| ServiceError::invalid("message", "is empty"))?;
    Ok(match message {
        Heard::Hello(hello) => Said::Hello(Hello {
            location: hello.location_id,
            device: hello.device,
            root: (hello.root_device.cast_signed(), hello.root_inode.cast_signed()),
            generation: hello.generation,
        }),
        Heard::Batch(batch) => {
            let parts = batch.listings.into_iter().map(part).collect::<Result<_, _>>()?;
            Said::Batch { seq: batch.seq, parts }
        }
        Heard::WalkEnd(end) => {
            let root = (end.root_device.cast_signed(), end.root_inode.cast_signed());
            Said::WalkEnd { seq: end.seq, root }
        }
        Heard::Hashes(hashes) => {
            let outcomes = hashes.hashes.into_iter().map(outcome).collect::<Result<_, _>>()?;
            Said::Hashes { seq: hashes.seq, outcomes }
        }
        Heard::Wish(_) => Said::Wish,
        Heard::Ping(_) => Said::Ping,
    })
}

/// Columns into entries, which they must be of one length for.
fn part(listing: wire::AgentListing) -> Result<Part, ServiceError> {
    let (count, continues) = (listing.names.len(), listing.continues);
    let lengths = [
        listing.kinds.len(),
        listing.sizes.len(),
        listing.modify_times.len(),
        listing.change_times.len(),
        listing.birth_times.len(),
        listing.inodes.len(),
        listing.links.len(),
        listing.modes.len(),
        listing.uids.len(),
        listing.gids.len(),
    ];
    let wrong = |why: &str| ServiceError::invalid("batch.listings", why).reason("AGENT_COLUMNS");
    if lengths.iter().any(|length| *length != count) {
        return Err(wrong("its lists must be as long as its names"));
    }
    let mut targets = listing.link_targets.into_iter();
    let mut entries = Vec::with_capacity(count);
    for (at, name) in listing.names.into_iter().enumerate() {
        let number = i64::from(listing.kinds[at]);
        let kind = Kind::of(number);
        if kind as i64 != number {
            return Err(wrong("a kind must be within 1 and 8"));
        }
        let mut target = if kind == Kind::Symlink { targets.next() } else { None };
        if let Some(target) = &mut target {
            // No link has one, and no database takes it.
            target.retain(|byte| *byte != 0);
        }
        entries.push(Entry {
            name,
            kind,
            size: listing.sizes[at],
            times: Times {
                modified: listing.modify_times[at],
                changed: listing.change_times[at],
                born: Some(listing.birth_times[at]).filter(|born| *born != 0),
            },
            dev: listing.device,
            ino: listing.inodes[at],
            links: listing.links[at],
            mode: i64::from(listing.modes[at]),
            uid: listing.uids[at],
            gid: listing.gids[at],
            target,
        });
    }
    if targets.next().is_some() {
        return Err(wrong("there are more link targets than symlinks"));
    }
    let listing = Listing {
        path: listing.path,
        dev: listing.device,
        ino: listing.inode,
        modified: listing.modified,
        born: Some(listing.born).filter(|born| *born != 0),
        entries,
        large: None,
        error: Some(cut(listing.error, usize::MAX)).filter(|error| !error.is_empty()),
    };
    Ok(Part { listing, continues })
}

fn outcome(hash: wire::AgentHash) -> Result<(i64, AgentOutcome), ServiceError> {
    use wire::agent_hash::Outcome;
    let outcome = match hash.outcome {
        Some(Outcome::Content(content)) => AgentOutcome::Hashed(Box::new(read(content)?)),
        Some(Outcome::Moved(_)) => AgentOutcome::Moved,
        Some(Outcome::Error(why)) => AgentOutcome::Failed(cut(why, ERROR_CHARS_MAX)),
        None => return Err(ServiceError::invalid("hashes.hashes.outcome", "is missing")),
    };
    Ok((hash.id, outcome))
}

fn read(content: wire::AgentContent) -> Result<(Content, Option<MediaFacts>), ServiceError> {
    let wrong = |field: &str, why: &str| {
        ServiceError::invalid(&format!("hashes.hashes.content.{field}"), why)
    };
    let hash = content.hash.try_into().map_err(|_| wrong("hash", "has 32 bytes"))?;
    let kind = ContentKind::named(&content.kind).ok_or_else(|| wrong("kind", "is no kind"))?;
    if content.size < 0 || content.width < 0 || content.height < 0 || content.duration_ms < 0 {
        return Err(wrong("size", "sizes must not be negative"));
    }
    let some = |text: String| Some(cut(text, TEXT_CHARS_MAX)).filter(|text| !text.is_empty());
    let media = content.has_media.then(|| MediaFacts {
        width: content.width,
        height: content.height,
        orientation: content.orientation.clamp(0, 8).into(),
        taken: some(content.taken),
        camera: some(content.camera),
        likeness: content.likeness,
        broken: content.broken,
        duration_ms: content.duration_ms,
    });
    let mark =
        Mark { size: content.size, modified: content.modified, changed: content.changed, ino: 0 };
    Ok((Content { hash, size: content.size, kind, mark }, media))
}

/// Text of an agent, as a database takes it.
fn cut(text: String, max: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(max).collect()
}

fn to_wire(told: Told) -> wire::ConnectResponse {
    let message = match told {
        Told::Welcome { path, rules, generation, deep } => Answered::Welcome(wire::AgentWelcome {
            path,
            rules,
            credits: CREDITS,
            generation,
            deep,
        }),
        Told::Scan { generation, deep } => Answered::Scan(wire::AgentScan { generation, deep }),
        Told::Ack { seq } => Answered::Ack(wire::AgentAck { seq }),
        Told::Need(files) => {
            Answered::Need(wire::AgentNeed { files: files.into_iter().map(file).collect() })
        }
        Told::Done(done) => Answered::Done(wire::AgentDone {
            generation: done.generation,
            added: done.added,
            changed: done.changed,
            moved: done.moved,
            removed: done.removed,
            hashed: done.hashed,
            problem: done.problem,
        }),
        Told::Pong => Answered::Pong(wire::AgentPong {}),
    };
    wire::ConnectResponse { message: Some(message) }
}

fn file(file: ToHash) -> wire::AgentFile {
    wire::AgentFile {
        id: file.id,
        path: names::bytes(&file.path),
        inode: file.ino.cast_unsigned(),
        size: file.size,
        modified: file.modified,
        changed: file.changed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn texts_of_an_agent_lose_their_nuls() {
        let one = || vec![1];
        let listing = wire::AgentListing {
            path: b"d".to_vec(),
            names: vec![b"link".to_vec()],
            kinds: vec![Kind::Symlink as u8],
            sizes: one(),
            modify_times: one(),
            change_times: one(),
            birth_times: one(),
            inodes: vec![1],
            links: one(),
            modes: vec![1],
            uids: one(),
            gids: one(),
            link_targets: vec![b"to\0 there".to_vec()],
            error: "not\0 whole".to_owned(),
            ..wire::AgentListing::default()
        };
        let Part { listing, .. } = part(listing).unwrap();
        assert_eq!(listing.entries[0].target.as_deref(), Some(&b"to there"[..]));
        assert_eq!(listing.error.as_deref(), Some("not whole"));
    }
}
