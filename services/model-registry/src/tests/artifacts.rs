//! Files: sent in parts, resumed, committed, kept once, read back, collected.

use futures::StreamExt;
use service_error::Code;
use sha2::{Digest as _, Sha256};

use super::*;

/// A file of a test.
pub(super) fn file(path: &str, bytes: &[u8]) -> wire::UploadFile {
    wire::UploadFile {
        path: path.into(),
        digest: hex::encode(Sha256::digest(bytes)),
        byte_count: bytes.len().try_into().unwrap(),
    }
}

impl House {
    async fn begin(
        &self,
        who: &Who,
        files: Vec<wire::UploadFile>,
    ) -> Result<wire::BeginUploadResponse, ServiceError> {
        let request = wire::BeginUploadRequest { namespace: "ml".into(), files, resume: false };
        Ok(self.artifacts().begin_upload(self.by(who, request)).await?.into_inner())
    }

    /// Sends one part in pieces.
    async fn send(
        &self,
        who: &Who,
        upload: &str,
        file: i32,
        part: i32,
        bytes: &[u8],
    ) -> Result<(), ServiceError> {
        let crc = crc32fast::hash(bytes);
        self.send_with_crc(who, upload, (file, part), bytes, crc).await
    }

    async fn send_with_crc(
        &self,
        who: &Who,
        upload: &str,
        (file, part): (i32, i32),
        bytes: &[u8],
        crc: u32,
    ) -> Result<(), ServiceError> {
        let chunks: Vec<&[u8]> =
            if bytes.is_empty() { vec![bytes] } else { bytes.chunks(3 << 20).collect() };
        let count = chunks.len();
        let pieces: Vec<_> = chunks
            .into_iter()
            .enumerate()
            .map(|(at, data)| wire::UploadPartsRequest {
                upload_id: upload.into(),
                file,
                part,
                data: data.to_vec(),
                last: at + 1 == count,
                crc32: (at + 1 == count).then_some(crc),
            })
            .collect();
        let request = self.by(who, futures::stream::iter(pieces));
        let mut acks = self.artifacts().upload_parts(request).await?.into_inner();
        let ack = acks.message().await?.expect("an acknowledgement");
        assert_eq!((ack.file, ack.part), (file, part));
        Ok(())
    }

    async fn commit(
        &self,
        who: &Who,
        upload: &str,
    ) -> Result<wire::CommitUploadResponse, ServiceError> {
        let request = wire::CommitUploadRequest { upload_id: upload.into() };
        Ok(self.artifacts().commit_upload(self.by(who, request)).await?.into_inner())
    }

    /// A version made of files.
    pub(super) async fn with_files(
        &self,
        who: &Who,
        model: &str,
        files: &[(&str, &[u8])],
    ) -> (wire::ModelVersion, wire::CommitUploadResponse) {
        let named = files.iter().map(|(path, bytes)| file(path, bytes)).collect();
        let upload = self.begin(who, named).await.unwrap();
        for (at, (_, bytes)) in (0..).zip(files) {
            if !upload.present.contains(&at) {
                self.send(who, &upload.upload_id, at, 0, bytes).await.unwrap();
            }
        }
        let committed = self.commit(who, &upload.upload_id).await.unwrap();
        let request = wire::CreateVersionRequest {
            upload_id: upload.upload_id,
            create_model: true,
            ..new(model)
        };
        (self.register(who, request).await.unwrap(), committed)
    }

    async fn download(
        &self,
        who: &Who,
        model: &str,
        path: &str,
        range: (i64, i64),
    ) -> Result<Vec<u8>, ServiceError> {
        let request = wire::DownloadFileRequest {
            namespace: "ml".into(),
            model: model.into(),
            version: "latest".into(),
            path: path.into(),
            offset: range.0,
            byte_count: range.1,
        };
        let mut body = self.artifacts().download_file(self.by(who, request)).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece?.data);
        }
        Ok(bytes)
    }

    async fn collect(&self) -> wire::CollectGarbageResponse {
        let request = wire::CollectGarbageRequest { trash_seconds: Some(0), ..Default::default() };
        let admin = Who::admin();
        self.artifacts().collect_garbage(self.by(&admin, request)).await.unwrap().into_inner()
    }

    /// How many objects lie in the store.
    fn objects_kept(&self) -> usize {
        fn below(dir: &std::path::Path) -> usize {
            let entries = std::fs::read_dir(dir).map(Iterator::collect::<Result<Vec<_>, _>>);
            let Ok(Ok(entries)) = entries else { return 0 };
            let count = |entry: std::fs::DirEntry| {
                if entry.path().is_dir() { below(&entry.path()) } else { 1 }
            };
            entries.into_iter().map(count).sum()
        }
        below(self.objects.path())
    }
}

