//! Archives of every format, and those that lie.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

use crate::{ArchiveError, Format, Limits, Passed, read_archive};

/// A zip as another program writes it, but for what a test asks for.
#[derive(Default)]
struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

/// What a member's header says, where it should not be true.
#[derive(Default, Clone, Copy)]
struct Lies {
    size: Option<u32>,
    crc: Option<u32>,
    offset: Option<u32>,
    method: Option<u16>,
    is_encrypted: bool,
    is_link: bool,
}

impl Zip {
    fn add(&mut self, name: &[u8], content: &[u8], lies: Lies) -> &mut Self {
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
        packed.write_all(content).unwrap();
        let packed = packed.finish().unwrap();
        let mut sum = flate2::Crc::new();
        sum.update(content);
        let offset = u32::try_from(self.bytes.len()).unwrap();
        let size = lies.size.unwrap_or(u32::try_from(content.len()).unwrap());
        let mut fields = Vec::new();
        fields.extend(20_u16.to_le_bytes());
        fields.extend(u16::from(lies.is_encrypted).to_le_bytes());
        fields.extend(lies.method.unwrap_or(8).to_le_bytes());
        // 13:37:42 on 29 February 2024.
        fields.extend((13_u16 << 11 | 37 << 5 | 21).to_le_bytes());
        fields.extend((44_u16 << 9 | 2 << 5 | 29).to_le_bytes());
        fields.extend(lies.crc.unwrap_or(sum.sum()).to_le_bytes());
        fields.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
        fields.extend(size.to_le_bytes());
        fields.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(&fields);
        self.bytes.extend([0, 0]);
        self.bytes.extend(name);
        self.bytes.extend(packed);
        self.directory.extend(b"PK\x01\x02\x14\x03");
        self.directory.extend(&fields);
        self.directory.extend([0; 8]);
        let mode: u32 = if lies.is_link { 0o120_777 } else { 0o100_644 };
        self.directory.extend((mode << 16).to_le_bytes());
        self.directory.extend(lies.offset.unwrap_or(offset).to_le_bytes());
        self.directory.extend(name);
        self.count += 1;
        self
    }

    fn file(&self) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&self.bytes).unwrap();
        file.write_all(&self.directory).unwrap();
        file.write_all(b"PK\x05\x06\0\0\0\0").unwrap();
        file.write_all(&self.count.to_le_bytes()).unwrap();
        file.write_all(&self.count.to_le_bytes()).unwrap();
        for number in [self.directory.len(), self.bytes.len()] {
            file.write_all(&u32::try_from(number).unwrap().to_le_bytes()).unwrap();
        }
        file.write_all(&[0, 0]).unwrap();
        file
    }
}

type Found = BTreeMap<Vec<u8>, Result<Vec<u8>, String>>;

fn read(file: &mut File, format: Format, limits: &Limits) -> (Found, Result<Passed, ArchiveError>) {
    let mut found = Found::new();
    let end = read_archive(file, format, limits, &mut |offered, bytes| {
        let mut read = Vec::new();
        let content = bytes.read_to_end(&mut read).map(|_| read).map_err(|error| error.to_string());
        if let (Ok(content), false) = (&content, offered.is_dir) {
            assert_eq!(content.len() as u64, offered.size);
        }
        let mut path = offered.path;
        if offered.is_dir {
            path.push(b'/');
        }
        found.insert(path, content);
        true
    });
    (found, end)
}

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        if name.ends_with('/') {
            header.set_entry_type(::tar::EntryType::Directory);
        }
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

#[test]
fn members_are_the_same_in_every_format() {
    let long = format!("{}/long.bin", "d".repeat(300));
    let large = vec![7_u8; 300_000];
    let members: [(&str, &[u8]); 4] =
        [("empty/", b""), ("a.txt", b"one"), (&long, b""), ("b/large", &large)];
    let tar = tar_of(&members);
    let mut zip = Zip::default();
    for (name, bytes) in members {
        zip.add(name.as_bytes(), bytes, Lies::default());
    }
    let expected: Found = members
        .iter()
        .map(|(name, bytes)| (name.as_bytes().to_vec(), Ok(bytes.to_vec())))
        .collect();
    for (mut file, format) in [
        (file_of(&tar), Format::Tar),
        (file_of(&gz(&tar)), Format::TarGz),
        (file_of(&zst(&tar)), Format::TarZst),
        (zip.file(), Format::Zip),
    ] {
        let (found, end) = read(&mut file, format, &Limits::default());
        assert_eq!(end.unwrap(), Passed::default(), "{format:?}");
        assert_eq!(found, expected, "{format:?}");
    }
}

#[test]
fn names_tell_the_format() {
    for (name, format) in [
        (&b"a.zip"[..], Some(Format::Zip)),
        (b"A.TAR.GZ", Some(Format::TarGz)),
        (b"a.tgz", Some(Format::TarGz)),
        (b"a.tar", Some(Format::Tar)),
        (b"a.tar.zst", Some(Format::TarZst)),
        (b"a.gz", None),
        (b".zip", None),
        (b"a.zip.txt", None),
    ] {
        assert_eq!(Format::named(name), format, "{name:?}");
    }
}

