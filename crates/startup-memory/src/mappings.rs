//! The mappings of this process, as `/proc/self/smaps` tells them.

use std::{fs, io};

/// Addresses from a page's first byte to another's.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    begin: usize,
    end: usize,
}

pub(crate) fn unmap_program() -> io::Result<usize> {
    let program = fs::read_link("/proc/self/exe")?;
    let listing = fs::read_to_string("/proc/self/smaps")?;
    let mut bytes = 0;
    for mapping in untouched(&listing, &program.to_string_lossy()) {
        let length = mapping.end - mapping.begin;
        let begin = std::ptr::without_provenance_mut(mapping.begin);
        // SAFETY: the range is a private mapping of the program's file that is not writable and of which no page was
        // ever written to ("Anonymous: 0"), so each of its pages is read from the file again, the same, when it is
        // next touched. Nothing makes a mapping of a program writable after the loader, which ended before this.
        let answer = unsafe { libc::madvise(begin, length, libc::MADV_DONTNEED) };
        // Where the system refuses, the pages just stay.
        bytes += if answer == 0 { length } else { 0 };
    }
    Ok(bytes)
}

/// The mappings of `program` that cannot be written to and that have no page of their own.
fn untouched(listing: &str, program: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in listing.lines() {
        if let Some((mapping, permissions, file)) = head(line) {
            let is_read_only = matches!(permissions, "r--p" | "r-xp");
            candidate = (file == program && is_read_only).then_some(mapping);
        } else if line.strip_prefix("Anonymous:").is_some_and(|held| held.trim() == "0 kB") {
            found.extend(candidate.take());
        }
    }
    found
}

/// `begin-end permissions offset device inode   file` of a mapping; a line of its figures is none.
fn head(line: &str) -> Option<(Mapping, &str, &str)> {
    let mut fields = line.splitn(6, ' ');
    let (begin, end) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let mapping = Mapping { begin: address(begin)?, end: address(end)? };
    let permissions = fields.next()?;
    Some((mapping, permissions, fields.nth(3)?.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
1000-3000 r--p 00000000 fe:00 77                         /opt/a program
Size:                  8 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
3000-9000 r-xp 00002000 fe:00 77                         /opt/a program
Anonymous:             0 kB
9000-a000 r--p 00008000 fe:00 77                         /opt/a program
Anonymous:             4 kB
a000-b000 rw-p 00009000 fe:00 77                         /opt/a program
Anonymous:             0 kB
b000-c000 rw-p 00000000 00:00 0                          [heap]
Anonymous:             0 kB
d000-e000 r-xp 00000000 fe:00 78                         /usr/lib/libc.so.6
Anonymous:             0 kB
e000-f000 r--p 00000000 00:00 0 
Anonymous:             0 kB
";

    #[test]
    fn only_pages_that_the_file_has_are_unmapped() {
        let found = untouched(LISTING, "/opt/a program");
        assert_eq!(
            found,
            [Mapping { begin: 0x1000, end: 0x3000 }, Mapping { begin: 0x3000, end: 0x9000 }]
        );
    }

    #[test]
    fn a_listing_that_is_not_one_has_none() {
        assert_eq!(untouched("-\n- r\nzz-yy r--p\nAnonymous: 0 kB\n", "x"), []);
    }
}
