//! How long clips play, by headers that are written here by the formats' own rules.

use crate::{ContentKind, Hasher, MediaFacts};

/// The facts of a file that comes in pieces.
fn facts(bytes: &[u8], kind: ContentKind) -> Option<MediaFacts> {
    let mut hasher = Hasher::default();
    let (_, size) = hasher.hash_bytes(&mut &*bytes).unwrap();
    hasher.facts(kind, size)
}

fn seconds(bytes: &[u8]) -> f64 {
    let facts = facts(bytes, ContentKind::Audio).unwrap_or_default();
    f64::from(i32::try_from(facts.duration_ms).unwrap()) / 1_000.0
}

fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let size = u32::try_from(body.len() + 8).unwrap();
    [&size.to_be_bytes()[..], kind, &body].concat()
}

fn moov(version: u8, scale: u32, units: u64) -> Vec<u8> {
    let mut mvhd = vec![version, 0, 0, 0];
    if version == 1 {
        mvhd.extend([0; 16]);
        mvhd.extend(scale.to_be_bytes());
        mvhd.extend(units.to_be_bytes());
    } else {
        mvhd.extend([0; 8]);
        mvhd.extend(scale.to_be_bytes());
        mvhd.extend(u32::try_from(units).unwrap().to_be_bytes());
    }
    mvhd.extend([0; 80]);
    let mut tkhd = vec![0; 76];
    tkhd.extend((1_920_u32 << 16).to_be_bytes());
    tkhd.extend((1_080_u32 << 16).to_be_bytes());
    boxed(b"moov", &[&boxed(b"mvhd", &[&mvhd]), &boxed(b"trak", &[&boxed(b"tkhd", &[&tkhd])])])
}

#[test]
fn an_mp4_is_read_wherever_its_header_stands() {
    let (begin, pictures) = (boxed(b"ftyp", &[b"isom"]), boxed(b"mdat", &[&vec![7; 3 << 20]]));
    for header in [moov(0, 600, 600 * 90), moov(1, 90_000, 90_000 * 90)] {
        for file in
            [[&begin[..], &header, &pictures].concat(), [&begin[..], &pictures, &header].concat()]
        {
            let found = facts(&file, ContentKind::Video).unwrap();
            assert_eq!((found.duration_ms, found.width, found.height), (90_000, 1_920, 1_080));
            // Whatever is cut off, nothing is made up.
            let cut = facts(&file[..file.len() - 200], ContentKind::Video);
            assert!(cut.is_none_or(|cut| cut.duration_ms == 90_000));
        }
    }
    let fragmented = boxed(
        b"moov",
        &[
            &boxed(b"mvhd", &[&[0; 12], &1_000_u32.to_be_bytes(), &[0; 84]]),
            &boxed(b"mvex", &[&boxed(b"mehd", &[&[0; 4], &5_000_u32.to_be_bytes()])]),
        ],
    );
    assert_eq!(seconds(&[begin, fragmented].concat()), 5.0);
}

#[test]
fn sound_and_films_tell_their_length_in_their_head() {
    let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
    wav.extend(44_100_u32.to_le_bytes());
    wav.extend(176_400_u32.to_le_bytes());
    wav.extend(b"\x04\0\x10\0LIST\x03\0\0\0abc\0data");
    let whole = [&wav[..], &352_800_u32.to_le_bytes(), &vec![0; 352_800]].concat();
    assert_eq!(seconds(&whole), 2.0);
    // As a stream writes it, not knowing how long it will be.
    let streamed = [&wav[..], &u32::MAX.to_le_bytes(), &vec![0; 176_400]].concat();
    assert_eq!(seconds(&streamed), 1.0);
    let mut flac = b"fLaC\0\0\0\x22".to_vec();
    flac.extend([0; 10]);
    flac.extend((48_000_u64 << 44 | 1 << 41 | 15 << 36 | (48_000 * 7)).to_be_bytes());
    flac.extend([0; 16]);
    assert_eq!(seconds(&flac), 7.0);
    let mut avi = b"RIFF\0\0\0\0AVI LIST\0\0\0\0hdrlavih\x38\0\0\0".to_vec();
    let fields = [40_000_u32, 0, 0, 0, 250, 0, 1, 0, 320, 240, 0, 0, 0, 0];
    avi.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    let found = facts(&avi, ContentKind::Video).unwrap();
    assert_eq!((found.duration_ms, found.width, found.height), (10_000, 320, 240));
    let element = |id: &[u8], body: &[u8]| {
        let size = 0x4000 | u16::try_from(body.len()).unwrap();
        [id, &size.to_be_bytes(), body].concat()
    };
    let info = [
        element(&[0x2a, 0xd7, 0xb1], &1_000_000_u32.to_be_bytes()),
        element(&[0x44, 0x89], &12_500.0_f64.to_be_bytes()),
    ];
    let video = [element(&[0xb0], &[2, 128]), element(&[0xba], &[1, 224])].concat();
    let track = element(&[0xae], &element(&[0xe0], &video));
    let webm = [
        element(&[0x1a, 0x45, 0xdf, 0xa3], b"webm"),
        // Of a length that is not known yet.
        vec![0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255],
        element(&[0x15, 0x49, 0xa9, 0x66], &info.concat()),
        element(&[0x16, 0x54, 0xae, 0x6b], &track),
    ];
    let found = facts(&webm.concat(), ContentKind::Video).unwrap();
    assert_eq!((found.duration_ms, found.width, found.height), (12_500, 640, 480));
}

#[test]
fn an_mp3_is_counted_or_else_reckoned() {
    // Version 1, layer III, 128 kbit/s, 44.1 kHz, stereo.
    let frame = [0xff, 0xfb, 0x90, 0x00];
    let constant = [&frame[..], &vec![0; 16_000 * 10 - 4]].concat();
    assert_eq!(seconds(&constant), 10.0);
    let mut counted = frame.to_vec();
    counted.extend([0; 32]);
    counted.extend(b"Xing\0\0\0\x01");
    counted.extend(1_000_u32.to_be_bytes());
    counted.extend(vec![0; 5_000]);
    assert_eq!(seconds(&counted), 26.122);
    // Behind a picture of the album.
    let tag = [&b"ID3\x04\0\0\0\0\x1f\x76"[..], &vec![1; 0x1f << 7 | 0x76], &[0; 100]].concat();
    assert_eq!(seconds(&[&tag[..], &counted].concat()), 26.122);
}

#[test]
fn nonsense_is_no_clip_and_no_panic() {
    let heads: [&[u8]; 8] = [
        b"ID3",
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0AVI ",
        b"fLaC",
        b"\x1a\x45\xdf\xa3\xff",
        b"\xff\xfb",
        b"\0\0\0\x01ftyp\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\0ftyp",
    ];
    for head in heads {
        for filler in [0, 1, 0x7f, 0xff] {
            for length in [0, 1, 7, 60, 5_000] {
                let file = [head, &vec![filler; length]].concat();
                let found = facts(&file, ContentKind::Video).unwrap_or_default();
                assert!(found.duration_ms >= 0, "{head:?} {filler} {length}: {found:?}");
            }
        }
    }
    // Boxes within boxes without an end.
    let nested = [&b"\0\0\0\x10ftyp"[..], &[0; 8], &b"\0\0\0\x08moov".repeat(200_000)].concat();
    assert!(facts(&nested, ContentKind::Video).is_none());
    // What would play longer than a year is no clip.
    let forever = [boxed(b"ftyp", &[]), moov(1, 1, u64::MAX - 1)].concat();
    assert_eq!(seconds(&forever), 0.0);
}