#[test]
fn an_archive_that_is_cut_anywhere_is_an_error() {
    let tar = tar_of(&[("a", &[1; 700]), ("b", &[2; 90_000])]);
    let mut zip = Zip::default();
    zip.add(b"a", &[1; 700], Lies::default()).add(b"b", &[2; 90_000], Lies::default());
    let mut zipped = Vec::new();
    let mut file = zip.file();
    file.rewind().unwrap();
    file.read_to_end(&mut zipped).unwrap();
    for (bytes, format) in [
        (tar.clone(), Format::Tar),
        (gz(&tar), Format::TarGz),
        (zst(&tar), Format::TarZst),
        (zipped, Format::Zip),
    ] {
        // Behind its end mark a tar holds nothing.
        let whole = if format == Format::Tar { bytes.len() - 1_024 } else { bytes.len() };
        for cut in (0..whole).step_by(whole / 37 + 1).chain([whole - 1]) {
            let (found, end) = read(&mut file_of(&bytes[..cut]), format, &Limits::default());
            assert!(end.is_err(), "{format:?} at {cut}: {found:?}");
        }
    }
    let (found, end) = read(&mut file_of(b"no archive at all"), Format::Zip, &Limits::default());
    assert!(found.is_empty() && matches!(end, Err(ArchiveError::Broken { .. })), "{end:?}");
}

#[test]
fn names_that_lead_out_are_passed_over_and_told() {
    let mut zip = Zip::default();
    for name in [&b"../up"[..], b"/etc/passwd", b"a/../../b", b"", b"\xff\xfe.png", b"fine"] {
        zip.add(name, b"x", Lies::default());
    }
    let (found, end) = read(&mut zip.file(), Format::Zip, &Limits::default());
    assert_eq!(end.unwrap(), Passed { names: 4, example: "../up".to_owned() });
    assert_eq!(found.keys().collect::<Vec<_>>(), [&b"fine"[..], b"\xff\xfe.png"]);
}

#[test]
fn what_a_zip_says_of_its_members_is_not_believed() {
    let lie = |lies: Lies| {
        let mut zip = Zip::default();
        zip.add(b"sound", &[3; 5_000], Lies::default()).add(b"lie", &[4; 5_000], lies);
        read(&mut zip.file(), Format::Zip, &Limits::default())
    };
    for (lies, why) in [
        (Lies { size: Some(100), ..Lies::default() }, "more bytes than"),
        (Lies { size: Some(9_000), ..Lies::default() }, "ends before"),
        (Lies { crc: Some(1), ..Lies::default() }, "checksum"),
        (Lies { method: Some(14), ..Lies::default() }, "method 14"),
        (Lies { is_encrypted: true, ..Lies::default() }, "encrypted"),
    ] {
        let (found, end) = lie(lies);
        end.unwrap();
        assert_eq!(found[&b"sound"[..]], Ok(vec![3; 5_000]));
        let said = found[&b"lie"[..]].clone().unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    // A link is no member.
    let (found, end) = lie(Lies { is_link: true, ..Lies::default() });
    assert!(end.is_ok() && found.len() == 1);
    // Nowhere, and in the bytes of another member.
    for offset in [1, 1_000_000] {
        let (found, end) = lie(Lies { offset: Some(offset), ..Lies::default() });
        assert!(end.is_err() && found.is_empty(), "{end:?}");
    }
}

#[test]
fn bombs_cost_nothing() {
    let small = Limits { free_bytes: 1 << 20, ..Limits::default() };
    let zeros = vec![0; 8 << 20];
    let mut zip = Zip::default();
    zip.add(b"zeros", &zeros, Lies::default());
    let tar = tar_of(&[("zeros", &zeros)]);
    for (mut file, format) in [
        (zip.file(), Format::Zip),
        (file_of(&gz(&tar)), Format::TarGz),
        (file_of(&zst(&tar)), Format::TarZst),
    ] {
        let size = file.metadata().unwrap().len();
        let (found, end) = read(&mut file, format, &small);
        let max = (1_u64 << 20).max(size * small.ratio_max);
        assert!(matches!(end, Err(ArchiveError::Bomb(said)) if said == max), "{format:?}: {end:?}");
        assert!(found.values().all(Result::is_err), "{format:?}");
        // With a limit that they keep they are archives.
        let (found, end) = read(&mut file, format, &Limits::default());
        assert!(end.is_ok() && found.len() == 1, "{format:?}: {end:?}");
    }
    // One member's bytes under a thousand names.
    let mut zip = Zip::default();
    zip.add(b"kernel", &zeros, Lies::default());
    for n in 0..1_000 {
        zip.add(format!("{n}").as_bytes(), b"", Lies { offset: Some(0), ..Lies::default() });
    }
    let (found, end) = read(&mut zip.file(), Format::Zip, &Limits::default());
    assert!(matches!(end, Err(ArchiveError::Overlap { .. })) && found.is_empty(), "{end:?}");
}

#[test]
fn there_are_as_many_members_as_are_taken() {
    let names: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
    let list: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let mut zip = Zip::default();
    for name in &names {
        zip.add(name.as_bytes(), b"", Lies::default());
    }
    for limits in [
        Limits { members_max: 10, ..Limits::default() },
        Limits { path_bytes_max: 20, ..Limits::default() },
    ] {
        for (mut file, format) in
            [(file_of(&tar_of(&list)), Format::Tar), (zip.file(), Format::Zip)]
        {
            let (found, end) = read(&mut file, format, &limits);
            assert!(matches!(end, Err(ArchiveError::TooMany(10))), "{format:?}: {end:?}");
            // A zip tells before its first member.
            assert_eq!(found.len(), if format == Format::Tar { 10 } else { 0 });
        }
    }
}

#[test]
fn a_program_may_stand_before_a_zip() {
    let mut zip = Zip::default();
    zip.add(b"a", b"one", Lies::default());
    let mut bytes = b"#!/bin/sh\nexit\n".to_vec();
    let mut file = zip.file();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let (found, end) = read(&mut file_of(&bytes), Format::Zip, &Limits::default());
    end.unwrap();
    assert_eq!(found[&b"a"[..]], Ok(b"one".to_vec()));
}