#[tokio::test]
async fn files_come_back_whole_and_in_ranges() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let weights: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
        let files: [(&str, &[u8]); 3] =
            [("MLmodel", b"flavors: {}"), ("data/weights.bin", &weights), ("empty", b"")];
        let (version, _) = house.with_files(&ana, "m", &files).await;
        assert_eq!((version.file_count, version.byte_count), (3, 5_000_011));
        // OpenSSF's root: SHA-256 over the digests, by path.
        let mut root = Sha256::new();
        for (_, bytes) in &files {
            root.update(Sha256::digest(bytes));
        }
        assert_eq!(version.digest, hex::encode(root.finalize()));
        for (path, bytes) in &files {
            assert_eq!(house.download(&ana, "m", path, (0, 0)).await.unwrap(), *bytes, "{path}");
        }
        let part = house.download(&ana, "m", "data/weights.bin", (4_000_000, 10)).await.unwrap();
        assert_eq!(part, &weights[4_000_000..4_000_010]);
        let tail = house.download(&ana, "m", "data/weights.bin", (4_999_990, 0)).await.unwrap();
        assert_eq!(tail, &weights[4_999_990..]);
        let outside = house.download(&ana, "m", "MLmodel", (100, 1)).await.unwrap_err();
        assert_eq!(outside.field_name(), Some("offset"));
        for bad in ["../MLmodel", "/etc/passwd", "%2e%2e/x", "data/../MLmodel"] {
            let error = house.download(&ana, "m", bad, (0, 0)).await.unwrap_err();
            assert_eq!(error.field_name(), Some("path"), "{bad}");
        }
        let stranger = house.download(&Who::user(), "m", "MLmodel", (0, 0)).await.unwrap_err();
        assert_eq!(stranger.code(), Code::NotFound);
        let model = house.get_model(&ana, "m").await.unwrap();
        assert_eq!(model.byte_count, 5_000_011);
    })
    .await;
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_ended() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let part = usize::try_from(crate::model::artifact::PART_BYTES).unwrap();
        let bytes: Vec<u8> = (0..part + 1_000).map(|n| (n % 253) as u8).collect();
        let upload = house.begin(&ana, vec![file("w.bin", &bytes)]).await.unwrap();
        let id = &upload.upload_id;
        // The last part first, and a part whose stream ends early.
        house.send(&ana, id, 0, 1, &bytes[part..]).await.unwrap();
        let cut = wire::UploadPartsRequest {
            upload_id: id.clone(),
            data: bytes[..10].to_vec(),
            ..Default::default()
        };
        let request = house.by(&ana, futures::stream::iter([cut]));
        let mut acks = house.artifacts().upload_parts(request).await.unwrap().into_inner();
        assert!(acks.message().await.unwrap().is_none(), "what is not whole is not acknowledged");
        let early = house.commit(&ana, id).await.unwrap_err();
        assert_eq!(early.reason_text(), "UPLOAD_INCOMPLETE");

        let status = wire::GetUploadStatusRequest { upload_id: id.clone() };
        let status = house.artifacts().get_upload_status(house.by(&ana, status)).await.unwrap();
        let status = status.into_inner();
        assert_eq!(
            (status.files[0].parts.as_slice(), status.files[0].received_bytes),
            (&[1][..], 1_000)
        );
        let other = wire::GetUploadStatusRequest { upload_id: id.clone() };
        let bob = Who::user();
        let other = house.artifacts().get_upload_status(house.by(&bob, other)).await.unwrap_err();
        assert_eq!(other.code(), tonic::Code::NotFound, "an upload is its opener's");

        let wrong = house.send_with_crc(&ana, id, (0, 0), &bytes[..part], 1).await.unwrap_err();
        assert_eq!(wrong.reason_text(), "CHECKSUM_MISMATCH");
        let short = house.send(&ana, id, 0, 0, &bytes[..part - 1]).await.unwrap_err();
        assert_eq!(short.reason_text(), "PART_SIZE");
        house.send(&ana, id, 0, 0, &bytes[..part]).await.unwrap();
        let committed = house.commit(&ana, id).await.unwrap();
        assert_eq!(committed.byte_count, i64::try_from(bytes.len()).unwrap());
        house.commit(&ana, id).await.expect("a repetition answers again");
        let request =
            wire::CreateVersionRequest { upload_id: id.clone(), create_model: true, ..new("m") };
        house.register(&ana, request).await.unwrap();
        assert_eq!(house.download(&ana, "m", "w.bin", (0, 0)).await.unwrap(), bytes);
    })
    .await;
}

