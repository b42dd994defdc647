//! Names for what was given none, as MLflow gives them: an adjective, an
//! animal, a number.

use rand::Rng;
use rand::seq::IndexedRandom;

const ADJECTIVES: [&str; 40] = [
    "able",
    "amused",
    "bold",
    "brawny",
    "bright",
    "calm",
    "capable",
    "clean",
    "crawling",
    "dapper",
    "debonair",
    "defiant",
    "exultant",
    "fearless",
    "gentle",
    "glamorous",
    "hilarious",
    "honorable",
    "inquisitive",
    "intrigued",
    "judicious",
    "kindly",
    "learned",
    "lyrical",
    "merciful",
    "mysterious",
    "nebulous",
    "nimble",
    "placid",
    "polite",
    "puzzled",
    "rare",
    "resilient",
    "righteous",
    "sassy",
    "secretive",
    "skillful",
    "thoughtful",
    "traveling",
    "unruly",
];
const ANIMALS: [&str; 40] = [
    "ant", "ape", "auk", "bass", "bear", "bee", "bird", "bug", "calf", "carp", "cat", "colt",
    "conch", "cow", "crab", "crane", "croc", "crow", "cub", "deer", "doe", "dog", "dolphin",
    "duck", "eel", "elk", "fawn", "finch", "fish", "fly", "fowl", "fox", "frog", "gnat", "goat",
    "goose", "grouse", "hare", "hawk", "hog",
];
const CHARS_MAX: usize = 20;

/// A name of at most twenty characters.
pub fn random_name() -> String {
    let mut rng = rand::rng();
    let adjective = ADJECTIVES.choose(&mut rng).unwrap_or(&"able");
    let animal = ANIMALS.choose(&mut rng).unwrap_or(&"ant");
    let mut name = format!("{adjective}-{animal}-{}", rng.random_range(0..=1000));
    name.truncate(CHARS_MAX);
    name
}
