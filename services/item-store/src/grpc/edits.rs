//! `quarry.items.v1.EditsService`.

use std::collections::HashMap;

use catalog_api::v1::Value;
use items_api::v1 as wire;
use items_api::v1::bulk_edit_items_request::Change as BulkChange;
use items_api::v1::edits_service_server::EditsService;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use crate::app::{App, Cells, Edit, Edited, Repeatable, RowChange, RowEdit, RowsRequest};
use crate::model::Address;

const SERVICE: &str = "quarry.items.v1.EditsService";

#[derive(Debug, Clone)]
pub(super) struct EditsGrpc {
    app: App,
}

/// An edit as it arrived.
struct Asked {
    namespace: String,
    dataset: String,
    idempotency_key: String,
    edit: Edit,
    action: &'static str,
}

impl EditsGrpc {
    /// The service over the use cases.
    pub const fn new(app: App) -> Self {
        Self { app }
    }

    async fn edit<T>(&self, request: &Request<T>, asked: Asked) -> Result<Edited, ServiceError> {
        let caller = caller::of(request)?;
        let address = Address::new(&asked.namespace, &asked.dataset)?;
        // Maps are sorted in it: the same edit is the same text.
        let said = format!("{SERVICE} {address} {:?}", asked.edit);
        let repeatable = Repeatable {
            idempotency_key: asked.idempotency_key,
            body_hash: blake3::hash(said.as_bytes()).as_bytes().to_vec(),
        };
        self.app.edit(&caller, &address, &asked.edit, repeatable, asked.action).await
    }
}

fn cells_of(cells: HashMap<String, Value>) -> Cells {
    cells.into_iter().collect()
}

fn items_of(edited: &Edited) -> Vec<wire::EditedItem> {
    let item = |(key, revision): &(String, String)| wire::EditedItem {
        key: key.clone(),
        revision: revision.clone(),
    };
    edited.items.iter().map(item).collect()
}

fn affected(edited: &Edited) -> i64 {
    i64::try_from(edited.affected).unwrap_or(i64::MAX)
}

fn deleted(keys: Vec<String>) -> Vec<RowEdit> {
    let edit = |key| RowEdit { key, revision: String::new(), change: None };
    keys.into_iter().map(edit).collect()
}

fn patch(
    key: String,
    cells: HashMap<String, Value>,
    mask: &[String],
    revision: String,
) -> Result<RowEdit, ServiceError> {
    let change = Some(RowChange::patch(cells_of(cells), mask)?);
    Ok(RowEdit { key, revision, change })
}

#[tonic::async_trait]
impl EditsService for EditsGrpc {
    async fn create_item(
        &self,
        mut request: Request<wire::CreateItemRequest>,
    ) -> Result<Response<wire::CreateItemResponse>, Status> {
        let said = std::mem::take(request.get_mut());
        let asked = Asked {
            namespace: said.namespace,
            dataset: said.dataset,
            idempotency_key: said.idempotency_key,
            edit: Edit::Create(vec![cells_of(said.cells)]),
            action: "quarry.items.v1.EditsService/CreateItem",
        };
        let edited = self.edit(&request, asked).await?;
        let item = items_of(&edited).into_iter().next();
        let commit_token = edited.commit_token;
        Ok(Response::new(wire::CreateItemResponse { item, commit_token }))
    }

    async fn batch_create_items(
        &self,
        mut request: Request<wire::BatchCreateItemsRequest>,
    ) -> Result<Response<wire::BatchCreateItemsResponse>, Status> {
        let said = std::mem::take(request.get_mut());
        let asked = Asked {
            namespace: said.namespace,
            dataset: said.dataset,
            idempotency_key: said.idempotency_key,
            edit: Edit::Create(said.items.into_iter().map(|item| cells_of(item.cells)).collect()),
            action: "quarry.items.v1.EditsService/BatchCreateItems",
        };
        let edited = self.edit(&request, asked).await?;
        let items = items_of(&edited);
        let commit_token = edited.commit_token;
        Ok(Response::new(wire::BatchCreateItemsResponse { items, commit_token }))
    }