#[tokio::test]
async fn other_bytes_than_the_digest_says_make_nothing() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        let upload = house.begin(&ana, vec![file("a", b"right")]).await.unwrap();
        house.send(&ana, &upload.upload_id, 0, 0, b"wrong").await.unwrap();
        let refused = house.commit(&ana, &upload.upload_id).await.unwrap_err();
        assert_eq!(refused.reason_text(), "DIGEST_MISMATCH");
        let request = wire::CreateVersionRequest { upload_id: upload.upload_id, ..new("m") };
        let refused = house.register(&ana, request).await.unwrap_err();
        assert_eq!(refused.reason_text(), "UPLOAD_NOT_COMMITTED");
        assert_eq!(house.get_model(&ana, "m").await.unwrap().version_count, 0);
        for path in ["../x", "/x", "a/../../x", "%2e%2e%2fx", "C:\\x", ""] {
            let refused = house.begin(&ana, vec![file(path, b"x")]).await.unwrap_err();
            assert_eq!(refused.field_name(), Some("files.path"), "{path:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_same_bytes_are_kept_once_and_told_to_nobody() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let bytes = vec![7_u8; 100_000];
        house.with_files(&ana, "a", &[("x", &bytes)]).await;
        let kept = house.objects_kept();
        let (_, again) = house.with_files(&ana, "b", &[("y", &bytes), ("z", &bytes)]).await;
        assert_eq!(again.deduplicated_bytes, 200_000);
        assert_eq!(house.objects_kept(), kept, "nothing was stored");

        // Who cannot read it is not told that it is there, and sends it in full.
        let bob = Who::user();
        let id = house.catalog.namespace("theirs");
        house.grant(&bob, Resource::namespace(id.uuid()), Level::Owner).await;
        let blobs = vec![wire::BlobName {
            digest: hex::encode(Sha256::digest(&bytes)),
            byte_count: 100_000,
        }];
        let ask = wire::HasBlobsRequest { blobs };
        let seen = house.artifacts().has_blobs(house.by(&ana, ask.clone())).await.unwrap();
        assert_eq!(seen.into_inner().present.len(), 1);
        let hidden = house.artifacts().has_blobs(house.by(&bob, ask)).await.unwrap();
        assert!(hidden.into_inner().present.is_empty());
        let request = wire::BeginUploadRequest {
            namespace: "theirs".into(),
            files: vec![file("w", &bytes)],
            resume: false,
        };
        let begin = async || house.artifacts().begin_upload(house.by(&bob, request.clone())).await;
        eventually(async || begin().await.is_ok()).await;
        let upload = begin().await.unwrap().into_inner();
        assert!(upload.present.is_empty());
        house.send(&bob, &upload.upload_id, 0, 0, &bytes).await.unwrap();
        let committed = house.commit(&bob, &upload.upload_id).await.unwrap();
        assert_eq!(committed.deduplicated_bytes, 100_000, "and then it is kept once");
        house.collect().await;
        assert_eq!(house.objects_kept(), kept, "the second copy was swept");
        assert_eq!(house.download(&ana, "a", "x", (0, 0)).await.unwrap(), bytes);
    })
    .await;
}

#[tokio::test]
async fn what_nobody_references_is_collected_and_nothing_else() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.with_files(&ana, "keep", &[("x", b"shared"), ("k", b"kept")]).await;
        house.with_files(&ana, "drop", &[("x", b"shared"), ("d", &[1; 5_000])]).await;
        let delete = wire::DeleteModelRequest { namespace: "ml".into(), name: "drop".into() };
        house.models().delete_model(house.by(&ana, delete)).await.unwrap();
        // Leases still hold what was just sent.
        assert_eq!(house.collect().await.freed_bytes, 0);
        house.store.end_leases().await.unwrap();
        let done = house.collect().await;
        assert_eq!((done.blobs, done.freed_bytes), (1, 5_000));
        assert_eq!(house.download(&ana, "keep", "x", (0, 0)).await.unwrap(), b"shared");
        assert_eq!(house.download(&ana, "keep", "k", (0, 0)).await.unwrap(), b"kept");
        assert_eq!(house.collect().await.blobs, 0);
        // The same bytes again are new bytes.
        house.with_files(&ana, "again", &[("d", &[1; 5_000])]).await;
        assert_eq!(house.download(&ana, "again", "d", (0, 0)).await.unwrap(), [1; 5_000]);
    })
    .await;
}

