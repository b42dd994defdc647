//! Arrow IPC, the file and the stream format alike: a file is a stream between
//! two magic words. Each message's size is checked before memory is taken for
//! it, also the size that compressed buffers claim.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind as IoKind, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{self, Message, MessageHeader};

use crate::Opened;
use crate::error::{ErrorKind, IngestError, bytes_text};
use crate::guard::guarded;

const MAGIC: &[u8; 6] = b"ARROW1";
const METADATA_BYTES_MAX: usize = 64 << 20;

/// Messages of one file.
struct Messages {
    path: PathBuf,
    input: BufReader<File>,
    /// Bytes that are left in the file.
    left: u64,
    read: Arc<AtomicU64>,
    batch_bytes_max: u64,
}

/// Batches of one file.
struct IpcBatches {
    messages: Messages,
    schema: SchemaRef,
    dictionaries: HashMap<i64, ArrayRef>,
    done: bool,
}

/// Opens a file in either format.
pub(crate) fn open(path: &Path, batch_bytes_max: u64) -> Result<Opened, IngestError> {
    let mut messages = Messages::open(path, batch_bytes_max)?;
    let Some(metadata) = messages.next_metadata()? else {
        return Err(messages.wrong("the file has no schema"));
    };
    let schema = messages.parse(&metadata, |message| {
        let schema = message
            .header_as_schema()
            .ok_or_else(|| ArrowError::IpcError("the first message is no schema".to_owned()))?;
        if schema.endianness() == ipc::Endianness::Big {
            return Err(ArrowError::IpcError("the file is big-endian".to_owned()));
        }
        Ok(Arc::new(fb_to_schema(schema)))
    })?;
    let read = Arc::clone(&messages.read);
    let batches = IpcBatches {
        messages,
        schema: Arc::clone(&schema),
        dictionaries: HashMap::new(),
        done: false,
    };
    Ok(Opened { schema, batches: Box::new(batches), done: read, rows: None })
}

