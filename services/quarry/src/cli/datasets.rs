//! `quarry datasets`.

use std::sync::Arc;

use arrow::datatypes::Schema;
use catalog_api::v1::{
    CreateDatasetRequest, DeleteDatasetRequest, GetDatasetRequest, ListDatasetsRequest,
    ListVersionsRequest, Profile,
};
use clap::{Subcommand, ValueEnum};
use ingest::parse_schema;
use items_api::v1::{CollectGarbageRequest, GetStatisticsRequest, SetUniqueColumnsRequest};
use serde_json::{Value as Json, json};
use service_error::ServiceError;

use super::jobs::{follow, job_json, outcome};
use super::{Context, Page};
use crate::client::version::{DatasetName, VersionName};
use crate::failure::Failure;
use crate::output::{Column, column, message_json, table};

const LIST: [Column; 6] = [
    column("namespace", "namespace"),
    column("name", "name"),
    column("profile", "profile"),
    column("version", "latest.number"),
    column("rows", "latest.row_count"),
    column("public", "public"),
];
const SHOW: [Column; 10] = [
    column("namespace", "namespace"),
    column("name", "name"),
    column("profile", "profile"),
    column("key", "key_column"),
    column("unique", "unique_columns"),
    column("version", "latest.number"),
    column("rows", "latest.row_count"),
    column("bytes", "latest.byte_count"),
    column("public", "public"),
    column("created", "create_time"),
];
const COLUMNS: [Column; 3] =
    [column("column", "name"), column("type", "type"), column("nullable", "nullable")];
const VERSIONS: [Column; 6] = [
    column("version", "number"),
    column("rows", "row_count"),
    column("bytes", "byte_count"),
    column("blocks", "block_count"),
    column("created", "create_time"),
    column("message", "message"),
];
const COLLECTED: [Column; 10] = [
    column("job", "name"),
    column("state", "state"),
    column("uploads", "result.uploads"),
    column("snapshots", "result.snapshots"),
    column("blocks", "result.blocks"),
    column("datasets", "result.datasets"),
    column("objects", "result.objects"),
    column("bytes", "result.bytes"),
    column("young", "result.young_objects"),
    column("unknown", "result.unknown_objects"),
];
const STATISTICS: [Column; 4] = [
    column("column", "column"),
    column("nulls", "null_count"),
    column("min", "min"),
    column("max", "max"),
];

/// The shape of a dataset.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ProfileName {
    /// The item columns, and any others beside them
    Items,
    /// Any columns
    Table,
}

#[derive(Debug, Subcommand)]
pub enum DatasetsCommand {
    /// The datasets that you may see
    List {
        /// Only of this namespace
        namespace: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// One dataset with its columns
    Show {
        #[arg(value_name = "NAMESPACE/DATASET")]
        name: DatasetName,
    },
    /// Make an empty dataset
    Create {
        #[arg(value_name = "NAMESPACE/DATASET")]
        name: DatasetName,
        /// Its shape [default: table if --schema is given, else items]
        #[arg(long, value_enum)]
        profile: Option<ProfileName>,
        /// Its columns: name:type,… or a JSON file
        #[arg(long, value_name = "TYPES")]
        schema: Option<String>,
        /// The column that identifies a row [default: id, if there is one]
        #[arg(long, value_name = "COLUMN", default_value = "")]
        key: String,
        /// Columns in which no two rows may have the same value
        #[arg(long, value_name = "C,…", value_delimiter = ',')]
        unique: Vec<String>,
        /// What it is
        #[arg(long, default_value = "")]
        description: String,
        /// Readable by everybody who has a token
        #[arg(long)]
        public: bool,
    },
    /// Say in which columns no two rows may have the same value; its rows are looked at first
    Unique {
        #[arg(value_name = "NAMESPACE/DATASET")]
        name: DatasetName,
        /// The columns, in place of those that were unique
        #[arg(value_name = "COLUMN", required_unless_present = "none")]
        columns: Vec<String>,
        /// No column is unique any more
        #[arg(long, conflicts_with = "columns")]
        none: bool,
    },
    /// Delete a dataset with all its versions
    Delete {
        #[arg(value_name = "NAMESPACE/DATASET")]
        name: DatasetName,
    },
    /// Delete what nothing names any more, of all datasets; for admins
    Gc {
        /// Change nothing: count the objects that nothing names
        #[arg(long)]
        dry_run: bool,
        /// Queue the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Its versions, newest first
    Versions {
        #[arg(value_name = "NAMESPACE/DATASET")]
        name: DatasetName,
        #[command(flatten)]
        page: Page,
    },
    /// Nulls, least and greatest value of each column
    Statistics {
        #[arg(value_name = "NAMESPACE/DATASET[@VERSION]")]
        name: VersionName,
    },
}

impl DatasetsCommand {
    /// Asks the catalog.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { namespace, page } => list(context, namespace, page).await,
            Self::Show { name } => show(context, name).await,
            Self::Create { name, profile, schema, key, unique, description, public } => {
                let request = CreateDatasetRequest {
                    namespace: name.namespace,
                    name: name.dataset,
                    description,
                    profile: profile_number(profile),
                    arrow_schema: schema
                        .as_deref()
                        .map(schema_bytes)
                        .transpose()?
                        .unwrap_or_default(),
                    key_column: key,
                    unique_columns: unique,
                    public,
                    ..CreateDatasetRequest::default()
                };
                let answer =
                    context.client()?.datasets().create_dataset(request).await?.into_inner();
                let json = message_json("quarry.catalog.v1.CreateDatasetResponse", &answer)?;
                context.output.message(&json, "dataset", &SHOW)
            }
            Self::Unique { name, columns, none: _ } => {
                let said = match columns.as_slice() {
                    [] => format!("no column of {name} is unique"),
                    _ => format!("unique in {name}: {}", columns.join(", ")),
                };
                let request = SetUniqueColumnsRequest {
                    namespace: name.namespace,
                    dataset: name.dataset,
                    columns,
                };
                context.client()?.edits().set_unique_columns(request).await?;
                context.output.answer(&json!({}), || said)
            }
            Self::Delete { name } => {
                let said = name.to_string();
                let request =
                    DeleteDatasetRequest { namespace: name.namespace, name: name.dataset };
                context.client()?.datasets().delete_dataset(request).await?;
                context.output.answer(&json!({}), || format!("dataset {said} is deleted"))
            }
            Self::Gc { dry_run, no_wait } => collect(context, dry_run, no_wait).await,
            Self::Versions { name, page } => versions(context, name, page).await,
            Self::Statistics { name } => {
                let json = statistics(context, &name).await?;
                context.output.message(&json, "columns", &STATISTICS)
            }
        }
    }
}

