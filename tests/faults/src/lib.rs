//! What a platform loses when it is killed, starved, cut off or doubled; all is in `tests/`.
