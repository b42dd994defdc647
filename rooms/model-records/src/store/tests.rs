//! How the databases go about the pages of many versions, and the migration that made them quick.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ids::NamespaceId;
use model_query::{Expr, Field, Op, Test, Value as Literal};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_migration::MigratorTrait as _;
use sql_store::SqlSettings;
use tracking::search::{Key, cut};
use uuid::Uuid;

use super::ordered::OrderedPage;
use super::search::{VersionOrder, VersionPage};
use super::sql::{execute, number};
use super::*;
use crate::model::VersionRef;

/// Versions of the model `large`, and of another namespace's beside it.
const MANY: i64 = 10_000;
const SMALL: i64 = 40;
/// Versions of a registry that is large.
const LARGE: u64 = 200_000;

/// Two namespaces: of many versions of one model and a few of others, and of as many again.
struct Full {
    store: Store,
    namespace: NamespaceId,
    _objects: tempfile::TempDir,
}

async fn opened(sql: &SqlSettings) -> (Store, tempfile::TempDir) {
    let objects = tempfile::tempdir().unwrap();
    let url = format!("file://{}", objects.path().display());
    (Store::open(sql, &url).await.unwrap(), objects)
}

impl Full {
    async fn on(sql: &SqlSettings) -> Self {
        Self::of(sql, MANY).await
    }

    async fn of(sql: &SqlSettings, many: i64) -> Self {
        let (store, objects) = opened(sql).await;
        store.migrate().await.unwrap();
        let full = Self { store, namespace: NamespaceId::new(), _objects: objects };
        let large = full.model(full.namespace.uuid(), "large").await;
        full.versions(large, many, Some(full.namespace.uuid())).await;
        for at in 0..SMALL {
            let small = full.model(full.namespace.uuid(), &format!("small-{at:02}")).await;
            full.versions(small, 2, Some(full.namespace.uuid())).await;
        }
        let elsewhere = Uuid::now_v7();
        let other = full.model(elsewhere, "large").await;
        full.versions(other, MANY, Some(elsewhere)).await;
        if full.backend() == DbBackend::Postgres {
            // As its autovacuum does; nothing does it to a SQLite file.
            full.run("ANALYZE").await;
        }
        full
    }

    fn backend(&self) -> DbBackend {
        self.store.sql.backend()
    }

