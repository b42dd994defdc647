//! A second item store beside a split platform.

use std::collections::BTreeMap;
use std::path::Path;

use crate::platform::{Role, neighbour, role_process};
use crate::process::Process;
use crate::session::Session;

/// An item store on the database and the bucket of a platform, and a gateway that
/// leads to it alone.
pub struct Replica {
    /// The item store.
    pub item_store: Process,
    gateway: Process,
    admin_token: String,
}

impl Replica {
    pub(crate) async fn join(
        dir: &Path,
        variables: &BTreeMap<String, String>,
        admin_token: &str,
    ) -> Self {
        let item_store = role_process(dir, Role::ItemStore, "item-store-beside", variables).await;
        let mut variables = variables.clone();
        let url = format!("http://{}", item_store.listen());
        variables.insert(neighbour(Role::ItemStore), url);
        let gateway = role_process(dir, Role::Gateway, "gateway-beside", &variables).await;
        Self { item_store, gateway, admin_token: admin_token.to_owned() }
    }

    /// The first admin's session, through this replica.
    pub fn admin(&self) -> Session {
        Session::new(self.gateway.listen(), Some(&self.admin_token))
    }
}
