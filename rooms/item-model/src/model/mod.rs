//! Types and pure rules: commands, tokens, seals.

mod action;
mod address;
mod command;
mod seal;
mod sql_handle;
mod tokens;

pub use action::ACTIONS;
pub use address::Address;
pub use command::{
    PutCommand, PutMode, PutRows, ReadCommand, put_command, read_command, trailing_rows,
};
pub use seal::{Key, KeyRing, SealError};
pub use sql_handle::{Pin, PreparedHandle, SqlAnswer, SqlHandle};
pub use tokens::{PageToken, Ticket, hash_of};
