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

fn found_below(dir: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { found_below(&path, name) } else { path.ends_with(name).then_some(path) }
    })
}
