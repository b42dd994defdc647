//! From the encoding thread to the object store, a few pieces ahead.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// Bytes of a piece.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces between the encoder and the store.
pub(crate) const PIECES_AHEAD: usize = 4;

/// A writer whose pieces an async task takes; blocks while it is behind.
#[derive(Debug)]
pub(crate) struct PieceSink {
    pieces: mpsc::Sender<Bytes>,
    piece: BytesMut,
}

impl PieceSink {
    pub fn new(pieces: mpsc::Sender<Bytes>) -> Self {
        Self { pieces, piece: BytesMut::with_capacity(PIECE_BYTES) }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE_BYTES));
        self.pieces
            .blocking_send(piece.freeze())
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the object store gave up"))
    }
}

impl Write for PieceSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PieceSink {
    /// Sends the last piece. Dropped without it, the object stays unfinished.
    pub fn finish(mut self) -> io::Result<()> {
        self.send()
    }
}
