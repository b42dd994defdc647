//! How long sound and moving pictures play, and how large they are: from
//! headers alone, within the head of a file or as its bytes pass by.

use crate::media::MediaFacts;

/// Boxes of one file that are looked at.
const BOXES_MAX: u32 = 100_000;
/// Elements and chunks of one head that are looked at.
const PARTS_MAX: usize = 1_000;
/// After an ID3 tag zeros may follow before the first frame.
const PADDING_MAX: usize = 4 << 10;
/// A year: what claims more is no clip.
const DURATION_MS_MAX: f64 = 366.0 * 86_400_000.0;

/// The facts of a clip from its head and its size; `boxes` saw all of its bytes.
pub fn clip_facts(head: &[u8], size: i64, boxes: Option<&Boxes>) -> Option<MediaFacts> {
    let clip = match boxes {
        Some(boxes) => boxes.clip(),
        None => riff(head, size)
            .or_else(|| flac(head))
            .or_else(|| matroska(head))
            .or_else(|| mp3(head, size))?,
    };
    let facts = MediaFacts {
        width: clip.width,
        height: clip.height,
        duration_ms: millis(clip.seconds),
        ..MediaFacts::default()
    };
    (facts != MediaFacts::default()).then_some(facts)
}

#[derive(Debug, Clone, Copy, Default)]
struct Clip {
    seconds: f64,
    width: i64,
    height: i64,
}

#[allow(clippy::cast_possible_truncation, reason = "bounded just before")]
fn millis(seconds: f64) -> i64 {
    let millis = (seconds * 1_000.0).round();
    if millis.is_finite() && (0.0..=DURATION_MS_MAX).contains(&millis) { millis as i64 } else { 0 }
}

#[allow(clippy::cast_precision_loss, reason = "clips are shorter than 2^53 of anything")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn be(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn le32(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?).into())
}

/// MP4 and QuickTime: the boxes of a file, whose header may stand at its end.
#[derive(Debug)]
pub struct Boxes {
    /// Bytes until the next box or part of one.
    skip: u64,
    /// What is being collected, how much of it, and of which box.
    part: Vec<u8>,
    wanted: usize,
    of: Option<[u8; 4]>,
    /// What follows in the box that is being collected.
    rest: u64,
    seen: u32,
    ended: bool,
    clip: Clip,
    timescale: u64,
}

impl Boxes {
    /// For a file that begins so, if it is made of boxes.
    pub fn of(head: &[u8]) -> Option<Self> {
        let kind = head.get(4..8)?;
        matches!(kind, b"ftyp" | b"moov").then(|| Self {
            skip: 0,
            part: Vec::with_capacity(128),
            wanted: 8,
            of: None,
            rest: 0,
            seen: 0,
            ended: false,
            clip: Clip::default(),
            timescale: 0,
        })
    }

    fn clip(&self) -> Clip {
        self.clip
    }