    async fn run(&self, sql: &str) {
        let tx = self.store.sql.begin().await.unwrap();
        tx.execute_unprepared(sql).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn model(&self, namespace: Uuid, name: &str) -> Uuid {
        let id = Uuid::now_v7();
        let sql = "INSERT INTO model (id, namespace_id, namespace, name, description, created_at, \
                   updated_at, created_by, last_version, latest_version, version_count, \
                   byte_count, revision) VALUES ($1, $2, 'ml', $3, '', 1, 1, $1, 0, 0, 0, 0, 1)";
        let tx = self.store.sql.begin().await.unwrap();
        execute(&tx, sql, [id.into(), namespace.into(), name.into()]).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    /// Versions 1 to `count`, each changed a microsecond after the one before; `None` as a binary
    /// inserts them that does not know of the column.
    async fn versions(&self, model: Uuid, count: i64, namespace: Option<Uuid>) {
        let (numbers, id) = match self.backend() {
            DbBackend::Postgres => ("SELECT generate_series(1, $2) AS n", "gen_random_uuid()"),
            _ => (
                "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < $2) \
                 SELECT n FROM s",
                "randomblob(16)",
            ),
        };
        let (column, value) = match namespace {
            Some(_) => (", namespace_id", ", $3"),
            None => ("", ""),
        };
        let sql = format!(
            "INSERT INTO version (id, model_id, number, description, status, status_message, \
             stage, source, source_head, run_id, run_link, logged_model_id, byte_count, \
             file_count, scan, signed, created_at, updated_at, created_by{column}) \
             SELECT {id}, $1, n, '', 2, '', 'None', '', '', 'run-' || n, '', '', 0, 0, 1, \
             1 = 0, n, n, $1{value} FROM ({numbers}) s"
        );
        let mut values: Vec<sea_orm::Value> = vec![model.into(), count.into()];
        values.extend(namespace.map(sea_orm::Value::from));
        let tx = self.store.sql.begin().await.unwrap();
        execute(&tx, &sql, values).await.unwrap();
        tx.commit().await.unwrap();
    }

    fn page(&self, filter: Vec<Expr>, ascending: bool) -> OrderedPage {
        OrderedPage {
            namespace: Some(self.namespace),
            visible: VisibleRows::All,
            filter: Expr::And(filter),
            list: "versions".to_owned(),
            orders: vec![("last_updated_timestamp".to_owned(), ascending)],
            page_token: String::new(),
            limit: 100,
        }
    }

    /// The same page far behind the first one.
    async fn deep(&self, page: &OrderedPage) -> OrderedPage {
        let far = OrderedPage {
            namespace: page.namespace,
            visible: page.visible.clone(),
            filter: page.filter.clone(),
            list: page.list.clone(),
            orders: page.orders.clone(),
            page_token: String::new(),
            limit: u32::try_from(MANY / 2).unwrap(),
        };
        let (_, token) = self.store.ordered_versions(&far).await.unwrap();
        OrderedPage { page_token: token.expect("more"), limit: page.limit, ..far }
    }

    /// The same page behind a version of `large`; none before it is read for that.
    fn behind(page: &OrderedPage, number: u64) -> OrderedPage {
        let number = i64::try_from(number).unwrap();
        let key = vec![Key::Integer(number), Key::Text("large".to_owned()), Key::Integer(number)];
        let token = cut(&mut vec![(), ()], 1, &page.list, |()| Ok(key)).unwrap();
        OrderedPage {
            page_token: token.expect("more"),
            filter: page.filter.clone(),
            list: page.list.clone(),
            orders: page.orders.clone(),
            visible: page.visible.clone(),
            ..*page
        }
    }

    /// The steps that the database takes for a page.
    async fn plan(&self, page: &OrderedPage) -> Vec<String> {
        self.told(page, "EXPLAIN").await
    }

    /// What Postgres says of a page's query, and SQLite of its plan.
    async fn told(&self, page: &OrderedPage, explain: &str) -> Vec<String> {
        let versions = self.store.versions(page).await.unwrap().expect("a model");
        let query = versions.query(page).unwrap();
        let (explain, column) = match self.backend() {
            DbBackend::Postgres => (explain, "QUERY PLAN"),
            _ => ("EXPLAIN QUERY PLAN", "detail"),
        };
        let sql = format!("{explain} {}", query.sql);
        let statement = Statement::from_sql_and_values(self.backend(), sql, query.values);
        let rows = self.store.read().query_all_raw(statement).await.unwrap();
        rows.iter().map(|row| row.try_get("", column).unwrap()).collect()
    }
}

/// Steps of SQLite's machine on the one connection that reads, counted from now on.
async fn counted(store: &Store) -> Arc<AtomicU64> {
    let steps = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&steps);
    let mut connection = store.read().get_sqlite_connection_pool().acquire().await.unwrap();
    connection.lock_handle().await.unwrap().set_progress_handler(1, move || {
        counting.fetch_add(1, Ordering::Relaxed);
        true
    });
    steps
}

/// Rows that the scans of a plan of Postgres read, by what it says of a run.
fn rows_read(plan: &[String]) -> u64 {
    let number = |text: &str| -> f64 {
        text.chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect::<String>()
            .parse()
            .unwrap()
    };
    let after = |line: &str, word: &str| line.split_once(word).map(|(_, rest)| number(rest));
    let scanned = plan.iter().filter(|line| line.contains("Scan")).filter_map(|line| {
        let (_, actual) = line.split_once("(actual ")?;
        Some(after(actual, "rows=")? * after(actual, "loops=")?)
    });
    let removed = plan.iter().filter_map(|line| {
        let line = line.trim_start();
        line.starts_with("Rows Removed by").then(|| after(line, ": "))?
    });
    scanned.chain(removed).sum::<f64>() as u64
}

fn is(field: Field, text: &str) -> Expr {
    Expr::Test(Test { field, op: Op::Eq, value: Literal::Text(text.to_owned()) })
}

/// Why a plan is not one that costs what its page does: nothing if it is.
fn costly(plan: &[String], index: &str) -> Option<String> {
    let steps: Vec<&str> =
        plan.iter().map(|line| line.trim_start_matches([' ', '-', '>'])).collect();
    let scans = steps
        .iter()
        .find(|step| step.starts_with("SCAN v") || step.contains("Seq Scan on version v"));
    let sorts = steps.iter().find(|step| {
        // Rows of one moment are put in order among each other, no others.
        step.starts_with("Sort  (") || step.ends_with("TEMP B-TREE FOR ORDER BY")
    });
    match (scans, sorts) {
        (Some(step), _) | (_, Some(step)) => Some(format!("{step} in\n{}", plan.join("\n"))),
        _ if !plan.iter().any(|line| line.contains(index)) => {
            Some(format!("no {index} in\n{}", plan.join("\n")))
        }
        _ => None,
    }
}

#[tokio::test]
async fn a_page_of_versions_goes_by_an_index_at_any_depth() {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        let full = Full::on(&sql).await;
        let named = || vec![is(Field::Name, "large")];
        for (filter, index) in [(Vec::new(), "version_of_namespace"), (named(), "version_of_model")]
        {
            for ascending in [false, true] {
                let first = full.page(filter.clone(), ascending);
                let deep = full.deep(&first).await;
                for page in [&first, &deep] {
                    let breach = costly(&full.plan(page).await, index);
                    assert_eq!(breach, None, "{:?} ascending: {ascending}", full.backend());
                }
            }
        }
        let run = full.page(vec![is(Field::RunId, "run-77")], false);
        let plan = full.plan(&run).await;
        assert!(plan.iter().any(|step| step.contains("version_run")), "{plan:?}");
    }
}

