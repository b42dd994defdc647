//! A stored file as readers of headers want it: by range, from a thread that may
//! wait, a block at a time.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use model_files::RangeReader;
use service_error::Code;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::bytes::piece;
use crate::model::Segment;
use crate::store::Store;

/// Read of the store at once: readers jump about in small steps.
const BLOCK_BYTES: u64 = 256 << 10;
/// Blocks that are kept.
const BLOCKS_MAX: usize = 16;

/// The bytes of a file.
pub struct Ranges {
    store: Store,
    segments: Vec<Segment>,
    size: u64,
    end: CancellationToken,
    handle: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By their number, the last that was read in front.
    blocks: VecDeque<(u64, Bytes)>,
    /// What the store said first when it failed.
    failure: Option<(ErrorKind, String)>,
}

impl Ranges {
    /// The bytes of some segments; reads fail once `end` is cancelled. Called on
    /// the runtime whose store it is.
    pub fn new(
        store: Store,
        segments: Vec<Segment>,
        byte_count: i64,
        end: CancellationToken,
    ) -> Self {
        let size = u64::try_from(byte_count).unwrap_or_default();
        let handle = Handle::current();
        Self { store, segments, size, end, handle, state: Mutex::default() }
    }

    /// Why a read failed, if one did for another reason than the file's end.
    pub fn failure(&self) -> Option<io::Error> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failure.as_ref().map(|(kind, message)| io::Error::new(*kind, message.clone()))
    }

    fn block(&self, number: u64) -> io::Result<Bytes> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = state.blocks.iter().position(|(known, _)| *known == number)
            && let Some(block) = state.blocks.remove(at)
        {
            state.blocks.push_front(block.clone());
            return Ok(block.1);
        }
        let begin = number * BLOCK_BYTES;
        let read = self.fetch(begin, (begin + BLOCK_BYTES).min(self.size));
        match read {
            Ok(bytes) => {
                state.blocks.push_front((number, bytes.clone()));
                state.blocks.truncate(BLOCKS_MAX);
                Ok(bytes)
            }
            Err(error) => {
                state.failure.get_or_insert_with(|| (error.kind(), error.to_string()));
                Err(error)
            }
        }
    }

    fn fetch(&self, begin: u64, end: u64) -> io::Result<Bytes> {
        let mut all = Vec::new();
        let mut at = begin;
        while at < end {
            let whole = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
            let behind = self.segments.partition_point(|of| whole(of.byte_begin) <= at);
            let segment = behind.checked_sub(1).and_then(|before| self.segments.get(before));
            let segment = segment.ok_or(ErrorKind::UnexpectedEof)?;
            let first = whole(segment.byte_begin);
            let last = (first + whole(segment.byte_count)).min(end);
            if last <= at {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let wanted = at - first..last - first;
            let read = piece(&self.store, segment, wanted);
            let got = self.handle.block_on(self.end.run_until_cancelled(read));
            let got = got.ok_or_else(|| io::Error::other("the caller has gone"))?;
            let bytes = got.map_err(|error| match error.code() {
                Code::NotFound => io::Error::from(ErrorKind::UnexpectedEof),
                _ => io::Error::other(error.to_string()),
            })?;
            if bytes.len() as u64 != last - at {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if at == begin && last == end {
                return Ok(bytes);
            }
            all.extend_from_slice(&bytes);
            at = last;
        }
        Ok(all.into())
    }
}

impl RangeReader for Ranges {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(ErrorKind::UnexpectedEof)?;
        let mut at = offset;
        while at < end {
            let number = at / BLOCK_BYTES;
            let block = self.block(number)?;
            let inside = usize::try_from(at - number * BLOCK_BYTES).unwrap_or_default();
            let to = usize::try_from(at - offset).unwrap_or_default();
            let count = block.len().saturating_sub(inside).min(into.len() - to);
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            into[to..to + count].copy_from_slice(&block[inside..inside + count]);
            at += count as u64;
        }
        Ok(())
    }
}