    /// The next bytes of the file.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !self.ended && !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            let (taken, left) = bytes.split_at((self.wanted - self.part.len()).min(bytes.len()));
            self.part.extend_from_slice(taken);
            bytes = left;
            if self.part.len() == self.wanted {
                self.step();
            }
        }
    }

    fn step(&mut self) {
        match self.of.take() {
            Some(kind) => {
                self.read(kind);
                self.skip = self.rest;
                self.next();
            }
            None => self.header(),
        }
    }

    fn next(&mut self) {
        self.part.clear();
        self.wanted = 8;
    }

    fn header(&mut self) {
        self.seen += 1;
        let long = be(&self.part, 0, 4) == Some(1);
        if long && self.part.len() == 8 {
            self.wanted = 16;
            return;
        }
        let size = if long { be(&self.part, 8, 8) } else { be(&self.part, 0, 4) };
        let header = self.part.len() as u64;
        let body = size.and_then(|size| size.checked_sub(header));
        let kind = self.part.get(4..8).and_then(|kind| <[u8; 4]>::try_from(kind).ok());
        // A box of size 0 goes to the end of the file.
        let (Some(body), Some(kind)) = (body, kind) else {
            self.ended = true;
            return;
        };
        self.ended = self.seen > BOXES_MAX;
        self.next();
        match &kind {
            b"moov" | b"trak" | b"mvex" => {}
            b"mvhd" | b"tkhd" | b"mehd" if body > 0 => {
                self.wanted = usize::try_from(body).unwrap_or(usize::MAX).min(96);
                self.rest = body - self.wanted as u64;
                self.of = Some(kind);
            }
            _ => self.skip = body,
        }
    }

    fn read(&mut self, kind: [u8; 4]) {
        let part = &self.part;
        let is_long = part.first() == Some(&1);
        let pair = |short: usize, long: usize, bytes: usize| {
            if is_long { be(part, long, bytes * 2) } else { be(part, short, bytes) }
        };
        match &kind {
            b"mvhd" => {
                self.timescale = be(part, if is_long { 20 } else { 12 }, 4).unwrap_or(0);
                self.length(pair(16, 24, 4), is_long);
            }
            // Of what comes in fragments the first header says 0.
            b"mehd" => self.length(pair(4, 4, 4), is_long),
            _ => {
                let at = if is_long { 88 } else { 76 };
                let pixels = |at| be(part, at, 2).map_or(0, u64::cast_signed);
                let (width, height) = (pixels(at), pixels(at + 4));
                if width * height > self.clip.width * self.clip.height {
                    (self.clip.width, self.clip.height) = (width, height);
                }
            }
        }
    }

    fn length(&mut self, units: Option<u64>, is_long: bool) {
        let unknown = if is_long { u64::MAX } else { u64::from(u32::MAX) };
        let units = units.filter(|units| *units != unknown).unwrap_or(0);
        self.clip.seconds = self.clip.seconds.max(ratio(units, self.timescale));
    }
}

/// WAV and AVI.
fn riff(head: &[u8], size: i64) -> Option<Clip> {
    if !head.starts_with(b"RIFF") {
        return None;
    }
    match head.get(8..12)? {
        b"WAVE" => wav(head, size),
        b"AVI " if head.get(24..28)? == b"avih" => {
            let (micros, frames) = (le32(head, 32)?, le32(head, 48)?);
            let pixels = |at| le32(head, at).map(u64::cast_signed);
            let seconds = ratio(micros.checked_mul(frames)?, 1_000_000);
            Some(Clip { seconds, width: pixels(64)?, height: pixels(68)? })
        }
        _ => None,
    }
}

fn wav(head: &[u8], size: i64) -> Option<Clip> {
    let (mut at, mut byte_rate) = (12, 0);
    for _ in 0..PARTS_MAX {
        let (kind, mut length) = (head.get(at..at + 4)?, le32(head, at + 4)?);
        at += 8;
        if kind == b"fmt " {
            byte_rate = le32(head, at + 8)?;
        } else if kind == b"data" {
            let left = size.cast_unsigned().saturating_sub(at as u64);
            // What was written as a stream does not know its length.
            if length == 0 || length > left {
                length = left;
            }
            return Some(Clip { seconds: ratio(length, byte_rate), ..Clip::default() });
        }
        at = at.checked_add(usize::try_from(length + (length & 1)).ok()?)?;
    }
    None
}

fn flac(head: &[u8]) -> Option<Clip> {
    let at = head.get(id3_bytes(head)..)?;
    if !at.starts_with(b"fLaC") {
        return None;
    }
    let fields = be(at, 18, 8)?;
    let (rate, samples) = (fields >> 44, fields & 0xf_ffff_ffff);
    Some(Clip { seconds: ratio(samples, rate), ..Clip::default() })
}

/// The length of the ID3v2 tag at the beginning.
fn id3_bytes(head: &[u8]) -> usize {
    let Some(size) = head.get(6..10).filter(|_| head.starts_with(b"ID3")) else { return 0 };
    let size = size.iter().fold(0_usize, |size, byte| size << 7 | usize::from(byte & 0x7f));
    let footer = if head[5] & 0x10 == 0 { 0 } else { 10 };
    10 + size + footer
}

