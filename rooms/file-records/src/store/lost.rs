//! What lies below something that is missing, where that is not removed yet: the guard of a scan
//! waits for a word. Rows say of the highest ones alone that they are missing, or that their place is lost.

use std::collections::HashSet;

use sea_orm::DbBackend;
use service_error::ServiceError;

use super::changes::path_in;
use super::merge::{dirs_at, parent_of};
use super::{Store, bulk, get};
use crate::model::{FoundPage, name_of, with_parents};

/// Characters of paths that one statement asks for: a deep one has thousands of parents.
const ASKED_MAX: usize = 4 << 20;

impl Store {
    /// Tells each entry of a page that is missing, or lies below what is.
    ///
    /// # Errors
    /// The database's.
    pub async fn tell_missing(&self, page: &mut FoundPage) -> Result<(), ServiceError> {
        let short = page.places.iter().filter(|(_, place)| place.missing > 0);
        let short: Vec<i64> = short.map(|(location, _)| *location).collect();
        for location in short {
            let of = page.found.iter().filter(|found| found.location == location);
            let dirs: HashSet<&str> =
                of.filter(|found| !found.is_missing()).map(|found| found.dir.as_str()).collect();
            let lost = self.missing_among(location, dirs).await?;
            for found in page.found.iter_mut().filter(|found| found.location == location) {
                found.is_gone |= with_parents(&found.dir).any(|path| lost.contains(path));
            }
        }
        Ok(())
    }

    /// Of some directories and all that they lie in the paths that are missing.
    async fn missing_among(
        &self,
        location: i64,
        dirs: HashSet<&str>,
    ) -> Result<HashSet<String>, ServiceError> {
        let mut lost = HashSet::new();
        let (mut asked, mut length) = (HashSet::new(), 0);
        for dir in dirs {
            let new: Vec<&str> = with_parents(dir).take_while(|path| asked.insert(*path)).collect();
            length += new.iter().map(|path| path.len()).sum::<usize>();
            if length > ASKED_MAX {
                self.missing_at(location, std::mem::take(&mut asked), &mut lost).await?;
                length = 0;
            }
        }
        self.missing_at(location, asked, &mut lost).await?;
        Ok(lost)
    }

    async fn missing_at(
        &self,
        location: i64,
        paths: HashSet<&str>,
        lost: &mut HashSet<String>,
    ) -> Result<(), ServiceError> {
        let backend = self.backend();
        // By the directories and the names: a location may miss a million entries.
        let gone = match backend {
            DbBackend::Postgres => "e.gone IS NOT NULL",
            _ => "+e.gone IS NOT NULL",
        };
        let sql = format!(
            "SELECT d.path, e.name FROM {} CROSS JOIN entry e WHERE e.dir_id = d.id AND {gone} AND {}",
            dirs_at(backend, "id, path"),
            bulk::in_texts(backend, "e.name", 3)
        );
        let replaced =
            format!("SELECT d.path FROM {} WHERE d.dev = -1", dirs_at(backend, "path, dev"));
        let asked = bulk::texts(backend, paths.iter().copied());
        for row in self.rows(&replaced, vec![location.into(), asked]).await? {
            lost.insert(get(&row, "path")?);
        }
        let parents: HashSet<&str> = paths.iter().filter_map(|path| parent_of(path)).collect();
        let names: HashSet<&str> = paths.iter().map(|path| name_of(path)).collect();
        let texts = |texts: HashSet<&str>| bulk::texts(backend, texts);
        for row in self.rows(&sql, vec![location.into(), texts(parents), texts(names)]).await? {
            let (dir, name): (String, String) = (get(&row, "path")?, get(&row, "name")?);
            lost.insert(path_in(&dir, &name));
        }
        Ok(())
    }
}
