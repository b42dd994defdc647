//! What may stand in which room of a service (DESIGN §1).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use architecture::golden::{
    ENVIRONMENT_READERS, ROOM_EXCEPTIONS, ROOMS, ROOMS_APART, Room, SERVICES,
};
use architecture::refuse;
use architecture::source::{Source, sources};
use architecture::workspace::crates;

/// The files of the services that have rooms, each with its place below `src/`; a room that
/// is a crate of its own is one of them.
fn rooms() -> impl Iterator<Item = (&'static Source, &'static str)> {
    sources().iter().filter_map(|source| {
        let (floor, path) = source.path.split_once('/')?;
        let (name, place) = path.split_once("/src/")?;
        let service = match floor {
            "services" => name,
            "rooms" => ROOMS_APART.iter().find(|(room, _)| *room == name)?.1,
            _ => return None,
        };
        SERVICES.contains(&service).then_some((source, place))
    })
}

#[test]
fn a_room_apart_serves_its_own_service_only() {
    let owner = |room: &str| ROOMS_APART.iter().find(|(name, _)| *name == room).map(|(_, s)| *s);
    let all = crates();
    let found: BTreeSet<&str> =
        all.iter().filter(|c| c.floor == "rooms").map(|c| c.name.as_str()).collect();
    let known: BTreeSet<&str> = ROOMS_APART.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, known, "ROOMS_APART of golden.rs names the crates of rooms/");
    let mut breaches = Vec::new();
    // What `tests/` throws at a room's door reaches no other service.
    for user in all.iter().filter(|user| user.floor != "tests") {
        let at_home = owner(&user.name).unwrap_or(&user.name);
        for room in user.uses.iter().chain(&user.uses_in_tests) {
            if owner(room).is_some_and(|service| service != at_home) {
                breaches.push(format!("{} uses {room}", user.name));
            }
        }
    }
    refuse("a room is used by its service and that service's other rooms:", &breaches);
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
            let path = source.path.strip_prefix("rooms/").map(|path| format!("services/{path}"));
            let path = path.as_deref().unwrap_or(&source.path);
            if meant && path.starts_with(below) && source.all_code.contains(&word) {
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
