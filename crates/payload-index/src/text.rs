//! BM25 over the texts of a column (Robertson's, as Lucene has it: k1 1.2, b 0.75).

use std::collections::HashMap;

use roaring::RoaringBitmap;

const K1: f32 = 1.2;
const B: f32 = 0.75;
/// Words of a query that are looked up.
const QUERY_WORDS_MAX: usize = 64;

/// Which words are in which point's text, and how often.
#[derive(Debug, Default)]
pub(crate) struct TextIndex {
    words: HashMap<Box<str>, Vec<(u32, u32)>>,
    lengths: HashMap<u32, u32>,
    length_sum: u64,
}

/// Lower-case runs of letters and digits.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| word.to_lowercase())
}

impl TextIndex {
    pub fn insert(&mut self, number: u32, text: &str) {
        let mut counts: HashMap<String, u32> = HashMap::new();
        let mut length = 0_u32;
        for word in words(text) {
            *counts.entry(word).or_default() += 1;
            length = length.saturating_add(1);
        }
        for (word, count) in counts {
            match self.words.get_mut(word.as_str()) {
                Some(posted) => posted.push((number, count)),
                None => {
                    self.words.insert(word.into_boxed_str(), vec![(number, count)]);
                }
            }
        }
        self.lengths.insert(number, length);
        self.length_sum += u64::from(length);
    }

    /// The `k` best of `among` by BM25, best first, ties by number.
    pub fn search(&self, query: &str, k: usize, among: &RoaringBitmap) -> Vec<(u32, f32)> {
        let documents = self.lengths.len() as f32;
        let average = (self.length_sum as f32 / documents.max(1.0)).max(1.0);
        let mut asked: Vec<String> = words(query).take(QUERY_WORDS_MAX).collect();
        asked.sort();
        asked.dedup();
        let mut scores: HashMap<u32, f32> = HashMap::new();
        for posted in asked.iter().filter_map(|word| self.words.get(word.as_str())) {
            let holding = posted.len() as f32;
            let rarity = (1.0 + (documents - holding + 0.5) / (holding + 0.5)).ln();
            for (number, count) in posted.iter().filter(|(number, _)| among.contains(*number)) {
                let length = self.lengths.get(number).copied().unwrap_or(0) as f32;
                let count = *count as f32;
                let weight = count / (count + K1 * (1.0 - B + B * length / average));
                *scores.entry(*number).or_default() += rarity * weight;
            }
        }
        let mut best: Vec<(u32, f32)> = scores.into_iter().collect();
        best.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        best.truncate(k);
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_and_short_texts_weigh_more() {
        let mut index = TextIndex::default();
        for (number, text) in [
            (1, "the cat sat on the mat"),
            (2, "the dog sat on the log"),
            (3, "a cat"),
            (4, "the the the"),
        ] {
            index.insert(number, text);
        }
        let all = RoaringBitmap::from_iter([1, 2, 3, 4]);
        let numbers = |query: &str, among: &RoaringBitmap| {
            index.search(query, 10, among).iter().map(|hit| hit.0).collect::<Vec<_>>()
        };
        assert_eq!(numbers("CAT", &all), [3, 1]);
        assert_eq!(numbers("cat log", &all)[0], 2, "log is rarer than cat");
        assert_eq!(numbers("cat", &RoaringBitmap::from_iter([1])), [1]);
        assert!(numbers("bird", &all).is_empty() && numbers("", &all).is_empty());
    }
}
