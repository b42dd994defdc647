//! Use cases: who may do what with which space, and what an answer comes from.

mod access;
mod catalog;
mod cold;
mod embed;
mod generations;
mod images;
mod items;
mod live;
mod load;
mod pinned;
mod points;
mod question;
mod refresh;
mod remote;
mod search;
mod spaces;
mod sweep;
mod upkeep;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ::access::GrantReplica;
use caller::TokenSource;
use embedder::Embedders;
use moka::future::Cache;
use service_channel::Transport;
use service_error::ServiceError;

use crate::model::{Address, Space};
use crate::settings::Settings;
use crate::store::{Store, blocking};

pub use embed::{EMBED, EmbedDataset};
pub use generations::Assemble;
pub use images::{AddImage, AddedPoint};
pub use load::{LOAD, LoadVectors};
pub use points::{Batch, Scroll, Upsert};
pub use spaces::CreateSpace;
pub use upkeep::IndexStats;

use catalog::Catalog;
use items::Items;
use live::Registry;

/// Beyond the time for which an index answers without the database: how long a space's name is
/// remembered while nobody can be asked.
const REMEMBERED: Duration = Duration::from_secs(1);
const KNOWN_MAX: u64 = 10_000;

/// The use cases. Clones share everything.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

#[doc(hidden)]
pub struct Inner {
    settings: Settings,
    catalog: Catalog,
    grants: GrantReplica,
    store: Store,
    items: Items,
    jobs: jobs::Jobs,
    embedders: Embedders,
    live: Arc<Registry>,
    known: Cache<Address, Known>,
    /// How often spaces were deleted here.
    deletions: AtomicU64,
}

/// A space that was found by its name.
#[derive(Clone)]
struct Known {
    space: Arc<Space>,
    /// When that look began.
    at: i64,
    /// How often spaces had been deleted here by then: what was found before a deletion may be
    /// what was deleted.
    deletions: u64,
}

/// Whom the use cases call.
pub struct Around {
    /// For who owns a space, and what a dataset is.
    pub catalog: Transport,
    /// For rows.
    pub items: Transport,
    /// Tokens for both.
    pub tokens: TokenSource,
}

impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl App {
    /// The use cases over a migrated store; indexes are kept below `index_dir`.
    ///
    /// # Errors
    /// An embedder that cannot be opened.
    pub fn new(
        settings: Settings,
        index_dir: PathBuf,
        neighbours: Around,
        grants: GrantReplica,
        store: Store,
        jobs: jobs::Jobs,
    ) -> Result<Self, ServiceError> {
        let embedders = Embedders::open(&settings.embedders)?;
        let Around { catalog, items, tokens } = neighbours;
        let remembered = Duration::from_secs(settings.stale_seconds) + REMEMBERED;
        let known = Cache::builder().max_capacity(KNOWN_MAX).time_to_live(remembered).build();
        let live = Registry::new(index_dir, settings.memory_bytes_max);
        let items = Items::new(items, tokens.clone());
        let catalog = Catalog::new(catalog, tokens);
        let deletions = AtomicU64::new(0);
        let inner = Inner {
            settings,
            catalog,
            grants,
            store,
            items,
            jobs,
            embedders,
            live,
            known,
            deletions,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}
