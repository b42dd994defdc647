//! The engine: plans queries and runs them within the process's bounds.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use object_store::ObjectStore;
use service_error::ServiceError;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use crate::error::sql_error;
use crate::names::CATALOG;
use crate::parameters::{self, Parameters};
use crate::running::Shares;
use crate::statement::Statement;
use crate::surface;
use crate::table::Table;

/// Rows of a batch between operators.
const BATCH_ROWS: usize = 8_192;
/// What a sort that spilled keeps free for its merge, at most.
const SORT_RESERVATION_BYTES_MAX: usize = 10 << 20;
/// Consumers that an error about memory names.
const CONSUMERS_SHOWN: NonZeroUsize = NonZeroUsize::MIN;

/// What all queries together may take.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Bytes of memory of all queries' operators.
    pub memory_bytes_max: usize,
    /// Bytes on disk that they may spill.
    pub spill_bytes_max: u64,
    /// Where to; `None`: the system's directory for temporary files.
    pub spill_dir: Option<std::path::PathBuf>,
    /// Queries that run at once; others wait. One asker has at most half as many under way.
    pub queries_max: usize,
    /// How long a query may take, its client's reading included.
    pub time_max: Duration,
    /// Threads that plan and compute.
    pub threads: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            memory_bytes_max: 1 << 30,
            spill_bytes_max: 16 << 30,
            spill_dir: None,
            queries_max: 16,
            time_max: Duration::from_secs(600),
            threads: std::thread::available_parallelism().map_or(2, NonZeroUsize::get),
        }
    }
}

/// Plans and runs queries. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    state: SessionState,
    runtime: Option<Runtime>,
    pub slots: Arc<Semaphore>,
    pub shares: Shares,
    pub time_max: Duration,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime may not be waited for where its owner may be a task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A query that can run.
#[derive(Debug, Clone)]
pub struct Planned {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) task: Arc<datafusion::execution::TaskContext>,
    /// Of its rows.
    pub schema: SchemaRef,
}

/// What a statement answers and takes.
#[derive(Debug, Clone)]
pub struct Described {
    /// Of its rows.
    pub schema: SchemaRef,
    /// Its parameters, `$1` first.
    pub parameters: SchemaRef,
}

/// Refuses every URL: no query reaches a file or a bucket by name.
#[derive(Debug)]
struct NoStores;

impl ObjectStoreRegistry for NoStores {
    fn register_store(
        &self,
        _: &url::Url,
        _: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &url::Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        Err(DataFusionError::Plan(format!("no files are read by URL: {}", url.scheme())))
    }
}

impl Engine {
    /// An engine with threads of its own.
    ///
    /// # Errors
    /// A directory for spilling that cannot be used; threads that do not start.
    pub fn new(settings: &EngineSettings) -> Result<Self, ServiceError> {
        let pool = FairSpillPool::new(settings.memory_bytes_max.max(1 << 20));
        let mut environment = RuntimeEnvBuilder::new()
            .with_object_store_registry(Arc::new(NoStores))
            .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, CONSUMERS_SHOWN)))
            .with_max_temp_directory_size(settings.spill_bytes_max);
        if let Some(dir) = &settings.spill_dir {
            environment = environment.with_temp_file_path(dir);
        }
        let threads = settings.threads.max(1);
        let state = SessionStateBuilder::new()
            .with_config(config(threads, settings.memory_bytes_max))
            .with_runtime_env(environment.build_arc().map_err(sql_error)?)
            .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
            .with_default_features()
            .with_table_factories(std::collections::HashMap::new())
            .build();
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("sql")
            .enable_all()
            .build()
            .map_err(|error| {
                ServiceError::internal("the threads for SQL do not start").caused_by(error)
            })?;
        let inner = Inner {
            state,
            runtime: Some(runtime),
            slots: Arc::new(Semaphore::new(settings.queries_max.max(1))),
            shares: Shares::of_slots(settings.queries_max),
            time_max: settings.time_max,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// What a statement over `tables` answers and takes.
    ///
    /// # Errors
    /// Columns, functions or types that do not fit.
    pub async fn describe(
        &self,
        statement: &Statement,
        tables: Vec<Table>,
    ) -> Result<Described, ServiceError> {
        let (inner, statement) = (Arc::clone(&self.inner), statement.clone());
        self.inner
            .spawn(async move {
                let state = inner.session(tables)?;
                let plan = logical(&state, statement).await?;
                let parameters = parameters::wanted(&plan)?;
                let schema = answered(plan.schema().as_arrow());
                Ok(Described { schema, parameters })
            })
            .await
    }

    /// Plans a statement over `tables` with values for its parameters.
    ///
    /// # Errors
    /// As [`Engine::describe`]; values that do not fit.
    pub async fn plan(
        &self,
        statement: &Statement,
        tables: Vec<Table>,
        parameters: Parameters,
    ) -> Result<Planned, ServiceError> {
        let (inner, statement) = (Arc::clone(&self.inner), statement.clone());
        self.inner
            .spawn(async move {
                let state = inner.session(tables)?;
                let plan = logical(&state, statement).await?;
                // After the values, which decide the types of what is computed from them.
                let plan = parameters::bound(plan, &parameters)?;
                let schema = answered(plan.schema().as_arrow());
                let plan = state.create_physical_plan(&plan).await.map_err(sql_error)?;
                Ok(Planned { plan, task: state.task_ctx(), schema })
            })
            .await
    }

    /// Plans what was put together of tables of its own.
    pub(crate) async fn plan_logical(&self, plan: LogicalPlan) -> Result<Planned, ServiceError> {
        let inner = Arc::clone(&self.inner);
        self.inner
            .spawn(async move {
                let state = inner.session(Vec::new())?;
                let schema = answered(plan.schema().as_arrow());
                let plan = state.create_physical_plan(&plan).await.map_err(sql_error)?;
                Ok(Planned { plan, task: state.task_ctx(), schema })
            })
            .await
    }
}