#[tokio::test]
async fn a_page_deep_in_a_large_registry_reads_what_the_first_one_does() {
    let dir = tempfile::tempdir().unwrap();
    for mut sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        let is_postgres = sql.database_url.is_some();
        if !is_postgres {
            // All that is read goes through the connection that is counted.
            sql.max_connections = 1;
        }
        let full = Full::of(&sql, i64::try_from(LARGE).unwrap()).await;
        let steps = if is_postgres { Arc::default() } else { counted(&full.store).await };
        let cost = async |page: &OrderedPage| {
            steps.store(0, Ordering::Relaxed);
            let (found, token) = full.store.ordered_versions(page).await.unwrap();
            assert!(found.len() == 100 && token.is_some());
            let first = found[0].number;
            if is_postgres {
                (rows_read(&full.told(page, "EXPLAIN (ANALYZE, TIMING OFF)").await), first)
            } else {
                (steps.load(Ordering::Relaxed), first)
            }
        };
        for filter in [Vec::new(), vec![is(Field::Name, "large")]] {
            for ascending in [false, true] {
                let page = full.page(filter.clone(), ascending);
                let (at_first, _) = cost(&page).await;
                let end = if ascending { LARGE - 1_000 } else { 1_000 };
                for number in [LARGE / 2, end] {
                    let (deep, first) = cost(&Full::behind(&page, number)).await;
                    let next = if ascending { number + 1 } else { number - 1 };
                    assert_eq!(u64::try_from(first).unwrap(), next);
                    // Postgres may look up the model for each row, or once.
                    assert!(
                        deep <= at_first * 3 && at_first < LARGE,
                        "{deep} behind {number}, {at_first} at first; ascending: {ascending}, \
                         Postgres: {is_postgres}"
                    );
                }
            }
        }
        if is_postgres {
            continue;
        }
        // The same list as gRPC's clients page it.
        let found = full.store.find_model(full.namespace, "large").await.unwrap().unwrap();
        let list = async |after| {
            steps.store(0, Ordering::Relaxed);
            let page = VersionPage {
                namespace: Some(full.namespace),
                model: Some(found.id),
                order: VersionOrder::Number,
                descending: true,
                after,
                limit: 100,
                ..VersionPage::default()
            };
            let found = full.store.search_versions(&VisibleRows::All, &page).await.unwrap();
            (steps.load(Ordering::Relaxed), found[0].number)
        };
        let (at_first, newest) = list(None).await;
        let (deep, next) = list(Some((500, "ml/large".to_owned(), 500, Uuid::nil()))).await;
        assert_eq!((newest, next), (i64::try_from(LARGE).unwrap(), 499));
        assert!(deep <= at_first * 3 && at_first < LARGE, "{deep}, {at_first} at first");
    }
}

