//! Media: sent under an upload, read once its rows are committed.

use futures::TryStreamExt;
use items_api::v1::upload_media_request::Part;
use items_api::v1::{
    BeginUploadRequest, DownloadMediaRequest, GetMediaInfoRequest, GetThumbnailRequest,
    MediaHeader, UploadMediaRequest, UploadMediaResponse,
};
use serde_json::json;
use service_error::{Code, ServiceError};

use super::{House, Who, command, rows};

async fn begin(house: &House, who: &Who) -> String {
    let request = BeginUploadRequest { namespace: "vision".into(), dataset: "t".into() };
    house.media().begin_upload(house.by(who, request)).await.unwrap().into_inner().upload_id
}

fn file(upload_id: &str, bytes: &[u8], hash: blake3::Hash) -> Vec<UploadMediaRequest> {
    let header = MediaHeader {
        upload_id: upload_id.into(),
        content_hash: hash.as_bytes().to_vec(),
        size: i64::try_from(bytes.len()).unwrap(),
        mime_type: "image/png".into(),
    };
    let chunks = bytes.chunks(1_000).map(|chunk| Part::Chunk(chunk.to_vec()));
    std::iter::once(Part::Header(header))
        .chain(chunks)
        .map(|part| UploadMediaRequest { part: Some(part) })
        .collect()
}

async fn send(
    house: &House,
    who: &Who,
    messages: Vec<UploadMediaRequest>,
) -> Result<Vec<UploadMediaResponse>, ServiceError> {
    let request = house.by(who, futures::stream::iter(messages));
    let answers = house.media().upload_media(request).await?.into_inner();
    Ok(answers.try_collect().await?)
}

