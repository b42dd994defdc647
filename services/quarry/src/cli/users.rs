//! `quarry users` and `quarry whoami`.

use clap::Subcommand;
use identity_api::v1::{
    CreateUserRequest, GetUserRequest, ListUsersRequest, PrincipalKind, UpdateUserRequest,
    WhoAmIRequest,
};

use super::parse::Role;
use super::{Context, Page};
use crate::failure::Failure;
use crate::output::{Column, column, message_json};

const COLUMNS: [Column; 6] = [
    column("name", "name"),
    column("role", "role"),
    column("kind", "kind"),
    column("display name", "display_name"),
    column("disabled", "disabled"),
    column("created", "create_time"),
];

#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// Make a user
    Create {
        /// To sign in and to be granted things by
        name: String,
        /// What it may do everywhere
        #[arg(long, value_enum, default_value = "user")]
        role: Role,
        /// As people know it
        #[arg(long, default_value = "")]
        display_name: String,
        /// A program, not a person
        #[arg(long)]
        service_account: bool,
    },
    /// All users
    List(Page),
    /// One user
    Show {
        /// Which
        name: String,
    },
    /// Change what is given
    Update {
        /// Which
        name: String,
        /// What it may do everywhere
        #[arg(long, value_enum)]
        role: Option<Role>,
        /// As people know it
        #[arg(long)]
        display_name: Option<String>,
        /// Refuse its tokens from now on
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Take its tokens again
        #[arg(long)]
        enable: bool,
    },
}

impl UsersCommand {
    /// Asks identity.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut users = context.client()?.users();
        let (json, list) = match self {
            Self::Create { name, role, display_name, service_account } => {
                let kind = if service_account {
                    PrincipalKind::ServiceAccount
                } else {
                    PrincipalKind::User
                };
                let role = options_api::v1::Role::from(role).into();
                let request = CreateUserRequest { name, display_name, kind: kind.into(), role };
                let answer = users.create_user(request).await?.into_inner();
                (message_json("quarry.identity.v1.CreateUserResponse", &answer)?, "user")
            }
            Self::List(page) => {
                let (page_size, page_token) = page.parts();
                let answer = users
                    .list_users(ListUsersRequest { page_size, page_token })
                    .await?
                    .into_inner();
                (message_json("quarry.identity.v1.ListUsersResponse", &answer)?, "users")
            }
            Self::Show { name } => {
                let answer = users.get_user(GetUserRequest { name }).await?.into_inner();
                (message_json("quarry.identity.v1.GetUserResponse", &answer)?, "user")
            }
            Self::Update { name, role, display_name, disable, enable } => {
                let request = UpdateUserRequest {
                    name,
                    display_name,
                    role: role.map(|role| options_api::v1::Role::from(role).into()),
                    disabled: (disable || enable).then_some(disable),
                    revision: None,
                };
                let answer = users.update_user(request).await?.into_inner();
                (message_json("quarry.identity.v1.UpdateUserResponse", &answer)?, "user")
            }
        };
        context.output.message(&json, list, &COLUMNS)
    }
}

/// Who the token belongs to.
pub async fn whoami(context: &Context) -> Result<(), Failure> {
    let answer = context.client()?.users().who_am_i(WhoAmIRequest {}).await?.into_inner();
    let json = message_json("quarry.identity.v1.WhoAmIResponse", &answer)?;
    context.output.message(&json, "user", &COLUMNS)
}
