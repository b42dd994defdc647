//! `quarry.identity.v1.TokensService`.

use std::sync::Arc;

use identity_api::v1::tokens_service_server::TokensService;
use identity_api::v1::{
    CreateTokenRequest, CreateTokenResponse, ListTokensRequest, ListTokensResponse,
    RevokeTokenRequest, RevokeTokenResponse, Token, TokenScope,
};
use paging::PAGE_SIZE_MAX;
use tonic::{Request, Response, Status};

use super::{answer, parse, timestamp};
use crate::app::{Identity, NamedToken, NewToken};
use crate::model::Scope;

pub struct Tokens(pub Arc<Identity>);

#[tonic::async_trait]
impl TokensService for Tokens {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let scope = match request.scope() {
            TokenScope::Unspecified | TokenScope::Full => Scope::Full,
            TokenScope::ReadOnly => Scope::ReadOnly,
        };
        let new = NewToken {
            user: request.user,
            description: request.description,
            scope,
            lifetime_seconds: request.lifetime_seconds,
        };
        let made = self.0.create_token(&caller, new).await;
        answer(made.map(|(token, secret)| CreateTokenResponse {
            token: Some(message(token)),
            secret: secret.expose().to_owned(),
        }))
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let size = paging::page_size(request.page_size, PAGE_SIZE_MAX)?;
        let page = self.0.list_tokens(&caller, &request.user, size, &request.page_token).await;
        answer(page.map(|page| ListTokensResponse {
            tokens: page.entries.into_iter().map(message).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let caller = caller::of(&request)?;
        let id = parse("id", &request.get_ref().id)?;
        answer(self.0.revoke_token(&caller, id).await.map(|()| RevokeTokenResponse {}))
    }
}

fn message(NamedToken { token, user }: NamedToken) -> Token {
    let scope = match token.scope {
        Scope::Full => TokenScope::Full,
        Scope::ReadOnly => TokenScope::ReadOnly,
    };
    Token {
        id: token.id.to_string(),
        user,
        description: token.description,
        scope: scope as i32,
        create_time: Some(timestamp(token.created_at)),
        expire_time: token.expires_at.map(timestamp),
        revoke_time: token.revoked_at.map(timestamp),
    }
}
