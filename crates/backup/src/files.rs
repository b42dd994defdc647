//! Files of a backup: private, synced, hashed.

use std::io;
use std::path::Path;

use tokio::fs::{self, DirBuilder, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};

use crate::manifest;

const PIECE_BYTES: usize = 1 << 20;

/// A directory that only this user may enter, with those above it.
pub async fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).await
}

/// A file that is being written and hashed.
pub struct Hashed {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Hashed {
    /// Makes it; one that exists is refused.
    pub async fn create(path: &Path) -> io::Result<Self> {
        if let Some(above) = path.parent() {
            make_dir(above).await?;
        }
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).await?;
        let file = BufWriter::with_capacity(PIECE_BYTES, file);
        Ok(Self { file, hasher: blake3::Hasher::new(), bytes: 0 })
    }

    pub async fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
        self.file.write_all(piece).await
    }

    /// Its bytes are on the disk when this answers.
    pub async fn finish(mut self, path: String) -> io::Result<manifest::File> {
        self.file.flush().await?;
        self.file.get_ref().sync_all().await?;
        let blake3 = self.hasher.finalize().to_hex().to_string();
        Ok(manifest::File { path, bytes: self.bytes, blake3 })
    }
}

/// Size and hash of a file.
pub async fn hash(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path).await?;
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = file.read(&mut piece).await?;
        if read == 0 {
            return Ok((bytes, hasher.finalize().to_hex().to_string()));
        }
        hasher.update(&piece[..read]);
        bytes += read as u64;
    }
}

/// Writes a file whole or not at all.
pub async fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft).await?;
    file.write_all(bytes).await?;
    file.sync_all().await?;
    fs::rename(&draft, path).await?;
    sync_dir(path).await
}

/// The names in the directory of `path` are on the disk.
pub async fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(above) => File::open(above).await?.sync_all().await,
        None => Ok(()),
    }
}
