//! An object store that is full, away or slow when it is told to be.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::watch;

/// What it does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Fine,
    /// Writes end as on a full disk.
    Full,
    /// Nothing is answered.
    Away,
    /// Nothing is answered until the mood is another one.
    Slow,
}

/// The switch of an [`Unruly`] store.
#[derive(Debug, Clone)]
pub struct Moods(watch::Sender<Mood>);

impl Moods {
    pub fn new() -> Self {
        Self(watch::Sender::new(Mood::Fine))
    }

    pub fn set(&self, mood: Mood) {
        self.0.send_replace(mood);
    }

    pub fn over(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(Unruly { inner, mood: self.0.subscribe() })
    }
}

#[derive(Debug)]
struct Unruly {
    inner: Arc<dyn ObjectStore>,
    mood: watch::Receiver<Mood>,
}

fn failed(kind: io::ErrorKind) -> Error {
    Error::Generic { store: "unruly", source: Box::new(io::Error::from(kind)) }
}

async fn pass(mood: &watch::Receiver<Mood>, writes: bool) -> Result<()> {
    let mut mood = mood.clone();
    let now = mood.wait_for(|mood| *mood != Mood::Slow).await.map(|mood| *mood);
    match now {
        Ok(Mood::Full) if writes => Err(failed(io::ErrorKind::StorageFull)),
        Ok(Mood::Away) => Err(failed(io::ErrorKind::ConnectionRefused)),
        _ => Ok(()),
    }
}

impl fmt::Display for Unruly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unruly {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Unruly {
    async fn put_opts(&self, at: &Path, payload: PutPayload, o: PutOptions) -> Result<PutResult> {
        pass(&self.mood, true).await?;
        self.inner.put_opts(at, payload, o).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(at, options).await?;
        Ok(Box::new(UnrulyUpload { upload, mood: self.mood.clone() }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        pass(&self.mood, false).await?;
        self.inner.get_opts(at, options).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        pass(&self.mood, false).await?;
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let mood = self.mood.clone();
        let passed = locations.and_then(move |path| {
            let mood = mood.clone();
            async move { pass(&mood, false).await.map(|()| path) }
        });
        self.inner.delete_stream(passed.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        pass(&self.mood, true).await?;
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct UnrulyUpload {
    upload: Box<dyn MultipartUpload>,
    mood: watch::Receiver<Mood>,
}

#[async_trait]
impl MultipartUpload for UnrulyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (mood, part) = (self.mood.clone(), self.upload.put_part(data));
        Box::pin(async move {
            pass(&mood, true).await?;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        pass(&self.mood, true).await?;
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
