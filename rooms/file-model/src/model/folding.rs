//! Letters in any case, the same way for every database: one by one, each with the others
//! that have its small letter. ASCII letters have no others than their own; what becomes
//! several letters (ß, SS) is left as it is.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Letters that are replaced in a name at most; the rest of a text is looked for as it is.
const OTHERS_MAX: usize = 100;
/// What has cases lies below.
const CASES_END: u32 = 0x1_f000;

/// Other letters by their small one, without ASCII.
static OTHERS: LazyLock<HashMap<char, Vec<char>>> = LazyLock::new(|| {
    let mut others: HashMap<char, Vec<char>> = HashMap::new();
    for letter in (0x80..CASES_END).filter_map(char::from_u32) {
        let small = small_of(letter);
        if small != letter {
            others.entry(small).or_default().push(letter);
        }
    }
    others
});

fn only(mut chars: impl Iterator<Item = char>) -> Option<char> {
    chars.next().filter(|_| chars.next().is_none())
}

/// The letter that all cases of one have in common.
fn small_of(letter: char) -> char {
    if letter.is_ascii() {
        return letter.to_ascii_lowercase();
    }
    let large = only(letter.to_uppercase()).unwrap_or(letter);
    only(large.to_lowercase()).filter(|small| !small.is_ascii()).unwrap_or(letter)
}

/// A text that is looked for in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnyCase {
    /// In small letters.
    pub text: String,
    /// What is replaced in a name whose ASCII letters are small: another letter, and the small one.
    pub others: Vec<(char, char)>,
}

impl AnyCase {
    pub fn new(text: &str) -> Self {
        let (mut small, mut others) = (String::with_capacity(text.len()), Vec::new());
        for letter in text.chars() {
            let to = small_of(letter);
            if !to.is_ascii() && !others.iter().any(|(_, known)| *known == to) {
                let more = OTHERS.get(&to).map(Vec::as_slice).unwrap_or_default();
                if others.len() + more.len() > OTHERS_MAX {
                    small.push(letter);
                    continue;
                }
                others.extend(more.iter().map(|other| (*other, to)));
            }
            small.push(to);
        }
        Self { text: small, others }
    }

    /// Whether an index finds a small letter of the text in each case of it: what has none,
    /// ASCII, and what has two since long if the index `folds` more than ASCII by itself.
    pub fn is_indexed(&self, small: char, folds: bool) -> bool {
        let code = u32::from(small);
        match self.others.iter().filter(|(_, to)| *to == small).count() {
            0 => true,
            1 if code < 0x528 => folds && !matches!(code, 0x37f | 0x3f3),
            1 => folds && (0x1e00..0x2000).contains(&code),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a database does it.
    fn finds(text: &str, name: &str) -> bool {
        let any = AnyCase::new(text);
        let mut name = name.to_ascii_lowercase();
        for (other, small) in &any.others {
            name = name.replace(*other, &small.to_string());
        }
        name.contains(&any.text)
    }

    #[test]
    fn letters_are_found_in_any_case() {
        for (text, name) in [
            ("école", "ÉCOLE.pdf"),
            ("ÉCOLE", "école.pdf"),
            ("ω", "Ω.txt"),
            ("Ω", "ω2"),
            ("οδος", "ΟΔΟΣ"),
            ("ΟΔΟΣ", "οδος"),
            ("Москва", "МОСКВА"),
            ("über", "ÜBER"),
            ("aB", "Ab"),
            ("ǆ", "ǅ.bin"),
            ("日本", "日本語"),
            ("ẞ", "STRAẞE"),
        ] {
            assert!(finds(text, name), "{text} {name}");
        }
        for (text, name) in [("strasse", "straße"), ("e", "É"), ("k", "\u{212a}"), ("i", "ı")] {
            assert!(!finds(text, name), "{text} {name}");
        }
    }

    #[test]
    fn letters_that_an_index_may_not_know_are_told() {
        let any = AnyCase::new("éωσꙛa日");
        let alike: Vec<bool> = any.text.chars().map(|c| any.is_indexed(c, true)).collect();
        // Of Ω there is the sign of Ohm too, of Σ the one at the end of a word.
        assert_eq!(alike, [true, false, false, false, true, true]);
        let alike: Vec<bool> = any.text.chars().map(|c| any.is_indexed(c, false)).collect();
        assert_eq!(alike, [false, false, false, false, true, true]);
        let many: String = (0x400..0x52f).filter_map(char::from_u32).collect();
        assert!(AnyCase::new(&many).others.len() <= OTHERS_MAX);
    }
}
