//! Flight SQL's wire: commands in, metadata out.

mod command;
mod ingest;
mod metadata;

pub use command::{
    ClosePrepared, Command, CreatePrepared, action_result, action_type, actions, command_of,
    sql_ticket, ticket_handle,
};
pub use ingest::{Ingest, ingest_of};
pub use metadata::{Metadata, TableRow, Wanted};
