//! Files made here byte by byte, good and hostile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod archives;
mod headers;
mod hostile;
mod packed;
mod pickles;

use std::io::Write;

use crate::{Limits, Report, Verdict, scan};

fn scanned(path: &str, bytes: &[u8]) -> Report {
    scan(path, &bytes.to_vec(), &Limits::default())
}

fn reasons(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.reason).collect()
}

/// A text as protocol 4 writes it.
fn word(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x8c, u8::try_from(text.len()).unwrap()];
    bytes.extend(text.as_bytes());
    bytes
}

/// A pickle of protocol 4 of some pieces.
fn pickle(pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0x80, 4];
    pieces.iter().for_each(|piece| bytes.extend(*piece));
    bytes.push(b'.');
    bytes
}

/// One that names a global and calls it with a text.
fn calling(module: &str, name: &str, argument: &str) -> Vec<u8> {
    pickle(&[&word(module), &word(name), &[0x93], &word(argument), &[0x85, b'R']])
}

/// What runs `id` when it is loaded.
fn hostile() -> Vec<u8> {
    calling("os", "system", "id")
}

/// A zip of members: name, bytes, and whether they are packed.
fn zip(members: &[(&str, &[u8], bool)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes, packed) in members {
        let body = if *packed { deflated(bytes) } else { bytes.to_vec() };
        entry(&mut file, &mut directory, name, &body, bytes.len(), if *packed { 8 } else { 0 });
    }
    closed(file, &directory, members.len())
}

fn entry(
    file: &mut Vec<u8>,
    directory: &mut Vec<u8>,
    name: &str,
    body: &[u8],
    bytes: usize,
    method: u16,
) {
    let begin = u32::try_from(file.len()).unwrap();
    let mut shared = Vec::new();
    shared.extend(0_u16.to_le_bytes());
    shared.extend(method.to_le_bytes());
    shared.extend([0; 8]);
    shared.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    shared.extend(u32::try_from(bytes).unwrap().to_le_bytes());
    shared.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    shared.extend(0_u16.to_le_bytes());
    file.extend(b"PK\x03\x04\x14\0");
    file.extend(&shared);
    file.extend(name.as_bytes());
    file.extend(body);
    directory.extend(b"PK\x01\x02\x14\0\x14\0");
    directory.extend(&shared);
    directory.extend([0; 10]);
    directory.extend(begin.to_le_bytes());
    directory.extend(name.as_bytes());
}

fn closed(mut file: Vec<u8>, directory: &[u8], members: usize) -> Vec<u8> {
    let begin = u32::try_from(file.len()).unwrap();
    let count = u16::try_from(members).unwrap().to_le_bytes();
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count);
    file.extend(count);
    file.extend(u32::try_from(directory.len()).unwrap().to_le_bytes());
    file.extend(begin.to_le_bytes());
    file.extend([0, 0]);
    file
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A safetensors file of one F32 tensor of 2×3.
fn safetensors() -> Vec<u8> {
    let json = br#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json);
    file.extend([0; 24]);
    file
}

fn clean(path: &str, bytes: &[u8]) -> &'static str {
    let report = scanned(path, bytes);
    assert_eq!(report.verdict, Verdict::Clean, "{path}: {:?}", report.findings);
    report.format
}
