//! A running platform with the cases on it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use catalog_api::v1::{CreateNamespaceRequest, Namespace};
use futures::{FutureExt, StreamExt};
use harness::{Database, Platform, Session, Setup, Topology};
use identity_api::v1::{
    AddGrantRequest, CreateTokenRequest, CreateUserRequest, Grant, Resource, TokenScope, User,
};
use options_api::v1::{Level, ResourceKind, Role};
use uuid::Uuid;

use crate::{CASES, Case};

/// Cases that run beside each other: enough to overlap, few enough for two cores.
const CASES_AT_ONCE: usize = 4;
const CASE_WITHIN: Duration = Duration::from_secs(120);

/// What a case gets.
pub struct Stage {
    /// The platform. Cases share it and must not stop it.
    pub platform: Platform,
    /// The first admin.
    pub admin: Session,
}

impl Stage {
    /// A platform with nothing on it.
    pub async fn new(topology: Topology, database: Database) -> Self {
        let platform = Setup::new(topology, database).start().await;
        let admin = platform.admin();
        Self { platform, admin }
    }

    /// A new namespace of the admin's, by name.
    pub async fn namespace(&self) -> String {
        self.namespace_of(&self.admin).await.name
    }

    /// A new namespace of somebody's.
    pub async fn namespace_of(&self, owner: &Session) -> Namespace {
        let request = CreateNamespaceRequest { name: unique("ns"), ..Default::default() };
        let answer = owner.namespaces().create_namespace(request).await.expect("a namespace");
        answer.into_inner().namespace.expect("a namespace")
    }

    /// A new user of a role, with a session of its own.
    pub async fn user(&self, role: Role) -> (User, Session) {
        let request =
            CreateUserRequest { name: unique("user"), role: role.into(), ..Default::default() };
        let user = self.admin.users().create_user(request).await.expect("a user");
        let user = user.into_inner().user.expect("a user");
        let session = self.platform.session(&self.token(&user.name, TokenScope::Full).await);
        (user, session)
    }

    /// A token's secret, made by the admin for somebody.
    pub async fn token(&self, user: &str, scope: TokenScope) -> String {
        let request =
            CreateTokenRequest { user: user.to_owned(), scope: scope.into(), ..Default::default() };
        self.admin.tokens().create_token(request).await.expect("a token").into_inner().secret
    }

    /// Lets a user do something with a resource.
    pub async fn grant(&self, user: &User, kind: ResourceKind, id: &str, level: Level) -> Grant {
        let request = AddGrantRequest {
            user: user.name.clone(),
            resource: Some(Resource { kind: kind.into(), id: id.to_owned() }),
            level: level.into(),
            ..Default::default()
        };
        let answer = self.admin.grants().add_grant(request).await.expect("a grant");
        answer.into_inner().grant.expect("a grant")
    }
}

/// A name that no other case uses.
pub fn unique(kind: &str) -> String {
    format!("{kind}-{}", Uuid::now_v7().simple())
}

/// Runs every case (or those that `QUARRY_TEST_CASE` names) and ends with all failures.
pub async fn run(topology: Topology, database: Database) {
    let stage = Stage::new(topology, database).await;
    let wanted = std::env::var("QUARRY_TEST_CASE").unwrap_or_default();
    let failures = run_cases(&stage, |name| name.contains(&wanted)).await;
    assert!(failures.is_empty(), "{topology:?} {database:?}:\n  {}", failures.join("\n  "));
}

/// Runs the cases whose names are wanted and answers what failed.
pub async fn run_cases(stage: &Stage, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let cases = CASES.iter().filter(|case| wanted(case.name));
    futures::stream::iter(cases)
        .map(|case| attempt(case, stage))
        .buffer_unordered(CASES_AT_ONCE)
        .filter_map(async |outcome| outcome.err())
        .collect()
        .await
}

async fn attempt(case: &Case, stage: &Stage) -> Result<(), String> {
    let begin = Instant::now();
    let promise = AssertUnwindSafe((case.run)(stage)).catch_unwind();
    let outcome = match tokio::time::timeout(CASE_WITHIN, promise).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(panic)) => Err(words(panic.as_ref())),
        Err(_) => Err(format!("no end within {CASE_WITHIN:?}")),
    };
    let said = if outcome.is_ok() { "ok" } else { "FAILED" };
    println!("{said:>6} {:>6} ms  {}", begin.elapsed().as_millis(), case.name);
    outcome.map_err(|words| format!("{}: {words}", case.name))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
