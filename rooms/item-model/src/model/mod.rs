//! Types and pure rules: commands, tokens, seals.

mod action;
mod address;
mod command;
mod saved_filter;
mod seal;
mod sql_handle;
pub mod tags;
mod tokens;
mod unique;

pub use action::ACTIONS;
pub use address::Address;
pub use command::{
    FlightCriteria, PutCommand, PutMode, PutRows, ReadCommand, flight_criteria, put_command,
    read_command, told_mode, trailing_rows,
};
pub use saved_filter::SavedFilter;
pub use seal::{Key, KeyRing, SealError};
pub use sql_handle::{Pin, PreparedHandle, SqlAnswer, SqlHandle};
pub use tokens::{PageToken, Ticket, hash_of};
pub use unique::{check_columns, still_unique};
