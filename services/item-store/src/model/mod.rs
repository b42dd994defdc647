//! Types and pure rules: commands, seals, the shape of incoming rows.

mod action;
mod address;
mod command;
mod fit;
mod ids_column;
mod incoming;
mod pieces;
mod seal;
mod sql_handle;
mod tokens;

pub use action::ACTIONS;
pub use address::Address;
pub use command::{
    PutCommand, PutMode, PutRows, ReadCommand, put_command, read_command, trailing_rows,
};
pub use ids_column::spelled_id;
pub use incoming::{Incoming, NewShape, new_shape};
pub use pieces::pieces;
pub use seal::{Key, KeyRing, SealError};
pub use sql_handle::{Pin, PreparedHandle, SqlAnswer, SqlHandle};
pub use tokens::{PageToken, Ticket, hash_of};
