//! Bytes of the files that the server asks for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use file_scan::{ContentKind, HashError, Hasher, MediaFacts, MediaLimits, Root, similarity};
use files_api::v1::agent_hash::Outcome;
use files_api::v1::{AgentContent, AgentFile, AgentHash};

const THREADS_MAX: usize = 64;

/// Reads files, each in the place that it was asked for.
pub fn hash_all(root: &Root, files: &[AgentFile], deep: bool, threads: usize) -> Vec<AgentHash> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, AgentHash)>> = Mutex::new(Vec::with_capacity(files.len()));
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        threads => threads,
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, THREADS_MAX) {
            scope.spawn(|| {
                let mut hasher = Hasher::default();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = files.get(at) else { break };
                    let outcome = Some(hash(&mut hasher, root, file, deep));
                    let answer = AgentHash { id: file.id, outcome };
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, answer));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, answer)| answer).collect()
}

fn hash(hasher: &mut Hasher, root: &Root, file: &AgentFile, deep: bool) -> Outcome {
    let content = match hasher.hash(root, &file.path, file.inode) {
        Ok(content) => content,
        Err(HashError::Gone | HashError::Replaced | HashError::Changed | HashError::Stopped) => {
            return Outcome::Moved(true);
        }
        Err(HashError::Unreadable(err)) => return Outcome::Error(err.to_string()),
    };
    let media = match (content.kind, deep) {
        (ContentKind::Image, true) => {
            let opened = hasher.open(root, &file.path, file.inode);
            opened
                .ok()
                .and_then(|(mut file, _)| similarity(&mut file, &MediaLimits::default()).ok()?)
        }
        (kind, _) => hasher.facts(kind, content.size),
    };
    let has_media = media.is_some();
    let media = media.unwrap_or_else(MediaFacts::default);
    Outcome::Content(AgentContent {
        hash: content.hash.to_vec(),
        kind: content.kind.word().to_owned(),
        size: content.size,
        modified: content.mark.modified,
        changed: content.mark.changed,
        width: media.width,
        height: media.height,
        orientation: i32::try_from(media.orientation).unwrap_or(0),
        taken: media.taken.unwrap_or_default(),
        camera: media.camera.unwrap_or_default(),
        broken: media.broken,
        likeness: media.likeness,
        has_media,
        duration_ms: media.duration_ms,
    })
}