/// Kilobits a second of layer III, of version 1 and of 2 and 2.5.
const BITRATES: [[u64; 15]; 2] = [
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

fn mp3(head: &[u8], size: i64) -> Option<Clip> {
    let tag = id3_bytes(head);
    let padding = head.get(tag..)?.iter().take(PADDING_MAX).take_while(|byte| **byte == 0).count();
    let at = tag + padding;
    let bits = be(head, at, 4)?;
    let (version, layer) = (bits >> 19 & 3, bits >> 17 & 3);
    let (bitrate, rate) = (bits >> 12 & 15, bits >> 10 & 3);
    if bits >> 21 != 0x7ff || version == 1 || layer != 1 || rate == 3 || bitrate == 15 {
        return None;
    }
    let is_first = version == 3;
    let divisor = [4, 1, 2, 1][usize::try_from(version).ok()?];
    let rate = [44_100, 48_000, 32_000][usize::try_from(rate).ok()?] / divisor;
    let samples = if is_first { 1_152 } else { 576 };
    let is_mono = bits >> 6 & 3 == 3;
    let side = match (is_first, is_mono) {
        (true, false) => 32,
        (true, true) | (false, false) => 17,
        (false, true) => 9,
    };
    let seconds = match frames(head, at + 4 + side, at + 36) {
        Some(frames) => ratio(frames * samples, rate),
        None => {
            let bitrate = BITRATES[usize::from(!is_first)][usize::try_from(bitrate).ok()?] * 1_000;
            let left = size.cast_unsigned().saturating_sub(at as u64);
            ratio(left.checked_mul(8)?, bitrate)
        }
    };
    Some(Clip { seconds, ..Clip::default() })
}

/// How many frames a first one without sound says that there are.
fn frames(head: &[u8], xing: usize, vbri: usize) -> Option<u64> {
    if matches!(head.get(xing..xing + 4)?, b"Xing" | b"Info") {
        let has_frames = be(head, xing + 4, 4)? & 1 == 1;
        return be(head, xing + 8, 4).filter(|_| has_frames);
    }
    (head.get(vbri..vbri + 4)? == b"VBRI").then(|| be(head, vbri + 14, 4))?
}

/// WebM and Matroska: what stands before the first cluster.
fn matroska(head: &[u8]) -> Option<Clip> {
    const SEGMENT: u64 = 0x1853_8067;
    const INFO: u64 = 0x1549_a966;
    const TRACKS: u64 = 0x1654_ae6b;
    const TRACK: u64 = 0xae;
    const VIDEO: u64 = 0xe0;
    if !head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
        return None;
    }
    let (mut at, mut scale, mut units, mut clip) = (0, 1_000_000.0, 0.0, Clip::default());
    for _ in 0..PARTS_MAX {
        let Some((id, size, body)) = element(head, at) else { break };
        at = body;
        if matches!(id, SEGMENT | INFO | TRACKS | TRACK | VIDEO) {
            continue;
        }
        let Some(bytes) = usize::try_from(size).ok().and_then(|n| head.get(at..at.checked_add(n)?))
        else {
            break;
        };
        let number = || be(bytes, 0, bytes.len()).filter(|_| bytes.len() <= 8).unwrap_or(0);
        match id {
            0x2a_d7b1 => scale = ratio(number(), 1),
            0x4489 => units = real(bytes)?,
            0xb0 => clip.width = number().cast_signed().max(0),
            0xba => clip.height = number().cast_signed().max(0),
            _ => {}
        }
        at += bytes.len();
    }
    clip.seconds = units * scale / 1e9;
    Some(clip)
}

fn real(bytes: &[u8]) -> Option<f64> {
    match bytes.len() {
        4 => Some(f32::from_be_bytes(bytes.try_into().ok()?).into()),
        8 => Some(f64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

/// An element's id and size, and where its body begins.
fn element(head: &[u8], at: usize) -> Option<(u64, u64, usize)> {
    let width = |at: usize| {
        let zeros = head.get(at)?.leading_zeros();
        (zeros < 8).then_some(zeros as usize + 1)
    };
    let id_bytes = width(at).filter(|bytes| *bytes <= 4)?;
    let id = be(head, at, id_bytes)?;
    let size_at = at + id_bytes;
    let size_bytes = width(size_at)?;
    let marker = 1_u64 << (7 * size_bytes);
    let size = be(head, size_at, size_bytes)? & (marker - 1);
    Some((id, size, size_at + size_bytes))
}