impl Inner {
    /// Runs work on the engine's threads; dropping the future stops it.
    async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let handle = self.handle()?;
        let task = tokio_util::task::AbortOnDropHandle::new(handle.spawn(work));
        let done = tokio::time::timeout(self.time_max, task).await;
        done.map_err(|_| too_slow(self.time_max))?.map_err(|error| {
            ServiceError::internal("the query could not be planned").caused_by(error)
        })?
    }

    pub fn handle(&self) -> Result<&tokio::runtime::Handle, ServiceError> {
        let runtime = self.runtime.as_ref().map(Runtime::handle);
        runtime.ok_or_else(|| ServiceError::unavailable("the server is stopping"))
    }

    /// A state that sees these tables and no others.
    fn session(&self, tables: Vec<Table>) -> Result<SessionState, ServiceError> {
        let catalog = MemoryCatalogProvider::new();
        for table in tables {
            let schema = match catalog.schema(&table.name.namespace) {
                Some(schema) => schema,
                None => {
                    let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                    catalog
                        .register_schema(&table.name.namespace, Arc::clone(&schema))
                        .map_err(sql_error)?;
                    schema
                }
            };
            schema.register_table(table.name.table(), Arc::new(table)).map_err(sql_error)?;
        }
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let mut state = self.state.clone();
        state.register_catalog_list(Arc::new(catalogs));
        Ok(state)
    }
}

pub(crate) fn too_slow(limit: Duration) -> ServiceError {
    ServiceError::new(
        service_error::Code::DeadlineExceeded,
        format!("the query took longer than {} s; read less at once", limit.as_secs()),
    )
    .reason("SQL_TOO_SLOW")
}

async fn logical(state: &SessionState, statement: Statement) -> Result<LogicalPlan, ServiceError> {
    let plan = state.statement_to_plan(statement.parsed).await.map_err(sql_error)?;
    surface::check(&plan)?;
    Ok(plan)
}

fn config(threads: usize, memory_bytes_max: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, "public");
    let options = config.options_mut();
    // Kept free for merging what was spilled: a share of what there is, for each thread.
    options.execution.sort_spill_reservation_bytes =
        (memory_bytes_max / (8 * threads.max(1))).min(SORT_RESERVATION_BYTES_MAX);
    // Text comes back as the type the dataset has.
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
    config
}

/// The schema that clients are told: no views, which not all of them read.
fn answered(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_data_type(plain(field.data_type())))
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn plain(data_type: &DataType) -> DataType {
    let inner = |field: &Arc<Field>| {
        Arc::new(field.as_ref().clone().with_data_type(plain(field.data_type())))
    };
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(field) | DataType::ListView(field) => DataType::List(inner(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => {
            DataType::LargeList(inner(field))
        }
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(inner(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::Map(field, sorted) => DataType::Map(inner(field), *sorted),
        other => other.clone(),
    }
}