#[tokio::test]
async fn pages_by_an_index_are_the_namespaces_versions_each_once() {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        let full = Full::on(&sql).await;
        // A short page is one row of SQLite's, a long one a row for each of its own.
        for limit in [250, 3_000] {
            let page = OrderedPage { limit, ..full.page(Vec::new(), false) };
            let seen = full.all_of(page).await;
            assert_eq!(seen.len(), usize::try_from(MANY + 2 * SMALL).unwrap());
            let newest_first = |a: &(i64, String, i64), b: &(i64, String, i64)| {
                b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then(b.2.cmp(&a.2))
            };
            assert!(seen.is_sorted_by(|a, b| newest_first(a, b).is_lt()), "{limit}");
        }
    }
}

/// Whether a version of a model, by its number, is one of those that a list has.
type Wanted = fn(&str, i64) -> bool;

/// Tags that the newest versions have, that none has, and that only old ones have: Postgres is
/// asked in another way for each.
#[tokio::test]
async fn tags_are_found_wherever_their_versions_are() {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        let full = Full::on(&sql).await;
        for (key, which) in [("third", "number % 3 = 0"), ("old", "number <= 5000")] {
            let tagged = format!(
                "INSERT INTO version_tag (version_id, key, value, head) \
                 SELECT id, '{key}', 'yes', 'yes' FROM version WHERE {which}"
            );
            full.run(&tagged).await;
        }
        let has = |key: &str| is(Field::Tag(key.to_owned()), "yes");
        let lacks = |key: &str| Expr::Not(Box::new(has(key)));
        let named = || is(Field::Name, "large");
        let all = full.all_of(full.page(Vec::new(), false)).await;
        let asked: [(Vec<Expr>, Wanted); 5] = [
            (vec![has("third"), lacks("old")], |_, number| number % 3 == 0 && number > 5_000),
            (vec![has("third"), has("old")], |_, number| number % 3 == 0 && number <= 5_000),
            (vec![has("old"), named()], |model, number| model == "large" && number <= 5_000),
            (vec![has("third"), Expr::Not(Box::new(named()))], |_, _| false),
            (vec![has("third"), is(Field::Tag("old".to_owned()), "no")], |_, _| false),
        ];
        for (filter, wanted) in asked {
            let shown = format!("{:?}: {filter:?}", full.backend());
            let mut expected = all.clone();
            expected.retain(|(_, model, number)| wanted(model, *number));
            assert_eq!(full.all_of(full.page(filter, false)).await, expected, "{shown}");
        }
        let near = full.store.versions(&full.page(vec![has("old")], false)).await.unwrap().unwrap();
        let near = near.near(&full.page(vec![has("old")], false)).unwrap();
        assert_eq!(near.is_some(), full.backend() == DbBackend::Postgres);
    }
}