/// Has garbage collected, and says what went.
async fn collect(context: &Context, dry_run: bool, no_wait: bool) -> Result<(), Failure> {
    let client = context.client()?;
    let request = CollectGarbageRequest { dry_run };
    let job = client.maintenance().collect_garbage(request).await?.into_inner().job;
    if no_wait {
        return context.output.answer(&json!({ "job": { "name": job } }), || job.clone());
    }
    let ended = follow(context, &client, &job).await?;
    let json = json!({ "job": job_json(&ended)? });
    context.output.message(&json, "job", &COLLECTED)?;
    outcome(&ended)
}

async fn list(context: &Context, namespace: Option<String>, page: Page) -> Result<(), Failure> {
    let (page_size, page_token) = page.parts();
    let request =
        ListDatasetsRequest { namespace: namespace.unwrap_or_default(), page_size, page_token };
    let answer = context.client()?.datasets().list_datasets(request).await?.into_inner();
    let json = message_json("quarry.catalog.v1.ListDatasetsResponse", &answer)?;
    context.output.message(&json, "datasets", &LIST)
}

async fn show(context: &Context, name: DatasetName) -> Result<(), Failure> {
    let request = GetDatasetRequest { namespace: name.namespace, name: name.dataset };
    let answer = context.client()?.datasets().get_dataset(request).await?.into_inner();
    let json = message_json("quarry.catalog.v1.GetDatasetResponse", &answer)?;
    context.output.answer(&json, || {
        let dataset = &json["dataset"];
        let columns = dataset["columns"].as_array().map_or(&[][..], Vec::as_slice);
        format!("{}\n\n{}", table(&SHOW, std::slice::from_ref(dataset)), table(&COLUMNS, columns))
    })
}

async fn versions(context: &Context, name: DatasetName, page: Page) -> Result<(), Failure> {
    let (page_size, page_token) = page.parts();
    let request = ListVersionsRequest {
        namespace: name.namespace,
        dataset: name.dataset,
        page_size,
        page_token,
    };
    let answer = context.client()?.datasets().list_versions(request).await?.into_inner();
    let json = message_json("quarry.catalog.v1.ListVersionsResponse", &answer)?;
    context.output.message(&json, "versions", &VERSIONS)
}

/// Rows, bytes, and what each column holds; cells are plain values.
async fn statistics(context: &Context, name: &VersionName) -> Result<Json, Failure> {
    let request = GetStatisticsRequest {
        namespace: name.dataset.namespace.clone(),
        dataset: name.dataset.dataset.clone(),
        version: name.version.clone().unwrap_or_default(),
    };
    let answer = context.client()?.items().get_statistics(request).await?.into_inner();
    Ok(crate::client::statistics::json(&answer))
}

fn profile_number(profile: Option<ProfileName>) -> i32 {
    match profile {
        None => Profile::Unspecified,
        Some(ProfileName::Items) => Profile::Items,
        Some(ProfileName::Table) => Profile::Table,
    }
    .into()
}

fn schema_bytes(text: &str) -> Result<Vec<u8>, Failure> {
    let schema = Arc::new(Schema::new(parse_schema(text)?));
    Ok(item_schema::schema_to_ipc(&schema).map_err(|err| ServiceError::invalid("schema", err))?)
}