#[tokio::test]
async fn a_copy_shares_its_bytes_and_damage_is_told() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.with_files(&ana, "m", &[("w", &[9; 50_000])]).await;
        let kept = house.objects_kept();
        let copy_from =
            wire::VersionName { namespace: "ml".into(), model: "m".into(), version: "1".into() };
        let request = wire::CreateVersionRequest {
            copy_from: Some(copy_from),
            create_model: true,
            ..new("copy")
        };
        let copy = house.register(&ana, request).await.unwrap();
        assert_eq!((copy.byte_count, house.objects_kept()), (50_000, kept));
        assert_eq!(house.download(&ana, "copy", "w", (0, 0)).await.unwrap(), [9; 50_000]);
        // One bit of the one object.
        let object = std::process::Command::new("find")
            .arg(house.objects.path())
            .args(["-type", "f"])
            .output()
            .unwrap();
        let path = String::from_utf8(object.stdout).unwrap();
        let path = path.lines().find(|line| line.contains("cas/sha256")).unwrap().to_owned();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[5_000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let damaged = house.download(&ana, "copy", "w", (0, 0)).await.unwrap_err();
        assert_eq!((damaged.code(), damaged.reason_text()), (Code::DataLoss, "BLOB_DAMAGED"));
    })
    .await;
}

#[tokio::test]
async fn a_size_that_the_kept_bytes_have_not_is_refused() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.with_files(&ana, "m", &[("x", b"twelve bytes")]).await;
        let wrong = wire::UploadFile { byte_count: 1_000_000, ..file("data/y", b"twelve bytes") };
        let refused = house.begin(&ana, vec![wrong]).await.unwrap_err();
        assert_eq!(refused.reason_text(), "SIZE_MISMATCH");
        assert_eq!(refused.field_name(), Some("files.byte_count"));
        assert!(refused.message().contains("data/y"), "{refused}");
        // Begun while nothing was known of it, committed when the bytes are kept.
        let other = file("z", b"others");
        let early = wire::UploadFile { byte_count: 7, ..other.clone() };
        let upload = house.begin(&ana, vec![early]).await.unwrap();
        house.with_files(&ana, "m", &[("z", b"others")]).await;
        let refused = house.commit(&ana, &upload.upload_id).await.unwrap_err();
        assert_eq!(refused.reason_text(), "UPLOAD_INCOMPLETE");
        let again = house.begin(&ana, vec![other]).await.unwrap();
        house.commit(&ana, &again.upload_id).await.expect("the right size");
    })
    .await;
}

#[tokio::test]
async fn a_file_of_many_pieces_leaves_them_in_their_rows_until_they_are_read() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let part = usize::try_from(crate::model::artifact::PART_BYTES).unwrap();
        let bytes: Vec<u8> = (0..part + 500).map(|n| (n % 241) as u8).collect();
        let upload = house.begin(&ana, vec![file("w", &bytes)]).await.unwrap();
        for (at, piece) in (0..).zip(bytes.chunks(part)) {
            house.send(&ana, &upload.upload_id, 0, at, piece).await.unwrap();
        }
        house.commit(&ana, &upload.upload_id).await.unwrap();
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let blob = house.store.blob(&digest).await.unwrap().unwrap();
        let segments = house.store.segments(blob.generation).await.unwrap();
        assert_eq!(segments.len(), 2);
        assert!(segments[1].object_key.is_empty() && segments[1].content.is_none());
        let kept = house.store.segment_content(blob.generation, 1).await.unwrap();
        assert_eq!(kept, &bytes[part..]);
        let lost = house.store.segment_content(blob.generation, 0).await.unwrap_err();
        assert_eq!(lost.reason_text(), "BLOB_LOST");
        let request = wire::CreateVersionRequest {
            upload_id: upload.upload_id,
            create_model: true,
            ..new("m")
        };
        house.register(&ana, request).await.unwrap();
        let begin = i64::try_from(part).unwrap() - 5;
        let over = house.download(&ana, "m", "w", (begin, 10)).await.unwrap();
        assert_eq!(over, &bytes[part - 5..part + 5]);
    })
    .await;
}
