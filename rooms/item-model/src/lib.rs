//! The item store's room for types and pure rules, as a crate: what is asked
//! by Flight, and what crosses the wire sealed.

mod model;

pub use model::{
    ACTIONS, Address, Key, KeyRing, PageToken, Pin, PreparedHandle, PutCommand, PutMode, PutRows,
    ReadCommand, SealError, SqlAnswer, SqlHandle, Ticket, hash_of, put_command, read_command,
    trailing_rows,
};