impl Messages {
    fn open(path: &Path, batch_bytes_max: u64) -> Result<Self, IngestError> {
        let io = |err| IngestError::io(path, err);
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut input = BufReader::with_capacity(256 << 10, file);
        let mut head = Vec::new();
        input.by_ref().take(8).read_to_end(&mut head).map_err(io)?;
        let begin =
            if head.starts_with(MAGIC) { first_message(&mut input).map_err(io)? } else { 0 };
        if begin == 0 && !head.starts_with(&[0xff; 4]) {
            return Err(IngestError::new(
                ErrorKind::Format,
                path,
                "the file begins like no Arrow file or stream",
            ));
        }
        input.seek(std::io::SeekFrom::Start(begin)).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            input,
            left: size.saturating_sub(begin),
            read: Arc::default(),
            batch_bytes_max,
        })
    }

    fn wrong(&self, what: &str) -> IngestError {
        IngestError::new(ErrorKind::Format, &self.path, what)
    }

    /// The next message's metadata; `None` at the end of the stream.
    fn next_metadata(&mut self) -> Result<Option<Vec<u8>>, IngestError> {
        let mut word = [0_u8; 4];
        match self.input.read_exact(&mut word) {
            Ok(()) => {}
            // A stream may end without its end marker.
            Err(err) if err.kind() == IoKind::UnexpectedEof => return Ok(None),
            Err(err) => return Err(IngestError::io(&self.path, err)),
        }
        self.left = self.left.saturating_sub(4);
        if word == [0xff; 4] {
            self.take(&mut word)?;
        }
        let length = u32::from_le_bytes(word) as usize;
        if length == 0 {
            return Ok(None);
        }
        if length > METADATA_BYTES_MAX || length as u64 > self.left {
            return Err(self.wrong(
                "a message claims more bytes than the file has; it is broken or cut short",
            ));
        }
        let mut metadata = vec![0; length];
        self.take(&mut metadata)?;
        Ok(Some(metadata))
    }

    fn body(&mut self, length: i64) -> Result<Buffer, IngestError> {
        let length =
            u64::try_from(length).map_err(|_| self.wrong("a message claims a negative size"))?;
        if length > self.batch_bytes_max {
            return Err(self.too_large(length));
        }
        if length > self.left {
            return Err(self.wrong("the file ends inside a record batch; it is cut short"));
        }
        let mut body =
            MutableBuffer::from_len_zeroed(usize::try_from(length).unwrap_or(usize::MAX));
        self.take(body.as_slice_mut())?;
        Ok(body.into())
    }

    fn too_large(&self, bytes: u64) -> IngestError {
        let message = format!(
            "a record batch of {} is over the limit of {}; write the file in smaller batches (pyarrow: max_chunksize)",
            bytes_text(bytes),
            bytes_text(self.batch_bytes_max)
        );
        IngestError::new(ErrorKind::Limit, &self.path, message)
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<(), IngestError> {
        self.input.read_exact(buf).map_err(|err| IngestError::io(&self.path, err))?;
        self.left = self.left.saturating_sub(buf.len() as u64);
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn parse<T>(
        &self,
        metadata: &[u8],
        read: impl FnOnce(Message<'_>) -> Result<T, ArrowError>,
    ) -> Result<T, IngestError> {
        let message = ipc::root_as_message(metadata)
            .map_err(|err| self.wrong(&format!("a message is broken: {err}")))?;
        guarded(&self.path, || read(message))?
            .map_err(|err| IngestError::broken(&self.path, "a message is broken", err))
    }
}

impl IpcBatches {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, IngestError> {
        while let Some(metadata) = self.messages.next_metadata()? {
            let length = self.messages.parse(&metadata, |message| Ok(message.bodyLength()))?;
            let body = self.messages.body(length)?;
            let claimed =
                self.messages.parse(&metadata, |message| Ok(uncompressed_bytes(message, &body)))?;
            if claimed > self.messages.batch_bytes_max {
                return Err(self.messages.too_large(claimed));
            }
            let (schema, dictionaries) = (&self.schema, &mut self.dictionaries);
            let batch = self
                .messages
                .parse(&metadata, |message| read_message(message, &body, schema, dictionaries))?;
            if let Some(batch) = batch.filter(|batch| batch.num_rows() > 0) {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

fn read_message(
    message: Message<'_>,
    body: &Buffer,
    schema: &SchemaRef,
    dictionaries: &mut HashMap<i64, ArrayRef>,
) -> Result<Option<RecordBatch>, ArrowError> {
    let version = message.version();
    let empty = || ArrowError::IpcError("the message has no content".to_owned());
    match message.header_type() {
        MessageHeader::RecordBatch => {
            let batch = message.header_as_record_batch().ok_or_else(empty)?;
            read_record_batch(body, batch, Arc::clone(schema), dictionaries, None, &version)
                .map(Some)
        }
        MessageHeader::DictionaryBatch => {
            let batch = message.header_as_dictionary_batch().ok_or_else(empty)?;
            read_dictionary(body, batch, schema, dictionaries, &version)?;
            Ok(None)
        }
        MessageHeader::Schema => Err(ArrowError::IpcError("a second schema".to_owned())),
        _ => Ok(None),
    }
}

/// Where the first message of a file begins: its magic word is padded with
/// zeros, by some writers to 64 bytes.
fn first_message(input: &mut impl Read) -> std::io::Result<u64> {
    let mut at = 8;
    let mut word = [0_u8; 4];
    loop {
        match input.read_exact(&mut word) {
            Ok(()) if word == [0; 4] && at < 128 => at += 4,
            Ok(()) => return Ok(at),
            Err(err) if err.kind() == IoKind::UnexpectedEof => return Ok(at),
            Err(err) => return Err(err),
        }
    }
}

/// What the compressed buffers of a message claim to be when decompressed.
fn uncompressed_bytes(message: Message<'_>, body: &Buffer) -> u64 {
    let batch = match message.header_type() {
        MessageHeader::DictionaryBatch => {
            message.header_as_dictionary_batch().and_then(|batch| batch.data())
        }
        _ => message.header_as_record_batch(),
    };
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else {
        return 0;
    };
    let buffers = batch.buffers().into_iter().flatten().filter(|buffer| buffer.length() >= 8);
    buffers.fold(0, |sum: u64, buffer| {
        let begin = usize::try_from(buffer.offset()).unwrap_or(usize::MAX);
        let head = body.as_slice().get(begin..).and_then(|rest| rest.first_chunk::<8>());
        let claimed = head.map_or(0, |head| i64::from_le_bytes(*head));
        sum.saturating_add(u64::try_from(claimed).unwrap_or(0))
    })
}

impl Iterator for IpcBatches {
    type Item = Result<RecordBatch, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_batch().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use arrow::array::{DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::Int32Type;
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};

    use super::*;

    fn batch() -> RecordBatch {
        let numbers: ArrayRef =
            Arc::new(Int64Array::from_iter((0..1000).map(|n| (n % 7 != 0).then_some(n))));
        let words: DictionaryArray<Int32Type> =
            (0..1000).map(|n| Some(["a", "b", "c"][n % 3])).collect();
        let text: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..1000).map(|n| format!("row {n}"))));
        RecordBatch::try_from_iter([
            ("n", numbers),
            ("w", Arc::new(words) as ArrayRef),
            ("t", text),
        ])
        .unwrap()
    }

    fn file(stream: bool, codec: Option<CompressionType>) -> Vec<u8> {
        let batch = batch();
        let options = IpcWriteOptions::default().try_with_compression(codec).unwrap();
        if stream {
            let mut writer =
                StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
            writer.write(&batch).unwrap();
            writer.write(&batch).unwrap();
            writer.into_inner().unwrap()
        } else {
            let mut writer =
                FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
            writer.write(&batch).unwrap();
            writer.write(&batch).unwrap();
            writer.into_inner().unwrap()
        }
    }

    fn read(bytes: &[u8], limit: u64) -> Result<Vec<RecordBatch>, IngestError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.arrow");
        std::fs::write(&path, bytes).unwrap();
        open(&path, limit)?.batches.collect()
    }

    #[test]
    fn files_and_streams_compressed_or_not_come_back_equal() {
        for stream in [false, true] {
            for codec in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
                let batches = read(&file(stream, codec), 1 << 30).unwrap();
                assert_eq!(batches, [batch(), batch()], "stream {stream}, {codec:?}");
            }
        }
    }

    #[test]
    fn a_batch_over_the_limit_is_refused_by_name() {
        for codec in [None, Some(CompressionType::ZSTD)] {
            let err = read(&file(true, codec), 10_000).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Limit);
            assert!(err.to_string().contains("9.7 KiB"), "{err}");
        }
    }

    #[test]
    fn every_cut_is_an_error_or_whole_batches() {
        let whole = file(true, None);
        for end in (0..whole.len()).step_by(97) {
            if let Ok(batches) = read(&whole[..end], 1 << 30) {
                assert!(batches.iter().all(|read| *read == batch()));
            }
        }
    }

    #[test]
    fn flipped_bytes_never_panic() {
        let whole = file(false, Some(CompressionType::LZ4_FRAME));
        for at in (0..whole.len()).step_by(41) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            drop(read(&bytes, 1 << 30));
        }
    }
}
