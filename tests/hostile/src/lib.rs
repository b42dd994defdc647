//! Mutations of bytes, the same for the same seed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a part of tests; how many rounds is the tester's to choose"
)]

/// Rounds unless `QUARRY_HOSTILE_ROUNDS` says another number.
pub const ROUNDS_DEFAULT: u64 = 400;
/// What the process of a test may hold at most.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// How many mutations to try.
#[must_use]
pub fn rounds() -> u64 {
    let said = std::env::var("QUARRY_HOSTILE_ROUNDS").ok().and_then(|n| n.parse().ok());
    said.unwrap_or(ROUNDS_DEFAULT)
}

/// Numbers that follow from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number below another one; 0 below 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % (end.max(1) as u64)).unwrap()
    }
}

/// Numbers that readers trip over.
const EXTREMES: [u64; 10] =
    [0, 1, 0x7F, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, i64::MAX as u64, 1 << 63, u64::MAX];

/// Changes some bytes where they are; the length stays.
pub fn twist(bytes: &mut [u8], dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(4) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = dice.roll().to_le_bytes()[0],
            2 => {
                let extreme = EXTREMES[dice.below(EXTREMES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][dice.below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&extreme[..width]);
            }
            _ => {
                // A piece of the same bytes somewhere else.
                let length = (1 + dice.below(32)).min(bytes.len() - at);
                let from = dice.below(bytes.len() - length + 1);
                bytes.copy_within(from..from + length, at);
            }
        }
    }
}

/// Changes some bytes, and now and then how many there are.
pub fn mangle(bytes: &mut Vec<u8>, dice: &mut Dice) {
    twist(bytes, dice);
    let at = dice.below(bytes.len() + 1);
    match dice.below(8) {
        0 => bytes.truncate(at),
        1 => {
            let more = (0..dice.below(40)).map(|_| dice.roll().to_le_bytes()[0]);
            let more: Vec<u8> = more.collect();
            bytes.splice(at..at, more);
        }
        2 => {
            let end = (at + dice.below(40)).min(bytes.len());
            bytes.drain(at..end);
        }
        _ => {}
    }
}

/// Ends the test if its process ever held more than it may.
pub fn stayed_small() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib * 1024 < MEMORY_BYTES_MAX, "{kib} KiB at the most");
}
