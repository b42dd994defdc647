//! Tests alone, in `tests/`: how a platform is rolled, and what it says where its
//! surroundings are wrong.