/// What hangs on a model and on its versions, however they are read.
#[tokio::test]
async fn a_model_and_its_versions_come_with_all_that_hangs_on_them() {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        let (store, objects) = opened(&sql).await;
        store.migrate().await.unwrap();
        let full = Full { store, namespace: NamespaceId::new(), _objects: objects };
        let bare = full.model(full.namespace.uuid(), "bare").await;
        let model = full.model(full.namespace.uuid(), "m").await;
        full.versions(model, 3, Some(full.namespace.uuid())).await;
        full.hang(model).await;
        let (found, latest) =
            full.store.find_model_with_latest(full.namespace, "m").await.unwrap().unwrap();
        assert_eq!(found.tags, [("k".to_owned(), ODD.to_owned())].into());
        let aliases: Vec<_> =
            found.aliases.iter().map(|it| (it.name.as_str(), it.number, it.protected)).collect();
        assert_eq!(aliases, [("a", 2, true), ("z", 2, false)]);
        assert_eq!(found.latest_by_stage, [("None".to_owned(), 3), ("Prod".to_owned(), 2)]);
        assert_eq!(latest.iter().map(|it| it.number).collect::<Vec<_>>(), [3, 2]);
        let second = &latest[1];
        assert_eq!(second.tags, [("k".to_owned(), ODD.to_owned())].into());
        assert_eq!(second.flavors, ["onnx", "torch"]);
        assert_eq!(second.aliases, ["a", "z"]);
        assert_eq!((second.digest.as_deref(), second.signed), (Some(&[0, 255][..]), true));
        assert_eq!((latest[0].digest.as_deref(), latest[0].label.as_deref()), (None, None));
        for which in [
            VersionRef::Number(2),
            VersionRef::Alias("a".to_owned()),
            VersionRef::Stage("Prod".to_owned()),
        ] {
            let named = full.store.find_version_of(full.namespace, "m", &which).await.unwrap();
            assert_eq!(named.as_ref(), Some(second), "{which}");
            let by_id = full.store.find_version(found.id, &which).await.unwrap();
            assert_eq!(by_id.as_ref(), Some(second), "{which}");
        }
        let page = full.page(Vec::new(), true);
        let named = OrderedPage { orders: vec![("name".to_owned(), false)], ..page };
        let (models, _) = full.store.ordered_models(&named).await.unwrap();
        assert_eq!(models[0], (found, latest));
        assert_eq!(
            (models[1].0.id.uuid(), models[1].0.tags.len(), models[1].1.len()),
            (bare, 0, 0)
        );
    }
}

/// What JSON has to escape.
const ODD: &str = "\"\\\u{1}\n😀\u{2028}";

