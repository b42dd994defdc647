//! Archives as another program writes them, and as nobody should.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{Read, Seek, SeekFrom, Write};

use super::*;

mod reading;

fn archive(members: &[(&str, &[u8])]) -> std::fs::File {
    let mut builder = ::tar::Builder::new(tempfile::tempfile().unwrap());
    for (name, bytes) in members {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn members(file: &mut std::fs::File) -> (Vec<Member>, Result<(), ArchiveError>) {
    let mut found = Vec::new();
    let end = tar_members(file, 1_000, |member| {
        found.push(member);
        true
    });
    (found, end)
}

#[test]
fn members_are_where_they_are_said_to_be() {
    let long = format!("{}/long.txt", "d".repeat(300));
    let mut file = archive(&[("a.txt", b"one"), (&long, b"two"), ("b/c.bin", &[7; 2_000])]);
    let (found, end) = members(&mut file);
    end.unwrap();
    let names: Vec<&[u8]> = found.iter().map(|member| member.path.as_slice()).collect();
    assert_eq!(names, [&b"a.txt"[..], long.as_bytes(), b"b/c.bin"]);
    for (member, bytes) in found.iter().zip([&b"one"[..], b"two", &[7; 2_000]]) {
        let mut read = vec![0; usize::try_from(member.size).unwrap()];
        file.seek(SeekFrom::Start(member.offset)).unwrap();
        file.read_exact(&mut read).unwrap();
        assert_eq!(read, bytes);
    }
}

#[test]
fn a_cut_or_forged_archive_is_an_error_and_what_stood_before_it_stays() {
    let mut file = archive(&[("a", b"one"), ("b", &[1; 5_000])]);
    file.set_len(512 * 3 + 1_000).unwrap();
    let (found, end) = members(&mut file);
    assert_eq!(found.len(), 1);
    assert!(matches!(end, Err(ArchiveError::Broken { offset: 1_024, .. })), "{end:?}");
    // Cut between two members.
    let mut file = archive(&[("a", b"one"), ("b", b"two")]);
    file.set_len(1_024).unwrap();
    let (found, end) = members(&mut file);
    assert_eq!(found.len(), 1);
    assert!(matches!(end, Err(ArchiveError::Broken { offset: 1_024, .. })), "{end:?}");
    // A size of 8 EiB in a header of 512 bytes costs nothing.
    let mut file = archive(&[("a", b"one")]);
    let mut header = [0; 512];
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_exact(&mut header).unwrap();
    header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&header).unwrap();
    let (found, end) = members(&mut file);
    assert!(
        found.is_empty() && matches!(end, Err(ArchiveError::Broken { offset: 0, .. })),
        "{end:?}"
    );
    let mut noise = tempfile::tempfile().unwrap();
    noise.write_all(&[3; 4_096]).unwrap();
    assert!(matches!(members(&mut noise).1, Err(ArchiveError::Broken { offset: 0, .. })));
}

#[test]
fn names_that_lead_out_are_refused() {
    for bad in [&b"/etc/passwd"[..], b"../up", b"a/../../b", b"a\0b", b"", b"./."] {
        assert_eq!(plain_path(bad), None, "{bad:?}");
    }
    assert_eq!(plain_path(b"./a//b").as_deref(), Some(&b"a/b"[..]));
    let mut file = archive(&[("aXXpasswd", b"x")]);
    let mut header = [0; 512];
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_exact(&mut header).unwrap();
    header[..9].copy_from_slice(b"../passwd");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&header).unwrap();
    assert!(matches!(members(&mut file).1, Err(ArchiveError::Name { .. })));
}

#[test]
fn too_many_members_are_refused_before_they_are_kept() {
    let names: Vec<String> = (0..20).map(|n| format!("{n}")).collect();
    let list: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let mut count = 0;
    let end = tar_members(&mut archive(&list), 10, |_| {
        count += 1;
        true
    });
    assert!(matches!(end, Err(ArchiveError::TooMany(10))) && count == 10);
}
