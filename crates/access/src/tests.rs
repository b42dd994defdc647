//! The replica against an identity made of channels.
