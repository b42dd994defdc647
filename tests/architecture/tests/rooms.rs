//! What may stand in which room of a service (DESIGN §1).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use architecture::golden::{ENVIRONMENT_READERS, ROOM_EXCEPTIONS, ROOMS, Room, SERVICES};
use architecture::refuse;
use architecture::source::{Source, sources};

/// The files of the services that have rooms, each with its place below `src/`.
fn rooms() -> impl Iterator<Item = (&'static Source, &'static str)> {
    sources().iter().filter_map(|source| {
        let (service, place) = source.path.strip_prefix("services/")?.split_once("/src/")?;
        SERVICES.contains(&service).then_some((source, place))
    })
}

fn room_of(place: &str) -> Option<&'static Room> {
    let first = place.split('/').next()?;
    let stem = first.strip_suffix(".rs").unwrap_or(first);
    ROOMS.iter().find(|room| room.name == first || room.name == stem)
}

#[test]
fn a_service_is_made_of_its_rooms() {
    let breaches: Vec<String> = rooms()
        .filter(|(source, place)| room_of(place).is_none() && !source.is_test)
        .map(|(source, _)| format!("{} is in no room", source.path))
        .collect();
    let names: Vec<&str> = ROOMS.iter().map(|room| room.name).collect();
    refuse(&format!("rooms are {}:", names.join(", ")), &breaches);
}

#[test]
fn each_room_keeps_to_its_own() {
    let mut breaches = Vec::new();
    for (source, place) in rooms().filter(|(source, _)| !source.is_test) {
        let Some(room) = room_of(place) else { continue };
        for word in room.without {
            let excepted =
                ROOM_EXCEPTIONS.iter().any(|(file, w, _)| *file == source.path && w == word);
            if source.code.contains(&format!(" {word} ")) && !excepted {
                breaches.push(format!("{}: `{word}` may not stand in {}", source.path, room.name));
            }
        }
    }
    refuse("rooms:", &breaches);
}

#[test]
fn no_exception_is_left_over() {
    let breaches: Vec<String> = ROOM_EXCEPTIONS
        .iter()
        .filter(|(file, word, _)| {
            let source = sources().iter().find(|source| source.path == *file);
            !source.is_some_and(|source| source.code.contains(&format!(" {word} ")))
        })
        .map(|(file, word, _)| format!("{file} no longer has `{word}`"))
        .collect();
    refuse("ROOM_EXCEPTIONS:", &breaches);
}

#[test]
fn only_settings_read_the_environment() {
    let words = ["env :: var ", "env :: vars ", "env :: var_os ", "env :: vars_os "];
    let breaches: Vec<String> = sources()
        .iter()
        .filter(|source| !source.is_test && !source.path.ends_with("/build.rs"))
        .filter(|source| !ENVIRONMENT_READERS.contains(&source.home.as_str()))
        .filter(|source| words.iter().any(|word| source.code.contains(word)))
        .map(|source| source.path.clone())
        .collect();
    refuse("these read the environment; the crate `settings` does it for all:", &breaches);
}

/// A construct that is refused, where, and what goes wrong with it.
const REFUSED: &[(&str, &str, &str)] = &[
    ("unbounded_channel", "", "a queue without a bound is a leak under load"),
    ("join_all", "services/", "as many at once as there are; use a bounded buffer"),
    ("lock_exclusive", "", "SQLite drops FOR UPDATE silently; use a revision compare-and-swap"),
    (". offset (", "services/", "OFFSET paging skips and repeats; page by key"),
    ("sleep", "tests/", "a test waits for the event itself"),
    ("thread :: sleep", "", "blocks a worker"),
    ("lazy_static", "", "no global state"),
];

#[test]
fn refused_constructs_stand_nowhere() {
    let mut breaches = Vec::new();
    for source in sources() {
        for (word, below, why) in REFUSED {
            let word = format!(" {} ", word.trim_end_matches(" ("));
            let meant = below.starts_with("tests") || !source.is_test;
            if meant && source.path.starts_with(below) && source.all_code.contains(&word) {
                breaches.push(format!("{}: `{}`: {why}", source.path, word.trim()));
            }
        }
    }
    refuse("refused in review (STYLE):", &breaches);
}

#[test]
fn no_test_is_ignored() {
    let breaches: Vec<String> = sources()
        .iter()
        .filter(|source| source.all_code.contains("# ignore "))
        .map(|source| source.path.clone())
        .collect();
    refuse("an ignored test tests nothing:", &breaches);
}