async fn download(
    house: &House,
    who: &Who,
    hash: blake3::Hash,
) -> Result<(String, Vec<u8>), ServiceError> {
    let request = DownloadMediaRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        content_hash: hash.to_hex().to_string(),
        ..Default::default()
    };
    let pieces = house.media().download_media(house.by(who, request)).await?.into_inner();
    let pieces: Vec<_> = pieces.try_collect().await?;
    let bytes = pieces.iter().flat_map(|piece| piece.data.to_vec()).collect();
    Ok((pieces.first().map(|piece| piece.content_type.clone()).unwrap_or_default(), bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_after_the_commit_and_not_before() {
    let house = House::new().await;
    let who = Who::admin();
    let upload = begin(&house, &who).await;
    let (small, large) = (b"small".to_vec(), vec![7u8; 50_000]);
    let messages =
        [file(&upload, &small, blake3::hash(&small)), file(&upload, &large, blake3::hash(&large))]
            .concat();
    let answers = send(&house, &who, messages).await.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.existed).collect::<Vec<_>>(), [false, false]);
    let again = send(&house, &who, file(&upload, &small, blake3::hash(&small))).await.unwrap();
    assert!(again[0].existed);
    assert_eq!(
        download(&house, &who, blake3::hash(&small)).await.unwrap_err().code(),
        Code::NotFound
    );
    let put = command(json!({"dataset": "vision/t", "upload_id": upload}));
    house.put(&who, put, &[rows(0..10)]).await.unwrap();
    let (mime, bytes) = download(&house, &who, blake3::hash(&large)).await.unwrap();
    assert_eq!((mime.as_str(), bytes), ("image/png", large));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_and_foreign_uploads_are_refused() {
    let house = House::new().await;
    let (who, other) = (Who::admin(), Who::admin());
    let upload = begin(&house, &who).await;
    let wrong =
        send(&house, &who, file(&upload, b"bytes", blake3::hash(b"others"))).await.unwrap_err();
    assert!(wrong.reason_is("HASH_MISMATCH"), "{wrong}");
    let foreign =
        send(&house, &other, file(&upload, b"bytes", blake3::hash(b"bytes"))).await.unwrap_err();
    assert_eq!(foreign.code(), Code::NotFound);
    let mut cut = file(&upload, &[1; 5_000], blake3::hash(&[1; 5_000]));
    cut.pop();
    let cut = send(&house, &who, cut).await.unwrap_err();
    assert!(cut.reason_is("MEDIA_INCOMPLETE"), "{cut}");
    let put = command(json!({"dataset": "vision/t", "upload_id": upload}));
    let error = house.put(&other, put, &[rows(0..10)]).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_mark_was_lost_is_found_in_the_manifest() {
    let house = House::new().await;
    let who = Who::admin();
    let upload = begin(&house, &who).await;
    let bytes = b"picture".to_vec();
    send(&house, &who, file(&upload, &bytes, blake3::hash(&bytes))).await.unwrap();
    let put = command(json!({"dataset": "vision/t", "upload_id": upload}));
    house.put(&who, put, &[rows(0..10)]).await.unwrap();
    // As a crash right after a commit leaves them.
    house.store.mark_media(upload.parse().unwrap(), false).await.unwrap();
    assert_eq!(download(&house, &who, blake3::hash(&bytes)).await.unwrap().1, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn thumbnails_are_made_once_and_refused_for_what_is_no_picture() {
    let house = House::new().await;
    let who = Who::admin();
    let upload = begin(&house, &who).await;
    let picture = include_bytes!("../../../../samples/shapes/stripes/stripes-10.png").to_vec();
    let text = b"no picture".to_vec();
    for bytes in [&picture, &text] {
        send(&house, &who, file(&upload, bytes, blake3::hash(bytes))).await.unwrap();
    }
    let put = command(json!({"dataset": "vision/t", "upload_id": upload}));
    house.put(&who, put, &[rows(0..10)]).await.unwrap();
    let get = async |who: &Who, bytes: &[u8], size: i32, format: &str| {
        let request = GetThumbnailRequest {
            namespace: "vision".into(),
            dataset: "t".into(),
            content_hash: blake3::hash(bytes).to_hex().to_string(),
            size,
            format: format.into(),
        };
        let pieces = house.media().get_thumbnail(house.by(who, request)).await?.into_inner();
        let pieces: Vec<_> = pieces.try_collect().await?;
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.data.to_vec()).collect();
        Ok::<_, ServiceError>((pieces[0].content_type.clone(), bytes))
    };
    let (kind, jpeg) = get(&who, &picture, 64, "").await.unwrap();
    assert_eq!((kind.as_str(), &jpeg[..2]), ("image/jpeg", [0xFF, 0xD8].as_slice()));
    let (kind, webp) = get(&who, &picture, 0, "webp").await.unwrap();
    assert_eq!((kind.as_str(), &webp[8..12]), ("image/webp", b"WEBP".as_slice()));
    assert_eq!(get(&who, &picture, 64, "jpeg").await.unwrap().1, jpeg, "kept");
    for (size, format, field) in [(65, "", "size"), (-1, "", "size"), (64, "gif", "format")] {
        let error = get(&who, &picture, size, format).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert_eq!(error.field_name(), Some(field), "{error}");
    }
    let shapeless = get(&who, &text, 64, "").await.unwrap_err();
    assert!(shapeless.reason_is("NOT_A_PICTURE"), "{shapeless}");
    let absent = get(&who, b"never sent", 64, "").await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    let stranger = get(&Who::user(), &picture, 64, "").await.unwrap_err();
    assert_eq!(stranger.code(), Code::NotFound, "what is kept is nobody's right");
    let info = async |who: &Who, bytes: &[u8]| {
        let request = GetMediaInfoRequest {
            namespace: "vision".into(),
            dataset: "t".into(),
            content_hash: blake3::hash(bytes).to_hex().to_string(),
        };
        let found = house.media().get_media_info(house.by(who, request)).await;
        found.map(tonic::Response::into_inner).map_err(ServiceError::from)
    };
    let known = info(&who, &picture).await.unwrap();
    assert_eq!((known.byte_count, known.mime_type.as_str()), (picture.len() as i64, "image/png"));
    assert!(known.width.unwrap() > 0 && known.height.unwrap() > 0);
    assert!(known.color.starts_with('#') && known.color.len() == 7, "{known:?}");
    let plain = info(&who, &text).await.unwrap();
    assert_eq!((plain.width, plain.color.as_str()), (None, ""));
    assert_eq!(info(&Who::user(), &picture).await.unwrap_err().code(), Code::NotFound);
    // What is kept is answered without the file.
    let name = blake3::hash(&picture).to_hex().to_string();
    std::fs::remove_file(found_below(house._dir.path(), &name).unwrap()).unwrap();
    assert_eq!(get(&who, &picture, 64, "jpeg").await.unwrap().1, jpeg);
    assert_eq!(info(&who, &picture).await.unwrap(), known);
}

/// Metadata by name, as the gateway turns it into headers.
fn told(answer: &tonic::metadata::MetadataMap, name: &str) -> Option<String> {
    answer.get(format!("quarry-http-{name}")).map(|value| value.to_str().unwrap().to_owned())
}

/// The file of an item at a version.
fn of(key: &str, version: &str) -> DownloadMediaRequest {
    DownloadMediaRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        key: key.into(),
        version: version.into(),
        ..Default::default()
    }
}

/// A file with what is said of it, as the gateway asks.
async fn fetched(
    house: &House,
    who: &Who,
    request: DownloadMediaRequest,
    headers: &[(&'static str, &str)],
) -> Result<(tonic::metadata::MetadataMap, Vec<u8>), ServiceError> {
    let mut request = house.by(who, request);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let answer = house.media().download_media(request).await?;
    let metadata = answer.metadata().clone();
    let pieces: Vec<_> = answer.into_inner().try_collect().await?;
    Ok((metadata, pieces.iter().flat_map(|piece| piece.data.to_vec()).collect()))
}

/// Item 1 names the first file at version 1 and the second one later; item 2 names none.
async fn with_two_files(house: &House, who: &Who) -> (Vec<u8>, Vec<u8>) {
    let upload = begin(house, who).await;
    let (old, new) = ((0..100_000u32).map(|n| n as u8).collect::<Vec<_>>(), b"new".to_vec());
    for bytes in [&old, &new] {
        send(house, who, file(&upload, bytes, blake3::hash(bytes))).await.unwrap();
    }
    let named = |bytes: &[u8]| {
        let ids = arrow::array::Int64Array::from(vec![1, 2]);
        let hash = blake3::hash(bytes).to_hex().to_string();
        let hashes = arrow::array::StringArray::from(vec![Some(hash), None]);
        arrow::array::RecordBatch::try_from_iter_with_nullable([
            ("id", std::sync::Arc::new(ids) as arrow::array::ArrayRef, false),
            ("content_hash", std::sync::Arc::new(hashes), true),
        ])
        .unwrap()
    };
    let put = command(json!({"dataset": "vision/t", "upload_id": upload}));
    house.put(who, put, &[named(&old)]).await.unwrap();
    let put = command(json!({"dataset": "vision/t", "mode": "upsert"}));
    house.put(who, put, &[named(&new)]).await.unwrap();
    (old, new)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_in_parts_and_by_their_items() {
    let house = House::new().await;
    let who = Who::admin();
    let (old, new) = with_two_files(&house, &who).await;
    assert_eq!(fetched(&house, &who, of("1", ""), &[]).await.unwrap().1, new);
    let (metadata, bytes) = fetched(&house, &who, of("1", "1"), &[]).await.unwrap();
    assert!(bytes == old, "as version 1 names it");
    let tag = format!("\"{}\"", blake3::hash(&old).to_hex());
    assert_eq!(told(&metadata, "etag").unwrap(), tag);
    assert_eq!(told(&metadata, "content-length").unwrap(), "100000");
    assert_eq!(told(&metadata, "content-type").unwrap(), "image/png");
    assert_eq!(told(&metadata, "status"), None);

    let range = ("quarry-http-range", "bytes=70000-70999");
    let (metadata, bytes) = fetched(&house, &who, of("1", "1"), &[range]).await.unwrap();
    assert_eq!(bytes, old[70_000..71_000]);
    assert_eq!(told(&metadata, "status").unwrap(), "206");
    assert_eq!(told(&metadata, "content-range").unwrap(), "bytes 70000-70999/100000");
    let stale = ("quarry-http-if-range", "\"x\"");
    assert_eq!(
        fetched(&house, &who, of("1", "1"), &[range, stale]).await.unwrap().1.len(),
        100_000
    );
    let known = ("quarry-http-if-none-match", tag.as_str());
    let (metadata, bytes) = fetched(&house, &who, of("1", "1"), &[known]).await.unwrap();
    assert_eq!((told(&metadata, "status").as_deref(), bytes.len()), (Some("304"), 0));
    let beyond = ("quarry-http-range", "bytes=100000-");
    let (metadata, bytes) = fetched(&house, &who, of("1", "1"), &[beyond]).await.unwrap();
    assert_eq!((told(&metadata, "status").as_deref(), bytes.len()), (Some("416"), 0));
    assert_eq!(told(&metadata, "content-range").unwrap(), "bytes */100000");

    let part = |offset, length| DownloadMediaRequest { offset, length, ..of("1", "1") };
    for (offset, length, range) in
        [(5, 10, 5..15), (99_990, 0, 99_990..100_000), (0, 7, 0..7), (100_000, 0, 0..0)]
    {
        let bytes = fetched(&house, &who, part(offset, length), &[]).await.unwrap().1;
        assert_eq!(bytes, old[range.clone()], "{range:?}");
    }
    for (request, code) in [
        (part(100_001, 0), Code::InvalidArgument),
        (part(-1, 0), Code::InvalidArgument),
        (of("2", ""), Code::NotFound),
        (of("3", ""), Code::NotFound),
        (of("", ""), Code::InvalidArgument),
        (
            DownloadMediaRequest { content_hash: "00".repeat(32), ..of("1", "") },
            Code::InvalidArgument,
        ),
    ] {
        let error = fetched(&house, &who, request.clone(), &[]).await.unwrap_err();
        assert_eq!(error.code(), code, "{request:?}: {error}");
    }
    let stranger = fetched(&house, &Who::user(), of("1", ""), &[]).await.unwrap_err();
    assert_eq!(stranger.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_takes_too_long_is_given_up() {
    let moods = super::unruly::Moods::new();
    let layer = moods.clone();
    let house = House::over(
        |settings| settings.picture_seconds = 1,
        move |blobs| blobs.through(|inner| layer.over(inner)),
    )
    .await;
    let who = Who::admin();
    let upload = begin(&house, &who).await;
    let picture = include_bytes!("../../../../samples/shapes/stripes/stripes-10.png").to_vec();
    send(&house, &who, file(&upload, &picture, blake3::hash(&picture))).await.unwrap();
    let put = command(json!({"dataset": "vision/t", "upload_id": upload}));
    house.put(&who, put, &[rows(0..10)]).await.unwrap();
    let get = |size: i32| {
        let request = GetThumbnailRequest {
            namespace: "vision".into(),
            dataset: "t".into(),
            content_hash: blake3::hash(&picture).to_hex().to_string(),
            size,
            ..Default::default()
        };
        let (request, mut media) = (house.by(&who, request), house.media());
        async move { media.get_thumbnail(request).await.map(drop).map_err(ServiceError::from) }
    };
    moods.set(super::unruly::Mood::Slow);
    for (got, size) in futures::future::join_all([64, 128, 256, 512].map(get)).await.iter().zip(0..)
    {
        let error = got.as_ref().unwrap_err();
        assert!(error.reason_is("PICTURE_SLOW"), "{size}: {error}");
    }
    moods.set(super::unruly::Mood::Fine);
    get(64).await.unwrap();
}

fn found_below(dir: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { found_below(&path, name) } else { path.ends_with(name).then_some(path) }
    })
}
