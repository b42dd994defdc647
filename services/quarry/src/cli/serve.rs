//! `quarry serve`.

use std::path::PathBuf;

use clap::Args;

use crate::client::address::Address;
use crate::serve::ServeArgs;

/// Flags of the server; each has a setting of the same name in quarry.toml and
/// a QUARRY_… variable.
#[derive(Debug, Args)]
pub struct ServeCommand {
    /// Settings file [default: quarry.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The public door [default: 127.0.0.1:7070]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The operations door: health, readiness, metrics [default: 127.0.0.1:7071]
    #[arg(long, value_name = "HOST:PORT")]
    ops_listen: Option<String>,
    /// Roles of this process: identity, catalog, item-store, vector-search, file-indexer,
    /// model-registry, gateway [default: all]
    #[arg(long, value_name = "R,…", value_delimiter = ',')]
    roles: Vec<String>,
    /// Written, as JSON, once the server answers
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    stores: Stores,
}

/// Where the data is.
#[derive(Debug, Clone, Args)]
pub struct Stores {
    /// postgres://… [default: SQLite files in the data dir]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// file://, s3://, gs://, az:// or memory:// [default: <data-dir>/objects]
    #[arg(long, value_name = "URL")]
    pub object_store_url: Option<String>,
}

impl ServeCommand {
    /// With the global flags.
    pub fn args(self, address: &Address) -> ServeArgs {
        ServeArgs {
            config: self.config,
            data_dir: address.data_dir.clone(),
            listen: self.listen,
            ops_listen: self.ops_listen,
            roles: self.roles,
            ready_file: self.ready_file,
            database_url: self.stores.database_url,
            object_store_url: self.stores.object_store_url,
            quiet: false,
        }
    }
}