    async fn batch_get_items(
        &self,
        request: Request<wire::BatchGetItemsRequest>,
    ) -> Result<Response<wire::BatchGetItemsResponse>, Status> {
        let caller = caller::of(&request)?;
        let said = request.into_inner();
        let rows = RowsRequest {
            address: Address::new(&said.namespace, &said.dataset)?,
            version: said.version,
            filter: String::new(),
            columns: said.columns,
        };
        let found = self.app.batch_get(&caller, &rows, &said.keys, &said.commit_token).await?;
        Ok(Response::new(wire::BatchGetItemsResponse {
            columns: found.columns,
            items: found.items,
            version: found.version,
        }))
    }

    async fn patch_item(
        &self,
        mut request: Request<wire::PatchItemRequest>,
    ) -> Result<Response<wire::PatchItemResponse>, Status> {
        let said = std::mem::take(request.get_mut());
        let edit = patch(said.key, said.cells, &said.update_mask, said.revision)?;
        let asked = Asked {
            namespace: said.namespace,
            dataset: said.dataset,
            idempotency_key: said.idempotency_key,
            edit: Edit::Rows { edits: vec![edit], lenient: false },
            action: "quarry.items.v1.EditsService/PatchItem",
        };
        let edited = self.edit(&request, asked).await?;
        let item = items_of(&edited).into_iter().next();
        let commit_token = edited.commit_token;
        Ok(Response::new(wire::PatchItemResponse { item, commit_token }))
    }

    async fn batch_patch_items(
        &self,
        mut request: Request<wire::BatchPatchItemsRequest>,
    ) -> Result<Response<wire::BatchPatchItemsResponse>, Status> {
        let said = std::mem::take(request.get_mut());
        let edits = said
            .patches
            .into_iter()
            .map(|of| patch(of.key, of.cells, &of.update_mask, of.revision));
        let asked = Asked {
            namespace: said.namespace,
            dataset: said.dataset,
            idempotency_key: said.idempotency_key,
            edit: Edit::Rows { edits: edits.collect::<Result<_, _>>()?, lenient: false },
            action: "quarry.items.v1.EditsService/BatchPatchItems",
        };
        let edited = self.edit(&request, asked).await?;
        let items = items_of(&edited);
        let commit_token = edited.commit_token;
        Ok(Response::new(wire::BatchPatchItemsResponse { items, commit_token }))
    }

    async fn delete_item(
        &self,
        mut request: Request<wire::DeleteItemRequest>,
    ) -> Result<Response<wire::DeleteItemResponse>, Status> {
        let said = std::mem::take(request.get_mut());
        let edit = RowEdit { key: said.key, revision: said.revision, change: None };
        let asked = Asked {
            namespace: said.namespace,
            dataset: said.dataset,
            idempotency_key: said.idempotency_key,
            edit: Edit::Rows { edits: vec![edit], lenient: false },
            action: "quarry.items.v1.EditsService/DeleteItem",
        };
        let commit_token = self.edit(&request, asked).await?.commit_token;
        Ok(Response::new(wire::DeleteItemResponse { commit_token }))
    }

    async fn batch_delete_items(
        &self,
        mut request: Request<wire::BatchDeleteItemsRequest>,
    ) -> Result<Response<wire::BatchDeleteItemsResponse>, Status> {
        let said = std::mem::take(request.get_mut());
        let asked = Asked {
            namespace: said.namespace,
            dataset: said.dataset,
            idempotency_key: said.idempotency_key,
            edit: Edit::Rows { edits: deleted(said.keys), lenient: true },
            action: "quarry.items.v1.EditsService/BatchDeleteItems",
        };
        let edited = self.edit(&request, asked).await?;
        Ok(Response::new(wire::BatchDeleteItemsResponse {
            affected_rows: affected(&edited),
            commit_token: edited.commit_token,
        }))
    }

    async fn restore_items(
        &self,
        mut request: Request<wire::RestoreItemsRequest>,
    ) -> Result<Response<wire::RestoreItemsResponse>, Status> {
        let said = std::mem::take(request.get_mut());
        let asked = Asked {
            namespace: said.namespace,
            dataset: said.dataset,
            idempotency_key: said.idempotency_key,
            edit: Edit::Restore { keys: said.keys, version: said.version },
            action: "quarry.items.v1.EditsService/RestoreItems",
        };
        let edited = self.edit(&request, asked).await?;
        let items = items_of(&edited);
        let commit_token = edited.commit_token;
        Ok(Response::new(wire::RestoreItemsResponse { items, commit_token }))
    }

