//! `quarry.items.v1.SqlService`.

use futures::stream::{self, BoxStream, StreamExt};
use items_api::v1::sql_service_server::SqlService;
use items_api::v1::{RunQueryRequest, RunQueryResponse};
use tonic::{Request, Response, Status};

use crate::app::{App, QueryRows};

/// SQL over the use cases.
#[derive(Debug, Clone)]
pub(super) struct SqlGrpc {
    app: App,
}

impl SqlGrpc {
    /// The service over the use cases.
    pub const fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl SqlService for SqlGrpc {
    type RunQueryStream = BoxStream<'static, Result<RunQueryResponse, Status>>;

    async fn run_query(
        &self,
        request: Request<RunQueryRequest>,
    ) -> Result<Response<Self::RunQueryStream>, Status> {
        let caller = caller::of(&request)?;
        let QueryRows { columns, rows } =
            self.app.query_rows(caller, &request.into_inner().query).await?;
        let first = RunQueryResponse { columns, rows: Vec::new() };
        let rows = rows.map(|rows| {
            let rows = rows.map_err(Status::from)?;
            Ok(RunQueryResponse { columns: Vec::new(), rows })
        });
        Ok(Response::new(stream::once(std::future::ready(Ok(first))).chain(rows).boxed()))
    }
}
