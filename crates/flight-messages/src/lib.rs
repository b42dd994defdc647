//! Arrow Flight's messages: rows into messages that every client takes, what
//! clients send into rows, and the room that messages may take meanwhile.

mod body;
mod decode;
mod dictionaries;
mod encode;
mod frames;

pub use body::body;
pub use decode::{Decoder, Message};
pub use encode::{Encoded, Encoder};
pub use frames::{HeldRoom, Limits, Room, Shares, budgeted};