impl Full {
    /// Tags, aliases and stages of a model, and all of its second version.
    async fn hang(&self, model: Uuid) {
        let tx = self.store.sql.begin().await.unwrap();
        let second = "(SELECT id FROM version WHERE model_id = $1 AND number = 2)";
        let odd = || sea_orm::Value::from(ODD);
        for (sql, values) in [
            ("INSERT INTO model_tag VALUES ($1, 'k', $2, '')".to_owned(), vec![odd()]),
            (format!("INSERT INTO version_tag VALUES ({second}, 'k', $2, '')"), vec![odd()]),
            (format!("INSERT INTO version_flavor VALUES ({second}, 'torch'), ({second}, 'onnx')"), vec![]),
            ("INSERT INTO alias VALUES ($1, 'z', 2, 1 = 0, 5, $1, 1), ($1, 'a', 2, 1 = 1, 5, $1, 1)".to_owned(), vec![]),
            ("INSERT INTO stage_latest VALUES ($1, 'Prod', 2), ($1, 'None', 3)".to_owned(), vec![]),
            ("UPDATE version SET digest = $2, signed = (1 = 1) WHERE model_id = $1 AND number = 2".to_owned(), vec![vec![0_u8, 255].into()]),
        ] {
            let all = std::iter::once(model.into()).chain(values);
            execute(&tx, &sql, all).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// A list's versions, page after page.
    async fn all_of(&self, mut page: OrderedPage) -> Vec<(i64, String, i64)> {
        let mut seen = Vec::new();
        loop {
            let (found, token) = self.store.ordered_versions(&page).await.unwrap();
            assert!(found.iter().all(|version| version.namespace_id == self.namespace));
            seen.extend(found.into_iter().map(|one| (one.updated_at, one.model, one.number)));
            let Some(token) = token else { return seen };
            page.page_token = token;
        }
    }
}

#[tokio::test]
async fn a_version_that_an_older_replica_inserts_knows_its_namespace() {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        let (store, objects) = opened(&sql).await;
        store.migrate().await.unwrap();
        let full = Full { store, namespace: NamespaceId::new(), _objects: objects };
        if full.backend() != DbBackend::Postgres {
            // One process holds a SQLite file: no older one writes beside it.
            continue;
        }
        let model = full.model(full.namespace.uuid(), "m").await;
        full.versions(model, 3, None).await;
        assert_eq!(full.placed().await, 3);
        let (found, _) = full.store.ordered_versions(&full.page(Vec::new(), false)).await.unwrap();
        assert_eq!(found.iter().map(|version| version.number).collect::<Vec<_>>(), [3, 2, 1]);
        // What is said is kept: the trigger fills what is missing, no more.
        let (elsewhere, other) = (Uuid::now_v7(), full.model(full.namespace.uuid(), "n").await);
        full.versions(other, 1, Some(elsewhere)).await;
        assert_eq!(full.placed().await, 3);
    }
}

#[tokio::test]
async fn the_migration_fills_what_is_there_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        let (store, objects) = opened(&sql).await;
        store.migrate().await.unwrap();
        let full = Full { store, namespace: NamespaceId::new(), _objects: objects };
        let model = full.model(full.namespace.uuid(), "m").await;
        full.versions(model, 5, Some(full.namespace.uuid())).await;
        let all = Migrator::migrations();
        let ours = all.iter().position(|one| one.name() == "m0004_version_namespace").unwrap();
        let steps = u32::try_from(all.len() - ours).unwrap();
        full.store.sql.revert::<Migrator>(Some(steps)).await.unwrap();
        assert_eq!(full.left_behind().await, 0, "{:?}", full.backend());
        let inserted = full.model(full.namespace.uuid(), "n").await;
        full.versions(inserted, 2, None).await;
        full.store.migrate().await.unwrap();
        assert!(full.left_behind().await > 0);
        assert_eq!(full.placed().await, 7, "those of before and of between");
        let (found, _) = full.store.ordered_versions(&full.page(Vec::new(), true)).await.unwrap();
        assert_eq!(found.len(), 7);
    }
}

impl Full {
    /// How many versions lie in its namespace, as their own rows say.
    async fn placed(&self) -> i64 {
        let sql = "SELECT COUNT(*) FROM version WHERE namespace_id = $1";
        let count = number(self.store.read(), sql, [self.namespace.uuid().into()]).await;
        count.unwrap().unwrap_or_default()
    }

    /// How many indexes, columns, triggers and functions there are of the migration.
    async fn left_behind(&self) -> i64 {
        let sql = match self.backend() {
            DbBackend::Postgres => {
                "SELECT (SELECT COUNT(*) FROM pg_indexes WHERE schemaname = 'models' \
                 AND indexname IN ('version_of_namespace', 'version_of_model')) \
                 + (SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = 'models' \
                 AND table_name = 'version' AND column_name = 'namespace_id') \
                 + (SELECT COUNT(*) FROM pg_trigger WHERE tgname = 'version_namespace') \
                 + (SELECT COUNT(*) FROM pg_proc WHERE proname = 'version_namespace')"
            }
            _ => {
                "SELECT (SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' \
                 AND name IN ('version_of_namespace', 'version_of_model')) \
                 + (SELECT COUNT(*) FROM pragma_table_info('version') \
                 WHERE name = 'namespace_id')"
            }
        };
        number(self.store.read(), sql, []).await.unwrap().unwrap_or_default()
    }
}
