//! `quarry.vectors.v1.LoadingService`.

use tonic::{Request, Response, Status};
use vectors_api::v1 as wire;
use vectors_api::v1::loading_service_server::LoadingService;

use crate::app::{App, EmbedDataset, LoadVectors};
use crate::grpc::answer;
use crate::model::Address;

/// The service over the use cases.
pub struct Loading(pub App);

#[tonic::async_trait]
impl LoadingService for Loading {
    async fn load_vectors(
        &self,
        request: Request<wire::LoadVectorsRequest>,
    ) -> Result<Response<wire::LoadVectorsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let queued = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            let load = LoadVectors {
                source_namespace: asked.source_namespace,
                source_dataset: asked.source_dataset,
                version: asked.version,
                id_column: asked.id_column,
                vector_column: asked.vector_column,
                payload_columns: asked.payload_columns,
                embedder: asked.embedder,
                delete_missing: asked.delete_missing,
            };
            self.0.load_vectors(&caller, &address, load).await
        };
        let queued = queued.await;
        answer(queued.map(|filling| wire::LoadVectorsResponse {
            job: format!("vector-search/{}", filling.job),
            columns_left_out: filling.left_out,
        }))
    }

    async fn embed_dataset(
        &self,
        request: Request<wire::EmbedDatasetRequest>,
    ) -> Result<Response<wire::EmbedDatasetResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let queued = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            let embed = EmbedDataset {
                source_namespace: asked.source_namespace,
                source_dataset: asked.source_dataset,
                version: asked.version,
                id_column: asked.id_column,
                text_column: asked.text_column,
                payload_columns: asked.payload_columns,
                embedder: asked.embedder,
                delete_missing: asked.delete_missing,
            };
            self.0.embed_dataset(&caller, &address, embed).await
        };
        let queued = queued.await;
        answer(queued.map(|filling| wire::EmbedDatasetResponse {
            job: format!("vector-search/{}", filling.job),
            columns_left_out: filling.left_out,
        }))
    }
}
