//! Windows of files, and the signal that comes where one has no page.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence};

/// Where this thread's window is; its end is 0 while there is none. A page is missed in the thread that touches it, and
/// the handler runs in that thread: nobody else's window is ever looked at, which might be going just then.
struct Watched {
    begin: AtomicUsize,
    end: AtomicUsize,
    is_broken: AtomicBool,
}

thread_local! {
    // Without a beginning or an end of its own, so that a handler may touch it.
    static WATCHED: Watched = const {
        Watched {
            begin: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            is_broken: AtomicBool::new(false),
        }
    };
}

/// What was done with the signal before; nothing if the system did not say.
static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();

/// A mapping that is watched; goes with its end.
struct Window {
    begin: *mut c_void,
    length: usize,
}

impl Window {
    fn new(file: &File, offset: u64, length: u64) -> Option<Self> {
        if !is_watching() {
            return None;
        }
        let (length, offset) = (usize::try_from(length).ok()?, i64::try_from(offset).ok()?);
        if WATCHED.with(|watched| watched.end.load(Ordering::Relaxed)) != 0 {
            return None;
        }
        // SAFETY: a new mapping at an address of the system's choice touches nothing that there is.
        let begin = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        if begin == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the range is the mapping that was just made. It is advice: the system may refuse it.
        unsafe { libc::madvise(begin, length, libc::MADV_SEQUENTIAL) };
        WATCHED.with(|watched| {
            watched.is_broken.store(false, Ordering::Relaxed);
            watched.begin.store(begin.addr(), Ordering::Relaxed);
            watched.end.store(begin.addr() + length, Ordering::Relaxed);
        });
        // The handler sees it before a page is touched.
        compiler_fence(Ordering::SeqCst);
        Some(Self { begin, length })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        WATCHED.with(|watched| watched.end.store(0, Ordering::Relaxed));
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the range is this window's own, be it of the file or of zeros, and nobody holds a part of it: bytes
        // were lent for the time of a call alone.
        unsafe { libc::munmap(self.begin, self.length) };
    }
}

/// Adds a window of a file to a hash; false if it can't be mapped or a page of it was not there.
pub(crate) fn hash_window(
    hash: &mut blake3::Hasher,
    file: &File,
    offset: u64,
    length: u64,
) -> bool {
    let Some(window) = Window::new(file, offset, length) else { return false };
    // SAFETY: the window is mapped until it is dropped, below. Another program may write to the file meanwhile: any byte
    // is a byte, and a hash that has no branch and no address from the bytes is at worst that of neither content; who
    // hashes a file that changes must look at its times anyhow. The slice goes to nothing but the hash.
    let bytes = unsafe { std::slice::from_raw_parts(window.begin.cast::<u8>(), window.length) };
    hash.update(bytes);
    // The signal, if there was one, was this thread's: it is over.
    compiler_fence(Ordering::SeqCst);
    !WATCHED.with(|watched| watched.is_broken.load(Ordering::Relaxed))
}

/// Asks for the signal; answers what was done with it before.
fn watch() -> Option<libc::sigaction> {
    // SAFETY: all bytes zero is a value of it: no handler, no flags, an empty set.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_signal;
    ours.sa_sigaction = handler as libc::sighandler_t;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both are whole and live for the call; the handler calls nothing that a handler may not.
    let answer = unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, &raw mut before) };
    (answer == 0).then_some(before)
}

/// Runs between any two instructions of the thread that touched the page: it takes no lock and no memory.
extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the system hands a whole one over.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // Positive: the system's own, of an address; else a program sent it.
    if code > 0 && (WATCHED.with(|watched| mend(watched, address)) || crate::kept::mend(address)) {
        return;
    }
    // What it was before. If an address was touched, it is touched again by that instruction.
    if let Some(Some(before)) = BEFORE.get() {
        // SAFETY: it is what the system said; a handler may call both.
        unsafe {
            libc::sigaction(signal, before, ptr::null_mut());
            if code <= 0 {
                libc::raise(signal);
            }
        }
    }
}

/// Puts zeros in the place of this thread's window, if the address lies in it.
fn mend(watched: &Watched, address: usize) -> bool {
    let begin = watched.begin.load(Ordering::Relaxed);
    let end = watched.end.load(Ordering::Relaxed);
    if address < begin || address >= end {
        return false;
    }
    watched.is_broken.store(true, Ordering::Relaxed);
    // SAFETY: the range is the window of this very thread, of which nothing is held but a slice that may be any bytes.
    unsafe { put_zeros(begin, end) }
}

/// Puts zeros in the place of a mapping; false if the system has none. A handler may call it: it is one call of the
/// system's, with no lock of the library's.
///
/// # Safety
/// The range is a read-only mapping, whole and live, whose readers take any bytes.
pub(crate) unsafe fn put_zeros(begin: usize, end: usize) -> bool {
    // SAFETY: what the caller says.
    let zeros = unsafe {
        libc::mmap(
            ptr::without_provenance_mut(begin),
            end - begin,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    zeros != libc::MAP_FAILED
}

/// Whether the signal is asked for, from now on if it was not.
pub(crate) fn is_watching() -> bool {
    BEFORE.get_or_init(watch).is_some()
}
