//! Whole files, files that are cut, and signals that are another's.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use super::guard::hash_window;
use super::{Mapped, hash_rest};

const BYTES: usize = (9 << 20) + 77;

fn bytes() -> Vec<u8> {
    (0..BYTES).map(|at| (at / 3 + at / 4_099) as u8).collect()
}

fn file() -> (tempfile::NamedTempFile, Vec<u8>) {
    let (mut file, bytes) = (tempfile::NamedTempFile::new().unwrap(), bytes());
    file.write_all(&bytes).unwrap();
    (file, bytes)
}

#[test]
fn windows_are_hashed_as_bytes_are() {
    let (file, bytes) = file();
    for offset in [0, 256 << 10] {
        let mut hash = blake3::Hasher::new();
        hash.update(&bytes[..offset]);
        assert!(hash_rest(&mut hash, file.as_file(), offset as u64, (BYTES - offset) as u64));
        assert_eq!(hash.finalize(), blake3::hash(&bytes));
    }
}

#[test]
fn a_file_that_was_cut_is_told() {
    let (file, _) = file();
    // As if it was cut after its size was asked for, within a page and at its beginning.
    for length in [BYTES as u64 - 1, 5 << 20, 4_096 * 3 + 1, 0] {
        OpenOptions::new().write(true).open(file.path()).unwrap().set_len(length).unwrap();
        let mut hash = blake3::Hasher::new();
        assert!(!hash_rest(&mut hash, file.as_file(), 0, BYTES as u64), "{length}");
        let is_there = length >= 8 << 20;
        assert_eq!(hash_window(&mut hash, file.as_file(), 4 << 20, 4 << 20), is_there, "{length}");
    }
}

#[test]
fn many_files_are_cut_while_they_are_hashed() {
    let (whole, bytes) = file();
    let wanted = blake3::hash(&bytes);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..30 {
                    let mut hash = blake3::Hasher::new();
                    let mut cut = tempfile::tempfile().unwrap();
                    cut.write_all(&bytes).unwrap();
                    let shorter = cut.try_clone().unwrap();
                    let cutter = std::thread::spawn(move || shorter.set_len(1 << 20));
                    // Whether it was in time is luck; what is said of it, and the other file, is not.
                    let was_whole = hash_rest(&mut hash, &cut, 0, BYTES as u64);
                    cutter.join().unwrap().unwrap();
                    assert!(!was_whole || hash.finalize() == wanted, "cut, and said to be whole");
                    let mut hash = blake3::Hasher::new();
                    assert!(hash_rest(&mut hash, whole.as_file(), 0, BYTES as u64));
                    assert_eq!(hash.finalize(), wanted);
                }
            });
        }
    });
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

fn cut(file: &tempfile::NamedTempFile, length: usize) {
    OpenOptions::new().write(true).open(file.path()).unwrap().set_len(length as u64).unwrap();
}

#[test]
fn a_mapping_stays_when_its_file_is_cut() {
    for length in [0, 4_096, 4_097, 5 << 20, BYTES - 1] {
        let ((file, bytes), (other, _)) = (file(), file());
        let (cut_one, whole) = (Mapped::open(file.as_file()), Mapped::open(other.as_file()));
        let (cut_one, whole) = (cut_one.unwrap(), whole.unwrap());
        assert!(cut_one[..] == bytes && cut_one.is_whole());
        cut(&file, length);
        // Without a look at what is gone.
        assert!(!cut_one.is_whole(), "{length}");
        assert_ne!(sum(&cut_one), sum(&bytes));
        assert!(!cut_one.is_whole() && whole[..] == bytes && whole.is_whole());
        // What is mapped next is its own.
        drop(cut_one);
        assert!(Mapped::open(other.as_file()).unwrap().is_whole());
    }
}

#[test]
fn many_mappings_are_cut_while_threads_read_them() {
    let (whole, bytes) = file();
    let (wanted, all) = (sum(&bytes), Mapped::open(whole.as_file()).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // More than there are places at first.
                let many: Vec<Mapped> =
                    (0..40).map(|_| Mapped::open(whole.as_file()).unwrap()).collect();
                for _ in 0..20 {
                    let mut file = tempfile::tempfile().unwrap();
                    file.write_all(&bytes).unwrap();
                    let mapped = Mapped::open(&file).unwrap();
                    std::thread::scope(|scope| {
                        for _ in 0..2 {
                            scope.spawn(|| {
                                let read = sum(&mapped);
                                assert!(read == wanted || !mapped.is_whole());
                            });
                        }
                        scope.spawn(|| file.set_len(1 << 20).unwrap());
                    });
                    assert!(!mapped.is_whole() && all.is_whole());
                }
                assert!(many.iter().all(Mapped::is_whole));
                assert_eq!(sum(&many[39]), wanted);
            });
        }
    });
    assert!(all.is_whole() && sum(&all) == wanted);
}

#[test]
fn what_cannot_be_mapped_is_said() {
    let mut hash = blake3::Hasher::new();
    assert!(!hash_rest(&mut hash, &File::open("/dev/tty0").or(File::open("/")).unwrap(), 0, 4_096));
    let (file, _) = file();
    assert!(!hash_rest(&mut hash, file.as_file(), 1, 4_096), "no page begins there");
}

/// Tells this program that it is the one that is to end.
const ENDS: &str = "QUARRY_TEST_TOUCHES_NO_PAGE";

#[test]
#[allow(clippy::disallowed_methods, reason = "a test tells the program that it starts what to do")]
fn other_signals_end_the_process_as_ever() {
    if std::env::var_os(ENDS).is_some() {
        windows_are_hashed_as_bytes_are();
        touch_no_page();
    }
    let program = std::env::current_exe().unwrap();
    let this = ["--exact", "tests::other_signals_end_the_process_as_ever", "--nocapture"];
    let done = Command::new(program).args(this).env(ENDS, "1").output().unwrap();
    assert_eq!(done.status.signal(), Some(libc::SIGBUS), "{done:?}");
}

/// Does not come back.
fn touch_no_page() -> ! {
    let (empty, length) = (tempfile::tempfile().unwrap(), 4_096);
    // SAFETY: a new mapping that nothing else knows of.
    let begin = unsafe {
        let (how, fd) = (libc::MAP_SHARED, empty.as_raw_fd());
        libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, how, fd, 0)
    };
    assert_ne!(begin, libc::MAP_FAILED);
    // SAFETY: it is mapped; that it has no page ends the process, which is the test.
    std::hint::black_box(unsafe { begin.cast::<u8>().read_volatile() });
    unreachable!("a page that is not there was read");
}