    async fn edit_tags(
        &self,
        mut request: Request<wire::EditTagsRequest>,
    ) -> Result<Response<wire::EditTagsResponse>, Status> {
        let said = std::mem::take(request.get_mut());
        let change = RowChange::tags(said.add, said.remove)?;
        let edits = said.keys.into_iter().map(|key| RowEdit {
            key,
            revision: String::new(),
            change: Some(change.clone()),
        });
        let asked = Asked {
            namespace: said.namespace,
            dataset: said.dataset,
            idempotency_key: said.idempotency_key,
            edit: Edit::Rows { edits: edits.collect(), lenient: false },
            action: "quarry.items.v1.EditsService/EditTags",
        };
        let edited = self.edit(&request, asked).await?;
        let items = items_of(&edited);
        let commit_token = edited.commit_token;
        Ok(Response::new(wire::EditTagsResponse { items, commit_token }))
    }

    async fn bulk_edit_items(
        &self,
        mut request: Request<wire::BulkEditItemsRequest>,
    ) -> Result<Response<wire::BulkEditItemsResponse>, Status> {
        let said = std::mem::take(request.get_mut());
        let change = bulk_change(said.change)?;
        let asked = Asked {
            namespace: said.namespace,
            dataset: said.dataset,
            idempotency_key: said.idempotency_key,
            edit: Edit::Where { filter: said.filter, change },
            action: "quarry.items.v1.EditsService/BulkEditItems",
        };
        let edited = self.edit(&request, asked).await?;
        Ok(Response::new(wire::BulkEditItemsResponse {
            affected_rows: affected(&edited),
            commit_token: edited.commit_token,
        }))
    }

    async fn set_unique_columns(
        &self,
        request: Request<wire::SetUniqueColumnsRequest>,
    ) -> Result<Response<wire::SetUniqueColumnsResponse>, Status> {
        let caller = caller::of(&request)?;
        let said = request.into_inner();
        let address = Address::new(&said.namespace, &said.dataset)?;
        self.app.declare_unique(&caller, &address, &said.columns).await?;
        Ok(Response::new(wire::SetUniqueColumnsResponse {}))
    }

    async fn create_version(
        &self,
        request: Request<wire::CreateVersionRequest>,
    ) -> Result<Response<wire::CreateVersionResponse>, Status> {
        let caller = caller::of(&request)?;
        let said = request.into_inner();
        let address = Address::new(&said.namespace, &said.dataset)?;
        let version = self.app.create_version(&caller, &address, said.message).await?;
        Ok(Response::new(wire::CreateVersionResponse { version: Some(version) }))
    }

    async fn rollback_to_version(
        &self,
        request: Request<wire::RollbackToVersionRequest>,
    ) -> Result<Response<wire::RollbackToVersionResponse>, Status> {
        let caller = caller::of(&request)?;
        let said = request.into_inner();
        let address = Address::new(&said.namespace, &said.dataset)?;
        let version = self.app.rollback(&caller, &address, &said.version, said.message).await?;
        Ok(Response::new(wire::RollbackToVersionResponse { version: Some(version) }))
    }
}

/// What a bulk edit does; `None`: the rows are deleted.
fn bulk_change(change: Option<BulkChange>) -> Result<Option<RowChange>, ServiceError> {
    let flag = |column: &str, value: bool| {
        let value = Value { kind: Some(catalog_api::v1::value::Kind::BoolValue(value)) };
        Some(RowChange::Patch(Cells::from([(column.to_owned(), value)])))
    };
    Ok(match change {
        None => {
            let message = "is missing: patch, tags, delete, favorite or flag";
            return Err(ServiceError::invalid("change", message));
        }
        Some(BulkChange::Delete(true)) => None,
        Some(BulkChange::Delete(false)) => {
            return Err(ServiceError::invalid("delete", "must be true, or left out"));
        }
        Some(BulkChange::Patch(patch)) => {
            Some(RowChange::patch(cells_of(patch.cells), &patch.update_mask)?)
        }
        Some(BulkChange::Tags(tags)) => Some(RowChange::tags(tags.add, tags.remove)?),
        Some(BulkChange::Favorite(value)) => flag("is_favorite", value),
        Some(BulkChange::Flag(value)) => flag("is_flagged", value),
    })
}
