//! `quarry.identity.v1.UsersService`.

use std::sync::Arc;

use identity_api::v1::users_service_server::UsersService;
use identity_api::v1::{
    CreateUserRequest, CreateUserResponse, GetUserRequest, GetUserResponse, ListUsersRequest,
    ListUsersResponse, PrincipalKind, UpdateUserRequest, UpdateUserResponse, User, WhoAmIRequest,
    WhoAmIResponse,
};
use options_api::v1 as options;
use paging::PAGE_SIZE_MAX;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::{answer, role_message, timestamp};
use crate::app::{Identity, Me, NewUser, UserChange};
use crate::model::{Kind, Principal, Role};

pub struct Users(pub Arc<Identity>);

#[tonic::async_trait]
impl UsersService for Users {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let caller = caller::of(&request)?;
        let new = new_user(request.into_inner())?;
        let user = self.0.create_user(&caller, new).await;
        answer(user.map(|user| CreateUserResponse { user: Some(message(user)) }))
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let caller = caller::of(&request)?;
        let user = self.0.get_user(&caller, &request.get_ref().name).await;
        answer(user.map(|user| GetUserResponse { user: Some(message(user)) }))
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let request = request.into_inner();
        let size = paging::page_size(request.page_size, PAGE_SIZE_MAX)?;
        let page = self.0.list_users(size, &request.page_token).await;
        answer(page.map(|page| ListUsersResponse {
            users: page.entries.into_iter().map(message).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_user(
        &self,
        request: Request<UpdateUserRequest>,
    ) -> Result<Response<UpdateUserResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let role = match request.role {
            None => None,
            Some(role) => Some(role_of(options::Role::try_from(role).unwrap_or_default())?),
        };
        let change = UserChange {
            display_name: request.display_name,
            role,
            disabled: request.disabled,
            revision: request.revision,
        };
        let user = self.0.update_user(&caller, &request.name, change).await;
        answer(user.map(|user| UpdateUserResponse { user: Some(message(user)) }))
    }

    async fn who_am_i(
        &self,
        request: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        let caller = caller::of(&request)?;
        let me = self.0.who_am_i(&caller).await.map(|me| match me {
            Me::User(user) => message(user),
            Me::Role(id, name) => User {
                id: id.to_string(),
                name,
                kind: PrincipalKind::ServiceAccount as i32,
                role: options::Role::Admin as i32,
                ..User::default()
            },
        });
        answer(me.map(|user| WhoAmIResponse { user: Some(user), read_only: caller.read_only }))
    }
}

fn new_user(request: CreateUserRequest) -> Result<NewUser, ServiceError> {
    let kind = match request.kind() {
        PrincipalKind::Unspecified | PrincipalKind::User => Kind::User,
        PrincipalKind::ServiceAccount => Kind::ServiceAccount,
    };
    let role = match request.role() {
        options::Role::Unspecified => Role::User,
        role => role_of(role)?,
    };
    Ok(NewUser { name: request.name, display_name: request.display_name, kind, role })
}

fn role_of(role: options::Role) -> Result<Role, ServiceError> {
    match role {
        options::Role::Viewer => Ok(Role::Viewer),
        options::Role::User => Ok(Role::User),
        options::Role::Admin => Ok(Role::Admin),
        options::Role::Unspecified => {
            Err(ServiceError::invalid("role", "must be ROLE_VIEWER, ROLE_USER or ROLE_ADMIN"))
        }
    }
}

fn message(user: Principal) -> User {
    let kind = match user.kind {
        Kind::User => PrincipalKind::User,
        Kind::ServiceAccount => PrincipalKind::ServiceAccount,
    };
    User {
        id: user.id.to_string(),
        name: user.name,
        display_name: user.display_name,
        kind: kind as i32,
        role: role_message(user.role) as i32,
        disabled: user.disabled,
        create_time: Some(timestamp(user.created_at)),
        revision: user.revision,
    }
}
