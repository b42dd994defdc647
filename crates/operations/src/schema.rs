//! Whether the database has the schema that this program was made for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use service_channel::{Applied, Readiness};

use crate::Database;

/// Asked for more often, the same is said again.
const LOOK_EVERY: Duration = Duration::from_secs(2);

type Verdict = Result<Option<String>, String>;

/// Ready unless a migration has not run. A schema that is newer is told: migrations
/// expand first and contract a release later, so an older program goes on.
pub fn readiness(role: &str, database: Arc<Database>, applied: Applied) -> Readiness {
    let last: Arc<Mutex<Option<(Instant, Verdict)>>> = Arc::default();
    Readiness::telling(name(role), move || {
        let (database, last) = (Arc::clone(&database), Arc::clone(&last));
        let applied = applied.clone();
        async move {
            let kept = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((_, verdict)) = kept.filter(|(at, _)| at.elapsed() < LOOK_EVERY) {
                return verdict;
            }
            let applied = applied.names().await.map_err(|error| error.to_string())?;
            let verdict = verdict(database.schema, &database.migrations, &applied);
            let mut place = last.lock().unwrap_or_else(PoisonError::into_inner);
            *place = Some((Instant::now(), verdict.clone()));
            verdict
        }
    })
}

/// As the role's other checks are named.
fn name(role: &str) -> &'static str {
    match role {
        "identity" => "identity.schema",
        "catalog" => "catalog.schema",
        "item-store" => "item-store.schema",
        "vector-search" => "vector-search.schema",
        "file-indexer" => "file-indexer.schema",
        "model-registry" => "model-registry.schema",
        _ => "schema",
    }
}

fn verdict(schema: &str, known: &[String], applied: &[String]) -> Verdict {
    let wants = known.last().map_or("none", String::as_str);
    let has = |applied: &[&String]| applied.last().map_or("none", |name| name.as_str()).to_owned();
    let ours: Vec<&String> = applied.iter().filter(|name| known.contains(name)).collect();
    let newer: Vec<&String> = applied.iter().filter(|name| !known.contains(name)).collect();
    let missing: Vec<&str> =
        known.iter().filter(|name| !applied.contains(name)).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(format!(
            "schema {schema} has {}, this program wants {wants}; not run: {}; run `quarry db migrate`",
            has(&ours),
            missing.join(", ")
        ));
    }
    Ok(Some(match newer.as_slice() {
        [] => format!("schema {schema} has {wants}"),
        newer => format!(
            "schema {schema} has {}, this program wants {wants}: a newer program has migrated it",
            has(newer)
        ),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn behind_is_not_ready_and_ahead_is_told() {
        let known = names(&["m1", "m2", "m3"]);
        assert_eq!(verdict("s", &known, &known), Ok(Some("schema s has m3".to_owned())));
        let behind = verdict("s", &known, &names(&["m1", "m2"])).unwrap_err();
        for word in ["has m2", "wants m3", "not run: m3", "db migrate"] {
            assert!(behind.contains(word), "{behind}");
        }
        assert!(verdict("s", &known, &[]).unwrap_err().contains("has none"));
        let ahead = verdict("s", &known, &names(&["m1", "m2", "m3", "m4"])).unwrap().unwrap();
        assert!(ahead.contains("has m4") && ahead.contains("wants m3"), "{ahead}");
        let both = verdict("s", &known, &names(&["m1", "m2", "m4"])).unwrap_err();
        assert!(both.contains("not run: m3"), "{both}");
    }
}
